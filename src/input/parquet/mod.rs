//! Flat Parquet trigger files: one trigger a row, read split by split (design section 4, "Flat row").
//!
//! A file is opened once: its footer is parsed, its schema checked against the run's options with every fault found.
//! Reading decodes only the columns that a pass needs, 8,192 rows at a time, page by page. Every read opens the file
//! anew, so that threads share no file position.
//!
//! Memory of one read: a split of at most 32 MiB, else a batch of 8,192 rows, and, for each column that is read, its dictionary and one page, which are
//! bounded in `pages.rs`. Row groups are never held whole. What the `parquet` crate does with bytes that lie is
//! fenced: an error or a panic while decoding ends the command with the file, row group and column, and never the
//! process; only a failed allocation below the bounds could.
//!
//! Deliberately not here: nested columns as fields (`--map email=user.email`), encrypted files, page skipping by
//! statistics, page checksums (the crate is built without them: damage that decodes is not found). Unknown columns are
//! ignored and not counted: they are a property of the file, not of its rows.
//!
//! Where a file leaves it open: `INT96` times and timestamps that are not adjusted to UTC are zoneless; an empty
//! `trigger_id` is none; a `user_alias` whose members are all null is none.

mod batches;
mod cells;
mod compact;
mod footer;
mod json;
mod objects;
mod pages;
mod parked;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use crate::error::{Error, Fault, Kind, Result};
use crate::input::InputOptions;
use crate::pipeline::{Need, Row, SplitLines};

pub use batches::ArrowBatches;

use crate::fence::fenced;
use parked::{Decoder, Parked};
use rows::Rows;
use schema::Roles;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// Unpacked bytes of one batch, about: large values come in batches of fewer rows, since a small file may unpack to
/// gigabytes of them.
const BATCH_BYTES: u64 = 32 << 20;

/// Unpacked bytes of a split that is decoded as a whole, about; see `parked.rs`.
const DECODED_BYTES: u64 = 32 << 20;

/// The most rows of one split, whatever `split_rows` says: positions inside a split have 31 bits.
const MAX_SPLIT_ROWS: u64 = 1 << 31;

/// An opened trigger file: its footer parsed, its schema checked. Reads may run on any number of threads.
#[derive(Debug)]
pub struct ParquetFile {
    path: PathBuf,
    name: String,
    metadata: ArrowReaderMetadata,
    everything: Roles,
    keys: Roles,
    split_rows: u64,
    parked: Parked,
}

/// A piece of a row group: the unit of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetSplit {
    /// Its row group, from 0.
    pub row_group: usize,
    /// Its first row within the row group.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
    /// Its share of the row group's compressed bytes, for progress.
    pub bytes: u64,
}

impl ParquetFile {
    /// Opens a file and checks it. `name` is how messages call it.
    ///
    /// Errors: all faults of this file: not readable, truncated or foreign, missing columns, wrong column types; each
    /// with what was found, what was expected and a hint.
    pub fn open(path: &Path, name: &str, options: &InputOptions) -> Result<ParquetFile, Vec<Fault>> {
        let metadata = load(path, name).map_err(|fault| vec![fault])?;
        let everything = schema::bind(metadata.schema(), name, options)?;
        Ok(ParquetFile {
            path: path.to_owned(),
            name: name.to_owned(),
            keys: everything.keys_only(metadata.schema()),
            everything,
            parked: Parked::new(metadata.metadata().num_row_groups()),
            metadata,
            split_rows: (options.split_rows as u64).clamp(1, MAX_SPLIT_ROWS),
        })
    }

    /// Whether rows of this file can have attributes.
    pub fn has_attributes(&self) -> bool {
        self.everything.attributes.is_some()
    }

    /// The pieces of the file in order: each row group, or several of at most `options.split_rows` rows of it. A row
    /// group without rows has none.
    pub fn splits(&self) -> Vec<ParquetSplit> {
        let groups = self.metadata.metadata().row_groups().iter().enumerate();
        groups
            .flat_map(|(row_group, group)| {
                let all = group.num_rows().unsigned_abs();
                let bytes = group.columns().iter().map(|c| c.compressed_size().unsigned_abs()).sum::<u64>();
                (0..all.div_ceil(self.split_rows)).map(move |piece| {
                    let first_row = piece * self.split_rows;
                    let rows = self.split_rows.min(all - first_row);
                    let share = u128::from(bytes) * u128::from(rows) / u128::from(all);
                    ParquetSplit { row_group, first_row, rows, bytes: share as u64 }
                })
            })
            .collect()
    }

