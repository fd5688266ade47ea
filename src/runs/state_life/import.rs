//! `state import`: receipts from elsewhere, so that a team starts from its platform's export.
//!
//! Two forms are read. A *log* is what `state export` writes. *Rows* are flat trigger rows with a `received_at`: the
//! readers of trigger files read them, in every format, with every way of naming a recipient. All files are read before
//! anything is staged, and all receipts commit in one generation. The import's name is a digest of what was read and how;
//! the state remembers it, and the digest of every file, so that nothing is imported twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::open_state;
use crate::error::{Error, Fault, Kind, Result};
use crate::ids::{Digest, DispatchId};
use crate::input::{InputOptions, Inputs};
use crate::pipeline::{Need, StoredOutcome, TriggerSource, id_hash};
use crate::runs::MaxBad;
use crate::runs::check::spool;
use crate::state::{Delta, LogFile, Receipt, State};
use crate::storage::Disk;
use crate::triggers::{EpochUnit, MICROS_PER_SECOND, Micros, Rejection, Trigger};

/// Rows that are named one by one; the others are counted.
const SHOWN_FAULTS: usize = 20;

/// A receipt may lie this far after now: clocks differ.
const FUTURE_MICROS: Micros = 24 * 3_600 * MICROS_PER_SECOND;

/// The columns of a row besides those of a trigger, in the order in which they are carried.
const CARRIED: [&str; 4] = ["outcome", "variant", "dispatch_id", "channel"];

/// What to import, and where to.
#[derive(Debug, Clone)]
pub struct ImportSettings {
    /// The state's folder.
    pub state: PathBuf,
    /// How long to wait for a held lock.
    pub wait_lock: Duration,
    /// Files, folders, globs, `-`.
    pub inputs: Vec<String>,
    /// How rows are read. `triggered_at` is mapped to the column of the receipt's instant.
    pub input: InputOptions,
    /// Bad rows allowed; none without it.
    pub max_bad: Option<MaxBad>,
    /// The wall clock: receipts may not lie after it.
    pub now: Micros,
}

/// What an import did.
#[derive(Debug)]
pub struct Imported {
    /// Receipts imported; 0 where the same was imported before.
    pub receipts: u64,
    /// Rows left out because they cannot be read.
    pub bad: u64,
    /// The first of them, with place and reason.
    pub faults: Vec<Fault>,
    /// The generation that this import made, now or before; the current one where there was nothing to import.
    pub generation: u64,
    /// The same was imported before: nothing was done.
    pub again: bool,
}

/// Imports. All or nothing.
///
/// # Errors
/// `Busy` for a state in use; `Input` for files that cannot be read or were imported before together with others;
/// `TooManyBad` for bad rows over the limit; `State` for a state that cannot be used.
pub fn import(disk: &Arc<dyn Disk>, settings: &ImportSettings) -> Result<Imported> {
    let mut state = open_state(disk, &settings.state, settings.wait_lock)?;
    state.refuse_held()?;
    let spool = spool()?;
    let source = Source::open(settings, spool.path())?;
    let digests = source.digests()?;
    let id = identity(settings, &digests);
    if let Some(change) = state.manifest().change(&id) {
        return Ok(Imported { receipts: 0, bad: 0, faults: vec![], generation: change.generation, again: true });
    }
    refuse_twins(&digests)?;
    refuse_known(&state, &digests)?;
    let mut collector = Collector { delta: state.delta(&id), rows: 0, bad: 0, faults: Vec::new(), now: settings.now };
    source.read(&mut collector)?;
    let Collector { delta, rows, bad, faults, .. } = collector;
    judge(settings.max_bad, rows, bad, &faults)?;
    let receipts = delta.receipts();
    if receipts > 0 {
        let staged = state.stage_import(delta, digests.into_iter().map(|(_, digest)| digest.to_string()).collect())?;
        source.check_unchanged()?;
        state.commit(staged, None)?;
    }
    Ok(Imported { receipts, bad, faults, generation: state.manifest().generation, again: false })
}

