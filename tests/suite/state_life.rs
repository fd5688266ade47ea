//! The life of a state between runs, through the binary: what it shows, what leaves it and what comes into it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use retrigger::eligibility::Clock;
use retrigger::runs::{CompactSettings, RunSettings, compact};
use retrigger::storage::{Disk, RealDisk};
use serde_json::Value;

use crate::harness::{DAY, Record, Row, Site, at, commit, ndjson, read_parquet, tree};
use crate::sandbox::{Ended, NOTE, Sandbox, contents};

/// Once ever, to everybody.
const ONCE: &str = r#"{"id":"once","reeligibility":"never","messages":{"sms":{"body":"Hello"}}}"#;

/// Once a week, in two variants and a control group.
const WEEKLY: &str = r#"{"id":"weekly","reeligibility":"7d","control_percent":20,"variants":[
 {"name":"a","percent":40,"messages":{"sms":{"body":"A"},"push":{"title":"A"}}},
 {"name":"b","percent":40,"messages":{"sms":{"body":"B"}}}]}"#;

/// A state that two runs have filled: 40 recipients of every kind, three campaigns, some with trigger ids.
fn filled() -> Sandbox {
    let sandbox = Sandbox::new();
    for (id, text) in [("note", NOTE), ("once", ONCE), ("weekly", WEEKLY)] {
        sandbox.write(&format!("campaigns/{id}/campaign.json"), text);
    }
    sandbox.write("one.ndjson", triggers(0..30));
    sandbox.write("two.ndjson", triggers(20..40));
    sandbox.call(&["state", "init", "state"]).with_code(0);
    sandbox.run_on(&["one.ndjson"], "--state state --as-of 2026-11-20T02:00:00Z").with_code(0);
    sandbox.run_on(&["two.ndjson"], "--state state --as-of 2026-11-21T02:00:00Z").with_code(0);
    sandbox
}

