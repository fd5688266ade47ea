//! `explain`: everything that published runs and a state tell of one recipient.
//!
//! Runs are looked through newest first, by their decisions alone: the manifest says which, and what is not listed in one is no run.
//! Nothing is written. Files are not hashed, which `verify` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use serde::Serialize;

use super::explain_words::{Assigned, assigned, rule};
use super::manifest::RunManifest;
use super::state_life;
use crate::campaigns::{self, Campaigns, LoadOptions};
use crate::delivery::{FileKind, REVOKED, find_rows};
use crate::error::{Error, IoContext, Kind, Result};
use crate::ids::BUCKETS;
use crate::pipeline::ReceiptSource;
use crate::storage::Disk;
use crate::triggers::{Micros, Outcome, Reason, Recipient, RecipientKind, format_micros};

/// Who and where.
#[derive(Debug, Clone)]
pub struct ExplainSettings {
    /// The recipient.
    pub recipient: Recipient<'static>,
    /// Only this campaign.
    pub campaign: Option<String>,
    /// A folder of runs, or one run.
    pub out: Option<PathBuf>,
    /// A state.
    pub state: Option<PathBuf>,
    /// How long to wait for the state's lock.
    pub wait_lock: Duration,
    /// Threads that read.
    pub threads: usize,
}

/// What was found, newest first.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// `KIND:ID`, as searched for.
    pub recipient: String,
    /// Runs with triggers of the recipient.
    pub runs: Vec<ExplainedRun>,
    /// The state's receipts of the recipient.
    pub receipts: Vec<ExplainedReceipt>,
    /// Where was looked.
    pub searched: Vec<String>,
    /// Recipients who are named much alike, where nothing was found.
    pub near: Vec<String>,
}

/// One run.
#[derive(Debug, Serialize)]
pub struct ExplainedRun {
    /// Its id.
    pub run_id: String,
    /// Its folder.
    pub path: String,
    /// Its instant.
    pub as_of: String,
    /// `run` or `event`.
    pub clock: String,
    /// Its receipts were taken back.
    pub revoked: bool,
    /// The recipient's triggers, newest first.
    pub triggers: Vec<ExplainedTrigger>,
}

/// One trigger.
#[derive(Debug, Serialize)]
pub struct ExplainedTrigger {
    /// The campaign.
    pub campaign_id: Option<String>,
    /// When.
    pub triggered_at: Option<String>,
    /// Its id.
    pub trigger_id: Option<String>,
    /// `file:line`.
    pub source: Option<String>,
    /// What became of it.
    pub outcome: String,
    /// Why.
    pub reason: Option<String>,
    /// The same in words.
    pub rule: String,
    /// The receipt that refused it.
    pub blocked_by: Option<String>,
    /// When nothing known then would have refused it.
    pub eligible_at: Option<String>,
    /// The variant.
    pub variant: Option<String>,
    /// The draw behind it.
    pub assigned: Option<Assigned>,
    /// Ids of its messages.
    pub dispatch_ids: Vec<String>,
    /// Messages that were not produced.
    pub dropped: Vec<ExplainedDrop>,
}

/// A message that was not produced.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedDrop {
    /// The channel.
    pub channel: String,
    /// Why.
    pub reason: String,
    /// The field of the template at fault, and what was wrong.
    pub detail: String,
}

/// One receipt of the state.
#[derive(Debug, Serialize)]
pub struct ExplainedReceipt {
    /// The campaign.
    pub campaign_id: String,
    /// When.
    pub received_at: String,
    /// `sent`, `control`, or `revoked` for a receipt that was taken back.
    pub outcome: String,
    /// The variant.
    pub variant: Option<String>,
    #[serde(skip)]
    at: Micros,
}

/// Looks for a recipient.
///
/// # Errors
/// Kind `Output`: a run cannot be read. Kind `State`: the state cannot. Kind `Usage`: there is nothing to look through.
pub fn explain(disk: &Arc<dyn Disk>, settings: &ExplainSettings) -> Result<Explained> {
    let mut explained = Explained {
        recipient: name_of(&settings.recipient),
        runs: Vec::new(),
        receipts: Vec::new(),
        searched: Vec::new(),
        near: Vec::new(),
    };
    let runs = settings.out.as_deref().map(manifests).transpose()?.unwrap_or_default();
    for (path, manifest) in &runs {
        let triggers = manifest.ledger.total.triggers;
        explained.searched.push(format!("run {} ({triggers} triggers) in {}", manifest.run_id, path.display()));
        explained.runs.extend(explain_run(path, manifest, settings)?);
    }
    if let Some(dir) = &settings.state {
        explain_state(disk, dir, settings, &mut explained)?;
    }
    if explained.runs.is_empty() && explained.receipts.is_empty() {
        for (path, manifest) in &runs {
            explained.near.extend(near_misses(path, manifest, settings)?);
        }
        explained.near.sort();
        explained.near.dedup();
    }
    Ok(explained)
}

