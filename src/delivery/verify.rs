//! Whether a run folder still holds what its manifest says: every listed file, byte for byte and row for row, and no
//! other file. Reads with bounded memory, never writes; anything wrong is a [`Fault`], also a panic in a decoder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use walkdir::WalkDir;
use xxhash_rust::xxh3::Xxh3;

use super::written::{FileKind, WrittenFile};
use crate::error::Fault;
use crate::fence::fenced;
use crate::ids::Digest;

/// The file that lists the others, and so is not listed.
const MANIFEST: &str = "manifest.json";

/// The file that tells what an erasure changed.
pub const AMENDMENT: &str = "amendment.json";
/// Says that a run was revoked; beside its manifest.
pub const REVOKED: &str = "revoked.json";

const BUFFER_BYTES: usize = 1 << 20;

/// Rows decoded at once. Bodies are large: this many of them are a few megabytes.
const DECODE_ROWS: usize = 4096;

/// Everything in which the folder differs from the list; empty when it is as it was written. A file that is wrong in
/// several ways is named once, with the first: missing, length, checksum, rows.
pub fn verify_files(dir: &Path, files: &[WrittenFile]) -> Vec<Fault> {
    let mut listed = BTreeSet::new();
    let mut faults = Vec::new();
    for file in files {
        if !listed.insert(file.path.as_str()) {
            faults.push(fault(dir, &file.path, "is listed twice"));
        } else if let Err(message) = verify_file(dir, file) {
            faults.push(fault(dir, &file.path, message));
        }
    }
    faults.extend(unlisted(dir, &listed));
    faults
}

fn fault(dir: &Path, path: &str, message: impl Into<String>) -> Fault {
    Fault::new(dir.join(path).display().to_string(), message)
}

fn verify_file(dir: &Path, file: &WrittenFile) -> Result<(), String> {
    if !Path::new(&file.path).components().all(|component| matches!(component, Component::Normal(_))) {
        return Err("is listed, but lies outside the run folder".into());
    }
    let place = dir.join(&file.path);
    let metadata = place.symlink_metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "is listed, but is not there".to_owned(),
        _ => cannot("be read", error),
    })?;
    if !metadata.is_file() {
        return Err("is listed, but is not a regular file".into());
    }
    if metadata.len() != file.bytes {
        return Err(format!("has {} bytes; {} were written", metadata.len(), file.bytes));
    }
    let checksum = checksum(&place).map_err(|error| cannot("be read", error))?;
    if checksum != file.checksum {
        return Err(format!("has the checksum {checksum}; {} was written", file.checksum));
    }
    let rows = fenced(|| rows(&place, file)).unwrap_or_else(|panic| Err(format!("cannot be decoded: {panic}")))?;
    if rows != file.rows {
        return Err(format!("has {rows} rows; {} were written", file.rows));
    }
    Ok(())
}

fn cannot(what: &str, error: impl std::fmt::Display) -> String {
    format!("cannot {what}: {error}")
}

fn checksum(place: &Path) -> io::Result<Digest> {
    let mut file = File::open(place)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest(hash.digest128())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Rows that can be decoded.
fn rows(place: &Path, listed: &WrittenFile) -> Result<u64, String> {
    if listed.kind == FileKind::Other {
        return Ok(listed.rows);
    }
    let file = File::open(place).map_err(|error| cannot("be read", error))?;
    if listed.path.ends_with(".parquet") {
        return parquet_rows(file);
    }
    let lines = if listed.path.ends_with(".zst") {
        zstd::stream::read::Decoder::new(file).and_then(count_lines)
    } else if listed.path.ends_with(".gz") {
        count_lines(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, file)))
    } else {
        count_lines(file)
    };
    lines.map_err(|error| cannot("be decoded", error))
}

fn parquet_rows(file: File) -> Result<u64, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| cannot("be opened", error))?;
    let promised = u64::try_from(builder.metadata().file_metadata().num_rows()).map_err(|e| cannot("be opened", e))?;
    let reader = builder.with_batch_size(DECODE_ROWS).build().map_err(|error| cannot("be opened", error))?;
    let mut decoded = 0;
    for rows in reader {
        decoded += rows.map_err(|error| cannot("be decoded", error))?.num_rows() as u64;
    }
    match decoded == promised {
        true => Ok(decoded),
        false => Err(format!("has {decoded} rows; its footer says {promised}")),
    }
}

fn count_lines(text: impl Read) -> io::Result<u64> {
    let mut text = BufReader::with_capacity(BUFFER_BYTES, text);
    let (mut lines, mut last) = (0, b'\n');
    loop {
        let buffer = text.fill_buf()?;
        let Some(end) = buffer.last() else { break };
        last = *end;
        lines += buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        let used = buffer.len();
        text.consume(used);
    }
    match last {
        b'\n' => Ok(lines),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last line has no end")),
    }
}

/// Files that are in the folder, but not in the list.
fn unlisted(dir: &Path, listed: &BTreeSet<&str>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for entry in WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let place = error.path().unwrap_or(dir).display().to_string();
                faults.push(Fault::new(place, cannot("be listed", error)));
                continue;
            }
        };
        let path = entry.path().strip_prefix(dir).unwrap_or(entry.path()).to_string_lossy();
        let tells_of_others = path == MANIFEST || path == AMENDMENT || path == REVOKED;
        if !entry.file_type().is_dir() && !tells_of_others && !listed.contains(path.as_ref()) {
            faults.push(fault(dir, &path, "is not listed: no run wrote it"));
        }
    }
    faults
}
