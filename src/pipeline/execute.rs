//! A whole run through the engine: keys, index, decisions, rendering, in that order.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::decide::decide_bucket;
use super::keys::{SplitKeys, read_keys};
use super::ledger::{Ledger, Tally};
use super::render::{Receipt, RenderTask, SplitOutput};
use super::rows::Schemas;
use super::rules::Rules;
use super::seams::{DeliverySink, LinesFile, ReceiptSink, ReceiptSource, StoredOutcome, TriggerSource};
use crate::eligibility::{EligibilityIndex, IndexKey, KeyFilter, StoredAssignment};
use crate::error::Result;
use crate::ids::BUCKETS;

/// Hears how far a run is; called from any thread.
pub trait Progress: Sync {
    /// A phase begins that will read this many bytes.
    fn phase(&self, name: &'static str, bytes: u64);
    /// More of it is done.
    fn advance(&self, rows: u64, bytes: u64);
}

/// What a run came to, apart from what its sink wrote.
pub struct Executed {
    /// The counts.
    pub ledger: Ledger,
    /// Receipts for the state, in source order, where they were not handed on as they came.
    pub receipts: Vec<Receipt>,
    /// Unknown fields that were ignored.
    pub unknown_fields: u64,
    /// Wall time by phase.
    pub phases: Vec<(&'static str, Duration)>,
}

/// Splits that are rendered and encoded at once, per thread: the bound on rows held outside the sink.
const IN_FLIGHT_PER_THREAD: usize = 2;

/// Decides and renders every trigger of `source` and hands the rows to `sink`. `known` is what the state knows; without a
/// state there is none, and no receipts are kept.
pub fn execute<S: DeliverySink>(
    rules: &Rules,
    schemas: &Schemas,
    source: &dyn TriggerSource,
    known: Option<&dyn ReceiptSource>,
    sink: &mut S,
    progress: &dyn Progress,
) -> Result<Executed> {
    let mut receipts = Vec::new();
    let kept = known.map(|_| &mut receipts as &mut dyn ReceiptSink);
    let mut executed = execute_into(rules, schemas, source, known, kept, sink, progress)?;
    executed.receipts = receipts;
    Ok(executed)
}

/// As [`execute`], with the receipts handed to `receipts` as they come, if anybody wants them.
pub fn execute_into<S: DeliverySink>(
    rules: &Rules,
    schemas: &Schemas,
    source: &dyn TriggerSource,
    known: Option<&dyn ReceiptSource>,
    receipts: Option<&mut dyn ReceiptSink>,
    sink: &mut S,
    progress: &dyn Progress,
) -> Result<Executed> {
    let mut clock = PhaseClock::default();
    let mut splits = clock.time("keys", || keys_phase(rules, source, known.is_some(), progress))?;
    let index = clock.time("index", || index_phase(rules, known, &splits))?;
    clock.time("decide", || decide_phase(rules, &index, &mut splits));
    drop(index);
    let mut executed =
        clock.time("render", || render_phase(rules, schemas, source, &splits, receipts, sink, progress))?;
    executed.phases = clock.0;
    Ok(executed)
}

#[derive(Default)]
struct PhaseClock(Vec<(&'static str, Duration)>);

impl PhaseClock {
    fn time<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.0.push((name, start.elapsed()));
        done
    }
}

fn total_bytes(source: &dyn TriggerSource) -> u64 {
    (0..source.splits()).map(|split| source.split_bytes(split)).sum()
}

fn keys_phase(
    rules: &Rules,
    source: &dyn TriggerSource,
    sticky: bool,
    progress: &dyn Progress,
) -> Result<Vec<SplitKeys>> {
    progress.phase("reading keys", total_bytes(source));
    let keys: Vec<Result<SplitKeys>> = (0..source.splits())
        .into_par_iter()
        .map(|split| {
            let keys = read_keys(rules, source, split, sticky)?;
            progress.advance(keys.verdicts.len() as u64, source.split_bytes(split));
            Ok(keys)
        })
        .collect();
    keys.into_iter().collect()
}

fn index_phase(rules: &Rules, receipts: Option<&dyn ReceiptSource>, splits: &[SplitKeys]) -> Result<EligibilityIndex> {
    let index = EligibilityIndex::default();
    let Some(receipts) = receipts.filter(|r| r.pieces() > 0) else { return Ok(index) };
    let mut buckets = [false; BUCKETS];
    let mut filter = KeyFilter::for_recipients(splits.iter().map(|s| s.records().len()).sum());
    for split in splits {
        split.mark_buckets(&mut buckets);
        split.records().iter().for_each(|record| filter.insert(record.hash));
    }
    let loaded: Vec<Result<()>> = (0..receipts.pieces())
        .into_par_iter()
        .map(|piece| {
            receipts.read(piece, &buckets, &mut |receipt| {
                let Some(number) = rules.numbers.get(receipt.campaign_id).copied() else { return };
                if filter.may_contain(receipt.key.within_bucket()) {
                    let assignment = assignment_of(rules, number, receipt.outcome, receipt.variant);
                    index.add(
                        IndexKey::new(receipt.key, number),
                        receipt.received_at,
                        assignment,
                        receipt.trigger_hash,
                    );
                }
            })
        })
        .collect();
    loaded.into_iter().collect::<Result<()>>()?;
    Ok(index)
}

fn assignment_of(rules: &Rules, number: u16, outcome: StoredOutcome, variant: Option<&str>) -> StoredAssignment {
    match outcome {
        StoredOutcome::Control => StoredAssignment::Control,
        StoredOutcome::Sent => {
            let known = rules.campaigns.loaded[usize::from(number)].variant_of_name(variant);
            known.map_or(StoredAssignment::Received, StoredAssignment::Variant)
        }
    }
}

/// Decides every bucket; what remains of the keys are the verdicts.
fn decide_phase(rules: &Rules, index: &EligibilityIndex, splits: &mut [SplitKeys]) {
    let decided = &*splits;
    (0..BUCKETS).into_par_iter().for_each(|bucket| decide_bucket(rules, index, decided, bucket));
    splits.iter_mut().for_each(SplitKeys::forget_records);
}

/// First line of every split in its file, from 1.
fn first_lines(source: &dyn TriggerSource, splits: &[SplitKeys]) -> Vec<u64> {
    let mut next = 1;
    let mut file = None;
    splits
        .iter()
        .enumerate()
        .map(|(split, keys)| {
            if file != Some(source.file_of(split)) {
                (file, next) = (Some(source.file_of(split)), 1);
            }
            let first = next;
            next += keys.lines.lines;
            first
        })
        .collect()
}

fn render_phase<'s, S: DeliverySink>(
    rules: &Rules,
    schemas: &Schemas,
    source: &dyn TriggerSource,
    splits: &[SplitKeys],
    receipts: Option<&'s mut (dyn ReceiptSink + '_)>,
    sink: &'s mut S,
    progress: &dyn Progress,
) -> Result<Executed> {
    progress.phase("rendering", total_bytes(source));
    let lines = first_lines(source, splits);
    let keep_receipts = receipts.is_some();
    let render = |split: usize| -> Result<SplitOutput> {
        let (verdicts, first_line) = (&splits[split].verdicts, lines[split]);
        let blocked = &verdicts.take_blocked();
        let output =
            RenderTask { rules, schemas, source, split, first_line, verdicts, blocked, keep_receipts }.run()?;
        progress.advance(verdicts.len() as u64, source.split_bytes(split));
        Ok(output)
    };
    let tally = Tally::new(rules.campaigns.loaded.len(), schemas.channels.len());
    let mut collector = Collector { sink, receipts, pieces: Vec::new(), waiting: Vec::new(), tally };
    let in_flight = rayon::current_num_threads() * IN_FLIGHT_PER_THREAD;
    for window in (0..splits.len()).collect::<Vec<_>>().chunks(in_flight.max(1)) {
        // What the window before produced is encoded and written while this one is rendered.
        let (outputs, written) = rayon::join(
            || window.par_iter().map(|split| render(*split)).collect::<Vec<Result<SplitOutput>>>(),
            || collector.write(),
        );
        written?;
        outputs.into_iter().try_for_each(|output| collector.collect(output?))?;
    }
    let tally = collector.finish()?;
    let ids: Vec<&str> = rules.campaigns.loaded.iter().map(|c| c.id.as_str()).collect();
    let channels: Vec<&str> = schemas.channels.iter().map(|(name, _)| name.as_str()).collect();
    let triggers = splits.iter().map(|s| s.verdicts.len() as u64).sum();
    let unknown_fields = splits.iter().map(|s| s.lines.unknown_fields).sum();
    Ok(Executed {
        ledger: tally.ledger(&ids, &channels, triggers),
        receipts: Vec::new(),
        unknown_fields,
        phases: Vec::new(),
    })
}

/// Takes what splits produce, in source order, to where it goes.
struct Collector<'s, 'r, S: DeliverySink> {
    sink: &'s mut S,
    receipts: Option<&'s mut (dyn ReceiptSink + 'r)>,
    /// Pieces that are full, and receipts, not yet handed on.
    pieces: Vec<S::Piece>,
    waiting: Vec<Receipt>,
    tally: Tally,
}

