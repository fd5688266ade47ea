//! What a run spends its time on: the decision of one key, and whole stateless runs from NDJSON.
//!
//! `cargo bench --profile release --bench run` (the profile of the tests, so that nothing is built twice). Fixed seeds; rows a second. One property varies per case: the window (who is accepted) and the
//! template (whether it can stop). `control` hashes recipients and must not move between two versions.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use retrigger::eligibility::{Candidate, Clock, History, KeyRule, Pick, Reeligibility, Scratch, decide_key};
use retrigger::runs::{RunSettings, run};
use retrigger::storage::RealDisk;
use retrigger::triggers::Recipient;

const ROWS: u64 = 50_000;
const START_MICROS: i64 = 1_790_000_000_000_000;

/// A linear congruential generator: the same rows on every machine.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide_key");
    for (name, window_seconds) in [("once", None), ("one_day", Some(86_400))] {
        let rule =
            window_seconds.map_or(Reeligibility::Never, |s: i64| Reeligibility::After { window_micros: s * 1_000_000 });
        let rule = KeyRule { rule, clock: Clock::Event, as_of: i64::MAX, pick: Pick::First };
        let candidates: Vec<Candidate> = (0..16)
            .map(|i| Candidate {
                at: START_MICROS + i * 20_000_000_000,
                trigger_hash: Some(i as u64),
                content_hash: 0,
                receivable: true,
            })
            .collect();
        let mut scratch = Scratch::default();
        group.throughput(Throughput::Elements(candidates.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                decide_key(&rule, false, History::default(), black_box(&candidates), &mut scratch, |index, verdict| {
                    black_box((index, verdict));
                });
            });
        });
    }
    group.finish();
}

fn control(c: &mut Criterion) {
    let recipient = Recipient::external("user-000123456");
    c.bench_function("control/key_hash", |b| b.iter(|| black_box(&recipient).key_hash()));
}

/// Campaigns and triggers of a whole run.
struct Job {
    folder: tempfile::TempDir,
}

impl Job {
    fn new(reeligibility: &str, body: &str) -> Job {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let campaign = folder.path().join("campaigns/viewed");
        std::fs::create_dir_all(&campaign).expect("a campaign folder");
        let definition = serde_json::json!({
            "id": "viewed", "reeligibility": reeligibility, "messages": {"email": {"subject": "Still thinking?", "body": body}},
        });
        std::fs::write(campaign.join("campaign.json"), definition.to_string()).expect("a campaign");
        std::fs::write(folder.path().join("triggers.ndjson"), triggers()).expect("triggers");
        Job { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self, out: &Path) -> RunSettings {
        RunSettings {
            clock: Clock::Event,
            ..RunSettings::new(
                self.path("campaigns"),
                vec![self.path("triggers.ndjson").display().to_string()],
                out.to_owned(),
                START_MICROS + 30 * 86_400_000_000,
            )
        }
    }
}

fn triggers() -> String {
    let mut seeded = Seeded(7);
    let mut text = String::new();
    for row in 0..ROWS {
        let (who, at) = (seeded.below(ROWS / 3), START_MICROS + seeded.below(7 * 86_400_000) as i64 * 1_000);
        let (item, cents) = (seeded.below(20_000), seeded.below(50_000) + 1);
        let _ = writeln!(
            text,
            r#"{{"campaign_id":"viewed","external_user_id":"user-{who:09}","triggered_at":{at},"trigger_id":"{row}","trigger_properties":{{"item":"Item & {item}","price":{}.{:02}}}}}"#,
            cents / 100,
            cents % 100
        );
    }
    text
}

fn whole_run(c: &mut Criterion) {
    let mut group = c.benchmark_group("run");
    group.sample_size(10).throughput(Throughput::Elements(ROWS));
    let prints = "<p>{{api_trigger_properties.item}} for {{api_trigger_properties.price}}</p>";
    let aborts = "{{#if (gt api_trigger_properties.price 400)}}{{abort_message \"dear\"}}{{/if}}<p>{{api_trigger_properties.item}}</p>";
    for (name, reeligibility, body) in
        [("once", "never", prints), ("one_day", "1d", prints), ("once_may_abort", "never", aborts)]
    {
        let job = Job::new(reeligibility, body);
        group.bench_function(name, |b| {
            b.iter_batched(
                || tempfile::tempdir().expect("a temporary folder"),
                |out| {
                    let settings = job.settings(&out.path().join("runs"));
                    run(Arc::new(RealDisk), &settings, &()).expect("the run commits");
                    out
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, decide, control, whole_run);
criterion_main!(benches);