    /// Visits the rows of a split in order; `Row::line` counts them from 0. `options` are those of [`Self::open`].
    ///
    /// Errors: what `visit` returns, at once; [`Kind::Input`] where the file cannot be decoded, naming file, row group
    /// and, where it can be told, column. A row that is no trigger is data, not an error.
    pub fn read(
        &self,
        split: &ParquetSplit,
        need: Need,
        options: &InputOptions,
        visit: &mut dyn FnMut(Row<'_>) -> Result<()>,
    ) -> Result<SplitLines> {
        let roles = match need {
            Need::Keys => &self.keys,
            Need::Everything => &self.everything,
        };
        let columns = roles.columns();
        let broken = |cause| self.broken(split, &columns, cause);
        let mut decoded = match self.row_bytes(split, &columns).saturating_mul(split.rows) <= DECODED_BYTES {
            true => Decoded::Rows(self.decode(split, need, &columns)?.into_iter()),
            false => {
                self.check_pages(split, &columns)?;
                Decoded::Stream(self.batches(split, &columns, Some(split.rows)).map_err(broken)?)
            }
        };
        let mut scratch = String::new();
        let mut line = 0;
        while let Some(batch) = decoded.next().map_err(broken)? {
            let rows = Rows::of(&batch, &columns, roles, options)?;
            for row in 0..batch.num_rows() {
                let parsed = rows.trigger(row, &mut scratch);
                visit(Row { line, recipient_index: None, offset: None, raw: None, parsed })?;
                line += 1;
            }
        }
        if line != split.rows {
            let cause =
                format!("its footer claims {} rows from row {} on, {line} could be read", split.rows, split.first_row);
            return Err(self.error(split, None, cause));
        }
        Ok(SplitLines { lines: line, unknown_fields: 0 })
    }

    /// The rows of a split, decoded on from where the split before it ended, if that was read.
    fn decode(&self, split: &ParquetSplit, need: Need, columns: &[usize]) -> Result<Vec<RecordBatch>> {
        let broken = |cause| self.broken(split, columns, cause);
        let mut parked = self.parked.of(split.row_group);
        let mut decoder = match parked::at(&mut parked, split, need) {
            Some(decoder) => decoder,
            None => {
                self.check_pages(split, columns)?;
                Decoder::new(split, need, self.batches(split, columns, None).map_err(broken)?)
            }
        };
        let rows = decoder.take(split.rows).map_err(broken)?;
        let all = self.metadata.metadata().row_group(split.row_group).num_rows().unsigned_abs();
        parked::park(&mut parked, decoder, all);
        Ok(rows)
    }

    /// The decoder of some top-level columns from the beginning of a split on, of so many rows or all there are.
    fn batches(
        &self,
        split: &ParquetSplit,
        columns: &[usize],
        rows: Option<u64>,
    ) -> Result<ParquetRecordBatchReader, String> {
        let file = File::open(&self.path).map_err(|e| e.to_string())?;
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), columns.iter().copied());
        fenced(|| {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_row_groups(vec![split.row_group])
                .with_projection(mask)
                .with_batch_size(self.batch_rows(split, columns))
                .with_offset(split.first_row as usize);
            match rows {
                Some(rows) => builder.with_limit(rows as usize),
                None => builder,
            }
            .build()
        })?
        .map_err(|e| e.to_string())
    }

    /// Rows of one batch, by the average size of the row group's rows.
    fn batch_rows(&self, split: &ParquetSplit, columns: &[usize]) -> usize {
        (BATCH_BYTES / self.row_bytes(split, columns)).clamp(1, BATCH_ROWS as u64) as usize
    }

    /// Unpacked bytes of a row of the row group, on average.
    fn row_bytes(&self, split: &ParquetSplit, columns: &[usize]) -> u64 {
        let schema = self.metadata.parquet_schema();
        let group = self.metadata.metadata().row_group(split.row_group);
        let leaves = group.columns().iter().enumerate();
        let read = leaves.filter(|(leaf, _)| columns.binary_search(&schema.get_column_root_idx(*leaf)).is_ok());
        let bytes = read.map(|(_, chunk)| chunk.uncompressed_size().unsigned_abs()).fold(0, u64::saturating_add);
        (bytes / group.num_rows().unsigned_abs().max(1)).max(1)
    }

    /// Checks the page headers of the columns that are about to be read.
    fn check_pages(&self, split: &ParquetSplit, columns: &[usize]) -> Result<()> {
        let schema = self.metadata.parquet_schema();
        let mut file = File::open(&self.path).map_err(|e| Error::io(Kind::Input, "read", &self.path, e))?;
        for (leaf, chunk) in self.metadata.metadata().row_group(split.row_group).columns().iter().enumerate() {
            if columns.binary_search(&schema.get_column_root_idx(leaf)).is_ok() {
                let column = chunk.column_path().string();
                pages::check(&mut file, chunk).map_err(|cause| self.error(split, Some(&column), cause))?;
            }
        }
        Ok(())
    }

    /// The error of a split that failed to decode. The crate does not say which column was at fault, so each is read
    /// again alone until one fails; that costs nothing where nothing fails.
    fn broken(&self, split: &ParquetSplit, columns: &[usize], cause: String) -> Error {
        let fails = |column: &usize| match self.batches(split, &[*column], Some(split.rows)) {
            Ok(mut batches) => loop {
                match next(&mut batches) {
                    Ok(Some(_)) => {}
                    Ok(None) => return false,
                    Err(_) => return true,
                }
            },
            Err(_) => true,
        };
        let column = columns.iter().find(|column| fails(column));
        self.error(split, column.map(|c| self.metadata.schema().field(*c).name().as_str()), cause)
    }

    fn error(&self, split: &ParquetSplit, column: Option<&str>, cause: String) -> Error {
        let place = column.map_or(String::new(), |column| format!(", column `{column}`"));
        let message = format!("row group {}{place}: {cause}", split.row_group);
        Error::new(Kind::Input, format!("cannot read `{}`", self.name))
            .with_faults(vec![Fault::new(&self.name, message)])
            .hint("the file is damaged, or changed while it was read; write or copy it again and run the same command")
    }
}

