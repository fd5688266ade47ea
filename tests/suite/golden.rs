//! The golden corpus: one folder a case in `tests/golden`, run through the binary.
//!
//! A case holds `campaigns/`, `input.*` and whatever else its command reads. `args` has one word a line: more words for
//! `run` (see [`run_words`] for the defaults), or, where the first is another command, all of them. `expected/` holds what
//! must come out:
//!
//! - `exit`, `stderr`, `messages.ndjson`, `rejected.ndjson`, `remainder.ndjson`: always compared; absent means empty.
//! - `stdout`: always compared, but for `run`, where it is compared if it is there.
//! - `decisions.ndjson`, `dropped.ndjson`: the rows of the Parquet files, compared if the file is there.
//!
//! To make the expected files again, after looking at why they changed:
//! `RETRIGGER_BLESS=1 cargo test --release --test suite golden::`, then read the difference before it is committed. A new
//! `decisions.ndjson` is asked for by creating it empty. CI never sets the variable.
//!
//! What a checkout cannot hold on every system (links, bytes that are no text, Parquet) is made by [`prepare`].

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::sandbox::{Ended, ROW, RunDir, Sandbox, gzip, parquet_rows, run_words, zstd};

#[test]
fn every_case_gives_what_is_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("RETRIGGER_BLESS").is_some();
    // `templates` is the corpus of `parity.rs`.
    let is_case = |path: &PathBuf| path.is_dir() && !path.ends_with("templates");
    let mut cases: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).filter(is_case).collect();
    cases.sort();
    assert!(cases.len() >= 40, "the corpus is not there: {} cases in {}", cases.len(), root.display());
    let mut different = Vec::new();
    for case in &cases {
        for (file, found) in run_case(case) {
            let path = case.join("expected").join(file);
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if bless {
                write_expected(&path, &found);
            } else if expected != found {
                let case = case.file_name().unwrap().to_str().unwrap();
                different.push(format!("{case}: {file}, {}", first_difference(&expected, &found)));
            }
        }
    }
    assert!(different.is_empty(), "{} differences\n\n{}", different.len(), different.join("\n\n"));
}

/// Many cases are about what goes wrong: the corpus must not become one of good days only.
#[test]
fn at_least_a_third_of_the_corpus_is_broken_input() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let exits: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .filter_map(|e| fs::read_to_string(e.unwrap().path().join("expected/exit")).ok())
        .collect();
    let broken = exits.iter().filter(|exit| exit.trim() != "0").count();
    assert!(broken * 3 >= exits.len(), "{broken} of {}", exits.len());
}

/// The first line that differs, from both sides.
fn first_difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    for number in 1.. {
        match (expected.next(), found.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => return format!("line {number}\n- {}\n+ {}", a.unwrap_or("(end)"), b.unwrap_or("(end)")),
        }
    }
    "the last line feed".to_owned()
}

fn write_expected(path: &Path, text: &str) {
    // An empty file of an optional kind stays: it is what asks for it.
    if text.is_empty() && !is_optional(path) {
        let _ = fs::remove_file(path);
    } else {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn is_optional(path: &Path) -> bool {
    ["decisions.ndjson", "dropped.ndjson"].contains(&path.file_name().unwrap().to_str().unwrap())
}

/// Runs a case in a copy of its folder; what came out, by the name of the file that should hold it.
fn run_case(case: &Path) -> Vec<(&'static str, String)> {
    let sandbox = Sandbox::new();
    copy(case, &sandbox);
    prepare(case.file_name().unwrap().to_str().unwrap(), &sandbox);
    let args = fs::read_to_string(case.join("args")).unwrap_or_default();
    let args: Vec<String> = args.lines().map(str::to_owned).collect();
    let is_run = args.first().is_none_or(|first| first.starts_with('-'));
    let ended = sandbox.call(&if is_run { run_words(&inputs(case), &args) } else { args });
    let normal = |text: &str| normalised(text, &sandbox);
    let mut found = vec![("exit", format!("{}\n", ended.code)), ("stderr", normal(&ended.stderr))];
    let asked = |file: &str| case.join("expected").join(file).exists();
    if !is_run || asked("stdout") {
        found.push(("stdout", normal(&ended.stdout)));
    }
    if is_run {
        found.extend(run_files(&sandbox, &ended, asked));
    }
    found
}

fn run_files(sandbox: &Sandbox, ended: &Ended, asked: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
    if !matches!(ended.code, 0 | 3) {
        sandbox.assert_nothing_left();
        return ["messages.ndjson", "rejected.ndjson", "remainder.ndjson"].map(|f| (f, String::new())).into();
    }
    let run = sandbox.published();
    run.assert_balances();
    let mut found = vec![
        ("messages.ndjson", run.message_lines()),
        ("rejected.ndjson", run.text("rejected.ndjson")),
        ("remainder.ndjson", run.text("remainder.ndjson")),
    ];
    for (name, file) in [("decisions.ndjson", "decisions.parquet"), ("dropped.ndjson", "dropped_messages.parquet")] {
        if asked(name) {
            found.push((name, rows(&run, file)));
        }
    }
    found
}

fn rows(run: &RunDir, file: &str) -> String {
    let path = run.0.join(file);
    if !path.exists() {
        return String::new();
    }
    parquet_rows(&path).iter().map(|row| format!("{row}\n")).collect()
}

/// The names of the files of a case that begin with `input.`.
fn inputs(case: &Path) -> Vec<&'static str> {
    let known = ["input.ndjson", "input.ndjson.gz"];
    known.into_iter().filter(|name| case.join(name).exists()).collect()
}

/// Without the sandbox's own path and without durations.
fn normalised(text: &str, sandbox: &Sandbox) -> String {
    let text = text.replace(&sandbox.path("").canonicalize().unwrap().display().to_string(), "[folder]");
    regex::Regex::new(r"\d+\.\d\d s\b").unwrap().replace_all(&text, "[seconds]").into_owned()
}

fn copy(case: &Path, sandbox: &Sandbox) {
    for entry in walkdir::WalkDir::new(case).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file()) {
        let inside = entry.path().strip_prefix(case).unwrap().to_str().unwrap();
        if inside != "args" && !inside.starts_with("expected/") {
            sandbox.write(inside, fs::read(entry.path()).unwrap());
        }
    }
}

