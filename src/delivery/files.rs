//! A file while it is written: counted and hashed on the way to the disk, synced when it is finished.
//!
//! Every error is of kind `Output` and names the file. A file that failed once is not to be written again; the run ends.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use parquet::arrow::arrow_writer::ArrowColumnChunk;
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use xxhash_rust::xxh3::Xxh3;

use super::columns::GroupEncoder;
use super::written::{FileKind, WrittenFile};
use crate::error::{Error, IoContext, Kind, Result};
use crate::ids::Digest;
use crate::storage::DiskFile;

/// Small writes (footers, page headers, reject lines) are gathered to this many bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// Counts and hashes what passes.
struct HashedFile {
    /// Only ever reached through `&mut`: the lock is never taken, it makes a `Send` file shareable between threads that
    /// encode while one appends.
    file: Mutex<BufWriter<Box<dyn DiskFile>>>,
    hash: Xxh3,
    bytes: u64,
}

impl HashedFile {
    fn new(file: Box<dyn DiskFile>) -> HashedFile {
        HashedFile { file: Mutex::new(BufWriter::with_capacity(BUFFER_BYTES, file)), hash: Xxh3::new(), bytes: 0 }
    }

    fn buffer(&mut self) -> &mut BufWriter<Box<dyn DiskFile>> {
        self.file.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.buffer().flush()?;
        self.buffer().get_mut().sync()
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.buffer().write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer().flush()
    }
}

/// What can be appended to a file.
pub(super) enum Payload {
    /// One row group.
    Group(Vec<ArrowColumnChunk>),
    /// Bytes as they are.
    Bytes(Vec<u8>),
}

enum Body {
    // Boxed: the hash state alone is half a kilobyte.
    Parquet(Box<SerializedFileWriter<HashedFile>>),
    Bytes(Box<HashedFile>),
}

/// A file of a run folder that is being written.
pub(super) struct OpenFile {
    /// On the disk, for messages.
    place: PathBuf,
    path: String,
    kind: FileKind,
    rows: u64,
    body: Body,
}

impl OpenFile {
    /// Begins a file of bytes.
    pub(super) fn bytes(file: Box<dyn DiskFile>, place: PathBuf, path: String, kind: FileKind) -> OpenFile {
        OpenFile { place, path, kind, rows: 0, body: Body::Bytes(Box::new(HashedFile::new(file))) }
    }

    /// Begins a Parquet file.
    pub(super) fn parquet(
        file: Box<dyn DiskFile>,
        place: PathBuf,
        path: String,
        kind: FileKind,
        encoder: &GroupEncoder,
    ) -> Result<OpenFile> {
        let writer = encoder.open(HashedFile::new(file)).map_err(|e| parquet_error("write", &place, e))?;
        Ok(OpenFile { place, path, kind, rows: 0, body: Body::Parquet(Box::new(writer)) })
    }

    /// Rows appended so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends a piece of this many rows.
    pub(super) fn append(&mut self, payload: Payload, rows: u64) -> Result<()> {
        match (&mut self.body, payload) {
            (Body::Parquet(writer), Payload::Group(chunks)) => {
                append_group(writer, chunks).map_err(|e| parquet_error("write", &self.place, e))?;
            }
            (Body::Bytes(file), Payload::Bytes(bytes)) => {
                file.write_all(&bytes).at(Kind::Output, "write", &self.place)?;
            }
            _ => return Err(Error::new(Kind::Internal, format!("a piece of another format for `{}`", self.path))),
        }
        self.rows += rows;
        Ok(())
    }

    /// Appends bytes to a file of bytes.
    pub(super) fn append_bytes(&mut self, bytes: &[u8], rows: u64) -> Result<()> {
        let Body::Bytes(file) = &mut self.body else {
            return Err(Error::new(Kind::Internal, format!("lines for the Parquet file `{}`", self.path)));
        };
        file.write_all(bytes).at(Kind::Output, "write", &self.place)?;
        self.rows += rows;
        Ok(())
    }

    /// Writes what is left, syncs and closes.
    pub(super) fn finish(self) -> Result<WrittenFile> {
        let OpenFile { place, path, kind, rows, mut body } = self;
        let file = match &mut body {
            Body::Parquet(writer) => {
                writer.finish().map_err(|e| parquet_error("write", &place, e))?;
                writer.inner_mut()
            }
            Body::Bytes(file) => file,
        };
        file.sync().at(Kind::Output, "sync", &place)?;
        Ok(WrittenFile { path, kind, rows, bytes: file.bytes, checksum: Digest(file.hash.digest128()) })
    }
}

fn append_group(
    writer: &mut SerializedFileWriter<HashedFile>,
    chunks: Vec<ArrowColumnChunk>,
) -> parquet::errors::Result<()> {
    let mut group = writer.next_row_group()?;
    for chunk in chunks {
        chunk.append_to_row_group(&mut group)?;
    }
    group.close()?;
    Ok(())
}

/// An error of the Parquet writer: the disk's own error where there is one beneath, so that its hint is kept.
pub(super) fn parquet_error(action: &str, place: &Path, error: ParquetError) -> Error {
    let other = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Kind::Output, format!("cannot {action} `{}`", place.display())).caused_by(cause)
    };
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => Error::io(Kind::Output, action, place, *cause),
            Err(cause) => other(cause),
        },
        error => other(error.into()),
    }
}
