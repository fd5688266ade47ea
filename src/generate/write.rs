//! Where generated triggers go: a file that appears whole or not at all, or a stream.
//!
//! Chunks are made in parallel, a window of them at a time, and appended in order while the next window is made. What is held
//! is two windows of a few chunks for each thread.

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

use parquet::arrow::arrow_writer::ArrowColumnChunk;
use parquet::errors::ParquetError;
use rayon::prelude::*;

use super::lines;
use super::profile::Profile;
use super::rows::Rows;
use super::table::Table;
use crate::error::{Error, IoContext, Kind, Result};

/// Rows of a Parquet row group, at most.
const GROUP_ROWS: u64 = 100_000;

/// Rows of a piece of text, at most.
const TEXT_ROWS: u64 = 10_000;

/// What the properties of a chunk can weigh: with wide ones it has fewer rows.
const CHUNK_WEIGHT: u64 = 10_000_000;

/// Chunks of a window, for each thread.
const CHUNKS_PER_THREAD: u64 = 2;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Flat rows in Parquet, properties as columns.
    Parquet,
    /// Flat rows, one JSON object a line.
    Ndjson,
    /// Bodies of `/campaigns/trigger/send`, one a line.
    Requests,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generated {
    /// Rows; a request counts once for each recipient.
    pub triggers: u64,
    /// Bytes of the file or the stream.
    pub bytes: u64,
}

/// Writes a file, under another name beside it until it is complete. Where the file is there already, `replace` decides.
///
/// Kind `Usage` where it must not be replaced, `Output` for what the disk refuses.
pub fn to_file(profile: &Profile, form: Form, path: &Path, replace: bool) -> Result<Generated> {
    check_free(path, replace)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Readers of folders leave names with a dot in front alone.
    let mut beside = tempfile::Builder::new();
    let mut file =
        beside.prefix(".").suffix(".partial").tempfile_in(folder).at(Kind::Output, "create a file in", folder)?;
    let generated =
        write(profile, form, file.as_file_mut()).map_err(|failed| failed.error(&path.display().to_string()))?;
    file.as_file().sync_all().at(Kind::Output, "sync", path)?;
    let renamed = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    match renamed {
        Ok(_) => Ok(generated),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Err(taken(path)),
        Err(refused) => Err(Error::io(Kind::Output, "write", path, refused.error)),
    }
}

/// Writes to a stream. `None` when its reader has gone away, which is no error.
pub fn to_writer(profile: &Profile, form: Form, stream: &mut (dyn Write + Send)) -> Result<Option<Generated>> {
    match write(profile, form, stream) {
        Ok(generated) => Ok(Some(generated)),
        Err(Failed::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(failed) => Err(failed.error("the stream")),
    }
}

fn check_free(path: &Path, replace: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(there) if !there.is_file() => {
            let error = Error::new(Kind::Usage, format!("`{}` is there and is no regular file", path.display()));
            Err(error.hint("name a new file, or use `-` for standard output"))
        }
        Ok(_) if replace => Ok(()),
        Ok(_) => Err(taken(path)),
    }
}

fn taken(path: &Path) -> Error {
    Error::new(Kind::Usage, format!("`{}` is there already", path.display()))
        .hint("name another file, or replace it with `--force`")
}

/// Why writing ended early.
enum Failed {
    Write(io::Error),
    Other(Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Write(error)
    }
}

impl From<ParquetError> for Failed {
    fn from(error: ParquetError) -> Failed {
        let other = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Failed::Other(Error::new(Kind::Internal, "cannot encode the triggers as Parquet").caused_by(cause))
        };
        match error {
            ParquetError::External(cause) => match cause.downcast::<io::Error>() {
                Ok(cause) => Failed::Write(*cause),
                Err(cause) => other(cause),
            },
            error => other(error.into()),
        }
    }
}

impl Failed {
    fn error(self, place: &str) -> Error {
        match self {
            Failed::Write(error) => Error::io(Kind::Output, "write", Path::new(place), error),
            Failed::Other(error) => error,
        }
    }
}

fn write<W: Write + Send + ?Sized>(profile: &Profile, form: Form, out: &mut W) -> Result<Generated, Failed> {
    let rows = Rows::new(profile).map_err(Failed::Other)?;
    let mut counted = Counted { out, bytes: 0 };
    match form {
        Form::Parquet => write_groups(&rows, &mut counted)?,
        Form::Ndjson => write_text(&rows, &mut counted, lines::flat)?,
        Form::Requests => write_text(&rows, &mut counted, lines::requests)?,
    }
    counted.flush()?;
    Ok(Generated { triggers: profile.triggers, bytes: counted.bytes })
}

fn write_groups<W: Write + Send>(rows: &Rows<'_>, out: &mut W) -> Result<(), Failed> {
    let table = Table::new(rows)?;
    let mut writer = table.open(out)?;
    let append = |chunks: Vec<ArrowColumnChunk>| {
        let mut group = writer.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    };
    in_order(rows.profile, GROUP_ROWS, |range| Ok(table.group(range)?), append)?;
    writer.finish()?;
    Ok(())
}

fn write_text<W: Write + Send>(
    rows: &Rows<'_>,
    out: &mut W,
    lines: fn(&Rows<'_>, Range<u64>) -> String,
) -> Result<(), Failed> {
    in_order(rows.profile, TEXT_ROWS, |range| Ok(lines(rows, range)), |text| Ok(out.write_all(text.as_bytes())?))
}

/// Makes chunks of at most about `rows` rows on all threads, and appends them in order on one. A request is never cut.
fn in_order<T: Send>(
    profile: &Profile,
    rows: u64,
    make: impl Fn(Range<u64>) -> Result<T, Failed> + Sync,
    mut append: impl FnMut(T) -> Result<(), Failed> + Send,
) -> Result<(), Failed> {
    let rows = rows.min(CHUNK_WEIGHT / profile.weight());
    let size = rows - rows % profile.recipients_per_request;
    let chunks = profile.triggers.div_ceil(size);
    let window = rayon::current_num_threads() as u64 * CHUNKS_PER_THREAD;
    let made = |first: u64| -> Vec<Result<T, Failed>> {
        let chunk = |n: u64| make(n * size..((n + 1) * size).min(profile.triggers));
        (first..(first + window).min(chunks)).into_par_iter().map(chunk).collect()
    };
    let mut ready = made(0);
    let mut first = window;
    while !ready.is_empty() {
        let mut append_all = || ready.drain(..).try_for_each(|chunk| append(chunk?));
        let (appended, next) = rayon::join(&mut append_all, || if first < chunks { made(first) } else { Vec::new() });
        appended?;
        ready = next;
        first += window;
    }
    Ok(())
}

/// Counts what passes.
struct Counted<'o, W: ?Sized> {
    out: &'o mut W,
    bytes: u64,
}

impl<W: Write + ?Sized> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
