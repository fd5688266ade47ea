//! `verify --input`: makes a run again from its input, its own definitions and its own flags, and compares.
//!
//! A stateless run is decided anew. Of a run with a state the receipts of that time are gone, so that what only they explain
//! is taken from its decisions ([`Adoption`]); everything else is decided, and everything is rendered, anew.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use serde::Deserialize;
use serde_json::Value;

use super::check::spool;
use super::exclude;
use super::manifest::{InputRecord, RunManifest};
use super::verify::Verified;
use crate::campaigns::{self, Campaigns, LoadOptions};
use crate::delivery::{Comparison, Differences, FileKind, RecordedRows};
use crate::eligibility::{Blocked, Clock};
use crate::error::{Error, Fault, Kind, Result};
use crate::ids::KeyHash;
use crate::input::{InputFormat, InputOptions, Inputs, Mapping, PropertiesFrom};
use crate::interrupt::Interrupt;
use crate::pipeline::{
    Adoption, Execution, Memory, Need, PhaseClock, ReceiptSource, RecordedDecision, Row, Rules, Schemas, SplitKeys,
    SplitLines, StoredReceipt, TriggerSource,
};
use crate::triggers::{EpochUnit, Micros, Reason, TimeReader};

/// What a run is made again from.
#[derive(Debug, Clone, Default)]
pub struct RederiveSettings {
    /// Its trigger files, folders, globs.
    pub inputs: Vec<String>,
    /// Its exclude table, if it had one.
    pub exclude: Option<PathBuf>,
}

/// A run that follows from its input.
#[derive(Debug)]
pub struct Rederived {
    /// Triggers of the input.
    pub triggers: u64,
    /// Whether receipts of a state were taken on the run's word.
    pub had_state: bool,
}

/// The semantic flags of a manifest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flags {
    clock: String,
    #[serde(rename = "as_of")]
    _as_of: Option<String>,
    max_age_micros: Option<Micros>,
    since: Option<String>,
    until: Option<String>,
    default_triggered_at: Option<String>,
    #[serde(default)]
    record_only: bool,
    #[serde(default)]
    only: Vec<String>,
    #[serde(default)]
    skip_broken: bool,
    input_format: Option<String>,
    #[serde(default)]
    map: BTreeMap<String, String>,
    campaign_id: Option<String>,
    properties: Option<Value>,
    body: Option<String>,
    #[serde(default)]
    carry: Vec<String>,
    #[serde(default)]
    trigger_id_from: Vec<String>,
    timezone: Option<String>,
    epoch_unit: Option<i64>,
    #[serde(rename = "format")]
    _format: Option<String>,
    #[serde(rename = "compression")]
    _compression: Option<String>,
    #[serde(rename = "batch_size")]
    _batch_size: Option<u64>,
}

/// Makes a verified run again and compares row by row.
///
/// # Errors
/// Kind `Output`: the first differences, each with the source of its row, and how many there are. Kind `Input`: the files are not
/// those of the run. Kind `Usage`: the run had an exclude table, and none is given.
pub fn rederive(verified: &Verified, settings: &RederiveSettings) -> Result<Rederived> {
    let manifest = &verified.manifest;
    if verified.erased_rows > 0 {
        let summary = "recipients were erased from this run: their rows cannot be compared with the input";
        return Err(Error::new(Kind::Usage, summary).hint("verify it without `--input`"));
    }
    let flags: Flags = serde_json::from_value(manifest.flags.clone())
        .map_err(|e| Error::new(Kind::Output, "the flags in `manifest.json` are not known here").caused_by(e))?;
    let rules = rules(verified, &flags, settings)?;
    let schemas = Schemas::new(&rules)?;
    let spool = spool()?;
    let inputs = Inputs::open(&settings.inputs, options(&flags, spool.path())?)?;
    let source = Matched::new(&inputs, &manifest.inputs)?;
    let mut comparison =
        Comparison::new(&verified.path, &verified.files, &schemas.channels, &schemas.decisions, &schemas.dropped)?;
    let memory = Memory::unlimited();
    let had_state = manifest.state_id.is_some();
    let execution = Execution {
        rules: &rules,
        schemas: &schemas,
        source: &source,
        known: had_state.then_some(&NoReceipts as &dyn ReceiptSource),
        memory: &memory,
        progress: &(),
        interrupt: &Interrupt::default(),
    };
    let splits = execution.read_keys()?;
    match had_state {
        true => adopt(verified, &execution, &splits)?,
        false => execution.decide(&splits, &mut PhaseClock::default())?,
    }
    let ledger = execution.render(&splits, None, &mut comparison)?;
    inputs.check_unchanged()?;
    judge(comparison.finish()?, &verified.path)?;
    Ok(Rederived { triggers: ledger.total.triggers, had_state })
}

