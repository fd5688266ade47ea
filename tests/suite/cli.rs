//! Commands, flags and exit codes through the binary. After every failing run: nothing published, nothing staged, the
//! state where it was.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use serde_json::Value;

use crate::golden::parquet_bytes;
use crate::sandbox::{AS_OF, Ended, NOTE, ROW, RunDir, Sandbox, contents, files, gunzip, gzip, parquet_rows, row};

const BAD: &str = r#"{"campaign_id":"note"}"#;

fn one_row() -> Sandbox {
    Sandbox::with_rows(&[ROW])
}

/// Three good rows and a bad one.
fn a_quarter_bad() -> Sandbox {
    Sandbox::with_rows(&[&row("a"), &row("b"), &row("c"), BAD])
}

fn with_state(sandbox: Sandbox) -> Sandbox {
    sandbox.call(&["state", "init", "state"]).with_code(0);
    sandbox
}

/// Holds a lock as another run would.
fn hold(path: &Path) -> fs::File {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
    file.try_lock().unwrap();
    file
}

#[test]
fn bad_usage_ends_with_2_before_anything_is_read() {
    let sandbox = one_row();
    let cases = [
        "--colour red",
        "--state state --stateless",
        "--create-state --stateless",
        "--as-of yesterday",
        "--since never",
        "--until never",
        "--max-age soon",
        "--max-bad many",
        "--max-bad 101%",
        "--max-bad -1",
        "--wait-lock long",
        "--batch-size 0",
        "--threads 0",
        "--format csv",
        "--format ndjson --compression snappy",
        "--format ndjson --compression lz4",
        "--clock wall",
        "--timezone Mars/Olympus",
        "--epoch-unit weeks",
        "--map nonsense",
        "--map external_user_id=",
        "--map custmer=id",
        "--body request.body",
        "--mapping absent.json",
        "--carry recipient",
        "--carry body",
        "--carry x,x",
        "--only nobody",
    ];
    for case in cases {
        let ended = sandbox.run(case);
        assert_eq!(ended.code, 2, "{case}\n{}", ended.stderr);
        assert!(ended.stderr.starts_with("error: "), "{case}\n{}", ended.stderr);
        assert_eq!(ended.stdout, "", "{case}");
        sandbox.assert_nothing_left();
    }
    sandbox.call(&["run", "--campaigns", "campaigns", "--input", "input.ndjson", "--out", "out"]).with_code(2);
    sandbox.call::<&str>(&[]).with_code(2);
    sandbox.call(&["--help"]).with_code(0);
    assert!(sandbox.call(&["run", "--help"]).with_code(0).stdout.contains("75  try again later"));
}

