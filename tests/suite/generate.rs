//! `generate`: the shares asked for are there, the same seed makes the same bytes, and a run reads every form.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use arrow_array::cast::AsArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use retrigger::generate::{
    Arrival, Form, Profile, ProfileDraft, Property, Shape, Share, Value as Drawn, WeightedCampaign, to_writer,
};
use serde_json::Value;

use crate::harness::{SECOND, at, with_threads};
use crate::sandbox::{RunDir, Sandbox, files};

const ROWS: u64 = 200_000;

fn share(share: f64) -> Option<Share> {
    Share::new(share)
}

fn weighted(campaigns: &[(&str, f64)]) -> Option<Vec<WeightedCampaign>> {
    Some(campaigns.iter().map(|(id, weight)| WeightedCampaign { id: (*id).to_owned(), weight: *weight }).collect())
}

/// A profile with something of everything, over one hour.
fn everything() -> ProfileDraft {
    ProfileDraft {
        seed: Some(7),
        triggers: Some(ROWS),
        recipients: Some(30_000),
        recipient_skew: Some(1.1),
        campaigns: weighted(&[("a", 6.0), ("b", 3.0), ("c", 1.0)]),
        from: Some(at("2026-11-20T10:00:00Z")),
        until: Some(at("2026-11-20T11:00:00Z")),
        duplicates: share(0.03),
        retries: share(0.02),
        late: share(0.04),
        out_of_order: share(0.05),
        bad_rows: share(0.01),
        ..ProfileDraft::default()
    }
}

fn bytes(profile: &Profile, form: Form) -> Vec<u8> {
    let mut bytes = Vec::new();
    let generated = to_writer(profile, form, &mut bytes).unwrap().unwrap();
    assert_eq!((generated.triggers, generated.bytes), (profile.triggers(), bytes.len() as u64));
    bytes
}

