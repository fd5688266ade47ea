//! Which files an input is made of: files, folders, globs and standard input, in a stable order, with fingerprints.
//!
//! Order: as given, then by name inside each argument. It collects everything that is wrong before it gives up. It reads
//! no rows; of a file only the first bytes are looked at. A folder that a table format manages is refused: read raw, it
//! would bring deleted rows back.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use globset::{GlobBuilder, GlobMatcher};
use walkdir::{DirEntry, WalkDir};
use xxhash_rust::xxh3::Xxh3;

use super::{InputFormat, InputOptions};
use crate::error::{Error, Fault, IoContext, Kind, Result};
use crate::ids::Digest;

/// The argument that means standard input.
pub(super) const STDIN: &str = "-";

/// Bytes of one read when a file is fingerprinted: 8 MiB.
const DIGEST_READ_BYTES: usize = 8 << 20;

const FORMAT_HINT: &str = "give `--input-format parquet` or `--input-format ndjson`";

/// How the content of a text file is packed, told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of any number of members.
    Gzip,
    /// Zstandard, of any number of frames.
    Zstd,
}

impl Compression {
    /// The compression whose signature stands at the beginning of a content.
    pub(super) fn of_magic(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// One file of the input.
#[derive(Debug, Clone)]
pub struct InputFile {
    /// The name as it is shown: as given, or the path inside the folder or glob that was given; `-` for standard input.
    pub name: String,
    /// Where the original stands; of standard input, its spooled copy.
    pub path: PathBuf,
    /// Length of the original in bytes.
    pub bytes: u64,
    /// When the original was last modified.
    pub modified: SystemTime,
    /// What it holds.
    pub kind: InputFormat,
    /// How it is packed; always [`Compression::None`] for Parquet, which packs its own pages.
    pub compression: Compression,
    /// Where the plain text stands, when it is not the original.
    pub(super) spooled: Option<PathBuf>,
    /// Known already, for what can be read only once.
    pub(super) known_digest: Option<Digest>,
}

impl InputFile {
    /// Whether it is standard input.
    pub fn is_stdin(&self) -> bool {
        self.name == STDIN
    }

    /// Whether rows are read from a plain copy in the spool folder.
    pub(super) fn needs_spooling(&self) -> bool {
        self.kind == InputFormat::Ndjson && (self.is_stdin() || self.compression != Compression::None)
    }

    /// The file that rows are read from.
    pub(super) fn content(&self) -> &Path {
        self.spooled.as_deref().unwrap_or(&self.path)
    }

    /// The fingerprint: XXH3-128 of the original's content (of standard input: of what was read).
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn digest(&self) -> Result<Digest> {
        match self.known_digest {
            Some(digest) => Ok(digest),
            None => digest_of(&self.path).at(Kind::Input, "read", &self.path),
        }
    }

    /// Whether length or time of modification differ from what they were at the beginning.
    fn changed(&self) -> Option<String> {
        match fs::metadata(&self.path) {
            Ok(now) if now.len() != self.bytes => Some(format!("had {} bytes and now has {}", self.bytes, now.len())),
            Ok(now) if now.modified().ok() != Some(self.modified) => Some("was modified".to_owned()),
            Ok(_) => None,
            Err(error) => Some(format!("cannot be found again: {error}")),
        }
    }
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let file = File::open(path)?;
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; DIGEST_READ_BYTES.min(file.metadata()?.len() as usize + 1)];
    let mut position = 0;
    loop {
        match file.read_at(&mut buffer, position) {
            Ok(0) => return Ok(Digest(hasher.digest128())),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                position += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Looks at length and time of modification of every file again, before a commit.
///
/// # Errors
/// Names every file that changed while it was read.
pub fn check_unchanged(files: &[InputFile]) -> Result<()> {
    let originals = files.iter().filter(|file| !file.is_stdin());
    let faults: Vec<Fault> = originals
        .filter_map(|file| Some(Fault::new(&file.name, format!("{} while it was read", file.changed()?))))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Input, "the input changed while it was read")
        .with_faults(faults)
        .hint("wait until the files are complete, then run the same command again"))
}

/// The files that the arguments mean, and everything that is wrong with them.
pub(super) fn discover(arguments: &[String], options: &InputOptions) -> (Vec<InputFile>, Vec<Fault>) {
    let mut finder = Finder { options, files: Vec::new(), seen: HashMap::new(), faults: Vec::new() };
    for argument in arguments {
        finder.argument(argument);
    }
    finder.refuse_tables();
    (finder.files, finder.faults)
}

struct Finder<'o> {
    options: &'o InputOptions,
    files: Vec<InputFile>,
    /// Device and inode of each file, with the name under which it was reached first.
    seen: HashMap<(u64, u64), String>,
    faults: Vec<Fault>,
}

impl Finder<'_> {
    fn argument(&mut self, argument: &str) {
        let path = Path::new(argument);
        match fs::metadata(path) {
            _ if argument == STDIN => self.stdin(),
            Ok(found) if found.is_dir() => self.folder(argument, path),
            Ok(found) => self.named_file(argument, path, &found),
            Err(_) if argument.contains(['*', '?', '[', '{']) => self.glob(argument),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.faults.push(Fault::new(argument, "no such file or folder").hint("check the spelling of the path"));
            }
            Err(error) => self.faults.push(unreadable(argument, &error)),
        }
    }

    fn stdin(&mut self) {
        if self.files.iter().any(InputFile::is_stdin) {
            self.faults.push(Fault::new(STDIN, "standard input is given twice").hint("give `-` once"));
            return;
        }
        if self.options.format == Some(InputFormat::Parquet) {
            let fault = Fault::new(STDIN, "standard input cannot be Parquet");
            self.faults.push(fault.hint("Parquet is read from its end: write it to a file first"));
            return;
        }
        self.files.push(InputFile {
            name: STDIN.to_owned(),
            path: PathBuf::new(),
            bytes: 0,
            modified: SystemTime::UNIX_EPOCH,
            kind: InputFormat::Ndjson,
            compression: Compression::None,
            spooled: None,
            known_digest: None,
        });
    }

    fn named_file(&mut self, argument: &str, path: &Path, found: &Metadata) {
        if !found.is_file() {
            let fault = Fault::new(argument, "not a regular file");
            self.faults.push(fault.hint("pipe it in and give `-` for standard input"));
            return;
        }
        match self.options.format.or_else(|| format_of(path)) {
            Some(kind) => self.file(argument.to_owned(), path, kind, found),
            None => self.faults.push(Fault::new(argument, "the name does not say what it holds").hint(FORMAT_HINT)),
        }
    }

    fn folder(&mut self, argument: &str, path: &Path) {
        let found = self.walk(path, |_| true);
        if found.is_empty() && table_format(path).is_some() {
            self.faults.push(table_fault(path));
        } else {
            self.walked(argument, &found);
        }
    }

    fn glob(&mut self, argument: &str) {
        let (base, pattern) = split_glob(argument);
        match matcher(&pattern) {
            Ok(matcher) => {
                let found = self.walk(&base, |path| {
                    let inside = path.strip_prefix(&base).unwrap_or(path);
                    inside.ancestors().any(|part| !part.as_os_str().is_empty() && matcher.is_match(part))
                });
                self.walked(argument, &found);
            }
            Err(error) => self.faults.push(Fault::new(argument, format!("not a glob: {error}"))),
        }
    }

    /// Every visible file below a folder that `wanted` wants, by name.
    fn walk(&mut self, base: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let visible = |entry: &DirEntry| entry.depth() == 0 || !is_hidden(entry);
        let mut found = Vec::new();
        for entry in WalkDir::new(base).follow_links(true).into_iter().filter_entry(visible) {
            match entry {
                Ok(entry) if entry.file_type().is_file() && wanted(entry.path()) => found.push(entry.into_path()),
                Ok(_) => {}
                Err(error) => {
                    let place = error.path().unwrap_or(base).display().to_string();
                    self.faults.push(Fault::new(place, format!("cannot be listed: {error}")));
                }
            }
        }
        found.sort();
        found
    }

    /// Takes the files of a folder or a glob that have a known name.
    fn walked(&mut self, argument: &str, found: &[PathBuf]) {
        let mut any = false;
        for path in found {
            let Some(kind) = self.options.format.or_else(|| format_of(path)) else { continue };
            any = true;
            let name = path.strip_prefix("./").unwrap_or(path).display().to_string();
            match fs::metadata(path) {
                Ok(metadata) => self.file(name, path, kind, &metadata),
                Err(error) => self.faults.push(unreadable(&name, &error)),
            }
        }
        match (any, found.len()) {
            (true, _) => {}
            (false, 0) => self.faults.push(
                Fault::new(argument, "no file is there").hint("names that begin with `_` or `.` are not looked at"),
            ),
            (false, n) => {
                let message = match n {
                    1 => "the name of the file there does not say what it holds".to_owned(),
                    n => format!("the names of the {n} files there do not say what they hold"),
                };
                self.faults.push(Fault::new(argument, message).hint(FORMAT_HINT));
            }
        }
    }

    fn file(&mut self, name: String, path: &Path, kind: InputFormat, found: &Metadata) {
        if let Some(first) = self.seen.insert((found.dev(), found.ino()), name.clone()) {
            let fault = Fault::new(name, format!("the same file as `{first}`: its triggers would count twice"));
            self.faults.push(fault.hint("give it once"));
            return;
        }
        let opened = magic(path).and_then(|start| Ok((start, found.modified()?)));
        let (start, modified) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.faults.push(unreadable(&name, &error)),
        };
        let compression = match kind {
            InputFormat::Ndjson if start == *b"PAR1" => {
                let fault = Fault::new(name, "holds Parquet, but is to be read as NDJSON");
                return self.faults.push(fault.hint("give it the extension `.parquet`, or `--input-format parquet`"));
            }
            InputFormat::Ndjson => Compression::of_magic(&start),
            InputFormat::Parquet => Compression::None,
        };
        let (path, bytes) = (path.to_owned(), found.len());
        let (spooled, known_digest) = (None, None);
        self.files.push(InputFile { name, path, bytes, modified, kind, compression, spooled, known_digest });
    }

    /// One fault for each managed table that a file belongs to.
    fn refuse_tables(&mut self) {
        let mut folders = BTreeSet::new();
        for file in self.files.iter().filter(|file| !file.is_stdin()) {
            let absolute = fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
            folders.extend(absolute.ancestors().skip(1).map(Path::to_owned));
        }
        let tables = folders.iter().filter(|folder| table_format(folder).is_some());
        self.faults.extend(tables.map(|folder| table_fault(folder)));
    }
}

