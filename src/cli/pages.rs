//! What clap knows of the commands, for shells and for `man`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Args;
use super::print;
use crate::error::{IoContext, Kind, Result};

/// Prints the completions of a shell.
pub fn completions(shell: Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "retrigger", &mut script);
    print::out(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

/// Writes `retrigger.1` and a page for every command below it.
pub fn man(folder: &Path) -> Result<u8> {
    std::fs::create_dir_all(folder).at(Kind::Output, "create the folder", folder)?;
    clap_mangen::generate_to(Args::command(), folder).at(Kind::Output, "write manual pages to", folder)?;
    print::out(&format!(
        "manual pages are in {}; try `man {}`\n",
        folder.display(),
        folder.join("retrigger.1").display()
    ))?;
    Ok(0)
}
