//! How fast triggers are made: rows a second in each form, and what one recipient drawn from a skew costs in it.
//!
//! `cargo bench --profile release --bench generate`, on all threads. What is written is thrown away, so that no disk is measured.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use retrigger::generate::{Form, Profile, ProfileDraft, Share, WeightedCampaign, to_writer};

const ROWS: u64 = 1_000_000;

/// The default properties, eight campaigns, and a few odd rows of every kind.
fn profile(recipient_skew: f64) -> Profile {
    let campaigns = (1..=8).map(|n| WeightedCampaign { id: format!("campaign-{n}"), weight: f64::from(n) });
    let draft = ProfileDraft {
        triggers: Some(ROWS),
        recipient_skew: Some(recipient_skew),
        campaigns: Some(campaigns.collect()),
        duplicates: Share::new(0.01),
        retries: Share::new(0.01),
        late: Share::new(0.02),
        out_of_order: Share::new(0.05),
        bad_rows: Share::new(0.001),
        ..ProfileDraft::default()
    };
    draft.finish().expect("a good profile")
}

fn forms(c: &mut Criterion) {
    let mut group = c.benchmark_group("generate");
    group.sample_size(10).throughput(Throughput::Elements(ROWS));
    let cases = [
        ("parquet", Form::Parquet, 0.8),
        ("parquet_without_skew", Form::Parquet, 0.0),
        ("ndjson", Form::Ndjson, 0.8),
        ("requests", Form::Requests, 0.8),
    ];
    for (name, form, skew) in cases {
        let profile = profile(skew);
        group.bench_function(name, |b| {
            b.iter(|| to_writer(black_box(&profile), form, &mut std::io::sink()).expect("a sink takes everything"));
        });
    }
    group.finish();
}

criterion_group!(benches, forms);
criterion_main!(benches);
