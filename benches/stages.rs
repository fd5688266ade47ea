//! One bench for each stage of a run: keys, decisions, rendering, encoding, the state's merge, the commit.
//!
//! `cargo bench --profile release --bench stages` (add `-- keys` for one stage). Fixed seeds; triggers, messages or receipts a second,
//! and for stages that read input or encode, bytes a second.
//! Within a group one property varies from case to case. `control` hashes a fixed mebibyte and must not move between two versions.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{StringBuilder, TimestampMillisecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use parquet::arrow::ArrowWriter;
use retrigger::campaigns::{LoadOptions, load};
use retrigger::delivery::{ChannelSpec, Compression, DeliveryOptions, Format, InMemory, RunFolder};
use retrigger::eligibility::Clock;
use retrigger::error::Result;
use retrigger::input::{InputOptions, Inputs};
use retrigger::pipeline::{
    DeliverySink, Execution, LinesFile, Memory, PhaseClock, Rules, Schemas, StoredOutcome, Table, TriggerSource,
};
use retrigger::runs::{RunSettings, run};
use retrigger::state::{CampaignRule, Receipt, Retention, RunRecord, State, Window};
use retrigger::storage::RealDisk;
use retrigger::triggers::{Recipient, RecipientKind};
use tempfile::TempDir;

const TRIGGERS: u64 = 100_000;
const START_MILLIS: i64 = 1_790_000_000_000;
const AS_OF: i64 = (START_MILLIS + 30 * 86_400_000) * 1_000;

/// A linear congruential generator: the same rows on every machine.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// One property of a job varies per case; the others are these.
#[derive(Clone, Copy)]
struct Shape {
    triggers: u64,
    recipients: u64,
    campaigns: u64,
    /// Bytes of a message's body.
    body: usize,
    reeligibility: &'static str,
}

const USUAL: Shape =
    Shape { triggers: TRIGGERS, recipients: TRIGGERS / 5, campaigns: 8, body: 500, reeligibility: "never" };

/// A trigger as it goes into either format.
struct Row {
    campaign: String,
    recipient: String,
    at_millis: i64,
    id: String,
    properties: String,
}

fn rows(shape: Shape) -> impl Iterator<Item = Row> {
    let mut seeded = Seeded(7);
    (0..shape.triggers).map(move |row| {
        let (item, cents) = (seeded.below(20_000), seeded.below(50_000) + 1);
        Row {
            campaign: format!("campaign-{}", seeded.below(shape.campaigns)),
            recipient: format!("user-{:09}", seeded.below(shape.recipients)),
            at_millis: START_MILLIS + seeded.below(7 * 86_400_000) as i64,
            id: format!("trigger-{row}"),
            properties: format!(r#"{{"item":"Item & {item}","price":{}.{:02}}}"#, cents / 100, cents % 100),
        }
    })
}

/// A folder with campaigns and triggers.
struct Job {
    folder: TempDir,
    rules: Rules,
    schemas: Schemas,
    inputs: Inputs,
}

impl Job {
    fn new(shape: Shape, write: fn(&Path, Shape)) -> Job {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let paragraph = "Our editors chose what is worth your weekend. ";
        let body = paragraph.repeat(shape.body / paragraph.len());
        for number in 0..shape.campaigns {
            let campaign = folder.path().join(format!("campaigns/campaign-{number}"));
            std::fs::create_dir_all(&campaign).expect("a campaign folder");
            let definition = serde_json::json!({
                "id": format!("campaign-{number}"), "reeligibility": shape.reeligibility,
                "messages": {"email": {"body": format!("<p>{body}{{{{api_trigger_properties.item}}}} for {{{{api_trigger_properties.price}}}}</p>")}},
            });
            std::fs::write(campaign.join("campaign.json"), definition.to_string()).expect("a campaign");
        }
        write(folder.path(), shape);
        let campaigns = load(&folder.path().join("campaigns"), &LoadOptions::default()).expect("campaigns");
        let rules = Rules::new(campaigns, Clock::Event, AS_OF);
        let schemas = Schemas::new(&rules).expect("schemas");
        let input = folder.path().join("triggers").display().to_string();
        let inputs = Inputs::open(&[input], InputOptions::default()).expect("the input opens");
        Job { folder, rules, schemas, inputs }
    }

    /// Triggers, and bytes of their file.
    fn throughput(&self, triggers: u64) -> Throughput {
        let bytes = (0..self.inputs.splits()).map(|split| self.inputs.split_bytes(split)).sum();
        Throughput::ElementsAndBytes { elements: triggers, bytes }
    }

    fn execution<'a>(&'a self, memory: &'a Memory<'a>) -> Execution<'a> {
        let (rules, schemas, source) = (&self.rules, &self.schemas, &self.inputs);
        Execution { rules, schemas, source, known: None, memory, progress: &() }
    }
}

