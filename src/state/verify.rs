//! Re-reads all of a state and reports every fault; and sums it up for `state show`.
//!
//! Nothing here writes. [`State::verify`] hashes every file and decodes every column; a run relies on partial
//! checksums.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use serde::Serialize;

use super::manifest::{CampaignRetention, ReceiptFile, StateManifest, Window, damaged};
use super::merge::MERGE_BATCH_ROWS;
use super::read::{Columns, ReceiptTable, check_length, checksums_of, unknown_outcome, whole_checksum};
use super::retention::kept_seconds;
use super::rows::DecidingColumns;
use super::{State, fault_of};
use crate::error::{Error, Kind, Result};
use crate::ids::KeyHash;
use crate::storage::Disk;
use crate::triggers::Micros;

/// What a state holds, for `state show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Drawn at `state init`.
    pub state_id: String,
    /// The current generation.
    pub generation: u64,
    /// Digest of the current manifest.
    pub digest: String,
    /// Committed runs.
    pub runs: usize,
    /// Digest of the manifest before; `None` in generation 0.
    pub parent_digest: Option<String>,
    /// The runs and changes that made the generations, oldest first.
    pub made_by: Vec<MadeBy>,
    /// Receipt files.
    pub files: usize,
    /// Each receipt file, oldest receipts first.
    pub receipt_files: Vec<FileSummary>,
    /// Bytes of the receipt files.
    pub bytes: u64,
    /// Receipts and control enrolments.
    pub receipts: u64,
    /// The oldest `received_at` in microseconds; `None` without receipts.
    pub oldest: Option<Micros>,
    /// The newest `received_at` in microseconds; `None` without receipts.
    pub newest: Option<Micros>,
    /// The latest instant before which receipts of some campaign may have been dropped; `None` while none was.
    pub history_floor: Option<Micros>,
    /// Per campaign: receipts, retention and floor.
    pub campaigns: BTreeMap<String, CampaignSummary>,
}

/// What a state holds of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CampaignSummary {
    /// Receipts and control enrolments.
    pub receipts: u64,
    /// The largest window that any run of this state used; `None` while no run has loaded the campaign.
    pub largest_window: Option<Window>,
    /// For how long receipts are kept, in seconds; `None` is for ever.
    pub kept_seconds: Option<u64>,
    /// Whether the newest receipt of each recipient is kept for ever: the campaign had variants or a control group.
    pub keeps_newest: bool,
    /// Receipts before this instant may have been dropped; `None` while none ever was.
    pub history_floor: Option<Micros>,
}

/// A generation and what made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MadeBy {
    /// Its number.
    pub generation: u64,
    /// `run` or the kind of change.
    pub kind: &'static str,
    /// The id of the run or the change.
    pub id: String,
}

/// A receipt file, for `state show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// Its name.
    pub name: String,
    /// The first generation whose receipts are in it.
    pub first_generation: u64,
    /// The last one.
    pub last_generation: u64,
    /// Receipts.
    pub receipts: u64,
    /// Its length.
    pub bytes: u64,
    /// The oldest `received_at`.
    pub oldest: Micros,
    /// The newest `received_at`.
    pub newest: Micros,
}

impl State {
    /// What the state holds, from its manifest alone.
    pub fn summary(&self) -> Summary {
        let manifest = self.manifest();
        Summary {
            state_id: manifest.state_id.clone(),
            generation: manifest.generation,
            digest: self.digest().to_owned(),
            runs: manifest.runs.len(),
            parent_digest: manifest.parent_digest.clone(),
            made_by: made_by(manifest),
            files: manifest.files.len(),
            receipt_files: manifest.files.iter().map(file_summary).collect(),
            bytes: manifest.files.iter().fold(0, |sum, f| sum.saturating_add(f.bytes)),
            receipts: manifest.files.iter().fold(0, |sum, f| sum.saturating_add(f.rows)),
            oldest: manifest.files.iter().map(|f| f.oldest).min(),
            newest: manifest.files.iter().map(|f| f.newest).max(),
            history_floor: manifest.campaigns.values().filter_map(|c| c.history_floor).max(),
            campaigns: manifest.campaigns.iter().map(|(id, kept)| (id.clone(), campaign_summary(kept))).collect(),
        }
    }