fn lines(draft: ProfileDraft) -> Vec<String> {
    let text = String::from_utf8(bytes(&draft.finish().unwrap(), Form::Ndjson)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Fails unless a count out of `of` lies within five standard deviations of its share.
#[track_caller]
fn assert_share(what: &str, count: usize, of: usize, share: f64) {
    let (expected, deviation) = (of as f64 * share, (of as f64 * share * (1.0 - share)).sqrt());
    let distance = (count as f64 - expected).abs();
    assert!(distance <= 5.0 * deviation + 1.0, "{what}: {count} of {of}, expected {expected:.0} ± {deviation:.0}");
}

/// The row that a trigger was first in: the number in its id.
fn origin(row: &Value) -> usize {
    row["trigger_id"].as_str().unwrap().rsplit_once('-').unwrap().1.parse().unwrap()
}

fn is_good(row: &Value) -> bool {
    let who = ["external_user_id", "braze_id"].iter().filter(|key| row.get(**key).is_some()).count();
    let time = row["triggered_at"].as_str().unwrap();
    row.get("campaign_id").is_some() && who == 1 && row["trigger_properties"].is_object() && time != "yesterday"
}

/// Good rows that repeat no other, by their line number.
fn fresh(lines: &[String]) -> Vec<(usize, Value)> {
    let rows = lines.iter().map(|line| serde_json::from_str::<Value>(line)).enumerate();
    let good = rows.filter_map(|(index, row)| Some((index, row.ok().filter(is_good)?)));
    good.filter(|(index, row)| origin(row) == *index).collect()
}

#[test]
fn the_same_seed_makes_the_same_bytes_on_any_number_of_threads() {
    for per_request in [1, 7] {
        let draft = ProfileDraft { recipients_per_request: Some(per_request), ..everything() };
        let profile = draft.clone().finish().unwrap();
        for form in [Form::Parquet, Form::Ndjson, Form::Requests] {
            let [one, two, five] = [1, 2, 5].map(|threads| with_threads(threads, || bytes(&profile, form)));
            assert!(one == two && one == five, "{form:?}");
            let other = ProfileDraft { seed: Some(8), ..draft.clone() }.finish().unwrap();
            assert!(one != bytes(&other, form), "{form:?}");
        }
    }
}

#[test]
fn a_longer_file_begins_with_the_same_people_and_properties() {
    let who = |triggers| {
        let lines = lines(ProfileDraft { triggers: Some(triggers), ..everything() });
        let rows = lines.iter().take(15_000).map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
        rows.map(|row| (row["external_user_id"].clone(), row["trigger_properties"].clone())).collect::<Vec<_>>()
    };
    assert!(who(15_000) == who(60_000));
}

#[test]
fn copies_retries_and_bad_rows_have_their_shares() {
    let lines = lines(everything());
    assert_eq!(lines.len() as u64, ROWS);
    let (mut duplicates, mut retries, mut bad) = (0, 0, 0);
    for (index, line) in lines.iter().enumerate() {
        let Some(row) = serde_json::from_str::<Value>(line).ok().filter(is_good) else {
            bad += 1;
            continue;
        };
        let origin = origin(&row);
        if origin == index {
            continue;
        }
        assert!(origin < index, "{line}");
        if *line == lines[origin] {
            duplicates += 1;
            continue;
        }
        retries += 1;
        let mut first: Value = serde_json::from_str(&lines[origin]).unwrap();
        assert!(first["triggered_at"].as_str() < row["triggered_at"].as_str(), "{line}");
        first["triggered_at"] = row["triggered_at"].clone();
        assert_eq!(first, row, "only the time of a retry is its own");
    }
    assert_share("duplicates", duplicates, lines.len(), 0.03);
    assert_share("retries", retries, lines.len(), 0.02);
    assert_share("bad rows", bad, lines.len(), 0.01);
}

#[test]
fn late_and_overtaken_rows_have_their_shares() {
    let (mut newest, mut late, mut overtaken) = (i64::MIN, 0, 0);
    for (_, row) in fresh(&lines(everything())) {
        let at = at(row["triggered_at"].as_str().unwrap());
        let behind = newest.saturating_sub(at);
        late += usize::from(behind > 300 * SECOND);
        overtaken += usize::from((1..=300 * SECOND).contains(&behind));
        assert!(behind <= 2 * 86_400 * SECOND);
        newest = newest.max(at);
    }
    assert_share("late", late, ROWS as usize, 0.04);
    assert_share("out of order", overtaken, ROWS as usize, 0.05);
}

#[test]
fn campaigns_have_their_weights_and_recipients_their_skew() {
    let (mut campaigns, mut recipients) = (BTreeMap::new(), BTreeMap::new());
    let fresh = fresh(&lines(everything()));
    for (_, row) in &fresh {
        *campaigns.entry(row["campaign_id"].as_str().unwrap()).or_insert(0) += 1;
        let number: u64 = row["external_user_id"].as_str().unwrap()[2..].parse().unwrap();
        *recipients.entry(number).or_insert(0) += 1;
    }
    for (id, weight) in [("a", 0.6), ("b", 0.3), ("c", 0.1)] {
        assert_share(id, campaigns[id], fresh.len(), weight);
    }
    let weight = |number: u64| (number as f64).powf(-1.1);
    let sum: f64 = (1..=30_000).map(weight).sum();
    for number in 1..=30 {
        assert_share(&format!("recipient {number}"), recipients[&number], fresh.len(), weight(number) / sum);
    }
    let tail = (1_001..=30_000).map(weight).sum::<f64>() / sum;
    assert_share("recipients from 1,001 on", recipients.range(1_001..).map(|(_, n)| n).sum(), fresh.len(), tail);
    assert!(*recipients.last_key_value().unwrap().0 <= 30_000);
}

#[test]
fn without_skew_everybody_is_as_likely() {
    let draft = ProfileDraft { recipients: Some(50), recipient_skew: Some(0.0), ..everything() };
    let mut recipients = BTreeMap::new();
    let fresh = fresh(&lines(draft));
    fresh.iter().for_each(|(_, row)| *recipients.entry(row["external_user_id"].as_str().unwrap()).or_insert(0) += 1);
    assert_eq!(recipients.len(), 50);
    recipients.iter().for_each(|(id, count)| assert_share(id, *count, fresh.len(), 0.02));
}

#[test]
fn a_daily_rhythm_shows_in_the_hours() {
    let draft = ProfileDraft {
        arrival: Some(Arrival::daily()),
        from: Some(at("2026-11-01T00:00:00Z")),
        until: Some(at("2026-11-08T00:00:00Z")),
        ..everything()
    };
    let mut hours = BTreeMap::new();
    let lines = lines(ProfileDraft { late: None, out_of_order: None, ..draft });
    let fresh = fresh(&lines);
    fresh
        .iter()
        .for_each(|(_, row)| *hours.entry(row["triggered_at"].as_str().unwrap()[11..13].to_owned()).or_insert(0) += 1);
    // The weights of all hours come to 176.
    for (hour, weight) in [("01", 1.0), ("07", 6.0), ("12", 11.0), ("19", 14.0), ("23", 4.0)] {
        assert_share(hour, hours[hour], fresh.len(), weight / 176.0);
    }
}

fn shape(value: Drawn, missing: f64) -> Shape {
    Shape { value, missing: Share::new(missing).unwrap() }
}

/// One property of each kind, all of them missing at times.
fn properties() -> Vec<Property> {
    let named = |name: &str, shape: Shape| Property { name: name.to_owned(), shape };
    let line = vec![
        named("title \"x\"", shape(Drawn::Words { min: 1, max: 1 }, 0.0)),
        named("count", shape(Drawn::Number { min: -5, max: 5, decimals: 0 }, 0.25)),
    ];
    vec![
        named("words", shape(Drawn::Words { min: 0, max: 4 }, 0.1)),
        named("price", shape(Drawn::Number { min: -250, max: 1_000, decimals: 2 }, 0.3)),
        named("size", shape(Drawn::Choice(vec!["S".to_owned(), "größer".to_owned()]), 0.5)),
        named("gift", shape(Drawn::Boolean, 0.0)),
        named(
            "lines",
            shape(Drawn::Array { of: Box::new(shape(Drawn::Object(line.clone()), 0.2)), min: 1, max: 3 }, 0.1),
        ),
        named("parcel", shape(Drawn::Object(line), 0.4)),
    ]
}

#[test]
fn properties_have_their_shapes_and_missing_rates() {
    let fresh = fresh(&lines(ProfileDraft { properties: Some(properties()), ..everything() }));
    let missing = |name: &str| fresh.iter().filter(|(_, row)| row["trigger_properties"].get(name).is_none()).count();
    for (name, rate) in [("words", 0.1), ("price", 0.3), ("size", 0.5), ("gift", 0.0), ("lines", 0.1), ("parcel", 0.4)]
    {
        assert_share(name, missing(name), fresh.len(), rate);
    }
    let (mut elements, mut nulls, mut small, mut smallest, mut largest) = (0, 0, 0, f64::MAX, f64::MIN);
    for (_, row) in &fresh {
        let properties = &row["trigger_properties"];
        let words = properties["words"].as_str().unwrap_or_default();
        assert!(words.split(' ').count() <= 12 && !words.contains("  "), "{words}");
        if let Some(price) = properties["price"].as_f64() {
            (smallest, largest) = (price.min(smallest), price.max(largest));
            assert_eq!(price, (price * 100.0).round() / 100.0);
        }
        small += usize::from(properties["size"] == "S");
        assert!(properties["size"].is_null() || ["S", "größer"].contains(&properties["size"].as_str().unwrap()));
        for element in properties["lines"].as_array().into_iter().flatten() {
            elements += 1;
            nulls += usize::from(element.is_null());
            assert!(element.is_null() || element["title \"x\""].is_string());
        }
        let count = &properties["parcel"]["count"];
        assert!(count.is_null() || (-5..=5).contains(&count.as_i64().unwrap()));
    }
    assert_eq!((smallest, largest), (-2.5, 10.0));
    assert_share("S", small, fresh.len(), 0.25);
    assert_share("null elements", nulls, elements, 0.2);
}

/// What every trigger of every form prints.
const BODY: &str = "{{api_trigger_properties.words}}|{{api_trigger_properties.price}}|{{api_trigger_properties.size}}|\
    {{api_trigger_properties.gift}}|{{#each api_trigger_properties.lines}}[{{this.count}}]{{/each}}|{{api_trigger_properties.parcel.count}}";

fn site(profile: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    for id in ["a", "b"] {
        let definition = serde_json::json!({
            "id": id, "reeligibility": "always", "on_missing": "blank", "messages": {"sms": {"body": BODY}},
        });
        sandbox.write(&format!("campaigns/{id}/campaign.json"), definition.to_string());
    }
    sandbox.write("profile.json", profile);
    sandbox
}

fn generate(sandbox: &Sandbox, words: &str) {
    let words: Vec<&str> = ["generate", "--profile", "profile.json"].into_iter().chain(words.split(' ')).collect();
    sandbox.call(&words).with_code(0);
}

fn run(sandbox: &Sandbox, input: &str, code: i32) -> RunDir {
    let out = format!("out-{input}");
    sandbox.run_on(&[input], &format!("--clock event --out {out}")).with_code(code);
    let runs = fs::read_dir(sandbox.path(&out)).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.filter(|path| path.join("summary.json").exists()).map(RunDir).next().unwrap();
    run.assert_balances();
    run
}

const PROFILE: &str = r#"{"seed": 3, "triggers": 30000, "recipients": 2000, "campaigns": [{"id": "a"}, {"id": "b", "weight": 3}],
 "from": "2026-11-01T00:00:00Z", "until": "2026-11-20T00:00:00Z", "duplicates": 0.05, "retries": 0.05, "late": 0.05,
 "properties": {
  "words": {"kind": "words", "missing": 0.1}, "price": {"kind": "number", "min": 0, "max": 100, "decimals": 2},
  "size": {"kind": "choice", "values": ["S", "größer"]}, "gift": {"kind": "boolean", "missing": 0.5},
  "lines": {"kind": "array", "of": {"kind": "object", "fields": {"count": {"kind": "number", "max": 9}}}, "max": 2},
  "parcel": {"kind": "object", "missing": 0.3, "fields": {"count": {"kind": "number", "min": 1, "max": 5, "missing": 0.2}}}}}"#;

#[test]
fn every_form_tells_of_the_same_triggers() {
    let sandbox = site(PROFILE);
    let messages = |input: &str, words: &str| {
        generate(&sandbox, &format!("--out {input} {words}"));
        let run = run(&sandbox, input, 0);
        let summary = run.json("summary.json");
        assert_eq!(summary["triggers"], 30_000, "{input}");
        assert!(summary["suppressed"]["duplicate_trigger"].as_u64().unwrap() > 2_000, "{summary}");
        let told =
            |m: Value| ["campaign_id", "recipient", "triggered_at", "trigger_id", "body"].map(|key| m[key].clone());
        run.messages().into_iter().map(told).collect::<Vec<_>>()
    };
    let rows = messages("rows.ndjson", "--form ndjson");
    assert!(rows.len() > 25_000);
    assert!(rows == messages("rows.parquet", "--threads 2"));
    assert!(rows == messages("requests.ndjson", "--form requests"));
}

#[test]
fn a_run_accounts_for_every_row_of_every_form() {
    let sandbox = site(PROFILE);
    let bad = "--bad-rows 2% --campaigns campaigns --recipients-per-request 10";
    for (name, form) in [("rows.ndjson", "ndjson"), ("rows.parquet", "parquet"), ("requests.ndjson", "requests")] {
        generate(&sandbox, &format!("--out {name} --form {form} {bad}"));
        sandbox.call(&["check", "--campaigns", "campaigns", "--input", name]).with_code(0);
        let summary = run(&sandbox, name, 3).json("summary.json");
        assert_eq!(summary["triggers"], 30_000, "{name}");
        let rejected: u64 = summary["rejected"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_share(name, rejected as usize, 30_000, 0.02);
        let reasons = summary["rejected"].as_object().unwrap().len();
        assert_eq!(reasons, if form == "parquet" { 3 } else { 6 }, "{name}: {}", summary["rejected"]);
    }
    let text = fs::read_to_string(sandbox.path("requests.ndjson")).unwrap();
    let bodies = text.lines().count();
    assert!((9_000..13_000).contains(&bodies), "most rows share a body, and odd ones have their own: {bodies}");
    let most = text.lines().map(|line| line.matches("external_user_id").count()).max();
    assert_eq!(most, Some(10));
}

#[test]
fn parquet_has_typed_columns_and_even_row_groups() {
    let profile = ProfileDraft { properties: Some(properties()), bad_rows: None, ..everything() }.finish().unwrap();
    let file = into_file(&bytes(&profile, Form::Parquet));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [100_000, 100_000]);
    let columns: Vec<String> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(columns, ["campaign_id", "external_user_id", "triggered_at", "trigger_id", "trigger_properties"]);
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    let properties = batch.column_by_name("trigger_properties").unwrap().as_struct();
    let names = properties.column_names();
    assert_eq!(names, ["words", "price", "size", "gift", "lines", "parcel"]);
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let sandbox = site(PROFILE);
    let words = ["generate", "--campaign", "a=2", "--triggers", "10", "--out"];
    let call = |more: &[&str]| sandbox.call(&[&words[..], more].concat());
    let printed = call(&["t.parquet"]).with_code(0).stdout;
    assert!(
        printed.starts_with("10 triggers from 2026-01-01T00:00:00Z to 2026-01-31T00:00:00Z in t.parquet, "),
        "{printed}"
    );
    let first = fs::read(sandbox.path("t.parquet")).unwrap();
    call(&["t.parquet", "--seed", "2"]).with_code(2).says("`t.parquet` is there already").says("--force");
    assert_eq!(fs::read(sandbox.path("t.parquet")).unwrap(), first);
    assert_eq!(call(&["t.parquet", "--seed", "2", "--force", "-q"]).with_code(0).stdout, "");
    assert_ne!(fs::read(sandbox.path("t.parquet")).unwrap(), first);
    call(&["absent/t.parquet"]).with_code(1).says("cannot create a file in `absent`");
    call(&["campaigns"]).with_code(2).says("the name does not say what the file is");
    fs::create_dir(sandbox.path("folder.parquet")).unwrap();
    call(&["folder.parquet", "--force"]).with_code(2).says("no regular file");
    let left = files(&sandbox.path("."));
    assert!(!left.iter().any(|path| path.display().to_string().contains(".partial")), "{left:?}");
}

#[test]
fn rows_go_to_standard_output_and_nothing_else_does() {
    let sandbox = site(PROFILE);
    let text = sandbox.call(&["generate", "--campaign", "a", "--triggers", "500", "--out", "-"]).with_code(0);
    assert_eq!((text.stdout.lines().count(), text.stderr.as_str()), (500, ""));
    text.stdout.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
    let mut shell = sandbox.command("sh");
    let binary = env!("CARGO_BIN_EXE_retrigger");
    shell.args(["-c", &format!("{binary} generate --campaign a --triggers 1000000 --out - | head -1 | wc -l")]);
    let ended = sandbox.end(shell, b"").with_code(0);
    assert_eq!((ended.stdout.trim(), ended.stderr.as_str()), ("1", ""));
}

#[test]
fn wrong_words_are_refused_with_a_hint_and_no_file() {
    let sandbox = site(r#"{"triggers": 10, "duplicates": 1.5}"#);
    let cases = [
        ("--out t.parquet", "no campaign is named"),
        ("--out t.parquet --campaign a=b", "expected ID=WEIGHT"),
        ("--out t.parquet --campaign a --duplicates 120%", "expected a share of all rows such as `0.02` or `2%`"),
        ("--out t.parquet --campaign a --late 1 ", "come to 1 of all rows"),
        ("--out t.parquet --campaign a --from soon", "`--from soon`: expected"),
        ("--out t.parquet --campaign a --late-by long", "`long` is not a duration"),
        ("--out t.parquet --campaign a --form ndjson", "do not go together"),
        ("--out t.ndjson --campaign a --form parquet", "do not go together"),
        ("--out t.ndjson.zst --campaign a", "the name does not say what the file is"),
        ("--out t.parquet --campaigns absent", "absent"),
        (
            "--out t.parquet --campaign a --profile profile.json",
            "profile.json, line 1, column 32: `duplicates` must be",
        ),
        ("--out t.parquet --campaign a --profile absent.json", "cannot read the profile `absent.json`"),
    ];
    for (words, says) in cases {
        let words: Vec<&str> = ["generate"].into_iter().chain(words.split_whitespace()).collect();
        let ended = sandbox.call(&words).with_code(2).says(says);
        assert_eq!(ended.stdout, "", "{words:?}");
        assert!(!sandbox.exists("t.parquet") && !sandbox.exists("t.ndjson"), "{words:?}");
    }
}

/// Bytes as a file without a name.
fn into_file(bytes: &[u8]) -> fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}