fn judge(differences: Differences, run: &Path) -> Result<()> {
    if differences.count == 0 {
        return Ok(());
    }
    let shown = differences.first.len() as u64;
    let summary = match differences.count - shown {
        0 => format!("`{}` is not what its input gives: {shown} rows differ", run.display()),
        _ => format!(
            "`{}` is not what its input gives: {} rows differ, of which {shown} are shown",
            run.display(),
            differences.count
        ),
    };
    Err(Error::new(Kind::Output, summary)
        .with_faults(differences.first)
        .hint("its files are as they were written: another version or a defect made them; do not hand it to a sender"))
}

/// The rules of the run, from its own folder.
fn rules(verified: &Verified, flags: &Flags, settings: &RederiveSettings) -> Result<Rules> {
    let manifest = &verified.manifest;
    let folder = verified.path.join("campaigns");
    let mut campaigns = match folder.is_dir() {
        true => campaigns::load(&folder, &LoadOptions::default())?,
        false => Campaigns::default(),
    };
    if !flags.only.is_empty() || flags.skip_broken {
        add_unloaded(verified, flags, &mut campaigns)?;
    }
    let clock = if flags.clock == "event" { Clock::Event } else { Clock::Run };
    let since = flags.since.as_deref().map(instant).transpose()?;
    let until = flags.until.as_deref().map(instant).transpose()?;
    Ok(Rules {
        max_age_micros: flags.max_age_micros,
        since,
        until,
        default_time_is_as_of: flags.default_triggered_at.is_some(),
        excluded: excluded(manifest, settings)?,
        carry: flags.carry.clone(),
        record_only: flags.record_only,
        ..Rules::new(campaigns, clock, instant(&manifest.as_of)?)
    })
}

fn instant(text: &str) -> Result<Micros> {
    let wrong = |_| Error::new(Kind::Output, format!("`manifest.json` has the time `{text}`, which is none"));
    TimeReader::default().text(text).map_err(wrong)
}

fn excluded(manifest: &RunManifest, settings: &RederiveSettings) -> Result<HashSet<KeyHash>> {
    match &settings.exclude {
        Some(table) => exclude::read(table).map(|(keys, _)| keys),
        None if manifest.ledger.total.suppressed.contains_key(Reason::Excluded.code()) => {
            let summary = "this run left out the recipients of an exclude table";
            Err(Error::new(Kind::Usage, summary).hint("give the same table with `--exclude FILE`"))
        }
        None => Ok(Default::default()),
    }
}

/// Ids of campaigns that were there and not loaded: a run keeps no definitions of them, only what it said of their triggers.
fn add_unloaded(verified: &Verified, flags: &Flags, campaigns: &mut Campaigns) -> Result<()> {
    let known: Vec<String> = campaigns.loaded.iter().map(|campaign| campaign.id.clone()).collect();
    let add = |ids: &mut Vec<String>, id: &str| {
        if !ids.iter().chain(&known).any(|known| known == id) {
            ids.push(id.to_owned());
        }
    };
    each_decision(verified, |decision| match (decision.campaign_id, decision.outcome, decision.reason) {
        (Some(id), "out_of_scope", _) if !flags.only.is_empty() => add(&mut campaigns.out_of_scope, id),
        (Some(id), _, Some("campaign_broken")) if flags.skip_broken => add(&mut campaigns.broken, id),
        _ => {}
    })
}

fn options(flags: &Flags, spool: &Path) -> Result<InputOptions> {
    let unknown =
        |what: &str| Error::new(Kind::Output, format!("the flag `{what}` in `manifest.json` is not known here"));
    let properties = match &flags.properties {
        None => PropertiesFrom::Field,
        Some(Value::String(_)) => PropertiesFrom::All,
        Some(names) => PropertiesFrom::Columns(Vec::deserialize(names).map_err(|_| unknown("properties"))?),
    };
    let zone = flags.timezone.as_deref().map(jiff::tz::TimeZone::get).transpose();
    let unit = flags.epoch_unit.map(|per_second| {
        let units = [EpochUnit::Seconds, EpochUnit::Millis, EpochUnit::Micros, EpochUnit::Nanos];
        units.into_iter().find(|unit| unit.per_second() == per_second).ok_or_else(|| unknown("epoch_unit"))
    });
    Ok(InputOptions {
        format: match flags.input_format.as_deref() {
            Some("parquet") => Some(InputFormat::Parquet),
            Some(_) => Some(InputFormat::Ndjson),
            None => None,
        },
        mapping: Mapping { columns: flags.map.clone(), campaign_id: flags.campaign_id.clone(), properties },
        body: flags.body.clone(),
        times: TimeReader {
            zone: zone.map_err(|_| unknown("timezone"))?.unwrap_or(jiff::tz::TimeZone::UTC),
            epoch_unit: unit.transpose()?,
        },
        carry: flags.carry.clone(),
        trigger_id_from: flags.trigger_id_from.clone(),
        spool: spool.to_owned(),
        ..InputOptions::default()
    })
}

