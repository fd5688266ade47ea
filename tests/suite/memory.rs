//! A memory ceiling changes how long a run takes, and no byte of what it writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use retrigger::eligibility::Clock;
use retrigger::runs::{RunOutcome, RunSettings, run};
use retrigger::storage::RealDisk;
use serde_json::{Value, json};

use crate::harness::{PropertiesAs, Row, Site, commit, ndjson, parquet, requests, sum, tree, with_threads};

/// So little that every record and note is spilled, every bucket has an index of its own and every row is a task of its own.
const NOTHING: u64 = 0;
/// Some are held, some are spilled.
const LITTLE: u64 = 64 << 10;
/// No ceiling.
const ANY: u64 = u64::MAX;

/// A campaign with variants and a window, one without a window, and one that fails where a value is missing.
fn site() -> Site {
    let site = Site::new();
    let messages = |text: &str| json!({"email": {"subject": text, "body": "{{api_trigger_properties.item}}"}, "sms": {"text": text}});
    site.campaign(&json!({"id": "viewed", "reeligibility": "1h", "control_percent": 10, "variants": [
        {"name": "a", "percent": 45, "messages": messages("A")}, {"name": "b", "percent": 45, "messages": messages("B")},
    ]}));
    site.campaign(&json!({"id": "shipped", "reeligibility": "always", "messages": messages("Shipped")}));
    site
}

/// Triggers of one night: many of each recipient, some equal in all but their place, some without a value.
fn night(day: u32, count: usize) -> Vec<Row> {
    let row = |index: usize| {
        let campaign = if index.is_multiple_of(3) { "shipped" } else { "viewed" };
        let time = format!("2026-11-{day}T{:02}:{:02}:00Z", index / 7 % 24, index % 4 * 15);
        let row = Row::new(&format!("p-{}", index % 41), campaign, &time);
        if index.is_multiple_of(11) { row } else { row.with("item", format!("item {}", index % 5)) }
    };
    (0..count).map(row).collect()
}

/// Rows with rejected ones among them: a line that is no JSON, and recipients of one request that are rejected.
fn with_rejects(rows: &[Row]) -> String {
    let many: Vec<Value> =
        (0..5).map(|n| json!({"external_user_id": if n == 2 { json!("ok") } else { json!({}) }})).collect();
    let request = json!({"campaign_id": "viewed", "recipients": many, "triggered_at": "2026-11-20T01:00:00Z"});
    let mut lines: Vec<String> = requests(rows).lines().map(str::to_owned).collect();
    lines.insert(3, "{".to_owned());
    lines.insert(7, request.to_string());
    lines.join("\n")
}

fn bytes_of_two_nights(
    site: &Site,
    inputs: [&str; 2],
    clock: Clock,
    name: &str,
    memory: u64,
) -> Vec<BTreeMap<String, Vec<u8>>> {
    let bytes = |input: &str, night: usize| {
        let mut settings = site.settings(&[input.to_owned()]);
        settings.out = site.path(&format!("out-{name}-{night}"));
        settings.state = site.state(&format!("state-{name}"));
        (settings.clock, settings.memory) = (clock, memory);
        (settings.input.split_bytes, settings.input.split_rows, settings.delivery.batch_size) = (2_000, 60, 70);
        let finished = run(Arc::new(RealDisk), &settings, &()).unwrap_or_else(|error| panic!("{error}"));
        let RunOutcome::Ran(summary) = finished.outcome else { panic!("{name} ran before") };
        assert_eq!(summary.spilled_bytes > 0, memory < ANY, "{name}: {} bytes spilled", summary.spilled_bytes);
        assert!(summary.ledger.total.sent > 100);
        let mut files = tree(&finished.published.unwrap());
        files.retain(|file, _| file != "summary.json" && file != "manifest.json");
        files
    };
    vec![bytes(inputs[0], 1), bytes(inputs[1], 2)]
}

#[test]
fn any_ceiling_gives_the_same_bytes() {
    let site = site();
    let (first, second) = (night(20, 400), night(21, 400));
    let inputs = [
        [site.write("in/a.ndjson", with_rejects(&first)), site.write("in/b.ndjson", with_rejects(&second))],
        [
            site.write("in/a.parquet", parquet(&first, &PropertiesAs::Json, 150)),
            site.write("in/b.parquet", parquet(&second, &PropertiesAs::Json, 150)),
        ],
    ];
    for (number, nights) in inputs.iter().enumerate() {
        for clock in [Clock::Run, Clock::Event] {
            let run = |memory: u64, threads: usize| {
                let name = format!("{number}-{clock:?}-{memory}-{threads}");
                let nights = [nights[0].as_str(), nights[1].as_str()];
                with_threads(threads, || bytes_of_two_nights(&site, nights, clock, &name, memory))
            };
            let expected = run(ANY, 2);
            for (memory, threads) in [(NOTHING, 1), (NOTHING, 4), (LITTLE, 3)] {
                let found = run(memory, threads);
                for (file, bytes) in expected.iter().flatten() {
                    assert!(
                        found.iter().any(|night| night.get(file) == Some(bytes)),
                        "{file} of {nights:?}, {memory} bytes"
                    );
                }
            }
        }
    }
}

#[test]
fn messages_too_large_to_be_held_at_once_are_written_like_others() {
    let site = Site::new();
    let body = format!("{}{{{{api_trigger_properties.item}}}}", "long text ".repeat(10_000));
    site.campaign(&json!({"id": "news", "reeligibility": "never", "messages": {"email": {"body": body}}}));
    let rows: Vec<Row> =
        (0..900).map(|n| Row::new(&format!("p-{n}"), "news", "2026-11-20").with("item", n.to_string())).collect();
    let input = site.write("in.ndjson", ndjson(&rows));
    let run = |name: &str, split_bytes: u64| {
        let mut settings = RunSettings { out: site.path(name), ..site.settings(std::slice::from_ref(&input)) };
        settings.input.split_bytes = split_bytes;
        commit(&settings)
    };
    let (whole, cut) = (run("whole", 1 << 30), run("cut", 1 << 12));
    assert_eq!(sum(&whole.summary["sent"]), 900);
    assert!(whole.bytes() == cut.bytes());
}
