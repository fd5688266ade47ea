//! Cutting a table's rows into pieces: one piece is one row group (or one compressed frame of lines) of one file.
//!
//! Where a cut falls depends on the rows before it alone (their number and the length of their text), never on the
//! record batches they arrived in. Nothing is copied here; [`Piece::gather`] does that, on the parallel side.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, DataType};
use arrow_select::concat::concat_batches;

use crate::pipeline::Table;

/// Rows of a row group of messages, at most.
pub const MESSAGE_GROUP_ROWS: usize = 25_000;

/// Rows of a row group of decisions or dropped messages, at most. These rows have no bodies: about 15 MB a group.
pub const LEDGER_GROUP_ROWS: usize = 100_000;

/// Bytes of text in a piece, at most; a single larger row goes alone. Keeps memory bounded where bodies are large, and
/// the 32-bit offsets of a text column far from their end.
pub const GROUP_TEXT_BYTES: usize = 16 << 20;

/// Rows of one piece, not yet copied together.
pub struct Piece {
    pub(super) table: Table,
    /// Position among the pieces of the table, from 0.
    pub(super) sequence: u64,
    /// Number of the file, from 0.
    pub(super) batch: u64,
    parts: Vec<RecordBatch>,
}

impl Piece {
    /// All rows as one record batch. Always copied together when there are several parts: encoders look at the borders
    /// of what they are handed, and bytes must not depend on those.
    pub(super) fn gather(mut self) -> Result<RecordBatch, ArrowError> {
        match self.parts.len() {
            1 => Ok(self.parts.swap_remove(0)),
            _ => concat_batches(&self.parts[0].schema(), &self.parts),
        }
    }
}

/// The rows of one table that are not yet a full piece.
pub(super) struct Cutter {
    table: Table,
    /// Rows of a file; `u64::MAX` where a table is one file.
    batch_rows: u64,
    group_rows: usize,
    text_bytes: usize,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: usize,
    /// Rows in the pieces cut so far.
    cut_rows: u64,
    cut_pieces: u64,
}

impl Cutter {
    pub(super) fn new(table: Table, batch_rows: u64) -> Cutter {
        let group_rows = match table {
            Table::Messages(_) => MESSAGE_GROUP_ROWS,
            Table::Decisions | Table::Dropped => LEDGER_GROUP_ROWS,
        };
        Cutter {
            table,
            batch_rows,
            group_rows,
            text_bytes: GROUP_TEXT_BYTES,
            pending: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
            cut_rows: 0,
            cut_pieces: 0,
        }
    }

    /// Takes rows and returns the pieces that are now full.
    pub(super) fn push(&mut self, rows: &RecordBatch) -> Vec<Piece> {
        let mut full = Vec::new();
        let mut start = 0;
        while start < rows.num_rows() {
            let room = self.room().min(rows.num_rows() - start);
            let taken = self.fitting(rows, start, room);
            if taken > 0 {
                self.pending_bytes += text_bytes(rows, start, taken);
                self.pending_rows += taken;
                self.pending.push(rows.slice(start, taken));
                start += taken;
            }
            if taken < room || self.room() == 0 {
                full.extend(self.rest());
            }
        }
        full
    }

    /// The last, partly filled piece.
    pub(super) fn rest(&mut self) -> Option<Piece> {
        if self.pending_rows == 0 {
            return None;
        }
        let batch = self.cut_rows / self.batch_rows;
        let parts = std::mem::take(&mut self.pending);
        let piece = Piece { table: self.table, sequence: self.cut_pieces, batch, parts };
        self.cut_rows += self.pending_rows as u64;
        self.cut_pieces += 1;
        (self.pending_rows, self.pending_bytes) = (0, 0);
        Some(piece)
    }

    /// Pieces cut so far.
    pub(super) fn pieces(&self) -> u64 {
        self.cut_pieces
    }

    /// Rows handed over that are in no piece yet.
    pub(super) fn waiting(&self) -> usize {
        self.pending_rows
    }

