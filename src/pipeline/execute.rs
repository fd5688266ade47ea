//! A whole run through the engine: keys, index, decisions, rendering, in that order.

use std::ops::Range;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::decide::decide_bucket;
use super::keys::{SplitKeys, read_keys};
use super::ledger::Ledger;
use super::memory::Memory;
use super::render::Receipt;
use super::rows::Schemas;
use super::rules::Rules;
use super::seams::{DeliverySink, ReceiptSink, ReceiptSource, StoredOutcome, TriggerSource};
use super::verdicts::NotesToSpill;
use super::windows::render_all;
use crate::eligibility::{EligibilityIndex, IndexKey, KeyFilter, StoredAssignment};
use crate::error::Result;
use crate::ids::BUCKETS;
use crate::interrupt::Interrupt;
use crate::triggers::Reason;

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

/// Decides and renders every trigger of `source` and hands the rows to `sink`. `known` is what the state knows; without a
/// state there is none, and no receipts are kept. Memory has no ceiling: see [`Execution`].
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
    let memory = Memory::unlimited();
    let (memory, interrupt) = (&memory, &Interrupt::default());
    let mut executed = Execution { rules, schemas, source, known, memory, progress, interrupt }.run(kept, sink)?;
    executed.receipts = receipts;
    Ok(executed)
}

/// What a run works with: [`Execution::run`], or its passes one by one.
pub struct Execution<'a> {
    /// The rules.
    pub rules: &'a Rules,
    /// What the rows look like.
    pub schemas: &'a Schemas,
    /// The triggers.
    pub source: &'a dyn TriggerSource,
    /// What the state knows, if there is one.
    pub known: Option<&'a dyn ReceiptSource>,
    /// How much may be held.
    pub memory: &'a Memory<'a>,
    /// Who hears of it.
    pub progress: &'a dyn Progress,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
}

