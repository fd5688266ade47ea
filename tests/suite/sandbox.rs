//! Runs the binary in a folder of its own, and reads back what it wrote.
//!
//! Commands run *inside* the folder, so that every path they print is the same on every machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};
use tempfile::TempDir;

/// The instant of every run that does not say otherwise.
pub const AS_OF: &str = "2026-11-23T02:00:00Z";

/// A campaign without conditions: everybody is sent a text each time.
pub const NOTE: &str = r#"{"id":"note","reeligibility":"always",
 "messages":{"sms":{"body":"Hello {{api_trigger_properties.name}}"}}}"#;

/// One good row for [`NOTE`].
pub const ROW: &str = r#"{"campaign_id":"note","external_user_id":"ada","triggered_at":"2026-11-22T08:00:00Z","trigger_properties":{"name":"Ada"}}"#;

/// [`ROW`] for somebody else.
pub fn row(id: &str) -> String {
    ROW.replace("\"ada\"", &format!("\"{id}\""))
}

/// What a command did.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Fails with everything that was printed unless the code is this one.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails unless standard error has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Ended {
        assert!(self.stderr.contains(text), "no `{text}` in\n{}", self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}\n{}\n{}", self.stdout, self.stderr))
    }
}

/// A folder to run in.
pub struct Sandbox(TempDir);

impl Sandbox {
    pub fn new() -> Sandbox {
        Sandbox(tempfile::tempdir().unwrap())
    }

    /// With the campaign [`NOTE`], and these lines as `input.ndjson`.
    pub fn with_rows(rows: &[&str]) -> Sandbox {
        let sandbox = Sandbox::new();
        sandbox.write("campaigns/note/campaign.json", NOTE);
        sandbox.write("input.ndjson", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
        sandbox
    }

    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(inside)
    }

    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn exists(&self, inside: &str) -> bool {
        self.path(inside).symlink_metadata().is_ok()
    }

    /// A command in this folder, without this machine's settings.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).env("RUST_BACKTRACE", "0").env_remove("RAYON_NUM_THREADS");
        command.env("TMPDIR", self.temporary());
        command
    }

    /// Where commands of this sandbox find the system's temporary folder.
    pub fn temporary(&self) -> PathBuf {
        let folder = self.path(".tmp");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs the binary with these words.
    pub fn call<S: AsRef<str>>(&self, words: &[S]) -> Ended {
        self.call_with_stdin(words, b"")
    }

    pub fn call_with_stdin<S: AsRef<str>>(&self, words: &[S], stdin: &[u8]) -> Ended {
        let mut command = self.command(env!("CARGO_BIN_EXE_retrigger"));
        command.args(words.iter().map(AsRef::as_ref));
        self.end(command, stdin)
    }

    /// Runs any command to its end.
    pub fn end(&self, mut command: Command, stdin: &[u8]) -> Ended {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            // A command that reads nothing closes the pipe, which is fine.
            scope.spawn(move || drop(pipe.write_all(stdin)));
            child.wait_with_output().unwrap()
        });
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `run` on `campaigns` and `input.ndjson` to `out`, stateless, NDJSON, with more words (space-separated). Words that
    /// stand for the same thing replace those.
    pub fn run(&self, more: &str) -> Ended {
        self.run_on(&["input.ndjson"], more)
    }

    pub fn run_on(&self, inputs: &[&str], more: &str) -> Ended {
        let words = run_words(inputs, &more.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        self.call(&words)
    }

    /// The folders of published runs in `out`, by name.
    pub fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("out")) else { return Vec::new() };
        let mut runs: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        runs.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
        runs.sort();
        runs
    }

    /// The one published run.
    #[track_caller]
    pub fn published(&self) -> RunDir {
        let runs = self.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        RunDir(runs[0].clone())
    }

    /// Nothing was published and nothing half-written is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.runs(), Vec::<PathBuf>::new());
        assert!(!self.exists("out.staging"), "{:?}", files(&self.path("out.staging")));
        assert_eq!(files(&self.temporary()), Vec::<PathBuf>::new());
    }

    /// The generation of the state in `state`.
    #[track_caller]
    pub fn generation(&self) -> u64 {
        self.call(&["state", "show", "--json", "state"]).with_code(0).json()["generation"].as_u64().unwrap()
    }
}