    /// Rows that still go into the piece at hand, by number alone.
    fn room(&self) -> usize {
        let left_in_batch = self.batch_rows - self.cut_rows % self.batch_rows;
        let piece_rows = usize::try_from(left_in_batch).map_or(self.group_rows, |left| left.min(self.group_rows));
        piece_rows - self.pending_rows
    }

    /// How many of the `room` rows from `start` fit by the length of their text; never 0 for an empty piece.
    fn fitting(&self, rows: &RecordBatch, start: usize, room: usize) -> usize {
        let Some(left) = self.text_bytes.checked_sub(self.pending_bytes) else {
            return 0; // A single larger row is pending: not even an empty one joins it.
        };
        if text_bytes(rows, start, room) <= left {
            return room;
        }
        let (mut fits, mut too_many) = (0, room);
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if text_bytes(rows, start, middle) <= left {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        if self.pending_rows == 0 { fits.max(1) } else { fits }
    }
}

/// Bytes of text in some rows. Other columns (numbers, times, a row's few dispatch ids) are bounded by the number of rows.
fn text_bytes(rows: &RecordBatch, start: usize, len: usize) -> usize {
    let of_column = |column: &dyn Array| match column.data_type() {
        DataType::Utf8 => {
            let offsets = column.as_string::<i32>().value_offsets();
            (offsets[start + len] - offsets[start]) as usize
        }
        DataType::LargeUtf8 => {
            let offsets = column.as_string::<i64>().value_offsets();
            (offsets[start + len] - offsets[start]) as usize
        }
        _ => 0,
    };
    rows.columns().iter().map(|column| of_column(column.as_ref())).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::StringArray;
    use arrow_schema::{Field, Schema};

    use super::*;

    fn rows(texts: &[&str]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("dispatch_id", DataType::Utf8, false)]));
        RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(texts.to_vec()))]).unwrap()
    }

    fn small(batch_rows: u64, group_rows: usize, text_bytes: usize) -> Cutter {
        Cutter { group_rows, text_bytes, ..Cutter::new(Table::Messages(0), batch_rows) }
    }

    /// (batch, rows) of every piece when the rows arrive `step` at a time.
    fn cuts(mut cutter: Cutter, texts: &[&str], step: usize) -> Vec<(u64, usize)> {
        let mut pieces: Vec<Piece> = texts.chunks(step).flat_map(|chunk| cutter.push(&rows(chunk))).collect();
        pieces.extend(cutter.rest());
        assert!(pieces.iter().enumerate().all(|(i, piece)| piece.sequence == i as u64));
        pieces.into_iter().map(|piece| (piece.batch, piece.gather().unwrap().num_rows())).collect()
    }

    #[test]
    fn batches_are_cut_by_ordinal_and_groups_within_them() {
        for step in 1..=17 {
            assert_eq!(
                cuts(small(5, 3, 1000), &["a"; 17], step),
                [(0, 3), (0, 2), (1, 3), (1, 2), (2, 3), (2, 2), (3, 2)],
                "{step} at a time"
            );
        }
    }

    #[test]
    fn long_text_ends_a_piece_early_at_the_same_row_however_it_arrives() {
        let texts = ["12345", "1234", "1", "a text longer than any piece", "", "1", "1234567890", "1"];
        for step in 1..=8 {
            assert_eq!(
                cuts(small(100, 100, 10), &texts, step),
                [(0, 3), (0, 1), (0, 2), (0, 1), (0, 1)],
                "{step} at a time"
            );
        }
    }

    #[test]
    fn a_full_last_batch_leaves_no_empty_piece() {
        assert_eq!(cuts(small(4, 2, 1000), &["a"; 8], 8), [(0, 2), (0, 2), (1, 2), (1, 2)]);
        assert_eq!(cuts(small(1, 9, 1000), &["a"; 3], 3), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(cuts(small(4, 2, 1000), &[], 1), []);
    }
}
