//! The arguments of `retrigger state …`. Doc comments here are the help texts.
#![allow(missing_docs, reason = "private to the command line; the doc comments are its help")]

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::args::{EpochUnitArg, InputFormatArg};

#[derive(Debug, ClapArgs)]
pub struct StateArgs {
    #[command(subcommand)]
    pub command: StateCommand,
}

#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Make an empty state: nobody has received anything
    Init {
        /// A folder that is missing or empty
        dir: PathBuf,
    },
    /// What a state holds
    Show {
        #[command(flatten)]
        state: StateDir,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Re-read every receipt file and compare it with the manifest
    Verify {
        #[command(flatten)]
        state: StateDir,
    },
    /// Write every receipt to one file, for other tools or for `state import`
    Export(ExportArgs),
    /// Take in receipts of an export, or of rows with `received_at`; the same file twice changes nothing
    Import(Box<ImportArgs>),
    /// Make one file of all receipt files, and drop receipts that no decision can need any more
    Compact(CompactArgs),
    /// Copy the receipts into a new state with an id of its own, to try something without touching this one
    Fork {
        #[command(flatten)]
        state: StateDir,
        /// The new state's folder, missing or empty
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Erase recipients from a state and, with --out, from the runs there
    Erase(EraseArgs),
}

/// A state and how long to wait for it.
#[derive(Debug, ClapArgs)]
pub struct StateDir {
    /// The state's folder
    pub dir: PathBuf,
    /// Wait this long for a lock that another process holds
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub wait_lock: String,
}

#[derive(Debug, ClapArgs)]
pub struct ExportArgs {
    #[command(flatten)]
    pub state: StateDir,
    /// The file to write; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Its form
    #[arg(long, default_value = "parquet")]
    pub format: LogFormatArg,
}

#[derive(Debug, ClapArgs)]
pub struct ImportArgs {
    #[command(flatten)]
    pub state: StateDir,
    /// Files, folders or globs: what `state export` wrote, or rows with a campaign, a recipient and `received_at`
    /// (and optionally `trigger_id`, `dispatch_id`, `channel`, `variant`, `outcome`); `-` is NDJSON on standard input
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub input: Vec<String>,
    /// Leave out up to so many rows that cannot be read; by default none, and nothing is imported
    #[arg(long, value_name = "N|P%")]
    pub max_bad: Option<String>,
    /// Read every file as this, whatever its name
    #[arg(long, value_name = "FORMAT")]
    pub input_format: Option<InputFormatArg>,
    /// A field stands in this column or key, such as `received_at=sent_at`
    #[arg(long, value_name = "FIELD=COLUMN")]
    pub map: Vec<String>,
    /// The campaign of every row that names none
    #[arg(long, value_name = "ID")]
    pub campaign_id: Option<String>,
    /// What a time without a zone means
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Unit of epoch integers; by default told by their size
    #[arg(long, value_name = "UNIT")]
    pub epoch_unit: Option<EpochUnitArg>,
}

#[derive(Debug, ClapArgs)]
pub struct CompactArgs {
    #[command(flatten)]
    pub state: StateDir,
    /// Folder of campaign folders: only their receipts may expire
    #[arg(long, value_name = "DIR")]
    pub campaigns: Option<PathBuf>,
    /// Age is counted from the earlier of this and now
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct EraseArgs {
    #[command(flatten)]
    pub state: StateDir,
    /// Who, as `external_user_id:ID`, `braze_id:ID`, `email:ADDRESS` or `user_alias:LABEL:NAME`; may be given again
    #[arg(long, value_name = "KIND:ID", required_unless_present = "recipients")]
    pub recipient: Vec<String>,
    /// A table of recipients: Parquet, NDJSON or CSV with the columns of `run --exclude`
    #[arg(long, value_name = "FILE")]
    pub recipients: Option<PathBuf>,
    /// Erase from the runs published in this folder too
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormatArg {
    Parquet,
    Ndjson,
}
