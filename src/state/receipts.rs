//! The receipt file: its columns, and writing one in order.
//!
//! | column | type | |
//! |---|---|---|
//! | `key_hash` | 16 bytes, big-endian, uncompressed | XXH3-128 of kind and recipient; the top byte is the bucket |
//! | `campaign_id`, `recipient_kind`, `recipient` | string | an alias is `label:name` |
//! | `received_at` | timestamp, microseconds, UTC | |
//! | `outcome` | string | `sent`, or `control` for an enrolment |
//! | `variant` | string, nullable | |
//! | `channels`, `dispatch_ids` | lists of strings, parallel | empty for an enrolment |
//! | `trigger_hash` | 64-bit unsigned, nullable, uncompressed | hash of the trigger id |
//! | `run_id` | string | |

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeBinaryBuilder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use xxhash_rust::xxh3::Xxh3;

use super::manifest::FileRecord;
use crate::error::{Error, IoContext, Kind, Result};
use crate::ids::{Digest, DispatchId, KeyHash};
use crate::pipeline::StoredOutcome;
use crate::storage::{Disk, DiskFile};
use crate::triggers::{Micros, RecipientKind};

/// Most receipts in a row group.
pub const MOST_GROUP_ROWS: u64 = 65_536;

/// One receipt or enrolment, on its way into the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The recipient.
    pub key: KeyHash,
    /// The campaign.
    pub campaign_id: Arc<str>,
    /// How the recipient is named.
    pub kind: RecipientKind,
    /// The recipient's text.
    pub recipient: String,
    /// When.
    pub received_at: Micros,
    /// Received, or enrolled in control.
    pub outcome: StoredOutcome,
    /// The variant.
    pub variant: Option<Arc<str>>,
    /// Channels and ids of the messages.
    pub channels: Vec<(Arc<str>, DispatchId)>,
    /// Hash of the trigger id.
    pub trigger_hash: Option<u64>,
}

