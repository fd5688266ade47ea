//! The `retrigger` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    retrigger::cli::main()
}
