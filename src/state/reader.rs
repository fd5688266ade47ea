//! Reading receipts back: row groups in parallel, only the columns that deciding needs, only the buckets of the run.
//!
//! Nothing of a file is believed before its whole content was hashed against the manifest, once per opening and only if
//! it is read at all: a flipped bit in a hash column decodes to another recipient, and one in a footer's statistics
//! hides a row group, and neither is an error to the decoder. That reads the columns twice that deciding needs, the
//! second time from memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::statistics::Statistics;
use xxhash_rust::xxh3::Xxh3;

use super::manifest::FileRecord;
use super::receipts::schema;
use crate::error::{Error, Kind, Result};
use crate::fence::fenced;
use crate::ids::{Digest, KeyHash};
use crate::pipeline::{ReceiptSource, StoredOutcome, StoredReceipt};

/// Rows decoded at once.
const BATCH_ROWS: usize = 8_192;

/// What deciding reads of a receipt.
const COLUMNS: [&str; 6] = ["key_hash", "campaign_id", "received_at", "outcome", "variant", "trigger_hash"];

/// Bytes hashed at once.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// An open receipt file.
pub struct ReceiptFile {
    path: PathBuf,
    record: FileRecord,
    metadata: ArrowReaderMetadata,
    /// What is wrong with the content, once somebody has asked.
    verdict: OnceLock<Result<(), String>>,
}

impl ReceiptFile {
    /// Opens a file of the state's folder, and checks its columns and its number of rows.
    pub fn open(dir: &Path, record: &FileRecord) -> Result<ReceiptFile> {
        let path = dir.join(&record.name);
        let file = File::open(&path).map_err(|e| Error::io(Kind::State, "open", &path, e))?;
        let options = || ArrowReaderOptions::new().with_schema(schema());
        let metadata = fenced(|| ArrowReaderMetadata::load(&file, options()).map_err(|e| e.to_string()))
            .and_then(|loaded| loaded)
            .map_err(|why| damaged(&path, &why))?;
        let rows: i64 = metadata.metadata().row_groups().iter().map(|group| group.num_rows()).sum();
        if u64::try_from(rows).ok() != Some(record.rows) {
            return Err(damaged(&path, &format!("it has {rows} rows instead of {}", record.rows)));
        }
        Ok(ReceiptFile { path, record: record.clone(), metadata, verdict: OnceLock::new() })
    }

    /// Receipts in the file.
    pub fn rows(&self) -> u64 {
        self.record.rows
    }

    /// Whether the content is what was written. Hashed on the first call; other threads wait for it.
    pub fn check_content(&self) -> Result<()> {
        let verdict = self.verdict.get_or_init(|| match hash(&self.path) {
            Ok(digest) if digest == self.record.checksum => Ok(()),
            Ok(_) => Err("its checksum does not match".to_owned()),
            Err(error) => Err(format!("it cannot be read: {error}")),
        });
        verdict.as_ref().map_err(|why| damaged(&self.path, why)).copied()
    }

    fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The buckets that a row group spans, by its statistics; all where it has none.
    fn buckets(&self, group: usize) -> std::ops::RangeInclusive<usize> {
        match self.metadata.metadata().row_group(group).column(0).statistics() {
            Some(Statistics::FixedLenByteArray(values)) => {
                let top = |bytes: Option<&parquet::data_type::FixedLenByteArray>| {
                    bytes.and_then(|b| b.data().first().copied())
                };
                usize::from(top(values.min_opt()).unwrap_or(0))..=usize::from(top(values.max_opt()).unwrap_or(u8::MAX))
            }
            _ => 0..=255,
        }
    }