/// A digest of what is read and how.
fn identity(settings: &ImportSettings, digests: &[(String, Digest)]) -> String {
    let input = &settings.input;
    let config = json!({
        "inputs": digests.iter().map(|(_, digest)| digest.to_string()).collect::<Vec<_>>(),
        "map": input.mapping.columns,
        "campaign_id": input.mapping.campaign_id,
        "timezone": input.times.zone.iana_name(),
        "epoch_unit": input.times.epoch_unit.map(EpochUnit::per_second),
    });
    format!("import-{}", &Digest::of(config.to_string().as_bytes()).to_string()[..16])
}

/// Every empty file is the same.
fn is_empty(digest: Digest) -> bool {
    digest == Digest::of(&[])
}

fn refuse_twins(digests: &[(String, Digest)]) -> Result<()> {
    for (index, (name, digest)) in digests.iter().enumerate() {
        if let Some((twin, _)) = digests[..index].iter().find(|(_, other)| other == digest && !is_empty(*digest)) {
            let error = Error::new(Kind::Input, format!("`{twin}` and `{name}` hold the same bytes"));
            return Err(error.hint("leave one of them out: its receipts would count twice"));
        }
    }
    Ok(())
}

fn refuse_known(state: &State, digests: &[(String, Digest)]) -> Result<()> {
    let known = digests.iter().filter(|(_, digest)| !is_empty(*digest)).filter_map(|(name, digest)| {
        let change = state.manifest().import_of(&digest.to_string())?;
        Some(Fault::new(name.clone(), format!("was imported as generation {}", change.generation)))
    });
    let faults: Vec<Fault> = known.collect();
    if faults.is_empty() {
        return Ok(());
    }
    let error = Error::new(Kind::Input, "this state has imported some of the files already; nothing was imported");
    Err(error.with_faults(faults).hint("leave these files out"))
}

fn judge(max_bad: Option<MaxBad>, rows: u64, bad: u64, faults: &[Fault]) -> Result<()> {
    if bad == 0 || max_bad.is_some_and(|most| !most.is_exceeded(bad, rows)) {
        return Ok(());
    }
    let summary = format!("{bad} of {rows} rows cannot be imported; nothing was imported");
    let mut faults = faults.to_vec();
    if bad > faults.len() as u64 {
        faults.push(Fault::new("…", format!("and {} more", bad - faults.len() as u64)));
    }
    let hint = "mend these rows, or leave them out with `--max-bad N` or `--max-bad P%`";
    Err(Error::new(Kind::TooManyBad, summary).with_faults(faults).hint(hint))
}

/// Where receipts come from.
enum Source {
    Logs(Vec<LogFile>),
    Rows(Box<Inputs>),
}

impl Source {
    fn open(settings: &ImportSettings, spool: &Path) -> Result<Source> {
        let logs: Vec<_> = settings.inputs.iter().map(|name| LogFile::recognise(Path::new(name))).collect();
        match logs.into_iter().collect::<Option<Vec<_>>>() {
            Some(logs) if !logs.is_empty() => Ok(Source::Logs(logs)),
            _ => {
                let carry = CARRIED.map(str::to_owned).to_vec();
                let options = InputOptions { spool: spool.to_owned(), carry, ..settings.input.clone() };
                Inputs::open(&settings.inputs, options).map(|inputs| Source::Rows(Box::new(inputs)))
            }
        }
    }

    /// The files by name, with their content digests.
    fn digests(&self) -> Result<Vec<(String, Digest)>> {
        match self {
            Source::Logs(logs) => {
                logs.iter().map(|log| Ok((log.path().display().to_string(), log.digest()?))).collect()
            }
            Source::Rows(inputs) => {
                Ok(inputs.files().iter().map(|file| file.name.clone()).zip(inputs.digests()?).collect())
            }
        }
    }

