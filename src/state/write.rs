//! Writes one receipt file: hashed on the way, cut into row groups at bucket boundaries.
//!
//! A row group ends where a bucket ends once it has 16,384 rows, or at 131,072 rows; unless fewer than 16,384 rows
//! would be left for the last one. Where it ends depends on the rows alone, so the same receipts give the same bytes.
//! One row group is buffered: at most 147,455 rows, some 25 MB. Nothing here makes a file visible.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use xxhash_rust::xxh3::Xxh3;

use super::manifest::{FileKind, ReceiptFile};
use super::read;
use super::rows::{SCHEMA, SortColumns};
use crate::error::{Error, IoContext, Kind, Result};
use crate::ids::Digest;
use crate::storage::{Disk, DiskFile};
use crate::triggers::Micros;

/// Fewest rows of a row group, where there are that many.
pub(super) const MIN_GROUP_ROWS: u64 = 16_384;
/// Rows at which a row group ends inside a bucket.
pub(super) const MAX_GROUP_ROWS: u64 = 131_072;

/// A file that is hashed while it is written.
struct HashedFile {
    file: Box<dyn DiskFile>,
    hash: Box<Xxh3>,
    bytes: u64,
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A receipt file being written. The rows must come sorted.
pub(super) struct ReceiptWriter<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
    parquet: ArrowWriter<HashedFile>,
    cut: GroupCutter,
    expected_rows: u64,
    instants: Option<(Micros, Micros)>,
}

impl<'a> ReceiptWriter<'a> {
    /// Creates the file, for exactly this many rows.
    pub(super) fn create(disk: &'a dyn Disk, path: &'a Path, rows: u64) -> Result<ReceiptWriter<'a>> {
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("zstd has a level 1"));
        ReceiptWriter::create_with(disk, path, rows, zstd)
    }

    /// Creates a file that is read back soon: not compressed, since that would cost more than it saves.
    pub(super) fn create_scratch(disk: &'a dyn Disk, path: &'a Path, rows: u64) -> Result<ReceiptWriter<'a>> {
        ReceiptWriter::create_with(disk, path, rows, Compression::UNCOMPRESSED)
    }

    fn create_with(disk: &'a dyn Disk, path: &'a Path, rows: u64, text: Compression) -> Result<ReceiptWriter<'a>> {
        let file = disk.create(path).at(Kind::State, "create", path)?;
        let file = HashedFile { file, hash: Box::new(Xxh3::new()), bytes: 0 };
        let parquet =
            ArrowWriter::try_new(file, SCHEMA.clone(), Some(properties(text))).map_err(|e| failed(path, e))?;
        Ok(ReceiptWriter { disk, path, parquet, cut: GroupCutter::new(rows), expected_rows: rows, instants: None })
    }

    /// Adds sorted rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = SortColumns::of(batch);
        let mut start = 0;
        for row in 0..batch.num_rows() {
            if self.cut.ends_before(rows.key(row).bucket()) {
                self.parquet.write(&batch.slice(start, row - start)).map_err(|e| failed(self.path, e))?;
                self.parquet.flush().map_err(|e| failed(self.path, e))?;
                start = row;
            }
        }
        self.parquet.write(&batch.slice(start, batch.num_rows() - start)).map_err(|e| failed(self.path, e))?;
        for at in rows.instants() {
            let (oldest, newest) = self.instants.unwrap_or((*at, *at));
            self.instants = Some((oldest.min(*at), newest.max(*at)));
        }
        Ok(())
    }

    /// Rows that were announced and do not come.
    pub(super) fn expect_fewer(&mut self, rows: u64) {
        self.expected_rows = self.expected_rows.saturating_sub(rows);
        self.cut.remaining = self.cut.remaining.saturating_sub(rows);
    }

    /// Ends a file that is read back and removed before the commit: not synced, not checksummed.
    pub(super) fn finish_scratch(mut self) -> Result<()> {
        self.end().map(drop)
    }

    /// Ends a file that leaves the state: durable, not described. It may have no rows.
    pub(super) fn finish_export(mut self) -> Result<()> {
        self.end()?;
        self.parquet.inner_mut().file.sync().at(Kind::State, "sync", self.path)
    }

    /// Ends the file, makes its content durable, and describes it. Its name is durable when the folder is synced.
    pub(super) fn finish(mut self, generations: (u64, u64)) -> Result<ReceiptFile> {
        let (rows, instants) = self.end()?;
        let (oldest, newest) = instants.ok_or_else(|| {
            Error::new(Kind::Internal, format!("`{}` was to hold receipts and got none", self.path.display()))
        })?;
        let file = self.parquet.inner_mut();
        file.file.sync().at(Kind::State, "sync", self.path)?;
        let (bytes, checksum) = (file.bytes, Digest(file.hash.digest128()));
        drop(self.parquet);
        let checksums = read::checksums_of(self.disk, self.path)?;
        Ok(ReceiptFile {
            name: self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            kind: FileKind::Delta,
            first_generation: generations.0,
            last_generation: generations.1,
            rows,
            bytes,
            checksum,
            footer_checksum: checksums.footer,
            row_groups: checksums.row_groups,
            oldest,
            newest,
        })
    }

    /// Writes the footer; rows, and the oldest and newest instant where there is any row.
    fn end(&mut self) -> Result<(u64, Option<(Micros, Micros)>)> {
        let metadata = self.parquet.finish().map_err(|e| failed(self.path, e))?;
        let rows = metadata.file_metadata().num_rows() as u64;
        if rows == self.expected_rows {
            return Ok((rows, self.instants));
        }
        let message = format!("`{}` got {rows} receipts instead of {}", self.path.display(), self.expected_rows);
        Err(Error::new(Kind::Internal, message))
    }
}

