//! Reads receipt files: verified before they are decoded, and never whole.
//!
//! What a run relies on is checked by checksum first: the footer (row groups, statistics, schema) when a file is
//! opened, and the six column chunks that deciding reads when a row group is read. Strings of other columns are not
//! touched. The Parquet decoder is fenced: an error or a panic of it is an error that names the file.

use std::io::{self, Read};
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use xxhash_rust::xxh3::Xxh3;

use super::manifest::{ReceiptFile, damaged};
use super::rows::{DECIDING, DecidingColumns, SCHEMA};
use crate::error::{IoContext, Kind, Result};
use crate::ids::{BUCKETS, Digest};
use crate::pipeline::{ReceiptSource, StoredReceipt};
use crate::storage::{Disk, DiskRead};

/// Bytes at the end of a Parquet file: the length of the footer and `PAR1`.
const PARQUET_TAIL: u64 = 8;

/// The partial checksums of a receipt file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checksums {
    pub(super) footer: Digest,
    pub(super) row_groups: Vec<Digest>,
}

/// Computes the partial checksums of a file that was just written.
pub(super) fn checksums_of(disk: &dyn Disk, path: &Path) -> Result<Checksums> {
    let file = OpenFile::open(disk, path)?;
    let footer = read_footer(path, &file)?;
    let metadata = fenced(path, || Ok(parse_footer(&footer)?))?;
    let row_groups = (0..metadata.num_row_groups())
        .map(|group| deciding_checksum(path, &file, &metadata, group))
        .collect::<Result<_>>()?;
    Ok(Checksums { footer: Digest::of(&footer), row_groups })
}

