//! Merging sorted receipt files into one: a streaming k-way merge, one record batch per file in memory.

use std::cmp::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow_select::interleave::interleave_record_batch;

use super::reader::{Batches, ReceiptFile};
use super::receipts::{ReceiptWriter, schema};
use crate::error::{Error, Kind, Result};
use crate::triggers::Micros;

/// Rows gathered before they are written.
const GATHERED_ROWS: usize = 16_384;

/// Where sorted receipts come from: an existing file, or the run's own.
pub enum Source {
    /// A file of the state.
    File(Batches),
    /// Receipts in memory.
    Rows(Option<RecordBatch>),
}

impl Source {
    /// All columns of a file.
    pub fn file(file: &ReceiptFile) -> Result<Source> {
        let schema = schema();
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        file.batches(None, &names).map(Source::File)
    }

    /// The next batch with rows.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let next = match self {
                Source::File(batches) => batches.next()?,
                Source::Rows(rows) => rows.take(),
            };
            if next.as_ref().is_none_or(|rows| rows.num_rows() > 0) {
                return Ok(next);
            }
        }
    }
}

/// A source and the batch it stands in.
struct Cursor {
    source: Source,
    /// Position of the current batch among the live ones.
    batch: usize,
    row: usize,
}

/// Merges sources that are each sorted into the writer. Of equal rows, an earlier source's come first.
pub fn merge(sources: Vec<Source>, writer: &mut ReceiptWriter<'_>) -> Result<()> {
    let mut merge = Merge { live: Vec::new(), picked: Vec::new() };
    let mut cursors = Vec::new();
    for mut source in sources {
        if let Some(rows) = source.next()? {
            cursors.push(Cursor { source, batch: merge.add(rows), row: 0 });
        }
    }
    while let Some(least) = merge.least(&cursors) {
        let cursor = &mut cursors[least];
        merge.picked.push((cursor.batch, cursor.row));
        cursor.row += 1;
        let ended = cursor.row == merge.live[cursor.batch].rows.num_rows();
        if ended || merge.picked.len() == GATHERED_ROWS {
            merge.flush(writer, &mut cursors)?;
        }
        if ended {
            match cursors[least].source.next()? {
                Some(rows) => (cursors[least].batch, cursors[least].row) = (merge.add(rows), 0),
                None => drop(cursors.remove(least)),
            }
        }
    }
    Ok(())
}

/// A batch and its columns of order: finding them again for every comparison would cost more than comparing.
struct Live {
    rows: RecordBatch,
    keys: FixedSizeBinaryArray,
    campaigns: StringArray,
    times: TimestampMicrosecondArray,
    hashes: UInt64Array,
}

impl Live {
    /// `rows` are of the receipt schema: the reader asked for it.
    fn new(rows: RecordBatch) -> Live {
        Live {
            keys: rows.column(0).as_fixed_size_binary().clone(),
            campaigns: rows.column(1).as_string::<i32>().clone(),
            times: rows.column(4).as_primitive::<TimestampMicrosecondType>().clone(),
            hashes: rows.column(9).as_primitive::<UInt64Type>().clone(),
            rows,
        }
    }

    fn compare(&self, row: usize, other: &Live, other_row: usize) -> Ordering {
        let hash = |live: &Live, row: usize| live.hashes.is_valid(row).then(|| live.hashes.value(row));
        let keys = self.keys.value(row).cmp(other.keys.value(other_row));
        keys.then_with(|| self.campaigns.value(row).cmp(other.campaigns.value(other_row)))
            .then_with(|| self.times.value(row).cmp(&other.times.value(other_row)))
            .then_with(|| hash(self, row).cmp(&hash(other, other_row)))
    }
}

struct Merge {
    live: Vec<Live>,
    picked: Vec<(usize, usize)>,
}

impl Merge {
    fn add(&mut self, rows: RecordBatch) -> usize {
        self.live.push(Live::new(rows));
        self.live.len() - 1
    }

    fn least(&self, cursors: &[Cursor]) -> Option<usize> {
        (0..cursors.len()).reduce(|least, next| match self.compare(&cursors[next], &cursors[least]) {
            Ordering::Less => next,
            _ => least,
        })
    }

    fn compare(&self, a: &Cursor, b: &Cursor) -> Ordering {
        self.live[a.batch].compare(a.row, &self.live[b.batch], b.row)
    }

    /// Writes what was picked, and lets go of every batch that no cursor stands in.
    fn flush(&mut self, writer: &mut ReceiptWriter<'_>, cursors: &mut [Cursor]) -> Result<()> {
        let broken = |e| Error::new(Kind::Internal, "cannot merge receipts").caused_by(e);
        let batches: Vec<&RecordBatch> = self.live.iter().map(|live| &live.rows).collect();
        let rows = interleave_record_batch(&batches, &self.picked).map_err(broken)?;
        let times = rows.column(4).as_primitive::<TimestampMicrosecondType>().values();
        let span = times.iter().fold((Micros::MAX, Micros::MIN), |(old, new), t| (old.min(*t), new.max(*t)));
        writer.write(&rows, span)?;
        self.picked.clear();
        let mut live: Vec<Option<Live>> = std::mem::take(&mut self.live).into_iter().map(Some).collect();
        for cursor in cursors {
            // Every cursor stands in a batch of its own, so each is taken once.
            self.live.extend(live[cursor.batch].take());
            cursor.batch = self.live.len() - 1;
        }
        Ok(())
    }
}
