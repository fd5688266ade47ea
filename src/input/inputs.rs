//! All files of an input as one ordered list of splits.
//!
//! Every file is found, unpacked, opened and checked before any row is read, and everything that is wrong is reported at
//! once. A reader per file format stands behind [`FileReader`].

use std::io::{self, Read};

use super::files::{self, InputFile};
use super::line::Rules;
use super::ndjson::TextFile;
use super::parquet::{ParquetFile, ParquetSplit};
use super::{InputFormat, InputOptions, spool};
use crate::error::{Error, Fault, Kind, Result};
use crate::ids::Digest;
use crate::interrupt::Interrupt;
use crate::pipeline::{Need, Row, SplitLines, TriggerSource};

/// The input of a run, open for reading.
#[derive(Debug)]
pub struct Inputs {
    files: Vec<InputFile>,
    readers: Vec<FileReader>,
    /// The first split of each file, and the number of all splits at the end.
    first_splits: Vec<usize>,
    rules: Rules,
    interrupt: Interrupt,
}

/// One open file.
#[derive(Debug)]
enum FileReader {
    Text(TextFile),
    Parquet { file: Box<ParquetFile>, splits: Vec<ParquetSplit> },
}

impl FileReader {
    fn open(file: &InputFile, options: &InputOptions) -> Result<FileReader, Vec<Fault>> {
        match file.kind {
            InputFormat::Ndjson => TextFile::open(file.content())
                .map(FileReader::Text)
                .map_err(|error| vec![Fault::new(&file.name, format!("cannot be read: {error}"))]),
            InputFormat::Parquet => ParquetFile::open(file.content(), &file.name, options)
                .map(|file| FileReader::Parquet { splits: file.splits(), file: Box::new(file) }),
        }
    }

    fn splits(&self, options: &InputOptions) -> usize {
        match self {
            FileReader::Text(file) => file.splits(options.split_bytes) as usize,
            FileReader::Parquet { splits, .. } => splits.len(),
        }
    }