/// The checksum of a whole file and its length, read in pieces of 1 MiB.
pub(super) fn whole_checksum(disk: &dyn Disk, path: &Path) -> Result<(Digest, u64)> {
    let mut reader = OpenFile::open(disk, path)?.from(0);
    let (mut hasher, mut piece) = (Xxh3::new(), vec![0; 1 << 20]);
    loop {
        match reader.read(&mut piece).at(Kind::State, "read", path)? {
            0 => return Ok((Digest(hasher.digest128()), reader.at)),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// An open receipt file, as the Parquet decoder wants it.
#[derive(Clone)]
struct OpenFile {
    file: Arc<dyn DiskRead>,
    bytes: u64,
}

impl OpenFile {
    fn open(disk: &dyn Disk, path: &Path) -> Result<OpenFile> {
        let file = disk.open(path).at(Kind::State, "open", path)?;
        let bytes = file.size().at(Kind::State, "read", path)?;
        Ok(OpenFile { file, bytes })
    }

    /// Reads on from this offset.
    fn from(self, at: u64) -> Reader {
        Reader { file: self.file, at }
    }
}

impl Length for OpenFile {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for OpenFile {
    type T = io::BufReader<Reader>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(io::BufReader::new(self.clone().from(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Reads a file from front to back.
struct Reader {
    file: Arc<dyn DiskRead>,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            match self.file.read_at(buffer, self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

/// Which columns of a receipt file are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    Deciding,
    All,
}

/// A receipt file whose footer has been verified.
pub(super) struct ReceiptTable {
    path: PathBuf,
    file: OpenFile,
    metadata: ArrowReaderMetadata,
    row_groups: Vec<Digest>,
}

impl ReceiptTable {
    /// Opens a file of the manifest: its length, footer, schema and number of rows are what the manifest says.
    pub(super) fn open(disk: &dyn Disk, dir: &Path, entry: &ReceiptFile) -> Result<ReceiptTable> {
        let path = dir.join(&entry.name);
        check_length(disk, &path, entry.bytes)?;
        let table = ReceiptTable::load(disk, path, Some(entry.footer_checksum), entry.row_groups.clone())?;
        let (rows, groups) = (table.rows(), table.metadata.metadata().num_row_groups());
        if rows != entry.rows || groups != entry.row_groups.len() {
            let message = format!(
                "it has {rows} receipts in {groups} row groups; the manifest says {} in {}",
                entry.rows,
                entry.row_groups.len()
            );
            return Err(damaged(&table.path, message));
        }
        Ok(table)
    }

    /// Opens a file that this process has written and that no manifest names.
    pub(super) fn open_scratch(disk: &dyn Disk, path: &Path) -> Result<ReceiptTable> {
        ReceiptTable::load(disk, path.to_owned(), None, Vec::new())
    }

    fn load(
        disk: &dyn Disk,
        path: PathBuf,
        footer_checksum: Option<Digest>,
        row_groups: Vec<Digest>,
    ) -> Result<ReceiptTable> {
        let file = OpenFile::open(disk, &path)?;
        let footer = read_footer(&path, &file)?;
        if footer_checksum.is_some_and(|expected| expected != Digest::of(&footer)) {
            return Err(damaged(&path, "the checksum of its footer does not match"));
        }
        let metadata = fenced(&path, || {
            Ok(ArrowReaderMetadata::try_new(Arc::new(parse_footer(&footer)?), ArrowReaderOptions::new())?)
        })?;
        if metadata.schema().fields() != SCHEMA.fields() {
            return Err(damaged(&path, "its columns are not those of a receipt file"));
        }
        Ok(ReceiptTable { path, file, metadata, row_groups })
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Receipts in the file.
    pub(super) fn rows(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().max(0) as u64
    }

    /// The buckets of a row group by its statistics; all of them where it has none.
    fn buckets(&self, group: usize) -> RangeInclusive<usize> {
        let statistics = self.metadata.metadata().row_group(group).column(0).statistics();
        let first_byte = |bytes: Option<&[u8]>| bytes.and_then(|b| b.first()).map(|b| usize::from(*b));
        let least = statistics.and_then(|s| first_byte(s.min_bytes_opt()));
        let greatest = statistics.and_then(|s| first_byte(s.max_bytes_opt()));
        least.unwrap_or(0)..=greatest.unwrap_or(BUCKETS - 1)
    }

    /// Checks the column chunks that deciding reads from a row group.
    pub(super) fn check_row_group(&self, group: usize) -> Result<()> {
        #[cfg(test)]
        if crate::planted::is(crate::planted::Bug::ChecksumIgnored) {
            return Ok(());
        }
        let checksum = deciding_checksum(&self.path, &self.file, self.metadata.metadata(), group)?;
        if self.row_groups.get(group) == Some(&checksum) {
            return Ok(());
        }
        Err(damaged(&self.path, format!("the checksum of row group {group} does not match")))
    }

    /// The rows of one row group or of all, at most `batch_rows` at a time.
    pub(super) fn batches(&self, columns: Columns, group: Option<usize>, batch_rows: usize) -> Result<Batches> {
        let reader = fenced(&self.path, || {
            let file = self.file.clone();
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
            if columns == Columns::Deciding {
                let mask = ProjectionMask::columns(builder.parquet_schema(), DECIDING);
                builder = builder.with_projection(mask);
            }
            if let Some(group) = group {
                builder = builder.with_row_groups(vec![group]);
            }
            Ok(builder.with_batch_size(batch_rows).build()?)
        })?;
        Ok(Batches { path: self.path.clone(), reader })
    }
}

/// The decoded rows of a receipt file, in order.
pub(super) struct Batches {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
}

impl Batches {
    /// The next rows; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        fenced(&self.path, || Ok(self.reader.next().transpose()?))
    }
}

/// Checks that a file is there and has this many bytes.
pub(super) fn check_length(disk: &dyn Disk, path: &Path, bytes: u64) -> Result<()> {
    let found = disk.metadata(path).at(Kind::State, "read", path)?.bytes;
    if found == bytes {
        return Ok(());
    }
    Err(damaged(path, format!("it has {found} bytes; the manifest says {bytes}")))
}

/// The receipts of a state, a piece for every row group, oldest file first. Pieces may be read by any thread.
pub struct Receipts<'a> {
    tables: Vec<ReceiptTable>,
    pieces: Vec<Piece>,
    /// A commit may remove the files: it needs the state mutably, so these must be gone by then.
    state: PhantomData<&'a ()>,
}

struct Piece {
    table: usize,
    group: usize,
    buckets: RangeInclusive<usize>,
}

/// Rows decoded at once while deciding: about 1 MB.
const READ_BATCH_ROWS: usize = 16_384;

impl<'a> Receipts<'a> {
    /// Opens every file and verifies its footer.
    pub(super) fn open(disk: &dyn Disk, dir: &Path, files: &'a [ReceiptFile]) -> Result<Receipts<'a>> {
        let tables = files.iter().map(|entry| ReceiptTable::open(disk, dir, entry)).collect::<Result<Vec<_>>>()?;
        let pieces = tables.iter().enumerate().flat_map(|(table, t)| {
            (0..t.row_groups.len()).map(move |group| Piece { table, group, buckets: t.buckets(group) })
        });
        let pieces = pieces.collect();
        Ok(Receipts { tables, pieces, state: PhantomData })
    }

    /// The buckets that a piece may hold.
    pub fn buckets(&self, piece: usize) -> RangeInclusive<usize> {
        self.pieces[piece].buckets.clone()
    }
}

impl ReceiptSource for Receipts<'_> {
    fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Errors are of kind [`Kind::State`] and name the file.
    fn read(&self, piece: usize, buckets: &[bool], visit: &mut dyn FnMut(StoredReceipt<'_>)) -> Result<()> {
        let piece = &self.pieces[piece];
        if !piece.buckets.clone().any(|bucket| buckets.get(bucket).copied().unwrap_or(false)) {
            return Ok(());
        }
        let table = &self.tables[piece.table];
        table.check_row_group(piece.group)?;
        let mut batches = table.batches(Columns::Deciding, Some(piece.group), READ_BATCH_ROWS)?;
        while let Some(batch) = batches.next()? {
            visit_rows(&batch, visit).map_err(|word| damaged(&table.path, unknown_outcome(&word)))?;
        }
        Ok(())
    }
}

fn visit_rows(batch: &RecordBatch, visit: &mut dyn FnMut(StoredReceipt<'_>)) -> Result<(), String> {
    let rows = DecidingColumns::of(batch);
    for row in 0..batch.num_rows() {
        visit(StoredReceipt {
            key: rows.sort.key(row),
            campaign_id: rows.sort.campaign(row),
            received_at: rows.sort.at(row),
            outcome: rows.outcome(row).map_err(str::to_owned)?,
            variant: rows.variant(row),
            trigger_hash: rows.trigger_hash(row),
        });
    }
    Ok(())
}

/// What is wrong with a row whose outcome is this word.
pub(super) fn unknown_outcome(word: &str) -> String {
    format!("the outcome `{word}` is not `sent`, `control` or `revoked`")
}

/// The footer and the tail that gives its length.
fn read_footer(path: &Path, file: &OpenFile) -> Result<Vec<u8>> {
    let length = file.bytes;
    let tail_at = length.checked_sub(PARQUET_TAIL).ok_or_else(|| damaged(path, "it is too short"))?;
    let mut tail = [0; PARQUET_TAIL as usize];
    file.file.read_exact_at(&mut tail, tail_at).at(Kind::State, "read", path)?;
    let metadata_bytes = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    let start = tail_at.checked_sub(metadata_bytes).filter(|_| tail.ends_with(b"PAR1"));
    let start = start.ok_or_else(|| damaged(path, "it does not end as a Parquet file does"))?;
    let mut footer = vec![0; (length - start) as usize];
    file.file.read_exact_at(&mut footer, start).at(Kind::State, "read", path)?;
    Ok(footer)
}

fn parse_footer(footer: &[u8]) -> parquet::errors::Result<ParquetMetaData> {
    ParquetMetaDataReader::decode_metadata(&footer[..footer.len() - PARQUET_TAIL as usize])
}

/// XXH3-128 of the column chunks of [`DECIDING`], in file order. The metadata must be verified: it gives the lengths.
fn deciding_checksum(path: &Path, file: &OpenFile, metadata: &ParquetMetaData, group: usize) -> Result<Digest> {
    let mut hasher = Xxh3::new();
    for column in metadata.row_group(group).columns() {
        if column.column_path().parts().first().is_some_and(|name| DECIDING.contains(&name.as_str())) {
            let (start, length) = column.byte_range();
            let mut chunk = vec![0; length as usize];
            file.file.read_exact_at(&mut chunk, start).at(Kind::State, "read", path)?;
            hasher.update(&chunk);
        }
    }
    Ok(Digest(hasher.digest128()))
}

/// Runs the Parquet decoder; its errors and panics become errors that name the file.
fn fenced<T>(path: &Path, work: impl FnOnce() -> Result<T, Box<dyn std::error::Error>>) -> Result<T> {
    match crate::fence::fenced(work) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(damaged(path, error)),
        Err(panic) => Err(damaged(path, panic)),
    }
}
