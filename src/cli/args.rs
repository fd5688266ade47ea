//! What the user typed: clap, nothing else.
//! Doc comments here are the help texts.
#![allow(missing_docs, reason = "private to the command line; the doc comments are its help")]

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::explain::ExplainArgs;
use super::generate::GenerateArgs;
use super::simulate::SimulateArgs;
use super::state_args::StateArgs;

/// High-throughput batch trigger processor: bulk trigger files in, exactly-once delivery batches out.
#[derive(Debug, Parser)]
#[command(name = "retrigger", version, about, max_term_width = 110)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Decide, render and write the triggers of the input, in one atomic commit
    #[command(after_help = EXIT_CODES)]
    Run(Box<RunArgs>),
    /// Check campaigns and input: everything that can be known before a run
    Check(CheckArgs),
    /// Render one template, or the messages of a campaign for the first triggers of an input
    Render(RenderArgs),
    /// Commit a run that was held: its receipts count, and it is published
    Commit(EndArgs),
    /// Discard a run that was held: nobody has received anything of it
    Discard(EndArgs),
    /// Take back the receipts of a committed run that no sender was handed
    Revoke(RevokeArgs),
    /// Re-read a published run and compare it with its manifest, and with its input where that is given
    Verify(VerifyArgs),
    /// Tell what became of a recipient in published runs and in a state, and why
    Explain(ExplainArgs),
    /// Make, look at and look after the receipts of earlier runs
    State(StateArgs),
    /// Make triggers from a seed: a load test, or an input to try rules on
    Generate(Box<GenerateArgs>),
    /// Try re-eligibility rules on triggers: what each would have sent, to whom and when; nothing is rendered or written
    Simulate(Box<SimulateArgs>),
    /// Print what a shell needs to complete commands and flags
    Completions {
        /// The shell to print for
        shell: Shell,
    },
    /// Write manual pages, one a command
    Man {
        /// Folder for the pages; made where it is missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

const EXIT_CODES: &str = "Exit codes:
  0   committed and clean, or bad triggers within --max-bad
  1   failed or over --max-bad; nothing committed
  2   bad usage or definition; nothing read
  3   committed with bad triggers and no --max-bad given
  75  try again later: another run holds the lock";

/// Where triggers come from and how they are read.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// Read every file as this, whatever its name
    #[arg(long, value_name = "FORMAT")]
    pub input_format: Option<InputFormatArg>,
    /// Where fields stand: a JSON file with `map`, `campaign_id`, `properties`, `carry`, `trigger_id_from`, `body`
    #[arg(long, value_name = "FILE.json")]
    pub mapping: Option<PathBuf>,
    /// A field stands in this column or key, such as `external_user_id=customer`
    #[arg(long, value_name = "FIELD=COLUMN")]
    pub map: Vec<String>,
    /// The campaign of every row that names none
    #[arg(long, value_name = "ID")]
    pub campaign_id: Option<String>,
    /// Columns or keys that are trigger properties; `*` for all that are not fields
    #[arg(long, value_name = "A,B|*", value_delimiter = ',')]
    pub properties: Vec<String>,
    /// JSON pointer to the request body inside each line of a log
    #[arg(long, value_name = "POINTER")]
    pub body: Option<String>,
    /// Columns or keys passed through to the message rows
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub carry: Vec<String>,
    /// Fields or properties whose values make the trigger id where a row has none
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub trigger_id_from: Vec<String>,
    /// What a time without a zone means
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Unit of epoch integers; by default told by their size
    #[arg(long, value_name = "UNIT")]
    pub epoch_unit: Option<EpochUnitArg>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum InputFormatArg {
    Parquet,
    Ndjson,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EpochUnitArg {
    S,
    Ms,
    Us,
    Ns,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatArg {
    Parquet,
    Ndjson,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CompressionArg {
    Zstd,
    Snappy,
    Gzip,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ClockArg {
    /// A receipt happens at --as-of, when the batch goes out; a recipient's triggers compete
    Run,
    /// A receipt happens at triggered_at, as if each trigger had been sent in its own time
    Event,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DefaultTimeArg {
    AsOf,
}

#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// Folder of campaign folders
    #[arg(long, value_name = "DIR")]
    pub campaigns: PathBuf,
    /// Trigger files, folders or globs; `-` is NDJSON on standard input
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub input: Vec<String>,
    /// Folder in which runs are published
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Folder of the receipts of earlier runs
    #[arg(long, value_name = "DIR", required_unless_present = "stateless", conflicts_with = "stateless")]
    pub state: Option<PathBuf>,
    /// Make the state folder where it is missing
    #[arg(long, requires = "state", conflicts_with = "stateless")]
    pub create_state: bool,
    /// Know no earlier run and keep no receipts
    #[arg(long)]
    pub stateless: bool,
    /// Form of the delivery batches
    #[arg(long, default_value = "parquet")]
    pub format: FormatArg,
    /// Compression of the delivery batches; zstd, or none for NDJSON
    #[arg(long)]
    pub compression: Option<CompressionArg>,
    /// Messages in a delivery batch, at most
    #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u64).range(1..))]
    pub batch_size: u64,
    /// When receipts happen
    #[arg(long, default_value = "run")]
    pub clock: ClockArg,
    /// The run's instant; by default now
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// Worker threads; by default one a core
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Memory that the run may take, such as `512MiB`; by default three quarters of what there is
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Commit nothing when more triggers than this are rejected or failed
    #[arg(long, value_name = "N|P%")]
    pub max_bad: Option<String>,
    /// Commit nothing unless the input has this many triggers: `1000..5000`, `1000..`
    #[arg(long, value_name = "MIN..MAX")]
    pub expect_triggers: Option<String>,
    /// Commit nothing unless this file stands beside the input, such as `_SUCCESS`
    #[arg(long, value_name = "NAME")]
    pub require_marker: Option<String>,
    /// Commit nothing when campaigns differ from those of the state's newest run
    #[arg(long, conflicts_with = "stateless")]
    pub locked: bool,
    /// Commit nothing when a campaign's share of sent, failed or suppressed triggers is further than this from the median of
    /// the last 7 runs of the state, in percentage points
    #[arg(long, value_name = "P%", conflicts_with = "stateless")]
    pub max_change: Option<String>,
    /// Campaigns whose shares may change
    #[arg(long, value_name = "ID", num_args = 1.., requires = "max_change")]
    pub accept_change: Vec<String>,
    /// The run's id; by default derived from inputs, campaigns and flags
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
    /// Recipients who get nothing: Parquet, NDJSON or CSV
    #[arg(long, value_name = "FILE")]
    pub exclude: Option<PathBuf>,
    /// Only these campaigns; triggers of others are out of scope
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub only: Vec<String>,
    /// Reject the triggers of campaigns that do not load, instead of refusing to run
    #[arg(long)]
    pub skip_broken: bool,
    /// Stage the run and wait: `retrigger commit` or `retrigger discard` ends it
    #[arg(long, conflicts_with_all = ["stateless", "dry_run"])]
    pub hold: bool,
    /// Decide and render everything, write and commit nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait this long for a lock that another run holds
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub wait_lock: String,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
    /// Say more
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Triggers before this are out of scope
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Triggers at or after this are out of scope
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Triggers older than this are suppressed as too late
    #[arg(long, value_name = "DURATION")]
    pub max_age: Option<String>,
    /// On the event clock, triggers without a time happen then instead of being rejected
    #[arg(long, value_name = "WHEN")]
    pub default_triggered_at: Option<DefaultTimeArg>,
    /// Record receipts on the event clock and write no messages
    #[arg(long)]
    pub record_only: bool,
    /// Take input files that another run of this state has consumed
    #[arg(long)]
    pub allow_consumed: bool,
    #[command(flatten)]
    pub reading: InputArgs,
}

#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// Folder of campaign folders
    #[arg(long, value_name = "DIR")]
    pub campaigns: PathBuf,
    /// Trigger files, folders or globs
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub input: Vec<String>,
    /// Only these campaigns
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub only: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub reading: InputArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EscapeArg {
    Html,
    Json,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OnMissingArg {
    Blank,
    Fail,
}

#[derive(Debug, ClapArgs)]
pub struct RenderArgs {
    /// A template; partials stand in a folder `partials` beside it
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "campaign",
        requires = "data",
        conflicts_with = "campaign"
    )]
    pub template: Option<PathBuf>,
    /// The names the template sees: a JSON object
    #[arg(long, value_name = "FILE.json")]
    pub data: Option<PathBuf>,
    /// What to do where a printed value is missing
    #[arg(long, default_value = "fail")]
    pub on_missing: OnMissingArg,
    /// Escaping; by default HTML for `.html.hbs`, JSON for `.json.hbs`, else none
    #[arg(long)]
    pub escape: Option<EscapeArg>,
    /// A campaign's folder, to render its messages
    #[arg(long, value_name = "DIR", requires = "input")]
    pub campaign: Option<PathBuf>,
    /// Triggers for the campaign
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub input: Vec<String>,
    /// Triggers to render, at most
    #[arg(long, value_name = "N", default_value = "3")]
    pub limit: u64,
    #[command(flatten)]
    pub reading: InputArgs,
}

#[derive(Debug, ClapArgs)]
pub struct EndArgs {
    /// The folder that `run --hold` named
    pub run_dir: PathBuf,
    /// Where the state is, if it was moved since
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Wait this long for a lock that another run holds
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub wait_lock: String,
}

#[derive(Debug, ClapArgs)]
pub struct RevokeArgs {
    /// The published run
    pub run_dir: PathBuf,
    /// Why: kept in `revoked.json` beside its manifest
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Where the state is, if it was moved since
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Wait this long for a lock that another run holds
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub wait_lock: String,
}

#[derive(Debug, ClapArgs)]
pub struct VerifyArgs {
    /// A published run: the folder with `manifest.json`
    pub run_dir: PathBuf,
    /// The run's trigger files, to decide and render them again and compare; read as the run read them
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub input: Vec<String>,
    /// The run's table of excluded recipients, if it had one
    #[arg(long, value_name = "FILE", requires = "input")]
    pub exclude: Option<PathBuf>,
}