    /// Hashes every file again, decodes every row, and checks order, counts and times against the manifest. The
    /// error, of kind [`Kind::State`], has a fault for every file that is wrong.
    pub fn verify(&self) -> Result<()> {
        let mut receipts = BTreeMap::new();
        let mut broken = Vec::new();
        for file in &self.manifest().files {
            let checked = check_content(&*self.disk, self.dir(), file)
                .and_then(|()| check_rows(&*self.disk, self.dir(), file, &mut receipts));
            broken.extend(checked.err());
        }
        if broken.is_empty() {
            let recorded = self.manifest().campaigns.iter().filter(|(_, c)| c.receipts > 0);
            if !recorded.map(|(id, c)| (id, c.receipts)).eq(receipts.iter().map(|(id, n)| (id, *n))) {
                let path = self.dir().join(super::MANIFEST);
                broken.push(damaged(&path, "its receipts by campaign are not those of the files"));
            }
        }
        if broken.is_empty() {
            return Ok(());
        }
        let faults = broken.into_iter().map(|error| fault_of(self.dir(), error)).collect();
        Err(Error::new(Kind::State, format!("the state `{}` is damaged", self.dir().display()))
            .with_faults(faults)
            .hint("restore the whole folder from a copy; nothing was changed"))
    }
}

fn campaign_summary(kept: &CampaignRetention) -> CampaignSummary {
    let CampaignRetention { largest_window, assigns, history_floor, receipts } = *kept;
    let kept_seconds = kept_seconds(largest_window);
    CampaignSummary { receipts, largest_window, kept_seconds, keeps_newest: assigns, history_floor }
}

fn made_by(manifest: &StateManifest) -> Vec<MadeBy> {
    let runs = manifest.runs.iter().map(|r| MadeBy { generation: r.generation, kind: "run", id: r.run_id.clone() });
    let changes = manifest.changes.iter();
    let changes = changes.map(|c| MadeBy { generation: c.generation, kind: c.kind.code(), id: c.id.clone() });
    let mut made_by: Vec<MadeBy> = runs.chain(changes).collect();
    made_by.sort_by_key(|made| made.generation);
    made_by
}

fn file_summary(file: &ReceiptFile) -> FileSummary {
    FileSummary {
        name: file.name.clone(),
        first_generation: file.first_generation,
        last_generation: file.last_generation,
        receipts: file.rows,
        bytes: file.bytes,
        oldest: file.oldest,
        newest: file.newest,
    }
}

/// Length and all checksums of a file.
pub(super) fn check_content(disk: &dyn Disk, dir: &Path, file: &ReceiptFile) -> Result<()> {
    let path = dir.join(&file.name);
    check_length(disk, &path, file.bytes)?;
    if whole_checksum(disk, &path)? != (file.checksum, file.bytes) {
        return Err(damaged(&path, "its checksum does not match its content"));
    }
    let partial = checksums_of(disk, &path)?;
    if partial.footer != file.footer_checksum || partial.row_groups != file.row_groups {
        return Err(damaged(&path, "the manifest has other partial checksums"));
    }
    Ok(())
}

/// What was seen of a file's rows so far.
struct Seen {
    last: Option<(KeyHash, String, Micros)>,
    rows: u64,
    oldest: Micros,
    newest: Micros,
}

fn check_rows(disk: &dyn Disk, dir: &Path, file: &ReceiptFile, receipts: &mut BTreeMap<String, u64>) -> Result<()> {
    let table = ReceiptTable::open(disk, dir, file)?;
    let mut batches = table.batches(Columns::All, None, MERGE_BATCH_ROWS)?;
    let mut seen = Seen { last: None, rows: 0, oldest: Micros::MAX, newest: Micros::MIN };
    while let Some(batch) = batches.next()? {
        check_batch(&batch, &mut seen, receipts).map_err(|fault| damaged(table.path(), fault))?;
    }
    if (seen.rows, seen.oldest, seen.newest) != (file.rows, file.oldest, file.newest) {
        return Err(damaged(table.path(), "the manifest has another number of rows, or other oldest and newest times"));
    }
    Ok(())
}

fn check_batch(batch: &RecordBatch, seen: &mut Seen, receipts: &mut BTreeMap<String, u64>) -> Result<(), String> {
    let columns = DecidingColumns::of(batch);
    let lists = |name| batch.column_by_name(name).expect("checked when opened").as_list::<i32>();
    let (channels, dispatch_ids) = (lists("channels"), lists("dispatch_ids"));
    for row in 0..batch.num_rows() {
        let (key, campaign, at) = (columns.sort.key(row), columns.sort.campaign(row), columns.sort.at(row));
        if seen.last.as_ref().is_some_and(|(k, c, t)| (*k, c.as_str(), *t) > (key, campaign, at)) {
            return Err(format!("row {} is out of order", seen.rows));
        }
        columns.outcome(row).map_err(unknown_outcome)?;
        if channels.value(row).len() != dispatch_ids.value(row).len() {
            return Err(format!("row {} has not one dispatch id for each channel", seen.rows));
        }
        *receipts.entry(campaign.to_owned()).or_insert(0) += 1;
        seen.last = Some((key, campaign.to_owned(), at));
        seen.rows += 1;
        (seen.oldest, seen.newest) = (seen.oldest.min(at), seen.newest.max(at));
    }
    Ok(())
}