    fn split_bytes(&self, split: usize, options: &InputOptions) -> u64 {
        match self {
            FileReader::Text(file) => {
                let range = file.range(split as u64, options.split_bytes);
                range.end - range.start
            }
            FileReader::Parquet { splits, .. } => splits[split].bytes,
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
            FileReader::Text(file) => file.read(file.range(split as u64, rules.options.split_bytes), rules, visit),
            FileReader::Parquet { file, splits } => file.read(&splits[split], need, &rules.options, visit),
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
                faults.extend(spool::spool(file, index, &options.spool, stdin, &options.interrupt)?);
            }
        }
        let mut readers = Vec::with_capacity(files.len());
        for file in files.iter().filter(|file| !file.needs_spooling() || file.spooled.is_some()) {
            match FileReader::open(file, &options) {
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
        let interrupt = options.interrupt.clone();
        Ok(Inputs { files, readers, first_splits, interrupt, rules: Rules::new(options) })
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
        let digest = |file: &InputFile| self.interrupt.check().and_then(|()| file.digest());
        self.files.iter().map(digest).collect()
    }

    /// Whether any row can have attributes: text may, Parquet where it has the column.
    pub fn may_have_attributes(&self) -> bool {
        self.readers.iter().any(|reader| match reader {
            FileReader::Text(_) => true,
            FileReader::Parquet { file, .. } => file.has_attributes(),
        })
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    use super::super::Compression;
    use super::super::testing::{all_rows, options};
    use super::*;

    /// A folder of input files, and the arguments that name them.
    struct Folder(TempDir);

    impl Folder {
        fn new(files: &[&str]) -> Folder {
            let folder = Folder(tempfile::tempdir().unwrap());
            for file in files {
                folder.write(file, row(file).as_bytes());
            }
            folder
        }

        fn write(&self, name: &str, content: &[u8]) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn options(&self) -> InputOptions {
            InputOptions { spool: self.path().join("_spool/here"), ..options() }
        }

        fn open_as(&self, arguments: &[&str], options: InputOptions, stdin: &[u8]) -> Result<Inputs> {
            let absolute = |argument: &&str| match *argument {
                "-" => "-".to_owned(),
                inside => self.path().join(inside).display().to_string(),
            };
            let arguments: Vec<_> = arguments.iter().map(absolute).collect();
            Inputs::open_with(&arguments, options, &mut &stdin[..])
        }

        fn open(&self, arguments: &[&str]) -> Result<Inputs> {
            self.open_as(arguments, self.options(), b"")
        }

        /// The names found, without the folder.
        fn names(&self, arguments: &[&str]) -> Vec<String> {
            let inputs = self.open(arguments).unwrap_or_else(|error| panic!("{error}"));
            inputs.files().iter().map(|file| self.inside(&file.name)).collect()
        }

        fn inside(&self, text: &str) -> String {
            text.replace(&format!("{}/", self.path().display()), "")
        }

        /// What is wrong with the arguments: the file and the message of each fault.
        fn faults(&self, arguments: &[&str]) -> Vec<String> {
            let error = self.open(arguments).unwrap_err();
            assert_eq!(error.kind, Kind::Input);
            error.faults.iter().map(|f| self.inside(&format!("{}: {}", f.file, f.message))).collect()
        }
    }

    fn row(email: &str) -> String {
        format!("{{\"campaign_id\":\"c\",\"email\":\"{email}\"}}\n")
    }

    fn recipients(inputs: &Inputs) -> Vec<String> {
        all_rows(inputs).0.into_iter().map(|(_, row)| row.parsed.unwrap().recipient).collect()
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &str) -> Vec<u8> {
        zstd::encode_all(text.as_bytes(), 1).unwrap()
    }

    #[test]
    fn folders_and_globs_are_in_order_of_name_and_arguments_in_order_as_given() {
        let folder = Folder::new(&[
            "day/dt=2026-11-24/b.ndjson",
            "day/dt=2026-11-23/z.jsonl",
            "day/dt=2026-11-23/a.JSON",
            "day/_temporary/x.ndjson",
            "day/.hidden.ndjson",
            "day/notes.txt",
            "first.ndjson",
        ]);
        let day = ["day/dt=2026-11-23/a.JSON", "day/dt=2026-11-23/z.jsonl", "day/dt=2026-11-24/b.ndjson"];
        assert_eq!(folder.names(&["day"]), day);
        assert_eq!(folder.names(&["first.ndjson", "day"]), [&["first.ndjson"], &day[..]].concat());
        assert_eq!(folder.names(&["day/dt=*"]), day);
        assert_eq!(folder.names(&["day/**/*.{json,ndjson}"]), [day[2]], "extensions of a glob are literal");
        assert_eq!(folder.names(&["day/*/[az].*"]), day[..2]);
        assert_eq!(folder.names(&["day/.hidden.ndjson", "day/_temporary/x.ndjson"]).len(), 2, "named explicitly");
    }

    #[test]
    fn splits_belong_to_files_and_empty_files_have_none() {
        let folder = Folder::new(&["a.ndjson", "c.ndjson"]);
        folder.write("b.ndjson", b"");
        let options = InputOptions { split_bytes: 10, ..folder.options() };
        let inputs = folder.open_as(&["a.ndjson", "b.ndjson", "c.ndjson"], options, b"").unwrap();
        let bytes = row("a.ndjson").len();
        assert_eq!(inputs.splits(), 2 * bytes.div_ceil(10));
        let files: Vec<_> = (0..inputs.splits()).map(|split| inputs.file_of(split)).collect();
        assert!(files.iter().all(|file| *file != 1) && files.is_sorted() && files[inputs.splits() - 1] == 2);
        let total: u64 = (0..inputs.splits()).map(|split| inputs.split_bytes(split)).sum();
        assert_eq!(total, 2 * bytes as u64);
        assert_eq!(recipients(&inputs), ["email a.ndjson", "email c.ndjson"]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let folder = Folder::new(&["good.ndjson", "odd.txt", "texts/readme.txt", "day/a.ndjson"]);
        fs::create_dir(folder.path().join("empty")).unwrap();
        folder.write("parquet.ndjson", b"PAR1....");
        symlink("good.ndjson", folder.path().join("again.ndjson")).unwrap();
        let arguments = [
            "good.ndjson",
            "again.ndjson",
            "odd.txt",
            "texts",
            "empty",
            "gone.ndjson",
            "*.csv",
            "parquet.ndjson",
            "day",
            "day/*",
        ];
        let expected = [
            "again.ndjson: the same file as `good.ndjson`: its triggers would count twice",
            "odd.txt: the name does not say what it holds",
            "texts: the name of the file there does not say what it holds",
            "empty: no file is there",
            "gone.ndjson: no such file or folder",
            "*.csv: no file is there",
            "parquet.ndjson: holds Parquet, but is to be read as NDJSON",
            "day/a.ndjson: the same file as `day/a.ndjson`: its triggers would count twice",
        ];
        assert_eq!(folder.faults(&arguments), expected);
        assert_eq!(Inputs::open(&[], options()).unwrap_err().kind, Kind::Input);
    }

    #[test]
    fn a_format_that_is_given_beats_the_name() {
        let folder = Folder::new(&["odd.txt"]);
        let options = InputOptions { format: Some(InputFormat::Ndjson), ..folder.options() };
        assert_eq!(recipients(&folder.open_as(&["odd.txt"], options, b"").unwrap()), ["email odd.txt"]);
    }

    #[test]
    fn folders_that_a_table_format_manages_are_refused_from_above_and_below() {
        let folder = Folder::new(&["delta/part.ndjson", "delta/_delta_log/0.json", "ice/data/p.ndjson"]);
        folder.write("ice/metadata/v1.metadata.json", b"{}");
        folder.write("plain/metadata/about.json", row("x").as_bytes());
        for argument in ["delta", "delta/*.ndjson", "delta/part.ndjson", "ice", "ice/data", "ice/data/p.ndjson"] {
            let faults = folder.faults(&[argument]);
            assert!(faults.iter().any(|fault| fault.contains("its deleted rows would come back")), "{faults:?}");
        }
        assert_eq!(folder.names(&["plain"]).len(), 1);
    }

    #[test]
    fn packed_files_of_several_parts_are_unpacked_by_content() {
        let folder = Folder::new(&[]);
        folder.write("a.ndjson.gz", &[gzip(&row("g1")), gzip(&row("g2"))].concat());
        folder.write("b.jsonl.zst", &[zstd(&row("z1")), zstd(&row("z2"))].concat());
        folder.write("c.json.zstd", row("plain").as_bytes());
        folder.write("d.ndjson", &gzip(&row("unnamed")));
        let inputs = folder.open(&["a.ndjson.gz", "b.jsonl.zst", "c.json.zstd", "d.ndjson"]).unwrap();
        assert_eq!(recipients(&inputs), ["g1", "g2", "z1", "z2", "plain", "unnamed"].map(|r| format!("email {r}")));
        let packed: Vec<_> = inputs.files().iter().map(|file| file.compression).collect();
        assert_eq!(packed, [Compression::Gzip, Compression::Zstd, Compression::None, Compression::Gzip]);
        let original = fs::read(folder.path().join("a.ndjson.gz")).unwrap();
        assert_eq!(inputs.digests().unwrap()[0], Digest::of(&original), "of the original, not of the copy");
        let spool = folder.path().join("_spool/here");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&spool), mode(&spool.join("input-00000.ndjson"))), (0o700, 0o600));
    }

