//! Re-reads all of a state and reports every fault; and sums it up for `state show`.
//!
//! Nothing here writes. [`State::verify`] hashes every file and decodes every column; a run relies on partial
//! checksums.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use serde::Serialize;

use super::manifest::{CampaignRetention, ReceiptFile, damaged};
use super::merge::MERGE_BATCH_ROWS;
use super::read::{Columns, ReceiptTable, check_length, checksums_of, unknown_outcome, whole_checksum};
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
    /// Receipt files.
    pub files: usize,
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
    /// Per campaign: largest window, floor and receipts.
    pub campaigns: BTreeMap<String, CampaignRetention>,
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
            files: manifest.files.len(),
            bytes: manifest.files.iter().fold(0, |sum, f| sum.saturating_add(f.bytes)),
            receipts: manifest.files.iter().fold(0, |sum, f| sum.saturating_add(f.rows)),
            oldest: manifest.files.iter().map(|f| f.oldest).min(),
            newest: manifest.files.iter().map(|f| f.newest).max(),
            history_floor: manifest.campaigns.values().filter_map(|c| c.history_floor).max(),
            campaigns: manifest.campaigns.clone(),
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
