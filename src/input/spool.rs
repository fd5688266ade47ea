//! Plain copies of what cannot be read at a position: packed text and standard input.
//!
//! A copy is streamed through one buffer, so an input that unpacks to far more than its size costs disk, not memory.
//! Files are 0600 in a folder of 0700; whoever made the folder's name removes it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use xxhash_rust::xxh3::Xxh3;

use super::files::{Compression, InputFile};
use crate::error::{Error, Fault, IoContext, Kind, Result};
use crate::ids::Digest;
use crate::interrupt::Interrupt;

const BUFFER_BYTES: usize = 256 << 10;

/// Makes the plain copy of one file, the `index`-th of the input.
///
/// # Errors
/// `Ok(Some(fault))` where the input is at fault (truncated, corrupt, unreadable), an error where the spool cannot be
/// written.
pub(super) fn spool(
    file: &mut InputFile,
    index: usize,
    folder: &Path,
    stdin: &mut dyn Read,
    interrupt: &Interrupt,
) -> Result<Option<Fault>> {
    let target = folder.join(format!("input-{index:05}.ndjson"));
    let mut output = create(folder, &target)?;
    let copied = if file.is_stdin() {
        copy_stdin(file, stdin, &mut output, interrupt)
    } else {
        File::open(&file.path).map_err(Failure::Reading).and_then(|source| {
            let source = BufReader::with_capacity(BUFFER_BYTES, source);
            unpack(source, file.compression, &mut output, interrupt)
        })
    };
    match copied {
        Ok(()) if file.is_stdin() => describe_stdin(file, &target)?,
        Ok(()) => {}
        Err(Failure::Reading(error)) => return Ok(Some(fault(file, &error))),
        Err(Failure::Stopped(error)) => return Err(error),
        Err(Failure::Writing(error)) => return Err(Error::io(Kind::Output, "write", &target, error)),
    }
    file.spooled = Some(target);
    Ok(None)
}

fn create(folder: &Path, target: &Path) -> Result<File> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.at(Kind::Output, "create", folder)?;
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target);
    opened.at(Kind::Output, "create", target)
}

fn describe_stdin(file: &mut InputFile, target: &Path) -> Result<()> {
    file.path = PathBuf::from(target);
    let metadata = fs::metadata(target).at(Kind::Output, "read", target)?;
    file.modified = metadata.modified().at(Kind::Output, "read", target)?;
    Ok(())
}

fn fault(file: &InputFile, error: &io::Error) -> Fault {
    let what = match file.compression {
        Compression::None => "cannot be read",
        Compression::Gzip => "is not whole gzip",
        Compression::Zstd => "is not whole Zstandard",
    };
    Fault::new(&file.name, format!("{what}: {error}")).hint("copy or make the file again")
}

enum Failure {
    Reading(io::Error),
    Writing(io::Error),
    Stopped(Error),
}

/// Copies standard input, unpacked if its first bytes say so, and fingerprints what was read.
fn copy_stdin(
    file: &mut InputFile,
    stdin: &mut dyn Read,
    output: &mut File,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let mut hashing = Hashing { source: stdin, hasher: Xxh3::new(), bytes: 0 };
    let mut start = Vec::with_capacity(4);
    (&mut hashing).take(4).read_to_end(&mut start).map_err(Failure::Reading)?;
    file.compression = Compression::of_magic(&start);
    let rest = BufReader::with_capacity(BUFFER_BYTES, &mut hashing);
    unpack(start.as_slice().chain(rest), file.compression, output, interrupt)?;
    file.bytes = hashing.bytes;
    file.known_digest = Some(Digest(hashing.hasher.digest128()));
    Ok(())
}

fn unpack(
    source: impl BufRead,
    compression: Compression,
    output: &mut File,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    match compression {
        Compression::None => copy(source, output, interrupt),
        Compression::Gzip => copy(MultiGzDecoder::new(source), output, interrupt),
        // Frames that ask for a window over 128 MiB are refused by the decoder: memory stays bounded.
        Compression::Zstd => {
            let source = zstd::stream::read::Decoder::with_buffer(source).map_err(Failure::Reading)?;
            copy(source, output, interrupt)
        }
    }
}

fn copy(mut source: impl Read, output: &mut File, interrupt: &Interrupt) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        interrupt.check().map_err(Failure::Stopped)?;
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => output.write_all(&buffer[..read]).map_err(Failure::Writing)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Reading(error)),
        }
    }
}

/// Counts and hashes what passes through.
struct Hashing<'s> {
    source: &'s mut dyn Read,
    hasher: Xxh3,
    bytes: u64,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
