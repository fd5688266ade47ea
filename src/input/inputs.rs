//! All files of an input as one ordered list of splits.
//!
//! Every file is found, unpacked, opened and checked before any row is read, and everything that is wrong is reported at
//! once. A reader per file format stands behind [`FileReader`].

use std::io::{self, Read};

use super::files::{self, InputFile};
use super::line::Rules;
use super::ndjson::TextFile;
use super::{InputFormat, InputOptions, spool};
use crate::error::{Error, Fault, Kind, Result};
use crate::ids::Digest;
use crate::pipeline::{Need, Row, SplitLines, TriggerSource};

/// The input of a run, open for reading.
#[derive(Debug)]
pub struct Inputs {
    files: Vec<InputFile>,
    readers: Vec<FileReader>,
    /// The first split of each file, and the number of all splits at the end.
    first_splits: Vec<usize>,
    rules: Rules,
}

/// One open file.
#[derive(Debug)]
enum FileReader {
    Text(TextFile),
}

impl FileReader {
    fn open(file: &InputFile) -> Result<FileReader, Vec<Fault>> {
        match file.kind {
            InputFormat::Ndjson => TextFile::open(file.content())
                .map(FileReader::Text)
                .map_err(|error| vec![Fault::new(&file.name, format!("cannot be read: {error}"))]),
            InputFormat::Parquet => Err(vec![Fault::new(&file.name, "Parquet cannot be read")]),
        }
    }

    fn splits(&self, options: &InputOptions) -> usize {
        match self {
            FileReader::Text(file) => file.splits(options.split_bytes) as usize,
        }
    }

    fn split_bytes(&self, split: usize, options: &InputOptions) -> u64 {
        match self {
            FileReader::Text(file) => {
                let range = file.range(split as u64, options.split_bytes);
                range.end - range.start
            }
        }
    }

    fn read(
        &self,
        split: usize,
        rules: &Rules,
        need: Need,
        visit: &mut dyn FnMut(Row<'_>) -> Result<()>,
    ) -> Result<SplitLines> {
        match self {
            FileReader::Text(file) => {
                file.read(file.range(split as u64, rules.options.split_bytes), rules, need, visit)
            }
        }
    }
}

impl Inputs {
    /// Finds, unpacks, opens and checks everything that the arguments mean. `-` is standard input.
    ///
    /// # Errors
    /// One error of kind `Input` with every fault of every file; of kind `Output` where the spool folder cannot be written.
    pub fn open(arguments: &[String], options: InputOptions) -> Result<Inputs> {
        Inputs::open_with(arguments, options, &mut io::stdin().lock())
    }

    /// [`Inputs::open`] with something else for standard input.
    pub(super) fn open_with(arguments: &[String], options: InputOptions, stdin: &mut dyn Read) -> Result<Inputs> {
        let (mut files, mut faults) = files::discover(arguments, &options);
        if files.is_empty() && faults.is_empty() {
            return Err(Error::new(Kind::Input, "no input was given").hint("give files, folders, globs or `-`"));
        }
        // Unpacking takes long and standard input can be read once: not when the run cannot be anyway.
        if faults.is_empty() {
            for (index, file) in files.iter_mut().enumerate().filter(|(_, file)| file.needs_spooling()) {
                faults.extend(spool::spool(file, index, &options.spool, stdin)?);
            }
        }
        let mut readers = Vec::with_capacity(files.len());
        for file in files.iter().filter(|file| !file.needs_spooling() || file.spooled.is_some()) {
            match FileReader::open(file) {
                Ok(reader) => readers.push(reader),
                Err(more) => faults.extend(more),
            }
        }
        if !faults.is_empty() {
            return Err(Error::new(Kind::Input, "the input cannot be used").with_faults(faults));
        }
        let mut first_splits = vec![0];
        for reader in &readers {
            first_splits.push(first_splits[first_splits.len() - 1] + reader.splits(&options));
        }
        Ok(Inputs { files, readers, first_splits, rules: Rules::new(options) })
    }

    /// The files, in order.
    pub fn files(&self) -> &[InputFile] {
        &self.files
    }

    /// The fingerprint of each file, in order. Reads every file once.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn digests(&self) -> Result<Vec<Digest>> {
        self.files.iter().map(InputFile::digest).collect()
    }

    /// Looks at every file again, before a commit.
    ///
    /// # Errors
    /// Names every file whose length or time of modification changed since it was found.
    pub fn check_unchanged(&self) -> Result<()> {
        files::check_unchanged(&self.files)
    }
}

impl TriggerSource for Inputs {
    fn splits(&self) -> usize {
        self.first_splits[self.readers.len()]
    }

    fn split_bytes(&self, split: usize) -> u64 {
        let file = self.file_of(split);
        self.readers[file].split_bytes(split - self.first_splits[file], &self.rules.options)
    }

    fn file_of(&self, split: usize) -> usize {
        // Files without splits share their first split with the file after them, which is the one meant.
        self.first_splits.partition_point(|first| *first <= split) - 1
    }

    fn file_name(&self, file: usize) -> &str {
        &self.files[file].name
    }

    fn read(&self, split: usize, need: Need, visit: &mut dyn FnMut(Row<'_>) -> Result<()>) -> Result<SplitLines> {
        let file = self.file_of(split);
        self.readers[file].read(split - self.first_splits[file], &self.rules, need, visit)
    }
}