#[test]
fn a_mapping_with_an_unknown_key_is_bad_usage() {
    let sandbox = one_row();
    sandbox.write("mapping.json", r#"{"maps":{}}"#);
    sandbox.run("--mapping mapping.json").with_code(2).says("unknown field `maps`");
    sandbox.write("mapping.json", r#"{"properties":"some"}"#);
    sandbox.run("--mapping mapping.json").with_code(2).says("must be a list or `*`");
}

#[test]
fn clean_runs_end_with_0_and_bad_triggers_with_3() {
    one_row().run("").with_code(0);
    let sandbox = a_quarter_bad();
    sandbox.run("").with_code(3);
    sandbox.published().assert_balances();
}

#[test]
fn max_bad_commits_within_and_refuses_over() {
    for within in ["1", "4", "25%", "100%"] {
        let sandbox = a_quarter_bad();
        sandbox.run(&format!("--max-bad {within}")).with_code(0);
        assert_eq!(sandbox.published().json("manifest.json")["exit_code"], 0, "{within}");
    }
    for over in ["0", "24.9%", "0%"] {
        let sandbox = with_state(a_quarter_bad());
        let ended = sandbox.run(&format!("--state state --max-bad {over}")).with_code(1);
        ended.says("1 of 4 triggers are bad (no_recipient 1)").says("nothing was committed");
        sandbox.assert_nothing_left();
        assert_eq!(sandbox.generation(), 0, "{over}");
    }
}

#[test]
fn a_failed_trigger_counts_as_bad_too() {
    let sandbox = Sandbox::with_rows(&[r#"{"campaign_id":"note","external_user_id":"ada"}"#]);
    sandbox.run("--max-bad 0").with_code(1).says("missing_value 1");
    sandbox.assert_nothing_left();
    sandbox.run("").with_code(3);
}

#[test]
fn a_missing_state_is_not_an_empty_state() {
    let sandbox = one_row();
    let ended = sandbox.run("--state sate").with_code(1).says("the state folder `sate` does not exist");
    ended.says("retrigger state init sate").says("--create-state");
    sandbox.assert_nothing_left();
    assert!(!sandbox.exists("sate"));
    sandbox.run("--state sate --create-state").with_code(0);
    assert!(sandbox.exists("sate/manifest.json"));
}

#[test]
fn a_locked_state_ends_with_75() {
    let sandbox = with_state(one_row());
    let lock = hold(&sandbox.path("state/lock"));
    let ended = sandbox.run("--state state").with_code(75);
    ended.says("in use by another process").says("--wait-lock");
    sandbox.assert_nothing_left();
    drop(lock);
    sandbox.run("--state state").with_code(0);
}

#[test]
fn a_locked_output_folder_ends_with_75() {
    let sandbox = with_state(one_row());
    let lock = hold(&sandbox.path("out/.retrigger/lock"));
    sandbox.run("--state state").with_code(75).says("another run is writing to `out`");
    sandbox.assert_nothing_left();
    assert_eq!(sandbox.generation(), 0);
    drop(lock);
    sandbox.run("--state state").with_code(0);
}

#[test]
fn wait_lock_waits_until_the_lock_is_free() {
    for lock in ["state/lock", "out/.retrigger/lock"] {
        let sandbox = with_state(one_row());
        let held = hold(&sandbox.path(lock));
        let words = ["run", "--campaigns", "campaigns", "--input", "input.ndjson", "--out", "out", "--state", "state"];
        let mut command = sandbox.command(env!("CARGO_BIN_EXE_retrigger"));
        command.args(words).args(["--wait-lock", "1h"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(child.try_wait().unwrap().is_none(), "it did not wait for {lock}");
        drop(held);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{lock}");
        sandbox.published();
    }
}

#[test]
fn the_same_run_twice_does_nothing_and_returns_the_same_code() {
    for (sandbox, code) in [(one_row(), 0), (a_quarter_bad(), 3)] {
        for state in ["--stateless", "--state state --create-state"] {
            let out = format!("{state} --out out-{}", state.len());
            sandbox.run(&out).with_code(code);
            let folder = sandbox.path(format!("out-{}", state.len()));
            let before = contents(&folder);
            let again = sandbox.run(&out).with_code(code);
            assert!(again.stdout.contains("was committed before"), "{}", again.stdout);
            assert_eq!(contents(&folder), before);
            assert_eq!(sandbox.run(&format!("{out} --json")).with_code(code).json()["already_committed"], true);
        }
        assert_eq!(sandbox.generation(), 1);
    }
}

#[test]
fn a_run_id_belongs_to_one_input() {
    for state in ["--stateless", "--state state --create-state"] {
        let sandbox = one_row();
        sandbox.run(&format!("{state} --run-id monday")).with_code(0);
        sandbox.write("input.ndjson", row("other"));
        let ended = sandbox.run(&format!("{state} --run-id monday")).with_code(1);
        ended.says("run `monday` is committed already, with other inputs").says("--run-id");
        assert_eq!(sandbox.published().recipients(), ["ada"]);
        assert!(!sandbox.exists("out.staging"));
        if state != "--stateless" {
            assert_eq!(sandbox.generation(), 1);
        }
    }
}

#[test]
fn a_consumed_input_is_refused_unless_it_is_allowed() {
    let sandbox = one_row();
    sandbox.run("--state state --create-state").with_code(0);
    sandbox.write("again.ndjson", format!("{ROW}\n"));
    let later = "--state state --as-of 2026-11-24T02:00:00Z";
    let ended = sandbox.run_on(&["again.ndjson"], later).with_code(1);
    ended.says("again.ndjson: was consumed by run").says("--allow-consumed");
    assert_eq!((sandbox.runs().len(), sandbox.generation()), (1, 1));
    assert!(!sandbox.exists("out.staging"));
    sandbox.run_on(&["again.ndjson"], &format!("{later} --allow-consumed")).with_code(0);
    assert_eq!((sandbox.runs().len(), sandbox.generation()), (2, 2));
}

#[test]
fn a_changed_template_makes_another_run_whatever_its_file_is_called() {
    let sandbox = one_row();
    sandbox.write(
        "campaigns/note/campaign.json",
        r#"{"id":"note","reeligibility":"always","messages":{"sms":{"body":{"file":"body.txt"}}}}"#,
    );
    sandbox.write("campaigns/note/body.txt", "first");
    sandbox.run("").with_code(0);
    assert_eq!(sandbox.published().text("campaigns/note/body.txt"), "first");
    sandbox.write("campaigns/note/body.txt", "second");
    sandbox.run("").with_code(0);
    let mut bodies: Vec<_> =
        sandbox.runs().into_iter().map(|run| RunDir(run).messages()[0]["body"].as_str().unwrap().to_owned()).collect();
    bodies.sort();
    assert_eq!(bodies, ["first", "second"]);
}

#[test]
fn a_dry_run_tells_everything_and_makes_nothing() {
    let sandbox = a_quarter_bad();
    let real = sandbox.run("--out elsewhere --json").with_code(3).json();
    for state in ["--stateless", "--state state --create-state"] {
        let dry = sandbox.run(&format!("{state} --dry-run --json")).with_code(3).json();
        for key in ["triggers", "sent", "messages", "rejected", "campaigns"] {
            assert_eq!(dry[key], real[key], "{key}");
        }
        assert_eq!((&dry["committed"], dry.get("path")), (&Value::Bool(false), None));
        for made in ["out", "out.staging", "state"] {
            assert!(!sandbox.exists(made), "{made} was made");
        }
        assert_eq!(files(&sandbox.temporary()), Vec::<std::path::PathBuf>::new());
    }
    let text = sandbox.run("--dry-run").with_code(3).stdout;
    assert!(text.contains("would do this; nothing was written"), "{text}");
    sandbox.run("--dry-run --max-bad 0").with_code(1);
}

#[test]
fn a_dry_run_changes_neither_state_nor_output_and_sees_both() {
    let sandbox = one_row();
    let once = NOTE.replace("always", "never");
    sandbox.write("campaigns/note/campaign.json", once);
    sandbox.run("--state state --create-state").with_code(0);
    let before = (contents(&sandbox.path("state")), contents(&sandbox.path("out")));
    sandbox.write("next.ndjson", format!("{ROW}\n{}\n", row("bob")));
    let dry = sandbox.run_on(&["next.ndjson"], "--state state --dry-run --json").with_code(0).json();
    assert_eq!((&dry["sent"], &dry["suppressed"]["already_received"]), (&Value::from(1), &Value::from(1)));
    assert!(sandbox.run("--state state --dry-run").with_code(0).stdout.contains("was committed before"));
    sandbox.run("--state state --dry-run --as-of 2026-11-24T00:00:00Z").with_code(1).says("was consumed by run");
    assert_eq!((contents(&sandbox.path("state")), contents(&sandbox.path("out"))), before);
    assert!(!sandbox.exists("out.staging"));
}

#[test]
fn a_dry_run_leaves_a_running_run_alone() {
    let sandbox = one_row();
    sandbox.write("packed.ndjson.gz", gzip(format!("{ROW}\n").as_bytes()));
    let _lock = hold(&sandbox.path("out/.retrigger/lock"));
    sandbox.write("out.staging/.spool/input-00000.ndjson", "of another run");
    sandbox.run_on(&["packed.ndjson.gz"], "--dry-run").with_code(0);
    assert_eq!(fs::read_to_string(sandbox.path("out.staging/.spool/input-00000.ndjson")).unwrap(), "of another run");
}

/// The keys of `summary.json` are a contract; their order is for people.
const SUMMARY_KEYS: [&str; 22] = [
    "run_id",
    "committed",
    "clock",
    "as_of",
    "state_id",
    "generation",
    "triggers",
    "sent",
    "messages",
    "messages_dropped",
    "control",
    "suppressed",
    "failed",
    "rejected",
    "out_of_scope",
    "campaigns",
    "batches",
    "bytes_read",
    "bytes_written",
    "unknown_fields_ignored",
    "seconds",
    "peak_rss_bytes",
];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_summary_has_its_stable_keys_and_no_others() {
    let sandbox = Sandbox::with_rows(&[ROW, BAD, r#"{"campaign_id":"note","external_user_id":"x"}"#]);
    let json = sandbox.run("--json --state state --create-state").with_code(3).json();
    assert_eq!(keys(&json), [&SUMMARY_KEYS[..], &["path"]].concat());
    let file = sandbox.published().json("summary.json");
    assert_eq!(keys(&file), SUMMARY_KEYS);
    for key in SUMMARY_KEYS.iter().filter(|key| !["bytes_written", "seconds", "peak_rss_bytes"].contains(key)) {
        assert_eq!(json[key], file[key], "{key}");
    }
    assert_eq!(json["rejected"], serde_json::json!({"no_recipient": 1}));
    assert_eq!(json["failed"], serde_json::json!({"missing_value": 1}));
    assert_eq!(json["messages"], serde_json::json!({"sms": 1}));
    assert_eq!(json["messages_dropped"], serde_json::json!({"sms": {"missing_value": 1}}));
    assert_eq!((&json["clock"], &json["as_of"]), (&"run".into(), &AS_OF.into()));
    assert_eq!((&json["generation"], &json["batches"]), (&1.into(), &1.into()));
    assert_eq!(keys(&json["campaigns"]["note"]), SUMMARY_KEYS[6..15]);
    assert_eq!(json["path"], sandbox.published().0.canonicalize().unwrap().display().to_string());
}

#[test]
fn quiet_says_nothing_and_verbose_says_more() {
    let sandbox = one_row();
    let ended = sandbox.run("--quiet --out quiet").with_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    let plain = sandbox.run("--out plain").with_code(0);
    assert_eq!(plain.stderr, "");
    let verbose = sandbox.run("--out verbose -v").with_code(0);
    assert!(verbose.stderr.contains("retrigger: rendering"), "{}", verbose.stderr);
    assert!(verbose.stdout.contains("peak memory") && !plain.stdout.contains("peak memory"));
    assert!(sandbox.run("--quiet --max-age soon").with_code(2).stderr.contains("--max-age"));
}

#[test]
fn standard_input_is_ndjson_plain_or_packed() {
    let text = format!("{ROW}\n{}\n", row("bob"));
    for (name, content) in [("plain", text.clone().into_bytes()), ("gzip", gzip(text.as_bytes()))] {
        let sandbox = one_row();
        let words = ["run", "--campaigns", "campaigns", "--input", "-", "--out", "out", "--stateless"];
        let words = [&words[..], &["--format", "ndjson"]].concat();
        sandbox.call_with_stdin(&words, &content).with_code(0);
        let run = sandbox.published();
        assert_eq!(run.recipients(), ["ada", "bob"], "{name}");
        assert_eq!(run.messages()[1]["source"], "-:2");
        assert_eq!(run.json("manifest.json")["inputs"][0]["bytes"], content.len());
        assert!(!sandbox.exists("out.staging"));
    }
}

#[test]
fn globs_folders_and_hive_partitions_are_read_in_order() {
    let sandbox = one_row();
    sandbox.write("days/dt=2026-11-22/b.ndjson", row("third"));
    sandbox.write("days/dt=2026-11-21/a.jsonl", row("first"));
    sandbox.write("days/dt=2026-11-21/b.ndjson.gz", gzip(row("second").as_bytes()));
    sandbox.write("days/_temporary/x.ndjson", row("hidden"));
    for input in ["days", "days/*", "days/dt=*/*"] {
        sandbox.run_on(&[input], "--json --run-id r").with_code(0);
        assert_eq!(sandbox.published().recipients(), ["first", "second", "third"], "{input}");
        fs::remove_dir_all(sandbox.path("out")).unwrap();
    }
}

#[test]
fn only_takes_several_campaigns() {
    let sandbox = one_row();
    for id in ["a", "b", "c"] {
        sandbox.write(&format!("campaigns/{id}/campaign.json"), NOTE.replace("\"note\"", &format!("\"{id}\"")));
    }
    let rows: String = ["a", "b", "c"].map(|id| ROW.replace("\"note\"", &format!("\"{id}\"")) + "\n").concat();
    sandbox.write("input.ndjson", rows);
    let json = sandbox.run("--only a c --json").with_code(0).json();
    assert_eq!((&json["sent"], &json["out_of_scope"]), (&2.into(), &1.into()));
    let sent: Vec<_> =
        sandbox.published().messages().iter().map(|m| m["campaign_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(sent, ["a", "c"]);
}

#[test]
fn recorded_receipts_count_for_the_next_run() {
    let sandbox = one_row();
    sandbox.write("campaigns/note/campaign.json", NOTE.replace("always", "never"));
    sandbox.run("--state state --create-state --record-only").with_code(0);
    assert_eq!(files(&sandbox.published().0.join("deliveries")), Vec::<std::path::PathBuf>::new());
    sandbox.write("next.ndjson", format!("{ROW}\n{}\n", row("bob")));
    let json = sandbox.run_on(&["next.ndjson"], "--state state --json").with_code(0).json();
    assert_eq!((&json["sent"], &json["suppressed"]["already_received"]), (&1.into(), &1.into()));
}

#[test]
fn who_is_excluded_is_read_from_csv_ndjson_and_parquet() {
    let strings = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let parquet = parquet_bytes(&[("external_user_id", strings(&["007", "x"])), ("why", strings(&["a", "b"]))]);
    let tables: [(&str, Vec<u8>); 4] = [
        ("table.csv", b"external_user_id,why\n007,a\nx,b\n".into()),
        ("table.ndjson", b"{\"external_user_id\":\"007\"}\n{\"external_user_id\":\"x\"}\n".into()),
        ("table.parquet", parquet),
        ("mixed.csv", b"email,alias_name,alias_label,external_user_id\n,,,007\n,,,x\n A@x.org,,,\n,n,l,\n".into()),
    ];
    let others = r#"{"campaign_id":"note","email":"a@X.ORG","trigger_properties":{"name":"A"}}
{"campaign_id":"note","user_alias":{"alias_name":"n","alias_label":"l"},"trigger_properties":{"name":"N"}}"#;
    for (name, content) in tables {
        let sandbox = Sandbox::with_rows(&[&row("007"), &row("7"), &row("x"), others]);
        sandbox.write(name, content);
        let json = sandbox.run(&format!("--exclude {name} --json")).with_code(0).json();
        let excluded = if name == "mixed.csv" { 4 } else { 2 };
        assert_eq!(json["suppressed"]["excluded"], excluded, "{name}");
        assert_eq!(sandbox.published().recipients()[0], "7", "{name}");
    }
}

#[test]
fn an_exclude_table_that_cannot_be_used_ends_with_1() {
    let sandbox = one_row();
    sandbox.write("who.csv", "user\nx\n");
    sandbox.write("cut.parquet", "PAR1....");
    sandbox.write("floats.ndjson", "{\"external_user_id\":1.5}\n");
    sandbox.write("who.txt", "x\n");
    for (table, says) in [
        ("who.csv", "no column names a recipient"),
        ("cut.parquet", "cut.parquet"),
        ("floats.ndjson", "external_user_id"),
        ("who.txt", "expected a file named"),
        ("absent.csv", "absent.csv"),
    ] {
        sandbox.run(&format!("--exclude {table}")).with_code(1).says(says);
        sandbox.assert_nothing_left();
    }
}

#[test]
fn every_format_and_compression_holds_the_same_messages() {
    let sandbox = Sandbox::with_rows(&[&row("a"), &row("b"), &row("zoë")]);
    let ids = |rows: Vec<Value>| rows.iter().map(|r| r["dispatch_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (format, compression, extension) in [
        ("parquet", "zstd", "parquet"),
        ("parquet", "snappy", "parquet"),
        ("parquet", "gzip", "parquet"),
        ("parquet", "none", "parquet"),
        ("ndjson", "zstd", "ndjson.zst"),
        ("ndjson", "gzip", "ndjson.gz"),
        ("ndjson", "none", "ndjson"),
    ] {
        let name = format!("{format}-{compression}");
        sandbox
            .run(&format!("--format {format} --compression {compression} --batch-size 2 --run-id {name}"))
            .with_code(0);
        let folder = sandbox.path(format!("out/{name}/deliveries/sms"));
        let mut rows = Vec::new();
        for batch in ["batch-00000", "batch-00001"] {
            let path = folder.join(format!("{batch}.{extension}"));
            let lines = |text: String| text.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<Value>>();
            rows.extend(match extension {
                "parquet" => parquet_rows(&path),
                "ndjson.gz" => lines(gunzip(&fs::read(&path).unwrap())),
                "ndjson.zst" => {
                    lines(String::from_utf8(zstd::decode_all(fs::File::open(&path).unwrap()).unwrap()).unwrap())
                }
                _ => lines(fs::read_to_string(&path).unwrap()),
            });
        }
        assert_eq!(files(&folder).len(), 2, "{name}");
        assert_eq!(
            rows.iter().map(|r| r["batch_id"].as_str().unwrap()).collect::<Vec<_>>(),
            ["sms-00000", "sms-00000", "sms-00001"]
        );
        seen.insert(name, ids(rows));
    }
    let first = seen.values().next().unwrap().clone();
    assert!(seen.values().all(|ids| *ids == first), "{seen:?}");
}

#[test]
fn one_thread_writes_the_same_bytes_as_many() {
    let rows: Vec<String> = (0..500).map(|i| row(&format!("u-{i}"))).collect();
    let sandbox = Sandbox::with_rows(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    let written = |out: &str| {
        let folder = sandbox.path(out);
        let all = contents(&folder).into_iter();
        let kept = all.filter(|(path, _)| !path.ends_with("summary.json") && !path.ends_with("manifest.json"));
        kept.map(|(path, bytes)| (path.strip_prefix(&folder).unwrap().to_owned(), bytes)).collect::<Vec<_>>()
    };
    sandbox.run("--threads 1 --out one").with_code(0);
    sandbox.run("--threads 4 --out four").with_code(0);
    assert_eq!(written("one"), written("four"));
}

#[test]
fn nobody_else_can_read_what_is_written() {
    let sandbox = a_quarter_bad();
    sandbox.write("more.ndjson.gz", gzip(row("packed").as_bytes()));
    sandbox.run_on(&["input.ndjson", "more.ndjson.gz"], "--state state --create-state").with_code(3);
    let mut seen = 0;
    for root in ["out", "state"] {
        for entry in walkdir::WalkDir::new(sandbox.path(root)) {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let expected = if entry.file_type().is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{:o} {}", mode, entry.path().display());
            seen += 1;
        }
    }
    assert!(seen > 10);
}

#[test]
fn verify_accepts_a_run_and_names_what_was_changed() {
    let sandbox = a_quarter_bad();
    let fresh = |name: &str| {
        sandbox.run(&format!("--run-id {name}")).with_code(3);
        sandbox.path(format!("out/{name}"))
    };
    let verify = |name: &str| sandbox.call(&["verify", &format!("out/{name}")]);
    fresh("good");
    assert!(verify("good").with_code(0).stdout.contains("all there and unchanged"));
    for file in ["deliveries/sms/batch-00000.ndjson", "decisions.parquet", "rejected.ndjson", "summary.json"] {
        let name = format!("flipped-{}", file.len());
        let path = fresh(&name).join(file);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        verify(&name).with_code(1).says(file).says("checksum");
    }
    let path = fresh("truncated").join("decisions.parquet");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    verify("truncated").with_code(1).says("decisions.parquet").says("bytes");
    fs::remove_file(fresh("missing").join("rejected.ndjson")).unwrap();
    verify("missing").with_code(1).says("rejected.ndjson").says("not there");
    fs::write(fresh("additional").join("deliveries/sms/batch-00001.ndjson"), "{}\n").unwrap();
    verify("additional").with_code(1).says("batch-00001.ndjson");
    let path = fresh("manifest").join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"sent\": 3", "\"sent\": 4")).unwrap();
    verify("manifest").with_code(1).says("the ledger does not balance");
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    verify("manifest").with_code(1).says("damaged");
    verify("absent").with_code(1).says("out/absent/manifest.json");
}

#[test]
fn a_state_is_made_once_and_shows_what_it_holds() {
    let sandbox = one_row();
    assert!(sandbox.call(&["state", "init", "state"]).with_code(0).stdout.starts_with("state "));
    sandbox.call(&["state", "init", "state"]).with_code(1).says("is a state already");
    sandbox.write("full/something", "x");
    sandbox.call(&["state", "init", "full"]).with_code(1).says("is not empty");
    sandbox.call(&["state", "show", "absent"]).with_code(1).says("does not exist");
    sandbox.run("--state state").with_code(0);
    let json = sandbox.call(&["state", "show", "--json", "state"]).with_code(0).json();
    assert_eq!((&json["generation"], &json["receipts"], &json["runs"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(json["campaigns"]["note"]["receipts"], 1);
    let text = sandbox.call(&["state", "show", "state"]).with_code(0).stdout;
    assert!(text.contains("generation 1") && text.contains("note: 1 receipts"), "{text}");
    let path = sandbox.path("state/manifest.json");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, String::from_utf8(bytes).unwrap().replace("\"generation\":1", "\"generation\":7")).unwrap();
    sandbox.call(&["state", "show", "state"]).with_code(1).says("damaged");
    sandbox.run("--state state --out other").with_code(1).says("damaged");
}

#[test]
fn check_tells_all_that_is_wrong_before_a_run() {
    let sandbox = one_row();
    let good = sandbox.call(&["check", "--campaigns", "campaigns", "--input", "input.ndjson"]).with_code(0);
    assert!(good.stdout.contains("input.ndjson"), "{}", good.stdout);
    sandbox.call(&["check", "--campaigns", "campaigns"]).with_code(0);
    sandbox.call(&["check", "--campaigns", "campaigns", "--input", "gone.ndjson"]).with_code(1).says("gone.ndjson");
    sandbox.call(&["check", "--campaigns", "absent"]).with_code(2).says("absent");
    sandbox.call(&["check", "--campaigns", "campaigns", "--only", "noet"]).with_code(2).says("did you mean `note`");
    sandbox.write("packed.ndjson.gz", gzip(ROW.as_bytes()));
    let packed = ["check", "--campaigns", "campaigns", "--input", "packed.ndjson.gz", "--json"];
    assert_eq!(sandbox.call(&packed).with_code(0).json()["files"][0]["name"], "packed.ndjson.gz");
    sandbox.assert_nothing_left();
}

#[test]
fn render_takes_a_template_or_a_campaign() {
    let sandbox = one_row();
    sandbox.write("t.hbs", "{{name}}");
    sandbox.write("data.json", r#"{"name":"<Ada>"}"#);
    let render =
        |more: &[&str]| sandbox.call(&[&["render", "--template", "t.hbs", "--data", "data.json"], more].concat());
    assert_eq!(render(&[]).with_code(0).stdout, "<Ada>");
    assert_eq!(render(&["--escape", "html"]).with_code(0).stdout, "&lt;Ada&gt;");
    sandbox.write("t.hbs", "{{absent}}.");
    assert_eq!(render(&["--on-missing", "blank"]).with_code(0).stdout, ".");
    assert_eq!(render(&[]).with_code(1).stdout, "");
    sandbox.write("t.hbs", "{{");
    render(&[]).with_code(2).says("t.hbs, line 1, column");
    sandbox.write("t.hbs", b"caf\xe9");
    render(&[]).with_code(2).says("t.hbs");
    sandbox.write("data.json", "[1]");
    sandbox.write("t.hbs", "x");
    render(&[]).with_code(1).says("must hold a JSON object");
    sandbox.call(&["render", "--template", "gone.hbs", "--data", "data.json"]).with_code(2).says("gone.hbs");
    sandbox.call(&["render", "--template", "t.hbs"]).with_code(2);
    sandbox.call(&["render"]).with_code(2);
    let campaign = sandbox.call(&["render", "--campaign", "campaigns/note", "--input", "input.ndjson"]).with_code(0);
    assert_eq!(campaign.stdout, "--- external_user_id ada, sms\nbody: Hello Ada\n");
    sandbox.assert_nothing_left();
}

/// Runs the binary under a shell that first limits or mounts something.
fn under(sandbox: &Sandbox, program: &[&str], script: &str, more: &str) -> Ended {
    let mut command = sandbox.command(program[0]);
    command.args(&program[1..]).args(["-c", script, env!("CARGO_BIN_EXE_retrigger")]);
    let words: Vec<String> = more.split_whitespace().map(str::to_owned).collect();
    command.args(crate::sandbox::run_words(&["input.ndjson"], &words));
    sandbox.end(command, b"")
}

/// In a mount namespace of its own, where this system lets tests make one.
fn mounted(sandbox: &Sandbox, script: &str, more: &str) -> Option<Ended> {
    let unshare = ["unshare", "--mount", "--map-root-user"];
    let mut probe = sandbox.command(unshare[0]);
    probe.args(&unshare[1..]).args(["sh", "-c", "mkdir -p probe && mount -t tmpfs -o size=64k tmpfs probe"]);
    let allowed = probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("skipped: no mounts on this system");
        return None;
    }
    Some(under(sandbox, &[&unshare[..], &["sh"]].concat(), script, more))
}

fn many_rows() -> Sandbox {
    let rows: Vec<String> =
        (0..3000).map(|i| row(&format!("recipient-{:032x}", i * 0x9e37_79b9_7f4a_7c15_u128))).collect();
    Sandbox::with_rows(&rows.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_file_that_cannot_grow_fails_the_run_and_leaves_nothing() {
    let sandbox = with_state(many_rows());
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"";
    let ended = under(&sandbox, &["sh"], script, "--state state").with_code(1);
    ended.says("out.staging/").says("File too large");
    sandbox.assert_nothing_left();
    assert_eq!(sandbox.generation(), 0);
    sandbox.run("--state state").with_code(0);
    assert_eq!((sandbox.published().recipients().len(), sandbox.generation()), (3000, 1));
}

#[test]
fn a_state_that_cannot_be_written_fails_the_run_and_leaves_nothing() {
    let sandbox = with_state(many_rows());
    let script = "mkdir new && mount -t tmpfs -o size=64k tmpfs new && cp state/* new && \
                  \"$0\" \"$@\"; code=$?; ls new > listing; exit $code";
    let Some(ended) = mounted(&sandbox, script, "--state new") else { return };
    ended.with_code(1).says("the disk is full").says("new/");
    sandbox.assert_nothing_left();
    assert_eq!(fs::read_to_string(sandbox.path("listing")).unwrap(), "lock\nmanifest.json\n");
}

#[test]
fn a_full_disk_fails_the_run_and_leaves_nothing() {
    let sandbox = many_rows();
    let script = "mkdir disk && mount -t tmpfs -o size=100k tmpfs disk && \"$0\" \"$@\"; code=$?; \
                  find disk -type f > listing; mount -o remount,size=20m disk && \"$0\" \"$@\" >&2; \
                  echo again $? >&2; exit $code";
    let Some(ended) = mounted(&sandbox, script, "--out disk/out") else { return };
    let ended = ended.with_code(1).says("disk/out.staging/").says("the disk is full").says("again 0");
    assert!(ended.stderr.contains("committed to"), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(sandbox.path("listing")).unwrap(), "disk/out/.retrigger/lock\n");
}

#[test]
fn an_output_folder_that_is_a_mount_point_is_refused_with_a_hint() {
    let sandbox = with_state(one_row());
    let script = "mkdir out && mount -t tmpfs tmpfs out && \"$0\" \"$@\"";
    let Some(ended) = mounted(&sandbox, script, "--state state") else { return };
    ended.with_code(1).says("is a mount point").says("use a folder inside the mounted one");
    assert!(!sandbox.exists("out.staging"));
    assert_eq!(sandbox.generation(), 0);
}

#[test]
fn a_read_only_folder_fails_with_a_hint() {
    let sandbox = one_row();
    let script = "mkdir disk && mount -t tmpfs -o ro tmpfs disk && \"$0\" \"$@\"";
    let Some(ended) = mounted(&sandbox, script, "--out disk/out") else { return };
    ended.with_code(1).says("cannot create the output folder `disk/out`").says("check the permissions");
}

#[test]
fn an_output_path_that_is_a_file_is_refused() {
    let sandbox = one_row();
    sandbox.write("out", "a file");
    sandbox.run("").with_code(1).says("`out`");
    assert!(!sandbox.exists("out.staging"));
    sandbox.run("--out /").with_code(2).says("it has no name");
}

#[test]
fn a_run_that_fails_on_its_input_leaves_nothing_and_the_state_where_it_was() {
    let sandbox = with_state(one_row());
    sandbox.run("--state state").with_code(0);
    fs::remove_dir_all(sandbox.path("out")).unwrap();
    sandbox.write("cut.ndjson.gz", &gzip(ROW.as_bytes())[..20]);
    sandbox.write("table/_delta_log/0.json", "{}");
    sandbox.write("table/x.ndjson", ROW);
    for input in ["cut.ndjson.gz", "table", "gone.ndjson", "*.parquet"] {
        sandbox.run_on(&[input], "--state state").with_code(1);
        sandbox.assert_nothing_left();
        assert_eq!(sandbox.generation(), 1, "{input}");
    }
}
