//! One table of a run: its schema, its cutter, its encoder and the file that is open. A channel's messages are a table
//! of many files; the decisions and the dropped messages are a table of one file each, always Parquet, always there.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::columns::GroupEncoder;
use super::files::{OpenFile, Payload};
use super::json_lines::{LineEncoder, is_supported};
use super::names::{MAX_SEGMENT_BYTES, batch_id, batch_path, path_segment};
use super::options::{ChannelSpec, Compression, DeliveryOptions, Format};
use super::pieces::{Cutter, Piece};
use super::written::FileKind;
use crate::error::{Error, Kind, Result};
use crate::pipeline::Table;
use crate::storage::DiskFile;

/// The column that names the batch of a message; second in every message row.
const BATCH_ID: &str = "batch_id";

/// A piece as bytes, or as near to it as a row group comes outside its file.
pub struct Encoded {
    pub(super) table: Table,
    pub(super) sequence: u64,
    pub(super) batch: u64,
    pub(super) rows: u64,
    pub(super) payload: Payload,
}

enum Encoder {
    Groups(Box<GroupEncoder>),
    Lines(LineEncoder),
}

/// What the files of a channel have beyond those of other tables.
struct ChannelFiles {
    name: String,
    segment: String,
    extension: &'static str,
}

enum Files {
    Channel(ChannelFiles),
    /// One file of this path and kind.
    Single(&'static str, FileKind),
}

/// One table: its rows on the way in, its file on the way out.
pub(super) struct TableFiles {
    files: Files,
    /// Rows of a file; `u64::MAX` where a table is one file.
    pub(super) batch_rows: u64,
    /// The schema of the rows that the engine hands over.
    incoming: SchemaRef,
    /// The schema of the rows in the file.
    outgoing: SchemaRef,
    encoder: Encoder,
    pub(super) cutter: Cutter,
    pub(super) open: Option<OpenFile>,
    /// Pieces appended so far.
    pub(super) appended: u64,
}

impl TableFiles {
    /// The messages of a channel. `Definition` errors for names and columns that cannot be written.
    pub(super) fn of_channel(position: usize, channel: ChannelSpec, options: DeliveryOptions) -> Result<TableFiles> {
        let segment = checked_segment(&channel.name)?;
        check_columns(&channel, options.format)?;
        let outgoing = with_batch_column(&channel)?;
        let files = ChannelFiles { segment, extension: options.extension(), name: channel.name };
        let encoder = match options.format {
            Format::Parquet => groups(&outgoing, options.compression, &format!("channel `{}`", files.name))?,
            Format::Ndjson => Encoder::Lines(LineEncoder::new(&outgoing, options.compression)),
        };
        Ok(TableFiles {
            files: Files::Channel(files),
            batch_rows: options.batch_size,
            incoming: channel.schema,
            outgoing,
            encoder,
            cutter: Cutter::new(Table::Messages(position), options.batch_size),
            open: None,
            appended: 0,
        })
    }

    /// A table that is one file.
    pub(super) fn of_ledger(table: Table, kind: FileKind, path: &'static str, schema: SchemaRef) -> Result<TableFiles> {
        Ok(TableFiles {
            files: Files::Single(path, kind),
            batch_rows: u64::MAX,
            encoder: groups(&schema, Compression::Zstd, path)?,
            incoming: schema.clone(),
            outgoing: schema,
            cutter: Cutter::new(table, u64::MAX),
            open: None,
            appended: 0,
        })
    }

    /// Whether the table has a file even without rows.
    pub(super) fn always_exists(&self) -> bool {
        matches!(self.files, Files::Single(..))
    }

    /// The path of a file of this table inside the run folder.
    pub(super) fn path(&self, batch: u64) -> String {
        match &self.files {
            Files::Channel(channel) => batch_path(&channel.segment, batch, channel.extension),
            Files::Single(path, _) => (*path).to_owned(),
        }
    }

    /// Begins to write a file that the disk has created.
    pub(super) fn open(&mut self, file: Box<dyn DiskFile>, place: PathBuf, path: String) -> Result<()> {
        let kind = match &self.files {
            Files::Channel(channel) => FileKind::Deliveries { channel: channel.name.clone() },
            Files::Single(_, kind) => kind.clone(),
        };
        self.open = Some(match &self.encoder {
            Encoder::Groups(encoder) => OpenFile::parquet(file, place, path, kind, encoder)?,
            Encoder::Lines(_) => OpenFile::bytes(file, place, path, kind),
        });
        Ok(())
    }