/// Says where row groups end.
struct GroupCutter {
    remaining: u64,
    in_group: u64,
    bucket: usize,
}

impl GroupCutter {
    fn new(rows: u64) -> GroupCutter {
        GroupCutter { remaining: rows, in_group: 0, bucket: 0 }
    }

    /// Takes the next row, of this bucket, and says whether a new row group begins with it.
    fn ends_before(&mut self, bucket: usize) -> bool {
        let new_bucket = bucket != std::mem::replace(&mut self.bucket, bucket);
        let full = self.in_group >= MAX_GROUP_ROWS || (new_bucket && self.in_group >= MIN_GROUP_ROWS);
        let cut = full && self.remaining >= MIN_GROUP_ROWS;
        self.in_group = if cut { 1 } else { self.in_group + 1 };
        self.remaining = self.remaining.saturating_sub(1);
        cut
    }
}

fn properties(text: Compression) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("retrigger {}", env!("CARGO_PKG_VERSION")))
        .set_compression(text)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(None);
    for hashes in ["key_hash", "trigger_hash"] {
        let column = ColumnPath::from(hashes);
        properties = properties
            .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
            .set_column_dictionary_enabled(column, false);
    }
    properties
        .set_column_dictionary_enabled(ColumnPath::from("recipient"), false)
        .set_column_dictionary_enabled(dispatch_ids(), false)
        .build()
}

fn dispatch_ids() -> ColumnPath {
    ColumnPath::new(vec!["dispatch_ids".to_owned(), "list".to_owned(), "element".to_owned()])
}

fn failed(path: &Path, error: ParquetError) -> Error {
    // A full disk hides under the Parquet error: it is unwrapped, so that its hint is given.
    let cause: Box<dyn std::error::Error + Send + Sync> = match error {
        ParquetError::External(inner) => inner,
        other => other.into(),
    };
    match cause.downcast::<io::Error>() {
        Ok(io) => Error::io(Kind::State, "write", path, *io),
        Err(other) => Error::new(Kind::State, format!("cannot write `{}`", path.display())).caused_by(other),
    }
}

/// Files that no manifest names yet; dropped, they are removed. A removal that fails is left to the next open.
pub(super) struct Unnamed {
    disk: Arc<dyn Disk>,
    paths: Vec<PathBuf>,
}

impl Unnamed {
    pub(super) fn none(disk: Arc<dyn Disk>) -> Unnamed {
        Unnamed { disk, paths: Vec::new() }
    }

    pub(super) fn add(&mut self, path: PathBuf) {
        self.paths.push(path);
    }

    /// From here on the files stay, whatever happens.
    pub(super) fn keep(mut self) {
        self.paths.clear();
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = self.disk.remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row groups that rows of these buckets, given as (bucket, rows), are cut into.
    fn groups(buckets: &[(usize, u64)]) -> Vec<u64> {
        let mut cut = GroupCutter::new(buckets.iter().map(|(_, rows)| rows).sum());
        let mut groups = vec![0];
        for (bucket, rows) in buckets {
            for _ in 0..*rows {
                if cut.ends_before(*bucket) {
                    groups.push(0);
                }
                *groups.last_mut().unwrap() += 1;
            }
        }
        groups
    }

    #[test]
    fn row_groups_end_with_a_bucket_and_are_never_small_where_rows_suffice() {
        assert_eq!(groups(&[(0, 10_000), (1, 10_000), (2, 10_000), (3, 10_000)]), [20_000, 20_000]);
        assert_eq!(groups(&[(0, 10_000), (1, 10_000), (2, 10_000)]), [30_000], "10,000 rows are too few for a group");
        assert_eq!(groups(&[(0, 20_000), (1, 16_384)]), [20_000, 16_384]);
        assert_eq!(groups(&[(5, 100)]), [100]);
    }

    #[test]
    fn a_large_bucket_is_cut_inside() {
        assert_eq!(groups(&[(0, 300_000)]), [131_072, 131_072, 37_856]);
        assert_eq!(groups(&[(0, 131_072 + 16_383)]), [147_455]);
    }
}
