//! `simulate`: its arguments, and from them to what is printed.
#![allow(missing_docs, reason = "private to the command line; the doc comments are its help")]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;
use jiff::civil::{self, Date, Time};

use super::args::{ClockArg, DefaultTimeArg, InputArgs};
use super::progress::ShownProgress;
use super::{now_micros, print, settings, simulate_text, stop_on_signals, use_threads};
use crate::campaigns::LoadOptions;
use crate::eligibility::{Clock, Reeligibility};
use crate::error::{Error, Kind, Result};
use crate::runs::{self, SimulateSettings};
use crate::storage::{Disk, RealDisk};
use crate::triggers::{MICROS_PER_SECOND, Micros, TimeReader};

#[derive(Debug, ClapArgs)]
pub struct SimulateArgs {
    /// Folder of campaign folders: the rules as they are today
    #[arg(long, value_name = "DIR")]
    pub campaigns: PathBuf,
    /// Trigger files, folders or globs; `-` is NDJSON on standard input
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub input: Vec<String>,
    /// Windows to try: durations, `always` or `0`, `never`
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub sweep: Vec<String>,
    /// Campaigns that the windows are tried on; by default all
    #[arg(long, value_name = "ID", num_args = 1.., requires = "sweep")]
    pub campaign: Vec<String>,
    /// Other campaigns to compare with, on the same triggers
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
    /// A state to start from: its receipts of --state-as-of
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The state's receipts after this are ignored
    #[arg(long, value_name = "TIME", requires = "state")]
    pub state_as_of: Option<String>,
    /// When receipts happen [default: event]
    #[arg(long)]
    pub clock: Option<ClockArg>,
    /// Replay a run a day at this time of --timezone, each on the run clock with the receipts of those before
    #[arg(long, value_name = "daily@HH:MM")]
    pub cadence: Option<String>,
    /// The run's instant; triggers more than 24 h after it are rejected; by default now
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// Triggers before this are out of scope
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Triggers at or after this are out of scope
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Triggers older than this at --as-of, or at their night, are suppressed as too late
    #[arg(long, value_name = "DURATION")]
    pub max_age: Option<String>,
    /// On the event clock, triggers without a time happen then instead of being rejected
    #[arg(long, value_name = "WHEN")]
    pub default_triggered_at: Option<DefaultTimeArg>,
    /// Only these campaigns; triggers of others are out of scope
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub only: Vec<String>,
    /// Recipients who get nothing: Parquet, NDJSON or CSV
    #[arg(long, value_name = "FILE")]
    pub exclude: Option<PathBuf>,
    /// Worker threads; by default one a core
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Memory to take, such as `512MiB`; by default three quarters of what there is
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Print every number as JSON
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print every number as CSV: rule, campaign, measure, item, value
    #[arg(long)]
    pub csv: bool,
    /// Print no progress
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub reading: InputArgs,
}

fn usage(summary: impl Into<String>) -> Error {
    Error::new(Kind::Usage, summary)
}

/// Simulates and prints.
pub fn simulate(args: &SimulateArgs) -> Result<u8> {
    let settings = settings_of(args, now_micros())?;
    use_threads(settings::threads(args.threads, settings.memory))?;
    stop_on_signals(&settings.input.interrupt)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let progress = ShownProgress::new(args.quiet, false);
    let simulation = runs::simulate(&disk, &settings, &progress);
    progress.finish();
    let simulation = simulation?;
    print::out(&match (args.json, args.csv) {
        (true, _) => simulate_text::json(&simulation)?,
        (false, true) => simulate_text::csv(&simulation),
        (false, false) => simulate_text::table(&simulation),
    })?;
    Ok(0)
}

fn settings_of(args: &SimulateArgs, now: Micros) -> Result<SimulateSettings> {
    let input = settings::input(&args.reading)?;
    let time =
        |flag: &str, text: &Option<String>| text.as_ref().map(|t| settings::time(&input.times, flag, t)).transpose();
    let as_of = time("--as-of", &args.as_of)?.unwrap_or(now);
    let max_age = args.max_age.as_ref().map(|text| settings::duration("--max-age", text)).transpose()?;
    let (since, until) = (time("--since", &args.since)?, time("--until", &args.until)?);
    let state = match (&args.state, time("--state-as-of", &args.state_as_of)?) {
        (Some(path), Some(as_of)) => Some((path.clone(), as_of)),
        (Some(_), None) => {
            let error = usage("`--state` needs `--state-as-of`: which receipts are known");
            return Err(error.hint(
                "give the time of the first trigger: what the state has learned since would suppress nearly everything",
            ));
        }
        (None, _) => None,
    };
    Ok(SimulateSettings {
        campaigns: args.campaigns.clone(),
        load: LoadOptions { only: args.only.clone(), skip_broken: false },
        against: args.against.clone(),
        sweep: sweep(&args.sweep)?,
        sweep_campaigns: args.campaign.clone(),
        inputs: args.input.clone(),
        state,
        clock: args.clock.map_or(Clock::Event, settings::clock),
        as_of,
        nights: nights(args, &input.times, as_of)?,
        max_age_micros: max_age.map(|age| age.as_secs() as i64 * MICROS_PER_SECOND),
        since,
        until,
        default_time_is_as_of: args.default_triggered_at.is_some(),
        exclude: args.exclude.clone(),
        memory: args.memory.as_deref().map_or_else(|| Ok(settings::default_memory()), settings::memory)?,
        input,
    })
}

/// `--sweep`: windows by the name they were given.
fn sweep(texts: &[String]) -> Result<Vec<(String, Reeligibility)>> {
    let mut windows: Vec<(String, Reeligibility)> = Vec::new();
    for text in texts.iter().map(|text| text.trim()) {
        let window = Reeligibility::parse(text).map_err(|why| usage(format!("`--sweep`: {why}")))?;
        if let Some((same, _)) = windows.iter().find(|(_, known)| *known == window) {
            return Err(usage(format!("`--sweep` has the same window twice: `{same}` and `{text}`")));
        }
        windows.push((text.to_owned(), window));
    }
    Ok(windows)
}

/// The first night that a schedule can have.
const FIRST_NIGHT: Date = civil::date(1970, 1, 1);

/// `--cadence`: the instants of the runs, until more than a day after `as_of`.
fn nights(args: &SimulateArgs, times: &TimeReader, as_of: Micros) -> Result<Option<Vec<Micros>>> {
    let Some(text) = &args.cadence else { return Ok(None) };
    if matches!(args.clock, Some(ClockArg::Event)) {
        return Err(usage("`--cadence` replays runs on the run clock: leave out `--clock event`"));
    }
    let at = text.strip_prefix("daily@").filter(|at| at.len() == 5).and_then(|at| at.parse::<Time>().ok());
    let at = at.ok_or_else(|| usage(format!("`--cadence {text}`: expected `daily@HH:MM`, such as `daily@02:00`")))?;
    let days = std::iter::successors(Some(FIRST_NIGHT), |day| day.tomorrow().ok());
    let mut nights = Vec::new();
    for night in days.map_while(|day| times.zoneless(day.to_datetime(at))) {
        nights.push(night);
        if night > as_of.saturating_add(2 * 86_400 * MICROS_PER_SECOND) {
            break;
        }
    }
    Ok(Some(nights))
}