/// The rows of a split: all there, or as they are decoded.
enum Decoded {
    Rows(std::vec::IntoIter<RecordBatch>),
    Stream(ParquetRecordBatchReader),
}

impl Decoded {
    fn next(&mut self) -> Result<Option<RecordBatch>, String> {
        match self {
            Decoded::Rows(batches) => Ok(batches.next()),
            Decoded::Stream(batches) => next(batches),
        }
    }
}

/// The next batch; a panic of the decoder is an error too.
fn next(batches: &mut ParquetRecordBatchReader) -> Result<Option<RecordBatch>, String> {
    fenced(|| batches.next().transpose())?.map_err(|e| e.to_string())
}

/// Parses the footer into the schema's normal form.
fn load(path: &Path, name: &str) -> Result<ArrowReaderMetadata, Fault> {
    let unreadable = |e: io::Error| {
        let error = Error::io(Kind::Input, "read", path, e);
        let fault = Fault::new(
            name,
            error.source.as_ref().map_or_else(String::new, |source| format!("cannot be read: {source}")),
        );
        match error.hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    };
    let wrong = |(message, hint): footer::Wrong| {
        let fault = Fault::new(name, message);
        match hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    };
    let mut file = File::open(path).map_err(unreadable)?;
    footer::check_ends(&mut file).map_err(unreadable)?.map_err(wrong)?;
    let damaged = |cause: String| wrong((format!("its Parquet footer cannot be read: {cause}"), None));
    let metadata = fenced(|| parse(&file)).and_then(|parsed| parsed.map_err(|e| e.to_string())).map_err(damaged)?;
    let length = file.metadata().map_err(unreadable)?.len();
    footer::check_claims(metadata.metadata(), length).map_err(wrong)?;
    Ok(metadata)
}

fn parse(file: &File) -> parquet::errors::Result<ArrowReaderMetadata> {
    let stored = ArrowReaderMetadata::load(file, ArrowReaderOptions::new())?;
    let normal = schema::normal(stored.schema(), Some(stored.parquet_schema()));
    ArrowReaderMetadata::try_new(Arc::clone(stored.metadata()), ArrowReaderOptions::new().with_schema(Arc::new(normal)))
}