/// `KIND:ID`, as on the command line.
fn name_of(recipient: &Recipient<'_>) -> String {
    format!("{}:{}", recipient.kind.code(), recipient.profile_key())
}

/// The runs of a folder, newest first; of a run's own folder, that one.
fn manifests(out: &Path) -> Result<Vec<(PathBuf, RunManifest)>> {
    let mut folders = vec![out.to_owned()];
    if !out.join("manifest.json").is_file() {
        let entries = std::fs::read_dir(out).at(Kind::Usage, "list", out)?;
        folders = entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<_>>().at(
            Kind::Output,
            "list",
            out,
        )?;
        folders.retain(|folder| folder.join("manifest.json").is_file());
    }
    let mut runs = Vec::new();
    for folder in folders {
        let manifest = RunManifest::read(&folder)?;
        runs.push((folder, manifest));
    }
    // Times are all written alike: as texts they are in the order of time but for fractions, which the generation settles.
    runs.sort_by(|(_, a), (_, b)| (&b.as_of, b.generation, &b.run_id).cmp(&(&a.as_of, a.generation, &a.run_id)));
    match runs.is_empty() {
        true => Err(Error::new(Kind::Usage, format!("there is no run in `{}`", out.display()))
            .hint("give the folder that was `--out` of the runs, or one run's folder")),
        false => Ok(runs),
    }
}

/// The rows of a table of a run, if it has any of the recipient.
fn rows_of(
    path: &Path,
    manifest: &RunManifest,
    kind: &FileKind,
    threads: usize,
    is_meant: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<RecordBatch>> {
    let file = manifest.files.iter().find(|file| file.kind == *kind);
    file.map_or_else(|| Ok(Vec::new()), |file| find_rows(&path.join(&file.path), threads, is_meant))
}

fn explain_run(path: &Path, manifest: &RunManifest, settings: &ExplainSettings) -> Result<Option<ExplainedRun>> {
    let name = settings.recipient.profile_key();
    let is_meant = |text: &str| text == name;
    let decisions = rows_of(path, manifest, &FileKind::Decisions, settings.threads, &is_meant)?;
    let is_wanted = |row: &Cells<'_>| {
        row.text("recipient_kind") == Some(settings.recipient.kind.code())
            && settings.campaign.as_deref().is_none_or(|id| row.text("campaign_id") == Some(id))
    };
    if !rows(&decisions).any(|row| is_wanted(&row)) {
        return Ok(None);
    }
    let dropped = rows_of(path, manifest, &FileKind::Dropped, settings.threads, &is_meant)?;
    let folder = path.join("campaigns");
    let campaigns = match folder.is_dir() {
        true => campaigns::load(&folder, &LoadOptions::default())?,
        false => Campaigns::default(),
    };
    let mut triggers: Vec<(Option<Micros>, ExplainedTrigger)> = rows(&decisions)
        .filter(is_wanted)
        .map(|row| (row.instant("triggered_at"), explain_trigger(&row, &dropped, &campaigns, &name)))
        .collect();
    triggers.reverse();
    triggers.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    Ok(Some(ExplainedRun {
        run_id: manifest.run_id.clone(),
        path: path.display().to_string(),
        as_of: manifest.as_of.clone(),
        clock: manifest.flags.get("clock").and_then(|clock| clock.as_str()).unwrap_or_default().to_owned(),
        revoked: path.join(REVOKED).exists(),
        triggers: triggers.into_iter().map(|(_, trigger)| trigger).collect(),
    }))
}

fn explain_trigger(
    row: &Cells<'_>,
    dropped: &[RecordBatch],
    campaigns: &Campaigns,
    profile_key: &str,
) -> ExplainedTrigger {
    let owned = |column: &str| row.text(column).map(str::to_owned);
    let campaign = campaigns.loaded.iter().find(|campaign| Some(campaign.id.as_str()) == row.text("campaign_id"));
    let outcome = row.text("outcome").unwrap_or_default();
    let reason = row.text("reason").and_then(Reason::from_code);
    let is_drawn = matches!(reason, None | Some(Reason::MissingValue | Reason::RenderError | Reason::Aborted))
        && outcome != Outcome::OutOfScope.code();
    let of_trigger = rows(dropped)
        .filter(|drop| ["source", "recipient_kind"].iter().all(|column| drop.text(column) == row.text(column)));
    let text = |cells: &Cells<'_>, column: &str| cells.text(column).unwrap_or_default().to_owned();
    ExplainedTrigger {
        campaign_id: owned("campaign_id"),
        triggered_at: row.instant("triggered_at").map(format_micros),
        trigger_id: owned("trigger_id"),
        source: owned("source"),
        outcome: outcome.to_owned(),
        reason: owned("reason"),
        rule: rule(outcome, reason, campaign),
        blocked_by: row.instant("blocked_by").map(format_micros),
        eligible_at: row.instant("eligible_at").map(format_micros),
        variant: owned("variant"),
        assigned: campaign.filter(|_| is_drawn).and_then(|c| assigned(c, profile_key, outcome, row.text("variant"))),
        dispatch_ids: row.texts("dispatch_ids"),
        dropped: of_trigger
            .map(|drop| ExplainedDrop {
                channel: text(&drop, "channel"),
                reason: text(&drop, "reason"),
                detail: text(&drop, "detail"),
            })
            .collect(),
    }
}

