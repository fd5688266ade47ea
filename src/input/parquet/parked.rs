//! Decoders that stand where a split ended, so that the next split of the same row group goes on there.
//!
//! A page holds the rows of several splits, and a decoder that begins in the middle of one unpacks all of it. So a split of
//! moderate size is decoded as a whole and its decoder kept for the next. Splits of one row group wait for each other, but
//! only while rows are decoded; those of different row groups do not.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use crate::pipeline::Need;

use super::{ParquetSplit, next};

/// Decoders kept for one row group: splits may come a little out of order.
const MOST_PARKED: usize = 4;

/// Reading goes forward: nobody comes back to a row group this far behind.
const LEFT_BEHIND: usize = 2;

/// A decoder of a row group's rows from some row on.
pub(super) struct Decoder {
    need: Need,
    /// The row that comes next.
    row: u64,
    batches: ParquetRecordBatchReader,
    /// Rows that were decoded beyond the last split.
    rest: Option<RecordBatch>,
}

impl Decoder {
    pub(super) fn new(split: &ParquetSplit, need: Need, batches: ParquetRecordBatchReader) -> Decoder {
        Decoder { need, row: split.first_row, batches, rest: None }
    }

    /// The next `rows` rows, or as many as there are.
    pub(super) fn take(&mut self, rows: u64) -> Result<Vec<RecordBatch>, String> {
        let (mut taken, mut left) = (Vec::new(), rows as usize);
        while left > 0 {
            let Some(batch) = self.rest.take().map_or_else(|| next(&mut self.batches), |rest| Ok(Some(rest)))? else {
                break;
            };
            let fits = batch.num_rows().min(left);
            if fits < batch.num_rows() {
                self.rest = Some(batch.slice(fits, batch.num_rows() - fits));
            }
            taken.push(batch.slice(0, fits));
            left -= fits;
        }
        self.row += rows - left as u64;
        Ok(taken)
    }
}

/// The decoders of a file, by row group.
pub(super) struct Parked(Vec<Mutex<Vec<Decoder>>>);

impl Parked {
    pub(super) fn new(row_groups: usize) -> Parked {
        Parked((0..row_groups).map(|_| Mutex::default()).collect())
    }

    /// The decoders of a row group; other splits of it wait until the guard is dropped. Those of a row group that was
    /// left behind are given up: whoever read out of turn may have left some, and each holds pages.
    pub(super) fn of(&self, row_group: usize) -> MutexGuard<'_, Vec<Decoder>> {
        let behind = row_group.checked_sub(LEFT_BEHIND).map(|behind| self.0[behind].try_lock());
        if let Some(Ok(mut behind)) = behind {
            behind.clear();
        }
        self.0[row_group].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many decoders are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.0.iter().map(|parked| parked.lock().unwrap().len()).sum()
    }
}

/// Takes the decoder that stands at a split.
pub(super) fn at(parked: &mut Vec<Decoder>, split: &ParquetSplit, need: Need) -> Option<Decoder> {
    let position = parked.iter().position(|decoder| decoder.row == split.first_row && decoder.need == need)?;
    Some(parked.remove(position))
}

/// Keeps a decoder, unless it has come to the end of its row group: then the others are of no more use either. The oldest
/// gives way.
pub(super) fn park(parked: &mut Vec<Decoder>, decoder: Decoder, row_group_rows: u64) {
    if decoder.row >= row_group_rows {
        return parked.retain(|other| other.need != decoder.need);
    }
    parked.push(decoder);
    if parked.len() > MOST_PARKED {
        parked.remove(0);
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parked")
    }
}
