//! Merges sorted receipts into one sorted stream, and says which files of a state to merge.
//!
//! Memory: a batch of 1,024 rows for each source and the batch being put together. Rows that are equal in all three
//! sort columns keep the order of their sources, so merging files oldest first keeps the order of recording. No row
//! is dropped.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::interleave::interleave_record_batch;

use super::read::Batches;
use super::rows::SortColumns;
use crate::error::{Error, Kind, Result};
use crate::ids::KeyHash;
use crate::triggers::Micros;

/// Rows of a batch while merging.
pub(super) const MERGE_BATCH_ROWS: usize = 1_024;

/// Deltas that may stand beside the base.
pub const MAX_DELTAS: usize = 8;

/// The first of the files, given by their rows from the oldest to the newest, that is to be merged with all after it.
///
/// A file is merged with what follows it unless it has more than twice as many rows. So sizes fall by halves or
/// faster from the base on, a receipt is rewritten about log2(receipts / receipts of a run) times in its life, and a
/// small nightly run does not rewrite a large base. If more than eight deltas are left, the smallest, which are the
/// newest, are merged.
pub(super) fn merge_from(rows: &[u64]) -> usize {
    let mut first = rows.len().saturating_sub(1);
    let mut merged = rows.last().copied().unwrap_or(0);
    while first > 0 && (merged * 2 >= rows[first - 1] || first > MAX_DELTAS) {
        first -= 1;
        merged += rows[first];
    }
    first
}

/// Sorted rows.
pub(super) enum Source {
    /// Of a file.
    File(Batches),
    /// In memory, with the next row.
    Memory(RecordBatch, usize),
}

impl Source {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Source::File(batches) => batches.next(),
            Source::Memory(batch, start) => {
                let rows = MERGE_BATCH_ROWS.min(batch.num_rows() - *start);
                let piece = batch.slice(*start, rows);
                *start += rows;
                Ok((rows > 0).then_some(piece))
            }
        }
    }
}

/// The next row of a source. The order of the fields is the order of the rows.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    key: KeyHash,
    campaign: Arc<str>,
    at: Micros,
    source: usize,
}

/// Where a source stands.
struct Cursor {
    source: Source,
    batch: RecordBatch,
    sort: SortColumns,
    row: usize,
    /// Position of `batch` among the batches of the output, if a row of it is already there.
    slot: Option<usize>,
}

/// A k-way merge.
pub(super) struct Merge {
    cursors: Vec<Cursor>,
    heads: BinaryHeap<Reverse<Head>>,
    campaigns: HashSet<Arc<str>>,
}

impl Merge {
    /// Starts at the first row of every source.
    pub(super) fn new(sources: Vec<Source>) -> Result<Merge> {
        let mut merge = Merge { cursors: Vec::new(), heads: BinaryHeap::new(), campaigns: HashSet::new() };
        for mut source in sources {
            if let Some(batch) = source.next()? {
                merge.cursors.push(Cursor { source, sort: SortColumns::of(&batch), batch, row: 0, slot: None });
                merge.announce(merge.cursors.len() - 1);
            }
        }
        Ok(merge)
    }

    /// The next rows, at most [`MERGE_BATCH_ROWS`]; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut taken: Vec<(usize, usize)> = Vec::with_capacity(MERGE_BATCH_ROWS);
        while taken.len() < MERGE_BATCH_ROWS
            && let Some(Reverse(head)) = self.heads.pop()
        {
            let cursor = &mut self.cursors[head.source];
            let slot = *cursor.slot.get_or_insert_with(|| {
                batches.push(cursor.batch.clone());
                batches.len() - 1
            });
            taken.push((slot, cursor.row));
            self.advance(head.source)?;
        }
        for cursor in &mut self.cursors {
            cursor.slot = None;
        }
        if taken.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        let merged = interleave_record_batch(&batches, &taken);
        merged.map(Some).map_err(|e| Error::new(Kind::Internal, "cannot merge receipts").caused_by(e))
    }

    fn advance(&mut self, source: usize) -> Result<()> {
        let cursor = &mut self.cursors[source];
        cursor.row += 1;
        if cursor.row == cursor.batch.num_rows() {
            let Some(batch) = cursor.source.next()? else { return Ok(()) };
            cursor.sort = SortColumns::of(&batch);
            (cursor.batch, cursor.row, cursor.slot) = (batch, 0, None);
        }
        self.announce(source);
        Ok(())
    }

    /// Puts the row of a cursor among the heads.
    fn announce(&mut self, source: usize) {
        let cursor = &self.cursors[source];
        let rows = &cursor.sort;
        let name = rows.campaign(cursor.row);
        let campaign = match self.campaigns.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                let new: Arc<str> = name.into();
                self.campaigns.insert(Arc::clone(&new));
                new
            }
        };
        self.heads.push(Reverse(Head { key: rows.key(cursor.row), campaign, at: rows.at(cursor.row), source }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_leaves_a_large_base_alone() {
        assert_eq!(merge_from(&[1_000, 10]), 1);
        assert_eq!(merge_from(&[1_000, 100, 10, 1]), 3);
        assert_eq!(merge_from(&[7]), 0);
        assert_eq!(merge_from(&[]), 0);
    }

    #[test]
    fn equal_runs_are_merged_in_tiers() {
        assert_eq!(merge_from(&[1_000, 10, 10]), 1);
        assert_eq!(merge_from(&[40, 20, 10, 10]), 0);
        assert_eq!(merge_from(&[10, 1_000]), 0, "a large run takes a small base in");
    }

    #[test]
    fn a_ninth_delta_is_merged_into_the_newest() {
        let rows: Vec<u64> = (0..10).map(|n| 1 << (3 * (9 - n))).collect();
        assert_eq!(merge_from(&rows[..9]), 8, "base and eight deltas stay");
        assert_eq!(merge_from(&rows), 8);
    }
}