/// One row of decoded batches.
struct Cells<'a> {
    rows: &'a RecordBatch,
    row: usize,
}

fn rows(batches: &[RecordBatch]) -> impl Iterator<Item = Cells<'_>> {
    batches.iter().flat_map(|rows| (0..rows.num_rows()).map(move |row| Cells { rows, row }))
}

impl<'a> Cells<'a> {
    fn text(&self, column: &str) -> Option<&'a str> {
        let column = self.rows.column_by_name(column)?.as_string_opt::<i32>()?;
        column.is_valid(self.row).then(|| column.value(self.row))
    }

    fn instant(&self, column: &str) -> Option<Micros> {
        let column = self.rows.column_by_name(column)?.as_primitive_opt::<TimestampMicrosecondType>()?;
        column.is_valid(self.row).then(|| column.value(self.row))
    }

    fn texts(&self, column: &str) -> Vec<String> {
        let list = self.rows.column_by_name(column).and_then(|column| column.as_list_opt::<i32>());
        let items = list.map(|list| list.value(self.row));
        let items = items.as_ref().and_then(|items| items.as_string_opt::<i32>());
        items.map_or_else(Vec::new, |items| items.iter().flatten().map(str::to_owned).collect())
    }
}

/// Everybody in a run whose name differs by case, by spaces or by its kind alone.
fn near_misses(path: &Path, manifest: &RunManifest, settings: &ExplainSettings) -> Result<Vec<String>> {
    let plain = |text: &str| text.split_whitespace().collect::<String>().to_lowercase();
    let name = plain(&settings.recipient.profile_key());
    // Names of another length are ruled out without making them plain; letters may change length with their case.
    let is_near = |text: &str| text.len() >= name.len() / 2 && plain(text) == name;
    let found = rows_of(path, manifest, &FileKind::Decisions, settings.threads, &is_near)?;
    let names =
        rows(&found).filter_map(|row| Some(format!("{}:{}", row.text("recipient_kind")?, row.text("recipient")?)));
    let of_others = names.filter(|name| *name != name_of(&settings.recipient));
    Ok(of_others.collect())
}

fn explain_state(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    settings: &ExplainSettings,
    explained: &mut Explained,
) -> Result<()> {
    let state = state_life::open_state(disk, dir, settings.wait_lock)?;
    let manifest = state.manifest();
    let receipts = manifest.files.iter().map(|file| file.rows).sum::<u64>();
    explained.searched.push(format!(
        "state {}, generation {} ({receipts} receipts), in {}",
        manifest.state_id,
        manifest.generation,
        dir.display()
    ));
    let key = settings.recipient.key_hash();
    let others = alike(&settings.recipient);
    let mut wanted = [false; BUCKETS];
    others.iter().map(Recipient::key_hash).chain([key]).for_each(|key| wanted[key.bucket()] = true);
    let mut near = Vec::new();
    let source = state.receipts()?;
    for piece in 0..source.pieces() {
        source.read(piece, &wanted, &mut |receipt| {
            let is_meant = settings.campaign.as_deref().is_none_or(|id| id == receipt.campaign_id);
            if receipt.key == key && is_meant {
                explained.receipts.push(ExplainedReceipt {
                    campaign_id: receipt.campaign_id.to_owned(),
                    received_at: format_micros(receipt.received_at),
                    outcome: receipt.outcome.code().to_owned(),
                    variant: receipt.variant.map(str::to_owned),
                    at: receipt.received_at,
                });
            }
            near.extend(others.iter().filter(|other| other.key_hash() == receipt.key).map(name_of));
        })?;
    }
    explained.receipts.sort_by_key(|receipt| std::cmp::Reverse(receipt.at));
    if explained.runs.is_empty() && explained.receipts.is_empty() {
        explained.near.extend(near);
    }
    Ok(())
}

/// Recipients who could have been meant: a state knows hashes, so that only whole names can be tried.
fn alike(recipient: &Recipient<'_>) -> Vec<Recipient<'static>> {
    let id = recipient.id.as_ref();
    let names = [id.to_owned(), id.trim().to_owned(), id.to_lowercase(), id.to_uppercase()];
    let with_kind =
        |id: &String, kind| Recipient { kind, id: id.clone().into(), label: recipient.label.to_string().into() };
    let all = names.iter().flat_map(|id| RecipientKind::ALL.map(|kind| with_kind(id, kind)));
    let key = recipient.key_hash();
    let mut all: Vec<Recipient<'static>> = all.filter(|other| other.key_hash() != key).collect();
    all.sort_by_key(Recipient::key_hash);
    all.dedup();
    all
}