    #[test]
    fn cut_off_and_corrupt_packed_files_are_named_all_at_once() {
        let folder = Folder::new(&["good.ndjson"]);
        let text: String = (0..1000).map(|i| row(&i.to_string())).collect();
        let (gz, zst) = (gzip(&text), zstd(&text));
        folder.write("cut.ndjson.gz", &gz[..gz.len() - 9]);
        folder.write("tail.ndjson.gz", &[&gz[..], b"garbage behind it"].concat());
        folder.write("cut.ndjson.zst", &zst[..zst.len() - 5]);
        folder.write("wrong.ndjson.zst", &[&zst[..6], &[0xff; 40]].concat());
        let faults =
            folder.faults(&["cut.ndjson.gz", "good.ndjson", "tail.ndjson.gz", "cut.ndjson.zst", "wrong.ndjson.zst"]);
        let files: Vec<_> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        assert_eq!(files, ["cut.ndjson.gz", "tail.ndjson.gz", "cut.ndjson.zst", "wrong.ndjson.zst"], "{faults:?}");
    }

    #[test]
    fn standard_input_is_spooled_and_fingerprinted() {
        let folder = Folder::new(&["b.ndjson"]);
        for (stdin, compression) in [(row("a").into_bytes(), Compression::None), (gzip(&row("a")), Compression::Gzip)] {
            let inputs = folder.open_as(&["-", "b.ndjson"], folder.options(), &stdin).unwrap();
            assert_eq!(recipients(&inputs), ["email a", "email b.ndjson"]);
            let file = &inputs.files()[0];
            assert_eq!((file.name.as_str(), file.bytes, file.compression), ("-", stdin.len() as u64, compression));
            assert_eq!(file.digest().unwrap(), Digest::of(&stdin));
            inputs.check_unchanged().unwrap();
        }
        let empty = folder.open_as(&["-"], folder.options(), b"").unwrap();
        assert_eq!(empty.splits(), 0);
        assert_eq!(folder.faults(&["-", "-"]), ["-: standard input is given twice"]);
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_named() {
        let folder = Folder::new(&["a.ndjson", "b.ndjson", "c.ndjson", "d.ndjson"]);
        let inputs = folder.open(&["*.ndjson"]).unwrap();
        inputs.check_unchanged().unwrap();
        folder.write("b.ndjson", b"{}\n");
        fs::remove_file(folder.path().join("c.ndjson")).unwrap();
        let touched = File::options().append(true).open(folder.path().join("d.ndjson")).unwrap();
        touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let error = inputs.check_unchanged().unwrap_err();
        let files: Vec<_> = error.faults.iter().map(|fault| folder.inside(&fault.file)).collect();
        assert_eq!(files, ["b.ndjson", "c.ndjson", "d.ndjson"], "{error}");
    }

    #[test]
    fn the_same_rows_from_one_file_or_three() {
        let folder = Folder::new(&["a.ndjson", "b.ndjson", "c.ndjson"]);
        folder.write("all/one.ndjson", ["a", "b", "c"].map(|n| row(&format!("{n}.ndjson"))).concat().as_bytes());
        assert_eq!(recipients(&folder.open(&["all"]).unwrap()), recipients(&folder.open(&["?.ndjson"]).unwrap()));
    }
}