fn adopt(verified: &Verified, execution: &Execution<'_>, splits: &[SplitKeys]) -> Result<()> {
    let mut adoption = Adoption::new(execution, splits);
    each_decision(verified, |decision| adoption.take(&decision))?;
    adoption.finish()
}

/// Visits the decisions of a run in order.
fn each_decision(verified: &Verified, mut visit: impl FnMut(RecordedDecision<'_>)) -> Result<()> {
    let files = verified.files.iter().filter(|file| file.kind == FileKind::Decisions);
    let mut rows = RecordedRows::new(&verified.path, files, arrow_schema::Schema::empty().into());
    while let Some(rows) = rows.next_rows()? {
        visit_decisions(&rows, &mut visit)
            .ok_or_else(|| Error::new(Kind::Output, "`decisions.parquet` does not have the columns of this version"))?;
    }
    Ok(())
}

fn visit_decisions(rows: &RecordBatch, visit: &mut impl FnMut(RecordedDecision<'_>)) -> Option<()> {
    let texts = |name: &str| rows.column_by_name(name)?.as_string_opt::<i32>();
    let instants = |name: &str| rows.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>();
    let (campaigns, outcomes, reasons) = (texts("campaign_id")?, texts("outcome")?, texts("reason")?);
    let (variants, by, eligible) = (texts("variant")?, instants("blocked_by")?, instants("eligible_at")?);
    for row in 0..rows.num_rows() {
        let eligible_at = eligible.is_valid(row).then(|| eligible.value(row));
        visit(RecordedDecision {
            campaign_id: campaigns.is_valid(row).then(|| campaigns.value(row)),
            outcome: outcomes.value(row),
            reason: reasons.is_valid(row).then(|| reasons.value(row)),
            variant: variants.is_valid(row).then(|| variants.value(row)),
            blocked: by.is_valid(row).then(|| Blocked { by: by.value(row), eligible_at }),
        });
    }
    Some(())
}

/// A state of which nothing is known.
struct NoReceipts;

impl ReceiptSource for NoReceipts {
    fn pieces(&self) -> usize {
        0
    }

    fn read(&self, _: usize, _: &[bool], _: &mut dyn FnMut(StoredReceipt<'_>)) -> Result<()> {
        Ok(())
    }
}

/// The input in the order and under the names that it had in the run.
struct Matched<'a> {
    inputs: &'a Inputs,
    names: Vec<&'a str>,
    /// Every split as its number in `inputs` and its file in the run.
    splits: Vec<(usize, usize)>,
}

impl<'a> Matched<'a> {
    /// Pairs the given files with those of the manifest by their content.
    fn new(inputs: &'a Inputs, records: &'a [InputRecord]) -> Result<Matched<'a>> {
        let digests = inputs.digests()?;
        let mut taken = vec![false; digests.len()];
        let mut faults = Vec::new();
        let mut order = Vec::new();
        for record in records {
            match (0..digests.len()).find(|file| !taken[*file] && digests[*file] == record.digest) {
                Some(file) => {
                    taken[file] = true;
                    order.push(file);
                }
                None => {
                    faults.push(Fault::new(&record.name, "was read by the run, and no file that is given holds it"))
                }
            }
        }
        let others = inputs.files().iter().zip(&taken).filter(|(_, taken)| !**taken);
        faults.extend(others.map(|(file, _)| Fault::new(&file.name, "is not what any input of the run held")));
        if !faults.is_empty() {
            return Err(Error::new(Kind::Input, "the input is not that of the run").with_faults(faults).hint(
                "give the very files that the run read; they are known by content, whatever their names are now",
            ));
        }
        let of_file = |file: usize| (0..inputs.splits()).filter(move |split| inputs.file_of(*split) == file);
        let splits = order.iter().enumerate().flat_map(|(at, file)| of_file(*file).map(move |split| (split, at)));
        let splits = splits.collect();
        Ok(Matched { inputs, names: records.iter().map(|record| record.name.as_str()).collect(), splits })
    }
}

impl TriggerSource for Matched<'_> {
    fn splits(&self) -> usize {
        self.splits.len()
    }

    fn split_bytes(&self, split: usize) -> u64 {
        self.inputs.split_bytes(self.splits[split].0)
    }

    fn file_of(&self, split: usize) -> usize {
        self.splits[split].1
    }

    fn file_name(&self, file: usize) -> &str {
        self.names[file]
    }

    fn read(&self, split: usize, need: Need, visit: &mut dyn FnMut(Row<'_>) -> Result<()>) -> Result<SplitLines> {
        self.inputs.read(self.splits[split].0, need, visit)
    }
}