    fn read(&self, collector: &mut Collector) -> Result<()> {
        match self {
            Source::Logs(logs) => logs.iter().try_for_each(|log| {
                let name = log.path().display().to_string();
                log.read(&mut |line, receipt| match receipt {
                    Ok(receipt) => collector.good().push_logged(&receipt),
                    Err(why) => collector.bad(&name, line, why),
                })
            }),
            Source::Rows(inputs) => read_rows(inputs, collector),
        }
    }

    /// Logs are read once, so what was read is what counts.
    fn check_unchanged(&self) -> Result<()> {
        match self {
            Source::Logs(_) => Ok(()),
            Source::Rows(inputs) => inputs.check_unchanged(),
        }
    }
}

fn read_rows(inputs: &Inputs, collector: &mut Collector) -> Result<()> {
    let (mut file, mut first_line) = (None, 1);
    for split in 0..inputs.splits() {
        if file.replace(inputs.file_of(split)) != Some(inputs.file_of(split)) {
            first_line = 1;
        }
        let name = inputs.file_name(inputs.file_of(split));
        let lines = inputs.read(split, Need::Everything, &mut |row| {
            let taken = row.parsed.map_err(|rejection| rejected(&rejection));
            match taken.and_then(|trigger| collector.take(&trigger)) {
                Ok(pushed) => pushed,
                Err(why) => collector.bad(name, first_line + row.line, why),
            }
        })?;
        first_line += lines.lines;
    }
    Ok(())
}

fn rejected(rejection: &Rejection) -> String {
    let Rejection { reason, field, expected, found } = rejection;
    let place = if field.is_empty() { String::new() } else { format!(" `{field}`:") };
    format!("{}:{place} expected {expected}, found {found}", reason.code())
}

/// What has been read.
struct Collector {
    delta: Delta,
    rows: u64,
    bad: u64,
    faults: Vec<Fault>,
    now: Micros,
}

impl Collector {
    fn good(&mut self) -> &mut Delta {
        self.rows += 1;
        &mut self.delta
    }

    fn bad(&mut self, file: &str, line: u64, why: String) -> Result<()> {
        self.rows += 1;
        self.bad += 1;
        if self.faults.len() < SHOWN_FAULTS {
            self.faults.push(Fault::new(format!("{file}:{line}"), why));
        }
        Ok(())
    }

    /// The receipt of a row, or why it is none; within, whether it could be recorded.
    fn take(&mut self, trigger: &Trigger<'_>) -> Result<Result<()>, String> {
        let received_at =
            trigger.triggered_at.ok_or("missing_field: expected the time in `received_at`, found nothing")?;
        if received_at > self.now.saturating_add(FUTURE_MICROS) {
            return Err("in_future: expected a time at most 24 h after now, found a later one".to_owned());
        }
        let carried: Vec<Option<&str>> = trigger.carried.iter().map(|cell| cell.as_deref()).collect();
        let [outcome, variant, dispatch_id, channel] = carried[..] else { unreachable!("as many as were asked for") };
        let outcome = match outcome.unwrap_or("sent") {
            "sent" => StoredOutcome::Sent,
            "control" => StoredOutcome::Control,
            _ => return Err("wrong_type: `outcome`: expected `sent` or `control`, found another word".to_owned()),
        };
        let channels = match dispatch_id.map(|id| Digest::parse(&id.to_ascii_lowercase())) {
            None => vec![],
            Some(Some(id)) => vec![(channel.unwrap_or("unknown"), DispatchId(id.0))],
            Some(None) => {
                return Err("wrong_type: `dispatch_id`: expected 32 hex digits, found another text".to_owned());
            }
        };
        Ok(self.good().push(&Receipt {
            key: trigger.recipient.key_hash(),
            campaign_id: &trigger.campaign_id,
            kind: trigger.recipient.kind,
            recipient: &trigger.recipient.profile_key(),
            received_at,
            outcome,
            variant,
            channels: if outcome == StoredOutcome::Sent { &channels } else { &[] },
            trigger_hash: trigger.trigger_id.as_deref().map(id_hash),
        }))
    }
}
