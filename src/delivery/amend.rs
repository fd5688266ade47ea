//! Writes a file of a run folder anew without some of its rows, beside its place.
//!
//! Which rows go is the caller's to say: of a table by how a row names its recipient, of a file of lines by the line. What
//! stays is byte for byte the same line, or the same cells in row groups that are each written as before.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression as Codec;
use serde_json::Value;

use super::columns::GroupEncoder;
use super::files::{OpenFile, Payload, parquet_error};
use super::options::Compression;
use super::pieces::MESSAGE_GROUP_ROWS;
use super::written::{FileKind, WrittenFile};
use crate::error::{Error, IoContext, Kind, Result};
use crate::fence::fenced;
use crate::storage::Disk;

/// Bytes of lines that are packed together.
const PACKED_BYTES: usize = 1 << 20;

/// Which rows go.
pub trait Erased {
    /// Whether a recipient's rows go, by its kind and the text that files have of it.
    fn recipient(&self, kind: &str, recipient: &str) -> bool;
    /// Whether a line of `rejected.ndjson` goes.
    fn rejected(&self, line: &Value) -> bool;
    /// Whether a line of `remainder.ndjson` goes.
    fn remainder(&self, line: &Value) -> bool;
}

/// Writes `file` of the folder `dir` to `target` without the rows that go, and describes it; `None` where none goes, and
/// nothing stays at `target`.
///
/// # Errors
/// Kind `Output`: it cannot be read or written.
pub fn amend(
    disk: &dyn Disk,
    dir: &Path,
    file: &WrittenFile,
    target: &Path,
    erased: &dyn Erased,
) -> Result<Option<WrittenFile>> {
    let place = dir.join(&file.path);
    let written = match file.kind {
        FileKind::Other => return Ok(None),
        _ if file.path.ends_with(".parquet") => amend_table(disk, &place, file, target, erased),
        _ => amend_lines(disk, &place, file, target, erased),
    };
    match written {
        Ok(written) if written.rows < file.rows => Ok(Some(written)),
        other => {
            let _ = disk.remove_file(target);
            other.map(|_| None)
        }
    }
}

fn broken(place: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Output, format!("cannot read `{}`: {what}", place.display()))
        .hint("`retrigger verify` tells what is wrong with the run; restore it from a copy and erase again")
}

fn amend_table(
    disk: &dyn Disk,
    place: &Path,
    file: &WrittenFile,
    target: &Path,
    erased: &dyn Erased,
) -> Result<WrittenFile> {
    let source = File::open(place).at(Kind::Output, "open", place)?;
    let opened = fenced(|| open_table(source)).unwrap_or_else(Err).map_err(|what| broken(place, what))?;
    let (mut reader, compression) = opened;
    let schema = arrow_array::RecordBatchReader::schema(&reader);
    let encoder = GroupEncoder::new(schema, compression).map_err(|e| parquet_error("write", target, e))?;
    let created = disk.create(target).at(Kind::Output, "create", target)?;
    let mut out = OpenFile::parquet(created, target.to_owned(), file.path.clone(), file.kind.clone(), &encoder)?;
    let mut next = || fenced(|| reader.next().transpose().map_err(|e| e.to_string())).unwrap_or_else(Err);
    while let Some(batch) = next().map_err(|what| broken(place, what))? {
        let kept = without(&batch, erased).map_err(|what| broken(place, what))?;
        if kept.num_rows() > 0 {
            let chunks = encoder.encode(&kept).map_err(|e| parquet_error("encode", target, e))?;
            out.append(Payload::Group(chunks), kept.num_rows() as u64)?;
        }
    }
    out.finish()
}

fn open_table(source: File) -> Result<(ParquetRecordBatchReader, Compression), String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(source).map_err(|e| e.to_string())?;
    let groups = builder.metadata().row_groups().iter();
    let codecs = groups.flat_map(|group| group.columns()).map(|column| column.compression());
    let compression = codecs.into_iter().find_map(|codec| match codec {
        Codec::ZSTD(_) => Some(Compression::Zstd),
        Codec::SNAPPY => Some(Compression::Snappy),
        Codec::GZIP(_) => Some(Compression::Gzip),
        _ => None,
    });
    let reader = builder.with_batch_size(MESSAGE_GROUP_ROWS).build().map_err(|e| e.to_string())?;
    Ok((reader, compression.unwrap_or(Compression::None)))
}

fn without(batch: &RecordBatch, erased: &dyn Erased) -> Result<RecordBatch, String> {
    let column = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.ok_or_else(|| format!("it has no text column `{name}`"))
    };
    let (kinds, recipients) = (column("recipient_kind")?, column("recipient")?);
    let goes = |row: usize| {
        kinds.is_valid(row) && recipients.is_valid(row) && erased.recipient(kinds.value(row), recipients.value(row))
    };
    let stays: BooleanArray = (0..batch.num_rows()).map(|row| Some(!goes(row))).collect();
    filter_record_batch(batch, &stays).map_err(|e| e.to_string())
}

fn amend_lines(
    disk: &dyn Disk,
    place: &Path,
    file: &WrittenFile,
    target: &Path,
    erased: &dyn Erased,
) -> Result<WrittenFile> {
    let created = disk.create(target).at(Kind::Output, "create", target)?;
    let mut out = OpenFile::bytes(created, target.to_owned(), file.path.clone(), file.kind.clone());
    let mut lines = BufReader::with_capacity(PACKED_BYTES, unpacked(place, &file.path)?);
    let (mut line, mut kept, mut rows) = (Vec::new(), Vec::new(), 0);
    while lines.read_until(b'\n', &mut line).map_err(|e| broken(place, e))? > 0 {
        let value: Value = serde_json::from_slice(&line).map_err(|e| broken(place, e))?;
        if !line_goes(&file.kind, &value, erased) {
            kept.extend_from_slice(&line);
            rows += 1;
        }
        line.clear();
        if kept.len() >= PACKED_BYTES {
            out.append_bytes(&packed(&kept, &file.path).map_err(|e| broken(place, e))?, rows)?;
            kept.clear();
            rows = 0;
        }
    }
    if rows > 0 {
        out.append_bytes(&packed(&kept, &file.path).map_err(|e| broken(place, e))?, rows)?;
    }
    out.finish()
}

fn line_goes(kind: &FileKind, line: &Value, erased: &dyn Erased) -> bool {
    match kind {
        FileKind::Rejected => erased.rejected(line),
        FileKind::Remainder => erased.remainder(line),
        _ => match (line["recipient_kind"].as_str(), line["recipient"].as_str()) {
            (Some(kind), Some(recipient)) => erased.recipient(kind, recipient),
            _ => false,
        },
    }
}

fn unpacked(place: &Path, path: &str) -> Result<Box<dyn Read>> {
    let source = File::open(place).at(Kind::Output, "open", place)?;
    if path.ends_with(".zst") {
        let decoder = zstd::stream::read::Decoder::new(source).at(Kind::Output, "read", place)?;
        return Ok(Box::new(decoder));
    }
    let is_gzip = path.ends_with(".gz");
    Ok(if is_gzip { Box::new(flate2::read::MultiGzDecoder::new(source)) } else { Box::new(source) })
}

/// Frames and members may follow each other, so every packet is one of its own.
fn packed(lines: &[u8], path: &str) -> std::io::Result<Vec<u8>> {
    if path.ends_with(".zst") {
        return zstd::encode_all(lines, 1);
    }
    if !path.ends_with(".gz") {
        return Ok(lines.to_vec());
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(lines)?;
    encoder.finish()
}