/// The columns of a receipt file.
pub fn schema() -> SchemaRef {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let list = |name: &str| Field::new(name, DataType::List(Arc::new(text("item", true))), false);
    Arc::new(Schema::new(vec![
        Field::new("key_hash", DataType::FixedSizeBinary(16), false),
        text("campaign_id", false),
        text("recipient_kind", false),
        text("recipient", false),
        Field::new("received_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        text("outcome", false),
        text("variant", true),
        list("channels"),
        list("dispatch_ids"),
        Field::new("trigger_hash", DataType::UInt64, true),
        text("run_id", false),
    ]))
}

/// The order of a receipt file; ties go by trigger hash so that bytes are a function of content.
pub fn sort(receipts: &mut [Receipt]) {
    receipts.sort_by(|a, b| {
        let key = |r: &Receipt| (r.key, r.received_at, r.trigger_hash, r.outcome.code());
        a.key.cmp(&b.key).then_with(|| a.campaign_id.cmp(&b.campaign_id)).then_with(|| key(a).cmp(&key(b)))
    });
}

/// Sorted receipts of a run as a batch.
pub fn batch(receipts: &[Receipt], run_id: &str) -> Result<RecordBatch> {
    let texts = |text: &dyn Fn(&Receipt) -> Option<String>| -> ArrayRef {
        let mut builder = StringBuilder::new();
        receipts.iter().for_each(|r| builder.append_option(text(r)));
        Arc::new(builder.finish())
    };
    let mut keys = FixedSizeBinaryBuilder::with_capacity(receipts.len(), 16);
    let mut times = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let mut hashes = UInt64Builder::new();
    for receipt in receipts {
        keys.append_value(receipt.key.to_bytes()).map_err(broken)?;
        times.append_value(receipt.received_at);
        hashes.append_option(receipt.trigger_hash);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(keys.finish()),
        texts(&|r| Some(r.campaign_id.to_string())),
        texts(&|r| Some(r.kind.code().to_owned())),
        texts(&|r| Some(r.recipient.clone())),
        Arc::new(times.finish()),
        texts(&|r| Some(r.outcome.code().to_owned())),
        texts(&|r| r.variant.as_deref().map(str::to_owned)),
        lists(receipts, |(channel, _)| channel.to_string()),
        lists(receipts, |(_, id)| id.to_string()),
        Arc::new(hashes.finish()),
        texts(&|_| Some(run_id.to_owned())),
    ];
    RecordBatch::try_new(schema(), columns).map_err(broken)
}

fn lists(receipts: &[Receipt], text: fn(&(Arc<str>, DispatchId)) -> String) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for receipt in receipts {
        receipt.channels.iter().for_each(|message| builder.values().append_value(text(message)));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::new(Kind::Internal, "cannot build the receipts").caused_by(error)
}

/// A file that counts and hashes what is written to it.
struct Hashed {
    file: Box<dyn DiskFile>,
    hash: Xxh3,
    bytes: u64,
}

impl Write for Hashed {
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

/// Writes one receipt file from batches that arrive in order.
pub struct ReceiptWriter<'a> {
    path: &'a Path,
    writer: ArrowWriter<Hashed>,
    rows: u64,
    span: Option<(Micros, Micros)>,
}

impl<'a> ReceiptWriter<'a> {
    /// Creates the file, for this many rows.
    pub fn create(disk: &dyn Disk, path: &'a Path, rows: u64) -> Result<ReceiptWriter<'a>> {
        let file = Hashed { file: disk.create(path).at(Kind::State, "create", path)?, hash: Xxh3::new(), bytes: 0 };
        let options =
            ArrowWriterOptions::new().with_properties(properties(group_rows(rows))?).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, schema(), options).map_err(|e| unwritable(path, e))?;
        Ok(ReceiptWriter { path, writer, rows: 0, span: None })
    }

    /// Adds rows; `span` are their earliest and latest instants.
    pub fn write(&mut self, rows: &RecordBatch, span: (Micros, Micros)) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        self.span = Some(self.span.map_or(span, |(oldest, newest)| (oldest.min(span.0), newest.max(span.1))));
        self.writer.write(rows).map_err(|e| unwritable(self.path, e))
    }

    /// Ends the file, makes it durable and describes it.
    pub fn finish(self) -> Result<FileRecord> {
        let ReceiptWriter { path, writer, rows, span } = self;
        let mut hashed = writer.into_inner().map_err(|e| unwritable(path, e))?;
        hashed.file.flush().and_then(|()| hashed.file.sync()).at(Kind::State, "write", path)?;
        let (oldest, newest) = span.unwrap_or((0, 0));
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(FileRecord { name, rows, bytes: hashed.bytes, checksum: Digest(hashed.hash.digest128()), oldest, newest })
    }
}

fn unwritable(path: &Path, error: parquet::errors::ParquetError) -> Error {
    match error {
        parquet::errors::ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => Error::io(Kind::State, "write", path, *io),
            Err(other) => Error::new(Kind::State, format!("cannot write `{}`", path.display())).caused_by(other),
        },
        other => Error::new(Kind::State, format!("cannot write `{}`", path.display())).caused_by(other),
    }
}

/// Row groups of equal size, so that the last is no sliver: a file of more than [`MOST_GROUP_ROWS`] has none below half
/// of that.
fn group_rows(rows: u64) -> usize {
    rows.div_ceil(rows.div_ceil(MOST_GROUP_ROWS).max(1)).max(1) as usize
}

/// Hashes do not shrink: compressing them costs time and saves nothing.
fn properties(group_rows: usize) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(1).map_err(|e| Error::new(Kind::Internal, "zstd level 1").caused_by(e))?;
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(group_rows))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for name in ["key_hash", "trigger_hash"] {
        let column = ColumnPath::from(name);
        builder = builder
            .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
            .set_column_dictionary_enabled(column, false);
    }
    builder = builder.set_column_dictionary_enabled(ColumnPath::from("recipient"), false);
    Ok(builder.build())
}