fn identifier(n: usize) -> String {
    match n % 4 {
        0 => format!(r#""external_user_id":"u:{n}""#),
        1 => format!(r#""braze_id":"b{n}""#),
        2 => format!(r#""email":"E{n}@example.org""#),
        _ => format!(r#""user_alias":{{"alias_label":"crm:x","alias_name":"n:{n}"}}"#),
    }
}

fn triggers(range: std::ops::Range<usize>) -> String {
    let campaigns = ["note", "once", "weekly"];
    let line = |n: usize, campaign: &str| {
        let id = if n % 3 == 0 { format!(r#","trigger_id":"t{n}""#) } else { String::new() };
        format!(
            r#"{{"campaign_id":"{campaign}",{},"triggered_at":"2026-11-19T08:00:00Z","trigger_properties":{{"name":"N"}}{id}}}"#,
            identifier(n)
        ) + "\n"
    };
    range.flat_map(|n| campaigns.map(|campaign| line(n, campaign))).collect()
}

fn call(sandbox: &Sandbox, words: &str) -> Ended {
    sandbox.call(&words.split_whitespace().collect::<Vec<_>>())
}

fn show(sandbox: &Sandbox, state: &str) -> Value {
    call(sandbox, &format!("state show --json {state}")).with_code(0).json()
}

#[test]
fn show_tells_generations_receipts_sizes_and_times() {
    let sandbox = filled();
    let shown = show(&sandbox, "state");
    assert_eq!((&shown["generation"], &shown["runs"]), (&2.into(), &2.into()));
    let made_by = shown["made_by"].as_array().unwrap();
    assert_eq!(made_by.iter().map(|m| m["generation"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(shown["campaigns"]["once"]["receipts"], 40);
    assert_eq!(shown["campaigns"]["once"]["largest_window"], "never");
    assert_eq!(shown["campaigns"]["weekly"]["largest_window"], 7 * 86_400);
    let files = shown["receipt_files"].as_array().unwrap();
    let sum = |field: &str| files.iter().map(|f| f[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(
        (sum("receipts"), sum("bytes")),
        (shown["receipts"].as_u64().unwrap(), shown["bytes"].as_u64().unwrap())
    );
    let text = call(&sandbox, "state show state").with_code(0).stdout;
    for part in
        ["generation 2", "floor     -", "oldest    2026-11-20T02:00:00Z", "once: 40 receipts", "receipts-2-0.parquet"]
    {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn verify_re_reads_everything_and_names_what_is_damaged() {
    let sandbox = filled();
    let ended = call(&sandbox, "state verify state").with_code(0);
    assert!(ended.stdout.contains("all there and unchanged"), "{}", ended.stdout);
    let file = show(&sandbox, "state")["receipt_files"][0]["name"].as_str().unwrap().to_owned();
    let path = sandbox.path(format!("state/{file}"));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    call(&sandbox, "state verify state").with_code(1).says(&file);
    call(&sandbox, "state export state --out log.parquet").with_code(1).says(&file);
    assert!(!sandbox.exists("log.parquet") && !sandbox.exists("log.parquet.next"));
}

#[test]
fn a_state_in_use_is_exit_75_for_every_command() {
    let sandbox = filled();
    let before = contents(&sandbox.path("state"));
    let file = fs::OpenOptions::new().write(true).open(sandbox.path("state/lock")).unwrap();
    file.try_lock().unwrap();
    let words = [
        "show state",
        "verify state",
        "export state --out log.parquet",
        "import state --input one.ndjson",
        "compact state",
        "fork state --to fork",
        "erase state --recipient email:a@x",
    ];
    for words in words {
        call(&sandbox, &format!("state {words}")).with_code(75).says("--wait-lock");
        assert_eq!(contents(&sandbox.path("state")), before, "{words}");
    }
    let waiting = std::thread::scope(|scope| {
        let shown = scope.spawn(|| call(&sandbox, "state show state --wait-lock 20s"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(file);
        shown.join().unwrap()
    });
    waiting.with_code(0);
}

#[test]
fn an_export_holds_every_receipt_with_the_columns_of_the_log() {
    let sandbox = filled();
    call(&sandbox, "state export state --out log.parquet").with_code(0);
    let exported = read_parquet(&sandbox.path("log.parquet"));
    let mut stored: Vec<Record> = Vec::new();
    for file in show(&sandbox, "state")["receipt_files"].as_array().unwrap() {
        stored.extend(read_parquet(&sandbox.path(format!("state/{}", file["name"].as_str().unwrap()))));
    }
    assert_eq!(stored.len(), show(&sandbox, "state")["receipts"].as_u64().unwrap() as usize);
    let sorted = |mut records: Vec<Record>| {
        records.sort();
        records
    };
    assert_eq!(sorted(exported.clone()), sorted(stored));

    call(&sandbox, "state export state --out log.ndjson --format ndjson").with_code(0);
    let text = fs::read_to_string(sandbox.path("log.ndjson")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), exported.len());
    for (line, record) in lines.iter().zip(&exported) {
        assert_eq!(line["recipient"].as_str(), record["recipient"].as_deref());
        assert_eq!(line["variant"].as_str(), record["variant"].as_deref());
        let ids: Vec<&str> = line["dispatch_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        assert_eq!(Some(ids.join(",")), record["dispatch_ids"]);
        let hash = line["trigger_hash"].as_str().map(|hex| u64::from_str_radix(hex, 16).unwrap().to_string());
        assert_eq!(hash, record["trigger_hash"]);
    }
    let keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "key_hash",
            "campaign_id",
            "recipient_kind",
            "recipient",
            "received_at",
            "outcome",
            "variant",
            "channels",
            "dispatch_ids",
            "trigger_hash",
            "run_id"
        ]
    );
}

#[test]
fn an_export_replaces_a_file_and_refuses_other_places() {
    let sandbox = filled();
    sandbox.write("log.parquet", "old");
    call(&sandbox, "state export state --out log.parquet").with_code(0);
    assert!(read_parquet(&sandbox.path("log.parquet")).len() > 40);
    call(&sandbox, "state export state --out state/log.parquet").with_code(1).says("the state's own folder");
    call(&sandbox, "state export state --out campaigns").with_code(1).says("is a folder");
    call(&sandbox, "state export state --out absent/log.parquet").with_code(1).says("does not exist");
    sandbox.write("empty.ndjson", "");
    call(&sandbox, "state init fresh").with_code(0);
    for format in ["parquet", "ndjson"] {
        call(&sandbox, &format!("state export fresh --out none.{format} --format {format}")).with_code(0);
    }
    assert_eq!(read_parquet(&sandbox.path("none.parquet")), Vec::<Record>::new());
    assert_eq!(fs::read(sandbox.path("none.ndjson")).unwrap(), b"");
}

/// The state `from` without what tells it from a copy: its receipts, in order, whatever run recorded them.
fn receipts(sandbox: &Sandbox, state: &str) -> Vec<Record> {
    call(sandbox, &format!("state export {state} --out all.parquet")).with_code(0);
    read_parquet(&sandbox.path("all.parquet"))
}

#[test]
fn an_export_imported_into_a_new_state_decides_alike() {
    for seed in 0..6 {
        let sandbox = filled();
        let format = ["parquet", "ndjson"][seed % 2];
        call(&sandbox, &format!("state export state --out log.{format} --format {format}")).with_code(0);
        call(&sandbox, "state init copy").with_code(0);
        let ended = call(&sandbox, &format!("state import copy --input log.{format}")).with_code(0);
        assert!(ended.stdout.contains("receipts imported"), "{}", ended.stdout);
        assert_eq!(receipts(&sandbox, "copy"), receipts(&sandbox, "state"), "the runs that recorded them too");
        call(&sandbox, "state verify copy").with_code(0);
        // A retry of some, news of others, a week later or a day.
        sandbox.write("next.ndjson", triggers(seed * 3..seed * 7 + 25));
        let day = 21 + seed * 9 / 5;
        let mut decisions = Vec::new();
        for state in ["state", "copy"] {
            let words = format!("--state {state} --out out-{state} --run-id next --as-of 2026-11-{day}T02:00:00Z");
            sandbox.run_on(&["next.ndjson"], &words).with_code(0);
            decisions.push(read_parquet(&sandbox.path(format!("out-{state}/next/decisions.parquet"))));
        }
        assert_eq!(decisions[0], decisions[1], "seed {seed}");
        let outcomes: BTreeSet<_> = decisions[0].iter().map(|d| d["outcome"].clone()).collect();
        assert!(outcomes.len() >= 3, "{outcomes:?}");
    }
}

#[test]
fn the_same_file_imported_twice_changes_nothing_the_second_time() {
    let sandbox = filled();
    call(&sandbox, "state export state --out log.parquet").with_code(0);
    call(&sandbox, "state init copy").with_code(0);
    call(&sandbox, "state import copy --input log.parquet").with_code(0);
    let before = contents(&sandbox.path("copy"));
    fs::rename(sandbox.path("log.parquet"), sandbox.path("renamed.parquet")).unwrap();
    let again = call(&sandbox, "state import copy --input renamed.parquet").with_code(0);
    assert!(again.stdout.contains("imported before, as generation 1: nothing to do"), "{}", again.stdout);
    assert_eq!(contents(&sandbox.path("copy")), before);
    sandbox.write("more.ndjson", r#"{"campaign_id":"once","email":"new@x.org","received_at":"2025-11-01"}"#);
    call(&sandbox, "state import copy --input more.ndjson").with_code(0);
    sandbox.write("third.ndjson", r#"{"campaign_id":"once","email":"third@x.org","received_at":"2025-11-01"}"#);
    let mixed = call(&sandbox, "state import copy --input more.ndjson third.ndjson").with_code(1);
    mixed.says("more.ndjson: was imported as generation 2").says("leave these files out");
    let shown = show(&sandbox, "copy");
    assert_eq!(shown["generation"], 2);
    assert_eq!(shown["made_by"][1]["kind"], "import");
}

#[test]
fn a_platforms_export_is_imported_under_its_own_names_and_decides_the_next_run() {
    let sandbox = filled();
    call(&sandbox, "state init platform").with_code(0);
    let hex = "0123456789ABCDEF0123456789abcdef";
    let rows = [
        r#"{"campaign_id":"once","customer":"u:100","sent_at":1748000000}"#.to_owned(),
        r#"{"campaign_id":"once","email":" E2@Example.ORG","sent_at":"2025-01-05T00:00:00Z"}"#.to_owned(),
        format!(
            r#"{{"campaign_id":"weekly","customer":8,"sent_at":"2025-05-30","variant":"b","dispatch_id":"{hex}","channel":"push"}}"#
        ),
        r#"{"campaign_id":"gone","customer":"u:8","sent_at":"2024-02-29"}"#.to_owned(),
        r#"{"campaign_id":"note","customer":"u:0","sent_at":"2025-05-01","trigger_id":"t0"}"#.to_owned(),
    ];
    sandbox.write("platform.ndjson.gz", crate::sandbox::gzip(rows.join("\n").as_bytes()));
    call(
        &sandbox,
        "state import platform --input platform.ndjson.gz --map external_user_id=customer --map received_at=sent_at",
    )
    .with_code(0);
    let shown = show(&sandbox, "platform");
    assert_eq!((&shown["receipts"], &shown["generation"]), (&5.into(), &1.into()));
    assert_eq!(shown["campaigns"]["gone"]["largest_window"], Value::Null);
    let stored = receipts(&sandbox, "platform");
    let weekly = stored.iter().find(|r| r["campaign_id"].as_deref() == Some("weekly")).unwrap();
    let cell = |name: &str| weekly[name].clone().unwrap();
    assert_eq!((cell("recipient"), cell("variant"), cell("channels")), ("8".into(), "b".into(), "push".into()));
    assert_eq!(cell("dispatch_ids"), hex.to_ascii_lowercase());
    let trigger = |campaign: &str, who: &str, more: &str| {
        format!(
            r#"{{"campaign_id":"{campaign}",{who},"triggered_at":"2025-06-01T00:00:00Z","trigger_properties":{{"name":"N"}}{more}}}"#
        )
    };
    let next = [
        trigger("once", r#""external_user_id":"u:100""#, ""),
        trigger("once", r#""email":"e2@example.org""#, ""),
        trigger("weekly", r#""external_user_id":"8""#, ""),
        trigger("note", r#""external_user_id":"u:0""#, r#","trigger_id":"t0""#),
        trigger("once", r#""external_user_id":"u:8""#, ""),
    ];
    sandbox.write("next.ndjson", next.join("\n"));
    sandbox.run_on(&["next.ndjson"], "--state platform --out out-p --as-of 2025-06-02T00:00:00Z").with_code(0);
    let decisions = fs::read_dir(sandbox.path("out-p")).unwrap().map(|e| e.unwrap().path().join("decisions.parquet"));
    let decisions = read_parquet(&decisions.into_iter().find(|p| p.exists()).unwrap());
    let fates: Vec<_> = decisions.iter().map(|d| d["reason"].as_deref().unwrap_or("sent")).collect();
    assert_eq!(fates, ["already_received", "already_received", "within_window", "duplicate_trigger", "sent"]);
}

#[test]
fn rows_that_cannot_be_read_are_named_and_nothing_is_imported_unless_allowed() {
    let sandbox = filled();
    let rows = [
        r#"{"campaign_id":"once","email":"a@x.org","received_at":"2025-11-01"}"#,
        r#"{"campaign_id":"once","email":"b@x.org"}"#,
        r#"{"campaign_id":"once","received_at":"2025-11-01"}"#,
        r#"not json"#,
        r#"{"campaign_id":"once","email":"c@x.org","received_at":"yesterday"}"#,
        r#"{"campaign_id":"once","email":"d@x.org","received_at":"2999-01-01"}"#,
        r#"{"campaign_id":"once","email":"e@x.org","received_at":"2025-11-01","dispatch_id":"x"}"#,
        r#"{"campaign_id":"once","email":"f@x.org","received_at":"2025-11-01","outcome":"bounced"}"#,
    ];
    sandbox.write("rows.ndjson", rows.join("\n"));
    let before = contents(&sandbox.path("state"));
    let ended = call(&sandbox, "state import state --input rows.ndjson").with_code(1);
    let ended = ended.says("7 of 8 rows cannot be imported; nothing was imported").says("--max-bad");
    for (line, why) in [
        (2, "missing_field"),
        (3, "no_recipient"),
        (4, "bad_json"),
        (5, "bad_timestamp: `received_at`"),
        (6, "in_future"),
        (7, "`dispatch_id`"),
        (8, "`outcome`"),
    ] {
        let named = ended.stderr.lines().any(|l| l.contains(&format!("rows.ndjson:{line}: ")) && l.contains(why));
        assert!(named, "line {line}: {why}\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("x.org"), "no recipient in a message: {}", ended.stderr);
    assert_eq!(contents(&sandbox.path("state")), before);
    call(&sandbox, "state import state --input rows.ndjson --max-bad 6").with_code(1);
    assert_eq!(contents(&sandbox.path("state")), before);
    let left_out = call(&sandbox, "state import state --input rows.ndjson --max-bad 90%").with_code(0);
    assert!(left_out.stdout.contains("1 receipts imported") && left_out.stdout.contains("rows.ndjson:4"));
    assert_eq!(show(&sandbox, "state")["generation"], 3);

    call(&sandbox, "state export state --out log.ndjson --format ndjson").with_code(0);
    let log = fs::read_to_string(sandbox.path("log.ndjson")).unwrap();
    sandbox.write("log.ndjson", log.replacen("\"recipient\":\"", "\"recipient\":\"x", 1));
    call(&sandbox, "state init copy").with_code(0);
    let forged = call(&sandbox, "state import copy --input log.ndjson").with_code(1);
    forged.says("log.ndjson:1: `key_hash` is not the hash of the recipient");
}

#[test]
fn an_import_keeps_a_run_that_is_committed_and_not_yet_published() {
    let sandbox = filled();
    let run = sandbox.runs().into_iter().find(|run| {
        let manifest: Value = serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
        manifest["generation"] == 2
    });
    let run = run.unwrap();
    let staged = sandbox.path("out.staging").join(run.file_name().unwrap());
    fs::create_dir(sandbox.path("out.staging")).unwrap();
    fs::rename(&run, &staged).unwrap();
    sandbox.write("more.ndjson", r#"{"campaign_id":"once","email":"new@x.org","received_at":"2025-11-01"}"#);
    call(&sandbox, "state import state --input more.ndjson").with_code(0);
    sandbox.write("next.ndjson", triggers(50..51));
    sandbox.run_on(&["next.ndjson"], "--state state").with_code(0);
    assert!(run.exists() && !staged.exists(), "the next run publishes it");
}

#[test]
fn compact_merges_files_and_drops_only_what_the_given_campaigns_let_expire() {
    let sandbox = filled();
    call(&sandbox, "state init old").with_code(0);
    let line = |campaign: &str, who: usize, at: &str| {
        format!(r#"{{"campaign_id":"{campaign}","external_user_id":"u{who}","received_at":"{at}"}}"#)
    };
    let mut rows: Vec<String> = (0..9).map(|who| line("weekly", who, "2025-01-01")).collect();
    rows.extend((0..5).map(|who| line("weekly", who, "2024-01-01")));
    rows.extend((0..3).map(|who| line("note", who, "2024-01-01")));
    rows.extend((0..2).map(|who| line("elsewhere", who, "2024-01-01")));
    sandbox.write("rows.ndjson", rows.join("\n"));
    sandbox.write("more.ndjson", line("once", 1, "2024-01-01"));
    call(&sandbox, "state import old --input rows.ndjson").with_code(0);
    call(&sandbox, "state import old --input more.ndjson").with_code(0);
    let merged = call(&sandbox, "state compact old").with_code(0).stdout;
    assert!(merged.contains("2 files became 1, 0 expired"), "{merged}");
    assert!(call(&sandbox, "state compact old").with_code(0).stdout.contains("nothing to do"));
    let early = call(&sandbox, "state compact old --campaigns campaigns --as-of 2024-03-01").with_code(0).stdout;
    assert!(early.contains("nothing to do"), "{early}");
    let dropped = call(&sandbox, "state compact old --campaigns campaigns --as-of 2025-06-01").with_code(0).stdout;
    assert!(dropped.contains("1 files became 1, 8 expired receipts are gone"), "{dropped}");
    let shown = show(&sandbox, "old");
    let kept = ["weekly", "note", "once", "elsewhere"].map(|id| shown["campaigns"][id]["receipts"].as_u64().unwrap());
    assert_eq!(kept, [9, 0, 1, 2], "the newest of variants, never, and what is not loaded");
    assert_eq!(shown["campaigns"]["weekly"]["kept_seconds"], 90 * 86_400);
    let text = call(&sandbox, "state show old").with_code(0).stdout;
    for part in [
        "weekly: 9 receipts, largest window 604800 s, kept 90 d, the newest for ever, known since 2024-01-01T",
        "once: 1 receipts, largest window never, kept for ever",
        "generation 4: compact compact-4",
    ] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    call(&sandbox, "state verify old").with_code(0);
    call(&sandbox, "state compact old --campaigns absent").with_code(2).says("absent");
    call(&sandbox, "state compact old --as-of soon").with_code(2).says("--as-of soon");
}

/// A small generator of numbers, the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// The `n`-th of all triggers that could be: always the same whenever it is sent again.
fn nth(n: u64) -> Row {
    let day = (n as i64 * 37) % 441;
    let campaign = ["once", "note", "weekly", "yearly"][(n % 4) as usize];
    let row =
        Row { at: Some(at("2025-01-01") + day * DAY), ..Row::new(&format!("u{}", n / 4 % 12), campaign, "2025-01-01") };
    let row = row.with("name", "N");
    if n % 3 == 0 { row.id(&format!("t{n}")) } else { row }
}

#[test]
fn what_was_dropped_never_changes_a_decision_but_to_history_expired() {
    const YEARLY: &str = r#"{"id":"yearly","reeligibility":"360d","messages":{"sms":{"body":"Y"}}}"#;
    let (mut dropped, mut expired, mut compared) = (0, 0, 0);
    for seed in 0..6 {
        let site = Site::new();
        for text in [NOTE, ONCE, WEEKLY, YEARLY] {
            site.campaign(&serde_json::from_str(text).unwrap());
        }
        let mut numbers = Numbers(seed);
        let clock = if seed % 2 == 0 { Clock::Run } else { Clock::Event };
        for step in 1..9 {
            let today = step * 55;
            let as_of = at("2025-01-01") + today * DAY;
            // Of all days that have been: old triggers come again, and late ones for the first time.
            let rows = (0..120).map(|_| nth(numbers.below(600))).filter(|row| row.at.unwrap() <= as_of);
            let input = site.write(&format!("in/{step}.ndjson"), ndjson(&rows.collect::<Vec<_>>()));
            let whole = RunSettings {
                state: site.state("whole"),
                clock,
                as_of,
                now: i64::MIN,
                run_id: Some(format!("run-{step}")),
                ..site.settings(&[input])
            };
            let sieved =
                RunSettings { state: site.state("sieved"), out: site.path(&format!("out-{step}")), ..whole.clone() };
            if site.path("whole").exists() {
                let _ = fs::remove_dir_all(site.path("sieved"));
                copy(&site.path("whole"), &site.path("sieved"));
                let settings = CompactSettings {
                    state: site.path("sieved"),
                    wait_lock: std::time::Duration::ZERO,
                    campaigns: Some(site.path("campaigns")),
                    horizon: as_of,
                };
                dropped += compact(&disk(), &settings).unwrap().removed;
            }
            let (sieved, whole) = (commit(&sieved), commit(&whole));
            // Where a trigger is not considered, another of its recipient may be the one that is sent.
            let key = |d: &Record| (d["recipient"].clone(), d["campaign_id"].clone());
            let is_expired = |d: &&Record| d["reason"].as_deref() == Some("history_expired");
            let touched: BTreeSet<_> = sieved.decisions.iter().filter(is_expired).map(key).collect();
            expired += sieved.decisions.iter().filter(is_expired).count();
            for (after, before) in sieved.decisions.iter().zip(&whole.decisions) {
                if !touched.contains(&key(after)) {
                    assert_eq!(after, before, "seed {seed}, step {step}");
                    compared += 1;
                } else if after["outcome"].as_deref() == Some("sent") {
                    assert_ne!(before["reason"].as_deref(), Some("already_received"), "{before:?}");
                }
            }
        }
    }
    assert!(
        dropped > 500 && expired > 50 && compared > 500,
        "{dropped} dropped, {expired} expired, {compared} compared"
    );
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in tree(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

#[test]
fn a_fork_knows_the_same_and_goes_its_own_way() {
    let sandbox = filled();
    let before = contents(&sandbox.path("state"));
    let said = call(&sandbox, "state fork state --to fork").with_code(0).stdout;
    assert!(said.contains("forked at generation 2") && said.contains("send from the other alone"), "{said}");
    assert_eq!(contents(&sandbox.path("state")), before, "the state is not touched");
    let (state, fork) = (show(&sandbox, "state"), show(&sandbox, "fork"));
    assert_ne!(state["state_id"], fork["state_id"]);
    assert_eq!((&fork["generation"], &fork["parent_digest"], &fork["files"]), (&0.into(), &Value::Null, &1.into()));
    assert_eq!(fork["campaigns"], state["campaigns"]);
    assert_eq!(receipts(&sandbox, "fork"), receipts(&sandbox, "state"));
    call(&sandbox, "state verify fork").with_code(0);

    sandbox.write("next.ndjson", triggers(35..45));
    let run = |state: &str, more: &str| {
        let words = format!("--state {state} --out out-{state} --run-id next --as-of 2026-11-22T02:00:00Z {more}");
        sandbox.run_on(&["next.ndjson"], &words)
    };
    run("fork", "").with_code(0);
    run("state", "").with_code(0);
    let decisions = |state: &str| read_parquet(&sandbox.path(format!("out-{state}/next/decisions.parquet")));
    assert_eq!(decisions("fork"), decisions("state"));
    assert_eq!((&show(&sandbox, "fork")["generation"], &show(&sandbox, "state")["generation"]), (&1.into(), &3.into()));
    call(&sandbox, "state verify fork").with_code(0);
    // What the original has consumed stays consumed.
    let again = sandbox.run_on(&["one.ndjson"], "--state fork --out out-fork --run-id again");
    again.with_code(1).says("was consumed by run");
    // Both in one output folder: two states, each with its own fence.
    sandbox.write("later.ndjson", triggers(60..61));
    for state in ["fork", "state"] {
        sandbox.run_on(&["later.ndjson"], &format!("--state {state} --run-id {state}-later")).with_code(0);
    }
    call(&sandbox, "state fork state --to fork").with_code(1).says("is a state already");
    call(&sandbox, "state fork state --to campaigns").with_code(1).says("is not empty");
    call(&sandbox, "state init none").with_code(0);
    call(&sandbox, "state fork none --to of-none").with_code(0);
    assert_eq!(show(&sandbox, "of-none")["receipts"], 0);
}

/// Every file below these folders that has one of the texts in it, packed or not.
fn mentions(sandbox: &Sandbox, folders: &[&str], texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders {
        for (path, bytes) in contents(&sandbox.path(folder)) {
            let text = match path.extension().and_then(|e| e.to_str()) {
                Some("parquet") => format!("{:?}", read_parquet(&path)),
                Some("zst") => String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap(),
                _ => String::from_utf8_lossy(&bytes).into_owned(),
            };
            if texts.iter().any(|name| text.contains(name)) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// Runs of every format with rows in every file, of whom `u:0`, `E2@example.org` and the alias of 3 are to be erased.
fn to_erase() -> Sandbox {
    let sandbox = filled();
    sandbox.write(
        "campaigns/fails/campaign.json",
        r#"{"id":"fails","reeligibility":"always","messages":{"sms":{"body":"{{api_trigger_properties.x}}"},"push":{"title":"T"}}}"#,
    );
    sandbox.write(
        "campaigns/never/campaign.json",
        r#"{"id":"never","reeligibility":"always","messages":{"sms":{"body":"{{api_trigger_properties.x}}"}}}"#,
    );
    let mut lines: Vec<String> = ["fails", "never"]
        .iter()
        .flat_map(|campaign| (0..6).map(move |n| format!(r#"{{"campaign_id":"{campaign}",{}}}"#, identifier(n))))
        .collect();
    lines.extend([
        r#"{"campaign_id":"once","external_user_id":"u:0","email":"e"}"#.to_owned(),
        "u:0 is no json".to_owned(),
    ]);
    lines.push(r#"{"campaign_id":"once","external_user_id":"u:00","email":"e"}"#.to_owned());
    for (index, format) in ["parquet --compression snappy", "ndjson --compression zstd", "ndjson"].iter().enumerate() {
        sandbox.write("odd.ndjson", format!("{}\n", lines.join("\n")));
        let words = format!("--state state --run-id odd-{index} --allow-consumed --as-of 2026-11-21T0{index}:00:00Z");
        sandbox.run_on(&["odd.ndjson"], &format!("{words} --format {format}")).with_code(3);
    }
    sandbox
}

const ERASE: &str = "--recipient external_user_id:u:0 --recipient email:e2@EXAMPLE.org --recipients who.ndjson";
const WHO: &str = r#"{"alias_label":"crm:x","alias_name":"n:3"}"#;
const ERASED: [&str; 5] = ["\"u:0\"", "u:0 is", "e2@example.org", "E2@example.org", "crm:x:n:3\""];

#[test]
fn erasing_leaves_no_trace_of_a_recipient_in_the_state_and_its_runs() {
    let sandbox = to_erase();
    sandbox.write("who.ndjson", WHO);
    let found = mentions(&sandbox, &["state", "out"], &ERASED);
    for file in [
        "state/receipts",
        "decisions.parquet",
        "dropped_messages.parquet",
        "rejected.ndjson",
        "remainder.ndjson",
        "batch-00000.parquet",
        "batch-00000.ndjson.zst",
    ] {
        assert!(found.iter().any(|path| path.contains(file)), "no `{file}` in {found:#?}");
    }
    let others = receipts(&sandbox, "state").len();
    let said = call(&sandbox, &format!("state erase state {ERASE} --out out")).with_code(0).stdout;
    assert!(said.contains("receipts of 3 recipients erased"), "{said}");
    assert!(!said.contains("u:0") && !said.contains("example.org"), "{said}");
    assert_eq!(mentions(&sandbox, &["state", "out"], &ERASED), Vec::<String>::new());
    assert!(mentions(&sandbox, &["state"], &["\"u:4\""]).len() == 1 && receipts(&sandbox, "state").len() > others / 2);
    call(&sandbox, "state verify state").with_code(0);
    let mut amended = 0;
    for run in sandbox.runs() {
        let name = run.file_name().unwrap().to_str().unwrap();
        let verified = call(&sandbox, &format!("verify out/{name}")).with_code(0).stdout;
        assert_eq!(verified.contains("rows were erased since"), run.join("amendment.json").exists(), "{verified}");
        amended += usize::from(run.join("amendment.json").exists());
    }
    assert_eq!((amended, sandbox.runs().len()), (4, 5), "one run had none of them");
    let rejected = fs::read_to_string(sandbox.path("out/odd-2/rejected.ndjson")).unwrap();
    assert_eq!(rejected.lines().count(), 1, "the row of `u:00` stays: {rejected}");

    let before = (contents(&sandbox.path("state")), contents(&sandbox.path("out")));
    let again = call(&sandbox, &format!("state erase state {ERASE} --out out")).with_code(0).stdout;
    assert!(again.starts_with("0 receipts") && again.contains("0 rows erased from 0 files"), "{again}");
    assert_eq!(
        (contents(&sandbox.path("state")), contents(&sandbox.path("out"))),
        before,
        "the same again does nothing"
    );

    // Erased from a campaign that is sent once ever: not contacted again. Another campaign begins anew.
    sandbox.write("next.ndjson", triggers(0..5));
    sandbox.run_on(&["next.ndjson"], "--state state --run-id next --as-of 2026-11-21T04:00:00Z").with_code(0);
    let decisions = read_parquet(&sandbox.path("out/next/decisions.parquet"));
    let fates = |campaign: &str| -> Vec<String> {
        let of = decisions.iter().filter(|d| d["campaign_id"].as_deref() == Some(campaign));
        of.map(|d| d["reason"].clone().or(d["outcome"].clone()).unwrap()).collect()
    };
    assert_eq!(fates("once")[..4], ["already_received"; 4].map(str::to_owned));
    assert_eq!(fates("note")[..4], ["sent"; 4].map(str::to_owned));
    let text = fs::read_to_string(sandbox.path("state/manifest.json")).unwrap();
    assert!(text.contains("\"tombstones\""));
    let key = retrigger::triggers::Recipient::external("u:0").key_hash();
    assert!(!text.contains(&format!("{:032x}", key.0)), "the hash of a recipient is no secret");
}

#[test]
fn a_second_erasure_amends_what_the_first_has_left() {
    let sandbox = to_erase();
    call(&sandbox, "state erase state --recipient external_user_id:u:0 --out out").with_code(0);
    call(&sandbox, "state erase state --recipient braze_id:b1 --out out").with_code(0);
    let all = call(&sandbox, "verify out/odd-0").with_code(0).stdout;
    let amendment: Value =
        serde_json::from_slice(&fs::read(sandbox.path("out/odd-0/amendment.json")).unwrap()).unwrap();
    let decisions =
        amendment["files"].as_array().unwrap().iter().find(|f| f["file"]["path"] == "decisions.parquet").unwrap();
    assert_eq!(decisions["erased_rows"], 4, "two recipients, two campaigns: {all}");
    let path = sandbox.path("out/odd-0/amendment.json");
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, says) in [
        ("\"erased_rows\": 4", "\"erased_rows\": 5", "not what it was amended from"),
        ("\"odd-0\"", "\"odd-1\"", "is of another run"),
        ("\"format\": 1", "\"format\": 9", "has format 9"),
    ] {
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        call(&sandbox, "verify out/odd-0").with_code(1).says(says);
    }
    fs::remove_file(&path).unwrap();
    call(&sandbox, "verify out/odd-0").with_code(1).says("decisions.parquet");
}

#[test]
fn an_interrupted_erasure_is_named_and_finished_by_the_same_command() {
    let sandbox = to_erase();
    let whole = fs::read(sandbox.path("out/odd-0/decisions.parquet")).unwrap();
    call(&sandbox, "state erase state --recipient external_user_id:u:0 --out out").with_code(0);
    let amended = fs::read(sandbox.path("out/odd-0/decisions.parquet")).unwrap();
    // As after a crash between the amendment and the rename.
    fs::write(sandbox.path("out/odd-0/decisions.parquet"), whole).unwrap();
    fs::write(sandbox.path("out/odd-0/decisions.parquet.amended"), &amended).unwrap();
    call(&sandbox, "verify out/odd-0").with_code(1).says("was interrupted").says("state erase");
    // As after a crash before the amendment.
    fs::write(sandbox.path("out/odd-1/rejected.ndjson.amended"), "half").unwrap();
    call(&sandbox, "state erase state --recipient external_user_id:u:0 --out out").with_code(0);
    assert_eq!(fs::read(sandbox.path("out/odd-0/decisions.parquet")).unwrap(), amended);
    for run in ["odd-0", "odd-1"] {
        call(&sandbox, &format!("verify out/{run}")).with_code(0);
    }
}

#[test]
fn erasing_says_whom_it_cannot_read_and_what_it_cannot_reach() {
    let sandbox = filled();
    for words in ["--recipient xyzzy", "--recipient phone:1", "--recipient user_alias:x", "--recipient email:", ""] {
        let ended = call(&sandbox, &format!("state erase state {words}")).with_code(2);
        assert!(!ended.stderr.contains("xyzzy"), "{}", ended.stderr);
    }
    call(&sandbox, "state erase state --recipients absent.csv").with_code(1).says("absent.csv");
    call(&sandbox, "state erase state --recipient email:a@x --out nowhere").with_code(1).says("does not exist");
    let said = call(&sandbox, "state erase state --recipient external_user_id:u:0").with_code(0).stdout;
    assert!(said.contains("give `--out` for them"), "{said}");
    let file = fs::OpenOptions::new().write(true).open(sandbox.path("out/.retrigger/lock")).unwrap();
    file.try_lock().unwrap();
    call(&sandbox, "state erase state --recipient external_user_id:u:4 --out out").with_code(75);
    drop(file);
    // A run that is committed and not yet published would bring the rows back.
    let manifest: Value = serde_json::from_slice(&fs::read(sandbox.path("state/manifest.json")).unwrap()).unwrap();
    let staged = manifest["publication"]["staged"].as_str().unwrap();
    let published = manifest["publication"]["published"].as_str().unwrap();
    fs::create_dir_all(sandbox.path("out.staging")).unwrap();
    fs::rename(published, staged).unwrap();
    call(&sandbox, "state erase state --recipient external_user_id:u:4").with_code(1).says("not yet published");
    call(&sandbox, "state erase state --recipient external_user_id:u:24 --out out").with_code(0);
    assert!(Path::new(published).exists());
    assert_eq!(mentions(&sandbox, &["state", "out"], &["\"u:24\""]), Vec::<String>::new());
}
