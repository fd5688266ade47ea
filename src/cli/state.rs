//! `retrigger state …`: each command, from arguments to what is printed.

use std::path::Path;
use std::sync::Arc;

use super::args::InputArgs;
use super::state_args::{CompactArgs, EraseArgs, ExportArgs, ImportArgs, LogFormatArg, StateCommand, StateDir};
use super::{now_micros, print, print_state, random_id, settings};
use crate::error::Result;
use crate::runs;
use crate::state::{LogFormat, State};
use crate::storage::{Disk, RealDisk};
use crate::triggers::TimeReader;

/// Does what the arguments say; the exit code.
pub fn run(command: &StateCommand) -> Result<u8> {
    let text = match command {
        StateCommand::Init { dir } => init(dir)?,
        StateCommand::Show { state, json } => {
            let overview = open(state)?.summary();
            if *json { print_state::overview_json(&overview)? } else { print_state::overview(&overview) }
        }
        StateCommand::Verify { state } => {
            let state = open(state)?;
            state.verify()?;
            print_state::verified(&state.summary())
        }
        StateCommand::Export(args) => export(args)?,
        StateCommand::Import(args) => import(args)?,
        StateCommand::Compact(args) => compact(args)?,
        StateCommand::Fork { state, to } => fork(state, to)?,
        StateCommand::Erase(args) => erase(args)?,
    };
    print::out(&text)?;
    Ok(0)
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn open(state: &StateDir) -> Result<State> {
    let wait = settings::duration("--wait-lock", &state.wait_lock)?;
    runs::open_state(&disk(), &state.dir, wait)
}

fn init(dir: &Path) -> Result<String> {
    let state = State::init(disk(), dir, random_id())?;
    Ok(format!("state {} created in {}\n", state.manifest().state_id, dir.display()))
}

fn export(args: &ExportArgs) -> Result<String> {
    let format = match args.format {
        LogFormatArg::Parquet => LogFormat::Parquet,
        LogFormatArg::Ndjson => LogFormat::Ndjson,
    };
    let receipts = open(&args.state)?.export(&args.out, format)?;
    Ok(format!("{} receipts written to {}\n", print::count_text(receipts), args.out.display()))
}

fn import(args: &ImportArgs) -> Result<String> {
    // A receipt's instant stands where a trigger's would.
    let received = |pair: &String| pair.strip_prefix("received_at=").map(|column| format!("triggered_at={column}"));
    let mut map: Vec<String> = vec!["triggered_at=received_at".to_owned()];
    map.extend(args.map.iter().map(|pair| received(pair).unwrap_or_else(|| pair.clone())));
    let reading = InputArgs {
        input_format: args.input_format,
        map,
        campaign_id: args.campaign_id.clone(),
        timezone: args.timezone.clone(),
        epoch_unit: args.epoch_unit,
        ..InputArgs::default()
    };
    let settings = runs::ImportSettings {
        state: args.state.dir.clone(),
        wait_lock: settings::duration("--wait-lock", &args.state.wait_lock)?,
        inputs: args.input.clone(),
        input: settings::input(&reading)?,
        max_bad: args.max_bad.as_deref().map(settings::max_bad).transpose()?,
        now: now_micros(),
    };
    runs::import(&disk(), &settings).map(|imported| print_state::imported(&imported))
}

fn compact(args: &CompactArgs) -> Result<String> {
    let now = now_micros();
    let as_of =
        args.as_of.as_deref().map(|text| settings::time(&TimeReader::default(), "--as-of", text)).transpose()?;
    let settings = runs::CompactSettings {
        state: args.state.dir.clone(),
        wait_lock: settings::duration("--wait-lock", &args.state.wait_lock)?,
        campaigns: args.campaigns.clone(),
        horizon: as_of.map_or(now, |as_of| as_of.min(now)),
    };
    runs::compact(&disk(), &settings).map(|compacted| print_state::compacted(&compacted))
}

fn fork(from: &StateDir, to: &Path) -> Result<String> {
    let state = open(from)?;
    let fork = state.fork(to, random_id())?;
    Ok(print_state::forked(&state.summary(), &fork.summary(), to))
}

fn erase(args: &EraseArgs) -> Result<String> {
    let settings = runs::EraseSettings {
        state: args.state.dir.clone(),
        wait_lock: settings::duration("--wait-lock", &args.state.wait_lock)?,
        recipients: args.recipient.iter().map(|text| settings::recipient(text)).collect::<Result<_>>()?,
        table: args.recipients.clone(),
        out: args.out.clone(),
        new_key: [random_id(), random_id()],
    };
    runs::erase(&disk(), &settings).map(|erased| print_state::erased(&erased, args.out.is_some()))
}