    /// The record batches of some row groups (all for `None`), with these columns.
    pub fn batches(&self, groups: Option<Vec<usize>>, columns: &[&str]) -> Result<Batches> {
        self.check_content()?;
        // Each reader has its own file: a shared one would share its position.
        let file = File::open(&self.path).map_err(|e| Error::io(Kind::State, "open", &self.path, e))?;
        let built = fenced(|| {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
            let builder = groups.into_iter().fold(builder, |builder, groups| builder.with_row_groups(groups));
            builder.build().map_err(|e| e.to_string())
        });
        let reader = built.and_then(|built| built).map_err(|why| damaged(&self.path, &why))?;
        Ok(Batches { path: self.path.clone(), reader })
    }
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest(hash.digest128())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::new(Kind::State, format!("`{}` is damaged: {why}", path.display()))
        .hint("restore the state's folder from a copy; nothing was changed")
}

/// Record batches of one file.
pub struct Batches {
    path: PathBuf,
    reader: parquet::arrow::arrow_reader::ParquetRecordBatchReader,
}

impl Batches {
    /// The next batch.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        let next = fenced(|| self.reader.next().transpose().map_err(|e| e.to_string())).and_then(|next| next);
        next.map_err(|why| damaged(&self.path, &why))
    }
}

/// The receipts of a state, a row group a piece.
pub struct Receipts {
    files: Vec<ReceiptFile>,
    pieces: Vec<(usize, usize)>,
}

impl Receipts {
    /// All receipts of these files of the state's folder.
    pub fn open(dir: &Path, records: &[FileRecord]) -> Result<Receipts> {
        let files = records.iter().map(|record| ReceiptFile::open(dir, record)).collect::<Result<Vec<_>>>()?;
        let pieces = files.iter().enumerate().flat_map(|(i, f)| (0..f.row_groups()).map(move |group| (i, group)));
        Ok(Receipts { pieces: pieces.collect(), files })
    }

    /// The files, in the manifest's order.
    pub fn files(&self) -> &[ReceiptFile] {
        &self.files
    }

    /// Whether a piece may hold a receipt of one of these buckets, by its statistics.
    pub fn may_hold(&self, piece: usize, buckets: &[bool]) -> bool {
        let (file, group) = self.pieces[piece];
        self.files[file].buckets(group).any(|bucket| buckets[bucket])
    }
}

impl ReceiptSource for Receipts {
    fn pieces(&self) -> usize {
        self.pieces.len()
    }

    fn read(&self, piece: usize, buckets: &[bool], visit: &mut dyn FnMut(StoredReceipt<'_>)) -> Result<()> {
        let (file, group) = self.pieces[piece];
        let file = &self.files[file];
        file.check_content()?;
        if !self.may_hold(piece, buckets) {
            return Ok(());
        }
        let mut batches = file.batches(Some(vec![group]), &COLUMNS)?;
        while let Some(rows) = batches.next()? {
            visit_rows(&file.path, &rows, buckets, visit)?;
        }
        Ok(())
    }
}

fn visit_rows(
    path: &Path,
    rows: &RecordBatch,
    buckets: &[bool],
    visit: &mut dyn FnMut(StoredReceipt<'_>),
) -> Result<()> {
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| damaged(path, &format!("no column `{name}`")));
    let keys = column("key_hash")?.as_fixed_size_binary();
    let (campaigns, outcomes) = (column("campaign_id")?.as_string::<i32>(), column("outcome")?.as_string::<i32>());
    let times = column("received_at")?.as_primitive::<TimestampMicrosecondType>();
    let variants = column("variant")?.as_string::<i32>();
    let hashes = column("trigger_hash")?.as_primitive::<UInt64Type>();
    for row in 0..rows.num_rows() {
        let key: [u8; 16] = keys.value(row).try_into().map_err(|_| damaged(path, "a key of another length"))?;
        if !buckets[usize::from(key[0])] {
            continue;
        }
        let outcome = match outcomes.value(row) {
            "sent" => StoredOutcome::Sent,
            "control" => StoredOutcome::Control,
            other => return Err(damaged(path, &format!("unknown outcome `{other}`"))),
        };
        visit(StoredReceipt {
            key: KeyHash::from_bytes(key),
            campaign_id: campaigns.value(row),
            received_at: times.value(row),
            outcome,
            variant: variants.is_valid(row).then(|| variants.value(row)),
            trigger_hash: hashes.is_valid(row).then(|| hashes.value(row)),
        });
    }
    Ok(())
}