fn unreadable(name: &str, error: &io::Error) -> Fault {
    Fault::new(name, format!("cannot be read: {error}"))
}

fn magic(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(4);
    File::open(path)?.take(4).read_to_end(&mut start)?;
    Ok(start)
}

/// What a name says about the content.
fn format_of(path: &Path) -> Option<InputFormat> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let unpacked = [".gz", ".zst", ".zstd"].iter().find_map(|packed| name.strip_suffix(packed));
    let text = |name: &str| [".ndjson", ".jsonl", ".json"].iter().any(|extension| name.ends_with(extension));
    match unpacked {
        None if name.ends_with(".parquet") => Some(InputFormat::Parquet),
        _ => text(unpacked.unwrap_or(&name)).then_some(InputFormat::Ndjson),
    }
}

fn is_hidden(entry: &DirEntry) -> bool {
    matches!(entry.file_name().as_encoded_bytes().first(), Some(b'_' | b'.'))
}

/// The table format that manages a folder, if one does.
fn table_format(folder: &Path) -> Option<&'static str> {
    if folder.join("_delta_log").is_dir() {
        return Some("a Delta");
    }
    let metadata = fs::read_dir(folder.join("metadata")).ok()?;
    let is_iceberg = |name: &str| name.ends_with(".metadata.json");
    metadata.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_iceberg)).then_some("an Iceberg")
}

fn table_fault(folder: &Path) -> Fault {
    let format = table_format(folder).unwrap_or("a managed");
    let message = format!("a folder of {format} table: read raw, its deleted rows would come back");
    Fault::new(folder.display().to_string(), message)
        .hint("export the current rows to Parquet with the engine that manages the table, and give that")
}

/// A glob as the folder it starts from and the pattern below it.
fn split_glob(argument: &str) -> (PathBuf, String) {
    let is_plain = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
    let parts: Vec<Component<'_>> = Path::new(argument).components().collect();
    let plain = parts.iter().take_while(|part| is_plain(part)).count();
    let base: PathBuf = parts[..plain].iter().collect();
    let pattern: PathBuf = parts[plain..].iter().collect();
    let base = if base.as_os_str().is_empty() { PathBuf::from(".") } else { base };
    (base, pattern.to_string_lossy().into_owned())
}

fn matcher(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher())
}
