//! The rows of a table of a published run, in order, whatever form its files have.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::{Map, Value};

use super::written::WrittenFile;
use crate::error::{Error, IoContext, Kind, Result};
use crate::fence::fenced;
use crate::triggers::TimeReader;

/// Rows decoded at once: of messages with large bodies a few megabytes.
const DECODE_ROWS: usize = 4096;

const BUFFER_BYTES: usize = 1 << 20;

/// Reads the files of one table, one after the other.
pub struct RecordedRows {
    /// The columns, for files of lines, which do not say their types.
    schema: SchemaRef,
    files: VecDeque<PathBuf>,
    open: Option<(PathBuf, Open)>,
}

enum Open {
    Table(ParquetRecordBatchReader),
    Lines(Box<dyn BufRead + Send>),
}

impl RecordedRows {
    /// The rows of these files of the run folder `dir`.
    pub fn new<'a>(dir: &Path, files: impl IntoIterator<Item = &'a WrittenFile>, schema: SchemaRef) -> RecordedRows {
        RecordedRows { schema, files: files.into_iter().map(|file| dir.join(&file.path)).collect(), open: None }
    }

    /// The next rows, at least one; `None` at the end.
    ///
    /// # Errors
    /// Kind `Output`: a file cannot be read or decoded.
    pub fn next_rows(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some((path, open)) = &mut self.open else {
                let Some(path) = self.files.pop_front() else { return Ok(None) };
                self.open = Some((path.clone(), open_file(&path)?));
                continue;
            };
            let schema = &self.schema;
            let read = fenced(|| open.next(schema)).unwrap_or_else(Err);
            let rows = read.map_err(|what| broken(path, what))?;
            match rows.filter(|rows| rows.num_rows() > 0) {
                Some(rows) => return Ok(Some(rows)),
                None => self.open = None,
            }
        }
    }
}

fn broken(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Output, format!("cannot read `{}`: {what}", path.display()))
}

fn open_file(path: &Path) -> Result<Open> {
    if path.extension().is_some_and(|extension| extension == "parquet") {
        let file = File::open(path).at(Kind::Output, "open", path)?;
        let open = || {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| e.to_string())?;
            builder.with_batch_size(DECODE_ROWS).build().map_err(|e| e.to_string())
        };
        return fenced(open).unwrap_or_else(Err).map(Open::Table).map_err(|what| broken(path, what));
    }
    Ok(Open::Lines(open_lines(path)?))
}

/// A file of lines, unpacked where it is packed.
pub(super) fn open_lines(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let file = File::open(path).at(Kind::Output, "open", path)?;
    let packed = path.extension().is_some_and(|extension| extension == "zst");
    let text: Box<dyn Read + Send> = match packed {
        true => Box::new(zstd::stream::read::Decoder::new(file).at(Kind::Output, "unpack", path)?),
        false => Box::new(file),
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, text)))
}

impl Open {
    fn next(&mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>, String> {
        match self {
            Open::Table(reader) => reader.next().transpose().map_err(|e| e.to_string()),
            Open::Lines(lines) => next_lines(lines, schema),
        }
    }
}

/// Lines of JSON objects as the columns of `schema`: texts and instants.
fn next_lines(lines: &mut dyn BufRead, schema: &SchemaRef) -> Result<Option<RecordBatch>, String> {
    let (mut rows, mut line): (Vec<Map<String, Value>>, String) = Default::default();
    while rows.len() < DECODE_ROWS && lines.read_line(&mut line).map_err(|e| e.to_string())? > 0 {
        rows.push(serde_json::from_str(&line).map_err(|e| e.to_string())?);
        line.clear();
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let columns = schema.fields().iter().map(|field| {
        let texts = rows.iter().map(|row| row.get(field.name()).and_then(Value::as_str));
        match field.data_type() {
            DataType::Timestamp(..) => {
                let times = TimeReader::default();
                let instants = texts.map(|text| text.and_then(|text| times.text(text).ok()));
                Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC")) as ArrayRef
            }
            _ => Arc::new(texts.collect::<StringArray>()) as ArrayRef,
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).map(Some).map_err(|e| e.to_string())
}
