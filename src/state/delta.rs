//! The receipts of one run on their way into the state: collected in any order, sorted in memory, spilled when many.
//!
//! At most 262,144 receipts or 64 MiB of text are held, fewer under a memory ceiling; then they are written, sorted, to a scratch file
//! (`scratch-<generation>-<n>.parquet` in the state folder), which the merge of [`super::State::stage`] reads back.
//! Scratch files are never named by a manifest; dropping a [`Delta`] removes them, and so does the next open after a
//! crash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::log::LoggedReceipt;
use super::merge::{MERGE_BATCH_ROWS, Source};
use super::read::{Columns, ReceiptTable};
use super::rows::{Receipt, RowsBuilder};
use super::write::{ReceiptWriter, Unnamed};
use crate::error::{Error, Kind, Result};
use crate::storage::Disk;
use crate::triggers::Micros;

const MAX_ROWS: usize = 262_144;
const MAX_TEXT_BYTES: usize = 64 << 20;

/// Bytes that a held receipt takes at most in ordinary runs, with the copies that sorting makes.
const RECEIPT_BYTES: u64 = 512;

/// The receipts of one run, being collected. Nothing of it is visible.
pub struct Delta {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    pub(super) generation: u64,
    pub(super) run_id: String,
    held: RowsBuilder,
    max_held_rows: usize,
    scratch: Vec<PathBuf>,
    unnamed: Unnamed,
    pub(super) by_campaign: BTreeMap<String, Added>,
}

/// What a delta adds to a campaign.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    pub(super) receipts: u64,
    /// The oldest `received_at`.
    pub(super) oldest: Micros,
    /// The newest one.
    pub(super) newest: Micros,
}

impl Delta {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, generation: u64, run_id: &str) -> Delta {
        Delta {
            unnamed: Unnamed::none(Arc::clone(&disk)),
            disk,
            dir: dir.to_owned(),
            generation,
            run_id: run_id.to_owned(),
            held: RowsBuilder::new(),
            max_held_rows: MAX_ROWS,
            scratch: Vec::new(),
            by_campaign: BTreeMap::new(),
        }
    }

    /// Holds about this many bytes of receipts at most.
    #[must_use]
    pub fn hold_at_most(self, bytes: u64) -> Delta {
        let rows = usize::try_from(bytes / RECEIPT_BYTES).unwrap_or(usize::MAX);
        let held = self.max_held_rows;
        self.spill_after(rows.max(MERGE_BATCH_ROWS).min(held))
    }

    /// Spills after this many receipts instead of 262,144.
    pub(super) fn spill_after(mut self, rows: usize) -> Delta {
        self.max_held_rows = rows;
        self
    }

    /// Records a receipt. Receipts equal in key, campaign and instant keep their order. Errors are of kind
    /// [`Kind::State`]: the disk is full or failing.
    pub fn push(&mut self, receipt: &Receipt<'_>) -> Result<()> {
        self.held.push(receipt, &self.run_id).map_err(cannot_collect)?;
        self.count(receipt)
    }

    /// Records a receipt of a log, with the run that it names there.
    pub fn push_logged(&mut self, logged: &LoggedReceipt) -> Result<()> {
        logged.with(|receipt| {
            self.held.push(receipt, &logged.run_id).map_err(cannot_collect)?;
            self.count(receipt)
        })
    }

    fn count(&mut self, receipt: &Receipt<'_>) -> Result<()> {
        let at = receipt.received_at;
        match self.by_campaign.get_mut(receipt.campaign_id) {
            Some(added) => {
                *added =
                    Added { receipts: added.receipts + 1, oldest: added.oldest.min(at), newest: added.newest.max(at) };
            }
            None => {
                let first = Added { receipts: 1, oldest: at, newest: at };
                self.by_campaign.insert(receipt.campaign_id.to_owned(), first);
            }
        }
        if self.held.rows >= self.max_held_rows || self.held.text_bytes >= MAX_TEXT_BYTES {
            self.spill()
        } else {
            Ok(())
        }
    }

    /// Receipts recorded so far.
    pub fn receipts(&self) -> u64 {
        self.by_campaign.values().map(|added| added.receipts).sum()
    }

    fn spill(&mut self) -> Result<()> {
        let batch = self.held.take_sorted().map_err(cannot_collect)?;
        let path = self.dir.join(format!("scratch-{}-{}.parquet", self.generation, self.scratch.len()));
        self.unnamed.add(path.clone());
        let mut writer = ReceiptWriter::create_scratch(&*self.disk, &path, batch.num_rows() as u64)?;
        for start in (0..batch.num_rows()).step_by(MERGE_BATCH_ROWS) {
            writer.write(&batch.slice(start, MERGE_BATCH_ROWS.min(batch.num_rows() - start)))?;
        }
        writer.finish_scratch()?;
        self.scratch.push(path);
        Ok(())
    }

    /// All of it as sorted sources, in the order of recording. The guard keeps the scratch files until it is dropped.
    pub(super) fn into_sources(mut self) -> Result<(Vec<Source>, Unnamed)> {
        let mut sources = Vec::new();
        for path in &self.scratch {
            sources.push(Source::File(ReceiptTable::open_scratch(&*self.disk, path)?.batches(
                Columns::All,
                None,
                MERGE_BATCH_ROWS,
            )?));
        }
        sources.push(Source::Memory(self.held.take_sorted().map_err(cannot_collect)?, 0));
        Ok((sources, self.unnamed))
    }
}

fn cannot_collect(error: arrow_schema::ArrowError) -> Error {
    Error::new(Kind::Internal, "cannot collect receipts").caused_by(error)
}