impl Execution<'_> {
    /// Decides and renders. Rows go to `sink`, receipts to `receipts` as they come, if anybody wants them.
    pub fn run<S: DeliverySink>(&self, receipts: Option<&mut dyn ReceiptSink>, sink: &mut S) -> Result<Executed> {
        let mut clock = PhaseClock::default();
        let mut splits = clock.time("keys", || self.read_keys())?;
        self.decide(&splits, &mut clock)?;
        splits.iter_mut().for_each(SplitKeys::forget_records);
        let ledger = clock.time("render", || self.render(&splits, receipts, sink))?;
        Ok(Executed {
            ledger,
            receipts: Vec::new(),
            unknown_fields: splits.iter().map(|s| s.lines.unknown_fields).sum(),
            phases: clock.0,
        })
    }

    /// Bytes of the input.
    pub(super) fn total_bytes(&self) -> u64 {
        (0..self.source.splits()).map(|split| self.source.split_bytes(split)).sum()
    }

    /// The first pass: the keys of every split.
    pub fn read_keys(&self) -> Result<Vec<SplitKeys>> {
        self.read_keys_noting(|_, _| {})
    }

    /// [`Execution::read_keys`]; `settled` hears of every trigger that no key decides, by its campaign where that is known.
    pub fn read_keys_noting(&self, settled: impl Fn(Option<u16>, Reason) + Sync) -> Result<Vec<SplitKeys>> {
        self.progress.phase("reading keys", self.total_bytes());
        let keys: Vec<Result<SplitKeys>> = (0..self.source.splits())
            .into_par_iter()
            .map(|split| {
                self.interrupt.check()?;
                let keys = read_keys(self.rules, self.source, split, self.known.is_some(), self.memory, &settled)?;
                self.progress.advance(keys.verdicts.len() as u64, self.source.split_bytes(split));
                Ok(keys)
            })
            .collect();
        keys.into_iter().collect()
    }

    /// Decides every bucket, as many at a time as the index has room for. Once: verdicts are left with the splits.
    pub fn decide(&self, splits: &[SplitKeys], clock: &mut PhaseClock) -> Result<()> {
        let notes = NotesToSpill::new(self.memory);
        for buckets in self.bucket_ranges(splits) {
            let index = clock.time("index", || self.load_index(splits, &buckets))?;
            clock.time("decide", || {
                let decide = |bucket| {
                    self.interrupt.check()?;
                    decide_bucket(self.rules, &index, splits, bucket, self.memory, &notes)
                };
                buckets.into_par_iter().map(decide).collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
            })?;
        }
        notes.finish(&|split| &splits[split as usize].verdicts)
    }

    /// The last pass: renders what was decided.
    pub fn render<S: DeliverySink>(
        &self,
        splits: &[SplitKeys],
        receipts: Option<&mut dyn ReceiptSink>,
        sink: &mut S,
    ) -> Result<Ledger> {
        let tally = render_all(self, splits, receipts, sink)?;
        let ids: Vec<&str> = self.rules.campaigns.loaded.iter().map(|c| c.id.as_str()).collect();
        let channels: Vec<&str> = self.schemas.channels.iter().map(|(name, _)| name.as_str()).collect();
        Ok(tally.ledger(&ids, &channels, splits.iter().map(|s| s.verdicts.len() as u64).sum()))
    }

    /// All buckets in ranges, so that the histories of a range's keys fit into memory. One bucket is the least.
    pub fn bucket_ranges(&self, splits: &[SplitKeys]) -> Vec<Range<usize>> {
        let room = self.known.map_or(u64::MAX, |_| self.memory.index_keys());
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut keys = 0;
        for bucket in 0..BUCKETS {
            let of_bucket = splits.iter().map(|split| split.count(&(bucket..bucket + 1)) as u64).sum::<u64>();
            match ranges.last_mut().filter(|_| keys + of_bucket <= room) {
                Some(range) => (range.end, keys) = (bucket + 1, keys + of_bucket),
                None => {
                    ranges.push(bucket..bucket + 1);
                    keys = of_bucket;
                }
            }
        }
        ranges
    }

    /// What the keys of some buckets have received before.
    pub fn load_index(&self, splits: &[SplitKeys], buckets: &Range<usize>) -> Result<EligibilityIndex> {
        let index = EligibilityIndex::default();
        let Some(known) = self.known.filter(|known| known.pieces() > 0) else { return Ok(index) };
        let filter = self.filter(splits, buckets)?;
        let mut wanted = [false; BUCKETS];
        buckets.clone().for_each(|bucket| wanted[bucket] = splits.iter().any(|s| s.count(&(bucket..bucket + 1)) > 0));
        let loaded: Vec<Result<()>> = (0..known.pieces())
            .into_par_iter()
            .map(|piece| {
                self.interrupt.check()?;
                known.read(piece, &wanted, &mut |receipt| {
                    let Some(number) = self.rules.numbers.get(receipt.campaign_id).copied() else { return };
                    if wanted[receipt.key.bucket()] && filter.may_contain(receipt.key.within_bucket()) {
                        let assignment = assignment_of(self.rules, number, receipt.outcome, receipt.variant);
                        let key = IndexKey::new(receipt.key, number);
                        match assignment {
                            Some(assignment) => index.add(key, receipt.received_at, assignment, receipt.trigger_hash),
                            None => index.revoke(key, receipt.received_at, receipt.trigger_hash),
                        }
                    }
                })
            })
            .collect();
        loaded.into_iter().collect::<Result<()>>()?;
        Ok(index)
    }

    /// The recipients of some buckets.
    fn filter(&self, splits: &[SplitKeys], buckets: &Range<usize>) -> Result<KeyFilter> {
        let mut filter = KeyFilter::for_recipients(splits.iter().map(|s| s.count(buckets)).sum());
        for split in splits {
            split.visit(buckets.clone(), self.memory, |record| filter.insert(record.hash))?;
        }
        Ok(filter)
    }
}

/// Wall time by phase.
#[derive(Default)]
pub struct PhaseClock(Vec<(&'static str, Duration)>);

impl PhaseClock {
    /// Adds the time that some work takes to its phase.
    fn time<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        let spent = start.elapsed();
        match self.0.iter_mut().find(|(phase, _)| *phase == name) {
            Some((_, time)) => *time += spent,
            None => self.0.push((name, spent)),
        }
        done
    }
}

/// What a recipient was given; nothing where a receipt was taken back.
fn assignment_of(
    rules: &Rules,
    number: u16,
    outcome: StoredOutcome,
    variant: Option<&str>,
) -> Option<StoredAssignment> {
    match outcome {
        StoredOutcome::Control => Some(StoredAssignment::Control),
        StoredOutcome::Revoked => None,
        StoredOutcome::Sent => {
            let known = rules.campaigns.loaded[usize::from(number)].variant_of_name(variant);
            Some(known.map_or(StoredAssignment::Received, StoredAssignment::Variant))
        }
    }
}

/// A progress that nobody watches.
impl Progress for () {
    fn phase(&self, _: &'static str, _: u64) {}
    fn advance(&self, _: u64, _: u64) {}
}
