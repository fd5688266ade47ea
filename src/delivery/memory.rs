//! What a run produces, kept in memory: for programs that embed the engine.

use arrow_array::RecordBatch;

use crate::error::Result;
use crate::pipeline::{DeliverySink, LinesFile, Table};

/// Rows and lines in source order, uncut.
#[derive(Debug, Default)]
pub struct InMemory {
    /// Message rows by channel number; see [`crate::pipeline::Schemas::channels`].
    pub messages: Vec<(usize, RecordBatch)>,
    /// One row a trigger.
    pub decisions: Vec<RecordBatch>,
    /// Messages that were not produced, and why.
    pub dropped: Vec<RecordBatch>,
    /// Lines of `rejected.ndjson`.
    pub rejected: Vec<u8>,
    /// Lines of `remainder.ndjson`.
    pub remainder: Vec<u8>,
}

impl DeliverySink for InMemory {
    type Piece = (Table, RecordBatch);
    type Encoded = (Table, RecordBatch);

    fn cut(&mut self, table: Table, rows: RecordBatch) -> Result<Vec<Self::Piece>> {
        Ok(vec![(table, rows)])
    }

    fn cut_rest(&mut self) -> Result<Vec<Self::Piece>> {
        Ok(Vec::new())
    }

    fn encode(&self, piece: Self::Piece) -> Result<Self::Encoded> {
        Ok(piece)
    }

    fn append(&mut self, (table, rows): Self::Encoded) -> Result<()> {
        match table {
            Table::Messages(channel) => self.messages.push((channel, rows)),
            Table::Decisions => self.decisions.push(rows),
            Table::Dropped => self.dropped.push(rows),
        }
        Ok(())
    }

    fn append_lines(&mut self, file: LinesFile, lines: &[u8]) -> Result<()> {
        match file {
            LinesFile::Rejected => self.rejected.extend_from_slice(lines),
            LinesFile::Remainder => self.remainder.extend_from_slice(lines),
        }
        Ok(())
    }
}