/// Makes what a case's folder cannot hold.
fn prepare(case: &str, sandbox: &Sandbox) {
    match case {
        "definition-file-by-symlink" => {
            symlink("../../outside/secret.txt", sandbox.path("campaigns/note/link.hbs")).unwrap();
            symlink("../../outside", sandbox.path("campaigns/note/folder")).unwrap();
        }
        "definition-partial-by-symlink" => {
            symlink("../../../outside/secret.txt", sandbox.path("campaigns/note/partials/secret.hbs")).unwrap();
        }
        "definition-not-utf8" => {
            sandbox.write("campaigns/note/latin.hbs", b"caf\xe9");
            sandbox.write("campaigns/note/partials/latin.hbs", b"caf\xe9");
        }
        "input-broken-parquet" => broken_parquet(sandbox),
        "input-parquet-named-ndjson" => sandbox.write("parquet.ndjson", good_parquet()),
        "input-corrupt-packed" => corrupt_packed(sandbox),
        _ => {}
    }
}

fn corrupt_packed(sandbox: &Sandbox) {
    let text: String = (0..400).map(|i| ROW.replace("ada", &format!("ada-{i}")) + "\n").collect();
    let (gz, zst) = (gzip(text.as_bytes()), zstd(text.as_bytes()));
    sandbox.write("cut.ndjson.gz", &gz[..gz.len() / 2]);
    sandbox.write("cut.ndjson.zst", &zst[..zst.len() / 2]);
    sandbox.write("garbage.ndjson.gz", [&[0x1f, 0x8b, 0x08][..], &[0xff; 64]].concat());
    for (name, mut packed) in [("flipped.ndjson.gz", gz), ("flipped.ndjson.zst", zst)] {
        let middle = packed.len() / 2;
        packed[middle..middle + 8].iter_mut().for_each(|byte| *byte ^= 0x5a);
        sandbox.write(name, packed);
    }
}

fn broken_parquet(sandbox: &Sandbox) {
    let good = good_parquet();
    sandbox.write("truncated.parquet", &good[..good.len() - 20]);
    sandbox.write("foreign.parquet", "PAR1 this is no Parquet at all PAR1");
    sandbox.write("empty.parquet", "");
    let ids = || strings(&["ada"]);
    sandbox.write("no-campaign.parquet", parquet_bytes(&[("external_user_id", ids())]));
    sandbox.write("no-recipient.parquet", parquet_bytes(&[("campaign_id", ids()), ("user", ids())]));
    let wrong = [
        ("campaign_id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("external_user_id", Arc::new(BooleanArray::from(vec![true]))),
        ("triggered_at", Arc::new(BooleanArray::from(vec![true]))),
        ("trigger_properties", Arc::new(Int64Array::from(vec![1]))),
    ];
    sandbox.write("wrong-types.parquet", parquet_bytes(&wrong));
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// A Parquet file that can be read.
pub fn good_parquet() -> Vec<u8> {
    parquet_bytes(&[("campaign_id", strings(&["note", "note"])), ("external_user_id", strings(&["ada", "bob"]))])
}

/// A Parquet file of these columns.
pub fn parquet_bytes(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    parquet_bytes_as(columns, 1, WriterProperties::default())
}

/// A Parquet file that holds these columns several times, written in some way.
pub fn parquet_bytes_as(columns: &[(&str, ArrayRef)], times: usize, properties: WriterProperties) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, column)| (*name, column.clone()))).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(file.path()).unwrap(), batch.schema(), Some(properties)).unwrap();
    (0..times).for_each(|_| writer.write(&batch).unwrap());
    writer.close().unwrap();
    fs::read(file.path()).unwrap()
}