/// The words of a run: defaults, unless `more` has other words for the same.
pub fn run_words(inputs: &[&str], more: &[String]) -> Vec<String> {
    let given = |flags: &[&str]| flags.iter().any(|flag| more.iter().any(|word| word == flag));
    let mut words = vec!["run".to_owned()];
    let mut default = |flags: &[&str], values: &[&str]| {
        if !given(flags) {
            words.extend(values.iter().map(|v| (*v).to_owned()));
        }
    };
    default(&["--campaigns"], &["--campaigns", "campaigns"]);
    default(&["--out"], &["--out", "out"]);
    default(&["--stateless", "--state"], &["--stateless"]);
    default(&["--as-of"], &["--as-of", AS_OF]);
    default(&["--format"], &["--format", "ndjson"]);
    default(&["--compression", "--format"], &["--compression", "none"]);
    default(&["--input"], &[&["--input"], inputs].concat());
    words.extend(more.iter().cloned());
    words
}

/// A published run.
pub struct RunDir(pub PathBuf);

impl RunDir {
    pub fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    pub fn json(&self, file: &str) -> Value {
        serde_json::from_str(&self.text(file)).unwrap()
    }

    pub fn lines(&self, file: &str) -> Vec<Value> {
        self.text(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn rejected(&self) -> Vec<Value> {
        self.lines("rejected.ndjson")
    }

    pub fn decisions(&self) -> Vec<Value> {
        parquet_rows(&self.0.join("decisions.parquet"))
    }

    /// Plain NDJSON messages of all channels, as text.
    pub fn message_lines(&self) -> String {
        let mut all = String::new();
        for path in files(&self.0.join("deliveries")) {
            if path.extension().is_some_and(|e| e == "ndjson") {
                all.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
        all
    }

    pub fn messages(&self) -> Vec<Value> {
        self.message_lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Who got a message, in order.
    pub fn recipients(&self) -> Vec<String> {
        self.messages().iter().map(|m| m["recipient"].as_str().unwrap().to_owned()).collect()
    }

    /// `triggers = sent + control + suppressed + failed + rejected (+ out of scope)`, in all and per campaign, and the
    /// files hold as many rows.
    #[track_caller]
    pub fn assert_balances(&self) {
        let summary = self.json("summary.json");
        assert_part_balances(&summary);
        summary["campaigns"].as_object().unwrap().values().for_each(assert_part_balances);
        let sum = |part: &Value| part.as_object().unwrap().values().map(|v| v.as_u64().unwrap()).sum::<u64>();
        assert_eq!(self.rejected().len() as u64, sum(&summary["rejected"]));
        assert_eq!(self.decisions().len() as u64, summary["triggers"].as_u64().unwrap());
    }
}

#[track_caller]
fn assert_part_balances(part: &Value) {
    let sum = |name: &str| part[name].as_object().unwrap().values().map(|v| v.as_u64().unwrap()).sum::<u64>();
    let number = |name: &str| part[name].as_u64().unwrap();
    let outcomes = number("sent") + number("control") + number("out_of_scope");
    assert_eq!(number("triggers"), outcomes + sum("suppressed") + sum("failed") + sum("rejected"), "{part}");
}

/// Every file below a folder, by path; none where there is no folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    walk.filter_map(Result::ok).filter(|e| !e.file_type().is_dir()).map(|e| e.into_path()).collect()
}

/// The content of every file below a folder.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(folder).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The rows of a Parquet file as JSON objects; instants as RFC 3339.
pub fn parquet_rows(path: &Path) -> Vec<Value> {
    let file = fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    batches.flat_map(|batch| batch_rows(&batch.unwrap())).collect()
}

fn batch_rows(batch: &RecordBatch) -> Vec<Value> {
    let schema = batch.schema();
    let row = |i: usize| {
        let cells = schema.fields().iter().zip(batch.columns());
        let cells = cells.map(|(field, column)| (field.name().clone(), cell(column, i)));
        Value::Object(cells.collect::<Map<_, _>>())
    };
    (0..batch.num_rows()).map(row).collect()
}

fn cell(column: &arrow_array::ArrayRef, row: usize) -> Value {
    use arrow_array::Array;
    use arrow_schema::DataType;
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Timestamp(..) => {
            let micros = column.as_primitive::<arrow_array::types::TimestampMicrosecondType>().value(row);
            jiff::Timestamp::from_microsecond(micros).unwrap().to_string().into()
        }
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|i| cell(&items, i)).collect()
        }
        other => panic!("a column of {other}"),
    }
}

/// What `gzip` would write.
pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// What `zstd` would write.
pub fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

/// The opposite of [`gzip`].
pub fn gunzip(packed: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text
}