    /// Refuses rows of another schema: they would be written under wrong names.
    pub(super) fn check_rows(&self, rows: &RecordBatch) -> Result<()> {
        if rows.schema_ref().fields() == self.incoming.fields() {
            return Ok(());
        }
        let what =
            format!("rows for `{}` have the columns {} instead of {}", self.path(0), rows.schema_ref(), self.incoming);
        Err(Error::new(Kind::Internal, what))
    }

    /// Encodes a piece of this table.
    pub(super) fn encode(&self, piece: Piece) -> Result<Encoded> {
        let (table, sequence, batch) = (piece.table, piece.sequence, piece.batch);
        let broken = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(Kind::Internal, format!("cannot encode rows of `{}`", self.path(batch))).caused_by(cause)
        };
        let mut rows = piece.gather().map_err(|e| broken(e.into()))?;
        if let Files::Channel(channel) = &self.files {
            rows = self.number(&rows, &batch_id(&channel.segment, batch)).map_err(|e| broken(e.into()))?;
        }
        let payload = match &self.encoder {
            Encoder::Groups(encoder) => Payload::Group(encoder.encode(&rows).map_err(|e| broken(e.into()))?),
            Encoder::Lines(encoder) => Payload::Bytes(encoder.encode(&rows).map_err(|e| broken(e.into()))?),
        };
        Ok(Encoded { table, sequence, batch, rows: rows.num_rows() as u64, payload })
    }

    /// The rows with their batch id.
    fn number(&self, rows: &RecordBatch, batch_id: &str) -> Result<RecordBatch, arrow_schema::ArrowError> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.insert(1, Arc::new(StringArray::new_repeated(batch_id, rows.num_rows())));
        RecordBatch::try_new(self.outgoing.clone(), columns)
    }
}

fn groups(schema: &SchemaRef, compression: Compression, what: &str) -> Result<Encoder> {
    let encoder = GroupEncoder::new(schema.clone(), compression).map_err(|cause| {
        Error::new(Kind::Internal, format!("the columns of {what} have no Parquet form")).caused_by(cause)
    })?;
    Ok(Encoder::Groups(Box::new(encoder)))
}

fn checked_segment(name: &str) -> Result<String> {
    let segment = path_segment(name);
    if segment.is_empty() {
        return Err(Error::new(Kind::Definition, "a channel has an empty name").hint("give every channel a name"));
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        let what = format!("the channel name `{name}` takes {} bytes as a folder name", segment.len());
        let hint = format!("folder names hold {MAX_SEGMENT_BYTES} bytes; letters other than ASCII take 6 to 12 each");
        return Err(Error::new(Kind::Definition, what).hint(hint));
    }
    Ok(segment)
}

fn check_columns(channel: &ChannelSpec, format: Format) -> Result<()> {
    let mut names = BTreeSet::from([BATCH_ID]);
    for field in channel.schema.fields() {
        if !names.insert(field.name()) {
            let what = format!("the messages of channel `{}` have two columns `{}`", channel.name, field.name());
            return Err(Error::new(Kind::Definition, what).hint("rename the field, or leave it out of `--carry`"));
        }
        if format == Format::Ndjson && !is_supported(field.data_type()) {
            let what = format!(
                "the column `{}` of channel `{}` is {}, which has no JSON form here",
                field.name(),
                channel.name,
                field.data_type()
            );
            return Err(Error::new(Kind::Internal, what));
        }
    }
    Ok(())
}

/// The schema with `batch_id` as its second column.
fn with_batch_column(channel: &ChannelSpec) -> Result<SchemaRef> {
    let mut fields = channel.schema.fields().to_vec();
    if fields.first().map(|field| field.name().as_str()) != Some("dispatch_id") {
        let what = format!("the rows of channel `{}` do not begin with `dispatch_id`", channel.name);
        return Err(Error::new(Kind::Internal, what));
    }
    fields.insert(1, Arc::new(Field::new(BATCH_ID, DataType::Utf8, false)));
    Ok(Arc::new(Schema::new(fields)))
}
