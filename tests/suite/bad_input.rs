//! Every kind of bad row lands in `rejected.ndjson` with all its places, the rest runs; and what is hostile stays in bounds:
//! secrets, names, sizes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use base64::Engine as _;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use crate::golden::parquet_bytes_as;
use crate::sandbox::{NOTE, ROW, RunDir, Sandbox, contents, files, row};

/// A bad line, and its reason, field, what was expected and what was found (both: a part of it).
type Case = (Vec<u8>, &'static str, &'static str, &'static str, &'static str);

fn line(fields: &str) -> Vec<u8> {
    format!(r#"{{"campaign_id":"note",{fields}}}"#).into_bytes()
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

fn cases() -> Vec<Case> {
    let large = format!(r#""email":"a","trigger_properties":{{"x":"{}"}}"#, "y".repeat(51_200));
    let deep = format!(r#""email":"a","trigger_properties":{{"x":{}}}"#, nested(64));
    let deepest = format!(r#""email":"a","trigger_properties":{{"x":{}}}"#, nested(100_000));
    vec![
        (br#"{"campaign_id":"note","#.to_vec(), "bad_json", "", "JSON", "EOF"),
        (br#"{"campaign_id":"note"} {}"#.to_vec(), "bad_json", "", "JSON", "trailing"),
        (b"hello".to_vec(), "bad_json", "", "JSON", "expected value"),
        (line(r#""email":"a","trigger_properties":{"x":NaN}"#), "bad_json", "", "JSON", ""),
        (line(r#""email":"a","trigger_properties":{"x":Infinity}"#), "bad_json", "", "JSON", ""),
        (line(r#""email":"a","trigger_properties":{"x":-Infinity}"#), "bad_json", "", "JSON", ""),
        (br#"["campaign_id"]"#.to_vec(), "bad_row", "", "object", "an array"),
        (b"null".to_vec(), "bad_row", "", "object", "null"),
        (b"7".to_vec(), "bad_row", "", "object", "an integer"),
        (
            b"{\"campaign_id\":\"note\",\"email\":\"\xff\xfe\"}".to_vec(),
            "bad_row",
            "",
            "UTF-8",
            "invalid sequence at byte 31",
        ),
        (line(r#""external_user_id":1.5"#), "wrong_type", "external_user_id", "a string or an integer", "a number"),
        (line(r#""email":["a"]"#), "wrong_type", "email", "a string", "an array"),
        (line(r#""email":"a","trigger_properties":[1]"#), "wrong_type", "trigger_properties", "object", "an array"),
        (line(r#""email":"a","attributes":7"#), "wrong_type", "attributes", "an object", "an integer"),
        (br#"{"campaign_id":7,"email":"a"}"#.to_vec(), "wrong_type", "campaign_id", "a string", "an integer"),
        (br#"{"email":"a"}"#.to_vec(), "missing_field", "campaign_id", "a string", "nothing"),
        (line(r#""x":1"#), "no_recipient", "", "one of", "none"),
        (line(r#""external_user_id":null"#), "no_recipient", "", "one of", "none"),
        (line(r#""email":"a","braze_id":"b""#), "several_identifiers", "", "exactly one", "braze_id and email"),
        (line(r#""user_alias":{"alias_name":"n"}"#), "missing_field", "user_alias.alias_label", "a string", "nothing"),
        (
            line(r#""email":"a","triggered_at":"yesterday""#),
            "bad_timestamp",
            "triggered_at",
            "RFC 3339",
            "9 characters",
        ),
        (line(r#""email":"a","triggered_at":12"#), "bad_timestamp", "triggered_at", "--epoch-unit", "an integer"),
        (line(r#""email":"a","triggered_at":{}"#), "bad_timestamp", "triggered_at", "RFC 3339", "an object"),
        (
            line(r#""email":"a","triggered_at":"2026-11-24T02:00:01Z""#),
            "in_future",
            "triggered_at",
            "24 h",
            "a later one",
        ),
        (large.pipe(line), "properties_too_large", "trigger_properties", "51200 bytes", "51208 bytes"),
        (deep.pipe(line), "too_deep", "trigger_properties", "at most 64", "more than 64"),
        (deepest.pipe(line), "too_deep", "trigger_properties", "at most 64", "more than 64"),
        (vec![b'x'; (8 << 20) + 1], "line_too_long", "", "8388608 bytes", "a longer one"),
        (
            br#"{"campaign_id":"absent","email":"a"}"#.to_vec(),
            "unknown_campaign",
            "campaign_id",
            "loaded campaign",
            "another",
        ),
    ]
}

trait Pipe: Sized {
    fn pipe<T>(&self, with: impl FnOnce(&str) -> T) -> T
    where
        Self: AsRef<str>,
    {
        with(self.as_ref())
    }
}

impl Pipe for String {}

#[test]
fn every_bad_row_is_rejected_with_all_its_places_and_the_rest_runs() {
    let cases = cases();
    let sandbox = Sandbox::with_rows(&[]);
    let mut input = Vec::new();
    let mut places = Vec::new();
    for (i, (bad, ..)) in cases.iter().enumerate() {
        input.extend_from_slice(format!("{}\n", row(&format!("good-{i}"))).as_bytes());
        places.push((2 * i as u64 + 2, input.len() as u64));
        input.extend_from_slice(bad);
        input.push(b'\n');
    }
    sandbox.write("input.ndjson", &input);
    sandbox.run("").with_code(3);
    let run = sandbox.published();
    run.assert_balances();
    assert_eq!(run.recipients(), (0..cases.len()).map(|i| format!("good-{i}")).collect::<Vec<_>>());
    let rejected = run.rejected();
    assert_eq!(rejected.len(), cases.len());
    for ((found, (bad, reason, field, expected, what)), (number, offset)) in rejected.iter().zip(&cases).zip(places) {
        let text = found.to_string();
        let shown = &text[..text.len().min(600)];
        assert_eq!((&found["reason"], &found["field"]), (&json!(reason), &json!(field)), "{shown}");
        assert_eq!((&found["file"], &found["line"]), (&json!("input.ndjson"), &json!(number)), "{shown}");
        assert_eq!(found["offset"], offset, "{shown}");
        assert!(found["expected"].as_str().unwrap().contains(expected), "{expected}: {shown}");
        assert!(found["found"].as_str().unwrap().contains(what), "{what}: {shown}");
        assert_raw(found, bad);
    }
}

/// The first 64 KiB, as text or, where it is none, as base64.
fn assert_raw(found: &Value, bad: &[u8]) {
    let kept = &bad[..bad.len().min(64 << 10)];
    match std::str::from_utf8(kept) {
        Ok(text) => assert!(found["raw"] == text, "{} bytes", kept.len()),
        Err(_) => {
            let base64 = base64::engine::general_purpose::STANDARD.encode(kept);
            assert_eq!(found["raw_base64"], base64);
        }
    }
    // Of a line that is too long only the beginning was kept: whether there was more is in its reason.
    let cut = bad.len() > kept.len() && found["reason"] != "line_too_long";
    assert_eq!(found.get("raw_truncated").is_some(), cut, "{}", found["reason"]);
}

#[test]
fn a_trigger_without_a_time_is_rejected_on_the_event_clock_only() {
    let timeless = row("ada").replace(r#""triggered_at":"2026-11-22T08:00:00Z","#, "");
    let sandbox = Sandbox::with_rows(&[&timeless]);
    sandbox.run("--out a").with_code(0);
    let ended = sandbox.run("--clock event --json").with_code(3);
    assert_eq!(ended.json()["rejected"], json!({"missing_field": 1}));
    assert_eq!(sandbox.published().rejected()[0]["field"], "triggered_at");
    assert_eq!(sandbox.published().lines("remainder.ndjson").len(), 1);
    sandbox.run("--clock event --default-triggered-at as-of --out b").with_code(0);
}

#[test]
fn the_remainder_can_be_mended_and_fed_back() {
    let sandbox = Sandbox::with_rows(&[
        r#"{"campaign_id":"note","user_alias":{"alias_name":"n","alias_label":"l"},"triggered_at":1795334400,"trigger_id":7,"batch":"x"}"#,
        &row("ada").replace("2026-11-22", "2026-12-22"),
    ]);
    sandbox.run("--carry batch --state state --create-state").with_code(3);
    let remainder = sandbox.published().text("remainder.ndjson");
    assert_eq!(remainder.lines().count(), 2);
    let mended = remainder.replace("2026-12-22", "2026-11-22");
    let mended = mended.replace(r#""trigger_id":"7""#, r#""trigger_id":"7","trigger_properties":{"name":"N"}"#);
    sandbox.write("mended.ndjson", mended);
    let json = sandbox.run_on(&["mended.ndjson"], "--carry batch --state state --json").with_code(0).json();
    assert_eq!(json["sent"], 2);
    let path = json["path"].as_str().unwrap().to_owned();
    let messages = RunDir(path.into()).messages();
    assert_eq!((&messages[0]["recipient"], &messages[0]["batch"]), (&json!("l:n"), &json!("x")));
    assert_eq!(messages[0]["trigger_id"], "7");
}

/// Every byte of every file below these folders.
fn everything(sandbox: &Sandbox, folders: &[&str]) -> Vec<u8> {
    let all = folders.iter().flat_map(|folder| contents(&sandbox.path(folder)).into_values());
    all.flat_map(|bytes| [bytes, b"\n".to_vec()].concat()).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn secrets_are_in_no_file_that_is_written() {
    let body = r#"{"api_key":"SEKRET-a","campaign_id":"note","recipients":[{"email":"x@example.org"}]}"#;
    let wrapped = json!({ "body": body }).to_string();
    let twice = json!({ "log": wrapped }).to_string();
    let lines = [
        ROW,
        body,
        &wrapped,
        &twice,
        r#"{"api_key":"SEKRET-b","campaign_id":"note","recipients":[{"email":"#,
        r#"{"api_key":"SEKRET-c"#,
        r#"{"API_KEY" : "SEKRET-d","campaign_id":7}"#,
        r#"{"headers":{"Authorization":"Bearer SEKRET-e"},"campaign_id":"note"}"#,
        r#"{"headers":["authorization: Basic SEKRET-f"],"campaign_id":"note""#,
        r#"{"apiKey":"SEKRET-g","campaign_id":"note"}"#,
        r#"{"campaign_id":"note","external_user_id":"u","trigger_properties":{"api_key":"SEKRET-h"}}"#,
        r#"{"campaign_id":"note","external_user_id":"v","attributes":{"authorization":"Bearer SEKRET-i"}}"#,
        "POST /campaigns/trigger/send?api_key=SEKRET-j HTTP/1.1",
        "{'api_key': 'SEKRET-k', 'campaign_id': 'note'}",
        r#"{"api_key":"SEKRET-l","audience":{},"campaign_id":"note","recipients":[{"external_user_id":"u"}]}"#,
        r#"{"api_key":"SEKRET-m","broadcast":true,"campaign_id":"note"}"#,
        r#"{"api_key":"SEKRET-n\"","campaign_id":"absent","external_user_id":"u"}"#,
        r#"{"api-key":"SEKRET-o","campaign_id":"note"}"#,
        r#"{"x":{"api_key":["SEKRET-p"]},"campaign_id":"note"}"#,
        r#"{"api_key":"\u0053EKRET-q","campaign_id":"note"}"#,
        "{\"api_key\":\"SEKRET-r\",\"email\":\"\u{ff}\"",
    ];
    let sandbox = Sandbox::with_rows(&lines);
    let mut input = fs::read(sandbox.path("input.ndjson")).unwrap();
    input.extend_from_slice(b"{\"api_key\":\"SEKRET-s\",\"email\":\"\xff\"}\n");
    sandbox.write("input.ndjson", input);
    let ended = sandbox.run("-v --state state --create-state").with_code(3);
    let mut written = everything(&sandbox, &["out", "state"]);
    for rejected in sandbox.published().rejected() {
        if let Some(base64) = rejected["raw_base64"].as_str() {
            written.extend(base64::engine::general_purpose::STANDARD.decode(base64).unwrap());
        }
    }
    let lost: Vec<_> = ('a'..='s').filter(|c| holds(&written, &format!("SEKRET-{c}"))).collect();
    assert_eq!(lost, Vec::<char>::new());
    assert!(!holds(&written, "EKRET-q"));
    assert!(!ended.stdout.contains("SEKRET") && !ended.stderr.contains("SEKRET"));
}

#[test]
fn a_secret_at_the_cut_of_a_long_line_is_taken_out_too() {
    let secret = "SEKRET".repeat(2000);
    for before in [0, 65_520, 65_530, 65_536, 60_000] {
        let line = format!(r#"{{"x":"{}","api_key":"{secret}","campaign_id":"note"}}"#, "y".repeat(before));
        let sandbox = Sandbox::with_rows(&[&line]);
        sandbox.run("").with_code(3);
        assert!(!holds(&everything(&sandbox, &["out"]), "SEKRET"), "{before}");
    }
}

#[test]
fn no_recipient_and_no_property_is_printed() {
    let rows = [
        row("RECIPIENT").replace("Ada", "PROPERTY"),
        r#"{"campaign_id":"note","external_user_id":"RECIPIENT","email":"RECIPIENT"}"#.to_owned(),
        r#"{"campaign_id":"note","external_user_id":"RECIPIENT","trigger_properties":{"x":"PROPERTY"}}"#.to_owned(),
        r#"{"campaign_id":"note","external_user_id":"RECIPIENT","triggered_at":"PROPERTY"}"#.to_owned(),
        r#"{"campaign_id":"note","user_alias":"RECIPIENT"}"#.to_owned(),
        r#"{"campaign_id":"note","external_user_id":"RECIPIENT","trigger_properties":"PROPERTY"}"#.to_owned(),
        r#"{"campaign_id":"PROPERTY","external_user_id":"RECIPIENT"}"#.to_owned(),
        r#"RECIPIENT"#.to_owned(),
    ];
    let sandbox = Sandbox::with_rows(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    for (more, code) in [("-v --json", 3), ("-v", 3), ("--max-bad 0", 1), ("--dry-run -v", 3)] {
        let ended = sandbox.run(&format!("{more} --out {}", more.len())).with_code(code);
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!text.contains("RECIPIENT") && !text.contains("PROPERTY"), "{more}: {text}");
        }
    }
    for file in ["summary.json", "manifest.json"] {
        let text = fs::read_to_string(sandbox.path("2").join(run_name(&sandbox, "2")).join(file)).unwrap();
        assert!(!text.contains("RECIPIENT") && !text.contains("PROPERTY"), "{text}");
    }
}

fn run_name(sandbox: &Sandbox, out: &str) -> String {
    let names = fs::read_dir(sandbox.path(out)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).next().unwrap()
}

#[test]
fn hostile_names_stay_inside_the_output_folder() {
    let names = ["../../evil", "a/b", "..", ".", "/abs", "ไลน์", "e%2Fmail", "con:\\x", "a\nb", " ", "\u{202e}gnp"];
    for name in names {
        let sandbox = Sandbox::new();
        let campaign = json!({ "id": name, "reeligibility": "always", "messages": { name: { "body": "x" } } });
        sandbox.write("campaigns/one/campaign.json", campaign.to_string());
        sandbox.write("input.ndjson", json!({ "campaign_id": name, "external_user_id": "u" }).to_string());
        let words = ["--run-id".to_owned(), name.to_owned(), "--state".to_owned(), "state".to_owned()];
        let words = [&words[..], &["--create-state".to_owned()]].concat();
        sandbox.call(&crate::sandbox::run_words(&["input.ndjson"], &words)).with_code(0);
        let top: Vec<_> = names_in(&sandbox.path(""));
        assert_eq!(top, ["campaigns", "input.ndjson", "out", "state"], "{name:?}");
        let out = names_in(&sandbox.path("out"));
        assert_eq!(out.len(), 1, "{name:?}: {out:?}");
        let run = sandbox.path("out").join(&out[0]);
        for segment in [&out[0], &names_in(&run.join("deliveries"))[0], &names_in(&run.join("campaigns"))[0]] {
            let safe = |c: char| c.is_ascii_alphanumeric() || "-_%".contains(c);
            assert!(!segment.is_empty() && segment.chars().all(safe), "{name:?}: {segment}");
        }
        let run = RunDir(run);
        assert_eq!((&run.messages()[0]["channel"], run.messages().len()), (&json!(name), 1));
        assert_eq!(run.json("manifest.json")["run_id"], name);
        sandbox.call(&["verify", run.0.to_str().unwrap()]).with_code(0);
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

#[test]
fn names_that_no_file_system_takes_are_refused_before_anything_is_read() {
    let sandbox = Sandbox::with_rows(&[ROW]);
    let long = "é".repeat(60);
    sandbox.write("campaigns/note/campaign.json", NOTE.replace("\"note\"", &format!("\"{long}\"")));
    sandbox.run("").with_code(2).says("as the name of a folder this id has more than 255 bytes");
    sandbox.assert_nothing_left();
    sandbox.write("campaigns/note/campaign.json", NOTE.replace("\"sms\"", &format!("\"{long}\"")));
    sandbox.run("").with_code(2);
    sandbox.assert_nothing_left();
    sandbox.write("campaigns/note/campaign.json", NOTE);
    for id in ["", &long, &"x".repeat(300)] {
        let words = ["--run-id".to_owned(), id.to_owned()];
        sandbox.call(&crate::sandbox::run_words(&["input.ndjson"], &words)).with_code(2);
        sandbox.assert_nothing_left();
    }
}

#[test]
fn hidden_and_linked_input_is_handled_as_it_is_named() {
    let sandbox = Sandbox::with_rows(&[ROW]);
    symlink(sandbox.path("gone.ndjson"), sandbox.path("dangling.ndjson")).unwrap();
    sandbox.run_on(&["dangling.ndjson"], "").with_code(1).says("dangling.ndjson");
    fs::create_dir(sandbox.path("loop")).unwrap();
    symlink(sandbox.path("loop"), sandbox.path("loop/again")).unwrap();
    sandbox.run_on(&["loop"], "").with_code(1).says("loop");
    sandbox.assert_nothing_left();
}

#[test]
fn an_unreadable_file_is_named() {
    let sandbox = Sandbox::with_rows(&[ROW]);
    let path = sandbox.path("input.ndjson");
    fs::set_permissions(&path, fs::Permissions::from_mode(0)).unwrap();
    if fs::File::open(&path).is_ok() {
        eprintln!("skipped: this user reads everything");
        return;
    }
    sandbox.run("").with_code(1).says("input.ndjson: cannot be read");
    sandbox.assert_nothing_left();
}

/// Everything below this much is bounded memory, for inputs that unpack to 200 MB.
const MOST_BYTES: u64 = 300 << 20;

const UNPACKED: usize = 200_000_000;

#[track_caller]
fn assert_bounded(json: &Value) {
    let peak = json["peak_rss_bytes"].as_u64().unwrap();
    assert!(peak < MOST_BYTES, "{} MiB", peak >> 20);
}

fn repeated(pattern: &[u8], into: &mut dyn Write) {
    let chunk = pattern.repeat((1 << 20) / pattern.len());
    for _ in 0..UNPACKED / chunk.len() {
        into.write_all(&chunk).unwrap();
    }
}

fn gzip_bomb(pattern: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    repeated(pattern, &mut encoder);
    encoder.finish().unwrap()
}

fn zstd_bomb(pattern: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    repeated(pattern, &mut encoder);
    encoder.finish().unwrap()
}

#[test]
fn a_packed_endless_line_is_one_rejected_row() {
    for (name, bomb) in [("zeros.ndjson.gz", gzip_bomb(&[0])), ("zeros.ndjson.zst", zstd_bomb(&[0]))] {
        let sandbox = Sandbox::with_rows(&[ROW]);
        assert!(bomb.len() < UNPACKED / 100);
        sandbox.write(name, bomb);
        let json = sandbox.run_on(&["input.ndjson", name], "--json").with_code(3).json();
        assert_eq!(json["rejected"], json!({"line_too_long": 1}));
        assert_eq!((&json["sent"], &json["triggers"]), (&json!(1), &json!(2)));
        assert_bounded(&json);
        assert!(!sandbox.exists("out.staging"));
    }
}

#[test]
fn packed_blank_lines_are_nothing() {
    let blank = [&[b' '; 63][..], b"\n"].concat();
    for (name, bomb) in [("blank.ndjson.gz", gzip_bomb(&blank)), ("blank.ndjson.zst", zstd_bomb(&blank))] {
        let sandbox = Sandbox::with_rows(&[]);
        sandbox.write(name, bomb);
        let json = sandbox.run_on(&[name], "--json").with_code(0).json();
        assert_eq!(json["triggers"], 0);
        assert_bounded(&json);
    }
}

#[test]
fn a_request_of_very_many_recipients_shows_its_line_once() {
    let recipients = vec!["{}"; 20_000].join(",");
    let sandbox = Sandbox::with_rows(&[&format!(r#"{{"campaign_id":"note","recipients":[{recipients}]}}"#)]);
    let json = sandbox.run("--json").with_code(3).json();
    assert_eq!(json["rejected"], json!({"too_many_recipients": 20_000}));
    assert_bounded(&json);
    let rejected = sandbox.published().rejected();
    assert!(rejected[0]["raw"].is_string());
    assert!(rejected[1..].iter().all(|row| row.get("raw").is_none() && row["offset"] == 0 && row["line"] == 1));
}

#[test]
fn a_parquet_page_that_unpacks_to_gigabytes_is_read_in_bounded_memory() {
    let (rows, times) = (1_000, 30);
    let value = format!(r#"{{"name":"{}"}}"#, "x".repeat(40_000));
    let same = |text: &str| Arc::new(StringArray::from(vec![text; rows])) as ArrayRef;
    let columns = [
        ("campaign_id", same("note")),
        ("external_user_id", same("ada")),
        ("triggered_at", same("2026-11-22T08:00:00Z")),
        ("trigger_properties", same(&value)),
    ];
    let zstd = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
    for properties in [WriterProperties::default(), zstd.set_dictionary_enabled(false).build()] {
        let bytes = parquet_bytes_as(&columns, times, properties);
        assert!(bytes.len() < 2 << 20, "{}", bytes.len());
        let sandbox = Sandbox::with_rows(&[]);
        sandbox.write("campaigns/note/campaign.json", NOTE.replace("always", "never"));
        sandbox.write("bomb.parquet", bytes);
        let json = sandbox.run_on(&["bomb.parquet"], "--json").with_code(0).json();
        assert_eq!((&json["sent"], &json["triggers"]), (&json!(1), &json!(rows * times)));
        assert_bounded(&json);
    }
}

#[test]
fn a_failing_run_leaves_no_unpacked_copy() {
    let sandbox = Sandbox::with_rows(&[]);
    sandbox.write("broken.ndjson.zst", crate::sandbox::zstd(b"broken\n"));
    sandbox.run_on(&["broken.ndjson.zst"], "--max-bad 0").with_code(1);
    sandbox.assert_nothing_left();
    assert_eq!(files(&sandbox.path("out")), [sandbox.path("out/.retrigger/lock")]);
}