impl<S: DeliverySink> Collector<'_, '_, S> {
    fn collect(&mut self, output: SplitOutput) -> Result<()> {
        for (table, rows) in output.tables {
            self.pieces.extend(self.sink.cut(table, rows)?);
        }
        self.sink.append_lines(LinesFile::Rejected, &output.rejected)?;
        self.sink.append_lines(LinesFile::Remainder, &output.remainder)?;
        self.waiting.extend(output.receipts);
        self.tally.add(&output.tally);
        Ok(())
    }

    /// Hands on what waits.
    fn write(&mut self) -> Result<()> {
        let (pieces, waiting) = (std::mem::take(&mut self.pieces), std::mem::take(&mut self.waiting));
        let (sink, receipts) = (&mut *self.sink, &mut self.receipts);
        let (appended, taken) = rayon::join(
            || append(sink, pieces),
            || receipts.as_mut().map_or(Ok(()), |receipts| receipts.take(waiting)),
        );
        appended.and(taken)
    }

    fn finish(mut self) -> Result<Tally> {
        self.write()?;
        self.pieces = self.sink.cut_rest()?;
        self.write()?;
        Ok(self.tally)
    }
}

/// Encodes on all threads, appends in order.
fn append<S: DeliverySink>(sink: &mut S, pieces: Vec<S::Piece>) -> Result<()> {
    let encoder = &*sink;
    let encoded: Vec<Result<S::Encoded>> = pieces.into_par_iter().map(|piece| encoder.encode(piece)).collect();
    encoded.into_iter().try_for_each(|piece| sink.append(piece?))
}

/// A progress that nobody watches.
impl Progress for () {
    fn phase(&self, _: &'static str, _: u64) {}
    fn advance(&self, _: u64, _: u64) {}
}
