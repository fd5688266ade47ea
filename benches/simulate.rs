//! What a further rule costs a simulation: the same triggers decided by one rule, by two and by eight.
//!
//! `cargo bench --profile release --bench simulate`, on all threads. The first rule pays for reading keys and sorting them; a further one
//! costs (time of eight − time of one) / 7, to be compared with the time of one.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use retrigger::campaigns::{LoadOptions, load};
use retrigger::eligibility::{Clock, Reeligibility};
use retrigger::generate::{Form, ProfileDraft, WeightedCampaign, to_file};
use retrigger::input::{InputOptions, Inputs};
use retrigger::interrupt::Interrupt;
use retrigger::pipeline::{Execution, Memory, Rules, Schemas};
use retrigger::simulate::{Reading, Timing, WindowRule, simulate};

const TRIGGERS: u64 = 1_000_000;
const WINDOWS: [&str; 8] = ["1d", "always", "15m", "1h", "6h", "12h", "7d", "never"];

fn rules(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for number in 1..=8 {
        let campaign = folder.path().join(format!("campaigns/campaign-{number}"));
        std::fs::create_dir_all(&campaign).expect("a campaign folder");
        let definition = serde_json::json!({
            "id": format!("campaign-{number}"), "reeligibility": "1d",
            "messages": {"email": {"body": "For {{recipient}}"}},
        });
        std::fs::write(campaign.join("campaign.json"), definition.to_string()).expect("a campaign");
    }
    let campaigns = (1..=8).map(|n| WeightedCampaign { id: format!("campaign-{n}"), weight: f64::from(n) });
    let draft =
        ProfileDraft { triggers: Some(TRIGGERS), campaigns: Some(campaigns.collect()), ..ProfileDraft::default() };
    let file = folder.path().join("triggers.parquet");
    let profile = draft.finish().expect("a good profile");
    to_file(&profile, Form::Parquet, &file, false).expect("triggers");
    let inputs =
        Inputs::open(&[file.display().to_string()], InputOptions { split_rows: 32_768, ..InputOptions::default() });
    let inputs = inputs.expect("the input opens");
    let campaigns = load(&folder.path().join("campaigns"), &LoadOptions::default()).expect("campaigns");
    let numbers = campaigns.loaded.len();
    let rules = Rules::new(campaigns, Clock::Event, profile.period().1);
    let schemas = Schemas::new(&rules).expect("schemas");
    let (memory, interrupt) = (Memory::unlimited(), Interrupt::default());
    let reading = |windows: &[&str]| {
        let rule = |name: &&str| WindowRule {
            name: (*name).to_owned(),
            reeligibility: vec![Reeligibility::parse(name).expect("a window"); numbers],
        };
        let (rules, schemas, source, memory, interrupt) = (&rules, &schemas, &inputs, &memory, &interrupt);
        Reading {
            execution: Execution { rules, schemas, source, known: None, memory, progress: &(), interrupt },
            history_floors: vec![None; numbers],
            max_ages: vec![None; numbers],
            rules: windows.iter().map(rule).collect(),
        }
    };
    let mut group = c.benchmark_group("simulate");
    group.sample_size(20).throughput(Throughput::Elements(TRIGGERS));
    for number in [1, 2, 8] {
        group.bench_function(format!("rules_{number}"), |b| {
            b.iter(|| simulate(&[reading(&WINDOWS[..number])], &Timing::AtOnce).expect("a simulation"));
        });
    }
    group.finish();
}

criterion_group!(benches, rules);
criterion_main!(benches);