fn ndjson(folder: &Path, shape: Shape) {
    let mut text = String::new();
    for row in rows(shape) {
        let Row { campaign, recipient, at_millis, id, properties } = row;
        let _ = writeln!(
            text,
            r#"{{"campaign_id":"{campaign}","external_user_id":"{recipient}","triggered_at":{at_millis},"trigger_id":"{id}","trigger_properties":{properties}}}"#
        );
    }
    std::fs::create_dir(folder.join("triggers")).expect("a folder");
    std::fs::write(folder.join("triggers/a.ndjson"), text).expect("triggers");
}

fn parquet(folder: &Path, shape: Shape) {
    let mut texts: [StringBuilder; 4] = std::array::from_fn(|_| StringBuilder::new());
    let mut instants = TimestampMillisecondBuilder::new().with_timezone("UTC");
    for row in rows(shape) {
        let values = [row.campaign, row.recipient, row.id, row.properties];
        texts.iter_mut().zip(values).for_each(|(column, value)| column.append_value(value));
        instants.append_value(row.at_millis);
    }
    let [campaigns, recipients, ids, properties] = texts.map(|mut column| Arc::new(column.finish()) as ArrayRef);
    let batch = RecordBatch::try_from_iter([
        ("campaign_id", campaigns),
        ("external_user_id", recipients),
        ("trigger_id", ids),
        ("triggered_at", Arc::new(instants.finish()) as ArrayRef),
        ("trigger_properties", properties),
    ]);
    let batch = batch.expect("columns of one length");
    std::fs::create_dir(folder.join("triggers")).expect("a folder");
    let file = std::fs::File::create(folder.join("triggers/a.parquet")).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

/// Takes rows and throws them away: what is left is rendering.
struct Nowhere;

impl DeliverySink for Nowhere {
    type Piece = ();
    type Encoded = ();

    fn cut(&mut self, _: Table, rows: RecordBatch) -> Result<Vec<()>> {
        black_box(rows);
        Ok(Vec::new())
    }

    fn cut_rest(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn encode(&self, (): ()) -> Result<()> {
        Ok(())
    }

    fn append(&mut self, (): ()) -> Result<()> {
        Ok(())
    }

    fn append_lines(&mut self, _: LinesFile, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

fn control(c: &mut Criterion) {
    let bytes = vec![7u8; 1 << 20];
    let mut group = c.benchmark_group("control");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("hash", |b| b.iter(|| retrigger::ids::Digest::of(black_box(&bytes))));
    group.finish();
}

/// Varies: the number of recipients among the triggers.
fn keys(c: &mut Criterion) {
    for (format, write) in [("ndjson", ndjson as fn(&Path, Shape)), ("parquet", parquet)] {
        let mut group = c.benchmark_group(format!("keys_{format}"));
        group.sample_size(10);
        for recipients in [TRIGGERS / 50, TRIGGERS] {
            let job = Job::new(Shape { recipients, ..USUAL }, write);
            group.throughput(job.throughput(TRIGGERS));
            let memory = Memory::unlimited();
            group.bench_function(format!("recipients_{recipients}"), |b| {
                b.iter(|| job.execution(&memory).read_keys().expect("keys"));
            });
        }
        group.finish();
    }
}

/// Varies: skew (recipients), then the number of campaigns, then the window.
fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("bucket_and_decide");
    group.sample_size(10).throughput(Throughput::Elements(TRIGGERS));
    let cases = [
        ("usual", USUAL),
        ("recipients_200", Shape { recipients: 200, ..USUAL }),
        ("campaigns_200", Shape { campaigns: 200, ..USUAL }),
        ("window_1h", Shape { reeligibility: "1h", ..USUAL }),
    ];
    for (name, shape) in cases {
        let job = Job::new(shape, parquet);
        let memory = Memory::unlimited();
        let execution = job.execution(&memory);
        group.bench_function(name, |b| {
            b.iter_batched(
                || execution.read_keys().expect("keys"),
                |splits| {
                    execution.decide(&splits, &mut PhaseClock::default()).expect("decisions");
                    splits
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Varies: the share that is accepted (by the number of recipients), then the length of the body.
fn render(c: &mut Criterion) {
    let mut group = c.benchmark_group("render");
    group.sample_size(10).throughput(Throughput::Elements(TRIGGERS));
    let cases = [
        ("accepted_all", Shape { reeligibility: "always", ..USUAL }),
        ("accepted_few", Shape { recipients: 1_000, ..USUAL }),
        ("body_5000", Shape { reeligibility: "always", body: 5_000, ..USUAL }),
    ];
    for (name, shape) in cases {
        let job = Job::new(shape, parquet);
        let memory = Memory::unlimited();
        let execution = job.execution(&memory);
        let splits = execution.read_keys().expect("keys");
        execution.decide(&splits, &mut PhaseClock::default()).expect("decisions");
        group.bench_function(name, |b| {
            b.iter(|| execution.render(&splits, None, &mut Nowhere).expect("rendered"));
        });
    }
    group.finish();
}

/// Varies: the form of the delivery batches.
fn encode(c: &mut Criterion) {
    let job = Job::new(Shape { reeligibility: "always", ..USUAL }, parquet);
    let memory = Memory::unlimited();
    let mut rendered = InMemory::default();
    job.execution(&memory).run(None, &mut rendered).expect("rendered");
    let bytes = rendered.messages.iter().map(|(_, rows)| rows.get_array_memory_size() as u64).sum();
    let mut group = c.benchmark_group("encode");
    group.sample_size(10).throughput(Throughput::ElementsAndBytes { elements: TRIGGERS, bytes });
    for (name, format, compression) in [
        ("parquet_zstd", Format::Parquet, Compression::Zstd),
        ("parquet_none", Format::Parquet, Compression::None),
        ("ndjson", Format::Ndjson, Compression::None),
    ] {
        let options = DeliveryOptions { format, compression, ..DeliveryOptions::default() };
        group.bench_function(name, |b| {
            b.iter_batched(
                || folder(&job, options, &rendered),
                |(folder, pieces, kept)| {
                    let encoded: Vec<_> = pieces.into_iter().map(|p| folder.encode(p).expect("encoded")).collect();
                    (encoded, kept)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A run folder, and the pieces of what was rendered.
fn folder(
    job: &Job,
    options: DeliveryOptions,
    rendered: &InMemory,
) -> (RunFolder, Vec<<RunFolder as DeliverySink>::Piece>, TempDir) {
    let kept = tempfile::tempdir().expect("a temporary folder");
    let channels = job.schemas.channels.iter();
    let channels = channels.map(|(name, schema)| ChannelSpec { name: name.clone(), schema: schema.clone() }).collect();
    let (decisions, dropped) = (job.schemas.decisions.clone(), job.schemas.dropped.clone());
    let place = kept.path().join("run");
    let mut folder =
        RunFolder::create(Arc::new(RealDisk), place, options, channels, decisions, dropped).expect("created");
    let mut pieces = Vec::new();
    for (channel, rows) in &rendered.messages {
        pieces.extend(folder.cut(Table::Messages(*channel), rows.clone()).expect("cut"));
    }
    pieces.extend(folder.cut_rest().expect("cut"));
    (folder, pieces, kept)
}

/// Commits receipts of `recipients` people as one run.
fn add_run(state: &mut State, run_id: &str, recipients: std::ops::Range<u64>) {
    let mut delta = state.delta(run_id);
    for recipient in recipients {
        let name = format!("user-{recipient:09}");
        delta
            .push(&Receipt {
                key: Recipient::external(&name).key_hash(),
                campaign_id: "campaign-0",
                kind: RecipientKind::ExternalUserId,
                recipient: &name,
                received_at: START_MILLIS * 1_000,
                outcome: StoredOutcome::Sent,
                variant: None,
                channels: &[],
                trigger_hash: Some(recipient),
            })
            .expect("a receipt");
    }
    let record = RunRecord {
        run_id: run_id.to_owned(),
        config_digest: String::new(),
        exit_code: 0,
        generation: 0,
        out: String::new(),
        inputs: Vec::new(),
    };
    let rule = CampaignRule { window: Window::Never, assigns: false };
    let retention = Retention { campaigns: [("campaign-0".to_owned(), rule)].into(), horizon: None };
    let staged = state.stage(delta, record, &retention).expect("staged");
    state.commit(staged, None).expect("committed");
}

/// Varies: what is in the state before. With as many receipts as the run adds, they are merged; with many more, they are not.
fn state_merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("state_merge");
    group.sample_size(10).throughput(Throughput::Elements(TRIGGERS));
    for (name, before) in [("into_nothing", 0), ("merged_with_100k", TRIGGERS), ("beside_1m", 10 * TRIGGERS)] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let folder = tempfile::tempdir().expect("a temporary folder");
                    let mut state = State::init(Arc::new(RealDisk), &folder.path().join("state"), 7).expect("a state");
                    if before > 0 {
                        add_run(&mut state, "before", 0..before);
                    }
                    (state, folder)
                },
                |(mut state, folder)| {
                    add_run(&mut state, "run", 500_000..500_000 + TRIGGERS);
                    (state, folder)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A run of a hundred triggers is its commit; of a hundred thousand, the rest. Varies: that, and the input's form.
fn whole(c: &mut Criterion) {
    for (group, triggers) in [("commit", 100), ("end_to_end", TRIGGERS)] {
        let mut group = c.benchmark_group(group);
        group.sample_size(10);
        for (format, write) in [("ndjson", ndjson as fn(&Path, Shape)), ("parquet", parquet)] {
            let job = Job::new(Shape { triggers, ..USUAL }, write);
            group.throughput(job.throughput(triggers));
            group.bench_function(format, |b| {
                b.iter_batched(
                    || tempfile::tempdir().expect("a temporary folder"),
                    |out| {
                        let input = job.folder.path().join("triggers").display().to_string();
                        let campaigns = job.folder.path().join("campaigns");
                        let settings = RunSettings::new(campaigns, vec![input], out.path().join("runs"), AS_OF);
                        run(Arc::new(RealDisk), &settings, &()).expect("the run commits");
                        out
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, control, keys, decide, render, encode, state_merge, whole);
criterion_main!(benches);
