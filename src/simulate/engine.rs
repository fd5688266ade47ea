//! The passes of a simulation: keys once a reading, then bucket after bucket, each key decided by every rule.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rayon::prelude::*;

use super::decide::{KeyDecider, decide_reading};
use super::people::Place;
use super::result::{Simulation, describe};
use super::tally::{Settled, Tally};
use crate::eligibility::{EligibilityIndex, Reeligibility};
use crate::error::{Error, Kind, Result};
use crate::ids::BUCKETS;
use crate::pipeline::{Execution, Need, SplitKeys, TriggerSource};
use crate::triggers::{Micros, Recipient};

/// A rule to try: its name, and the re-eligibility of every campaign by its number in the reading's rules.
#[derive(Debug, Clone)]
pub struct WindowRule {
    /// Its name: `today`, a window, `against`.
    pub name: String,
    /// By campaign number.
    pub reeligibility: Vec<Reeligibility>,
}

/// One pass over the input and the rules that share it. The execution's rules hold neither history floors nor, for
/// [`Timing::Nights`], limits of age: both depend on the window or on the night, and are applied here.
pub struct Reading<'a> {
    /// What reads the keys and loads the receipts.
    pub execution: Execution<'a>,
    /// By campaign number: the instant before which receipts are no longer kept.
    pub history_floors: Vec<Option<Micros>>,
    /// By campaign number: the age in microseconds at which a trigger is too late for a night.
    pub max_ages: Vec<Option<Micros>>,
    /// The rules to try, at least one.
    pub rules: Vec<WindowRule>,
}

/// When triggers are decided.
#[derive(Debug, Clone)]
pub enum Timing {
    /// In one batch, by the clock of the reading's rules.
    AtOnce,
    /// On the run clock, each in the first batch at or after it, with the receipts of the batches before. The instants of the
    /// batches ascend, and the last one comes after every trigger.
    Nights(Vec<Micros>),
}

/// What a reading has read.
struct Read {
    splits: Vec<SplitKeys>,
    settled: Settled,
}

/// Decides the triggers by every rule of every reading. All readings read the same source.
///
/// # Errors
/// Those of reading triggers and receipts, an interrupt, or an outcome that is missing (kind `Internal`).
pub fn simulate(readings: &[Reading<'_>], timing: &Timing) -> Result<Simulation> {
    let read = readings.iter().map(Reading::read).collect::<Result<Vec<_>>>()?;
    let mut tally = Tally::new(readings);
    for (of_reading, read) in tally.readings.iter_mut().zip(&read) {
        of_reading.settle(&read.settled);
    }
    for buckets in bucket_ranges(readings, &read) {
        tally.add(decide_buckets(readings, &read, timing, buckets)?);
    }
    let triggers: u64 = read[0].splits.iter().map(|split| split.verdicts.len() as u64).sum();
    if !tally.balances(triggers) {
        return Err(Error::new(Kind::Internal, "a trigger was lost or counted twice in the simulation"));
    }
    let ids = recipients_of(readings[0].execution.source, &tally.examples())?;
    Ok(describe(readings, timing, &tally, triggers, &ids))
}

impl Reading<'_> {
    fn read(&self) -> Result<Read> {
        let settled = Settled::new(self.execution.rules.campaigns.loaded.len());
        let splits = self.execution.read_keys_noting(|campaign, reason| settled.count(campaign, reason))?;
        Ok(Read { splits, settled })
    }
}

/// Ranges of buckets for which the receipts of every reading fit into memory.
fn bucket_ranges(readings: &[Reading<'_>], read: &[Read]) -> Vec<Range<usize>> {
    let ranges = readings.iter().zip(read).flat_map(|(reading, read)| reading.execution.bucket_ranges(&read.splits));
    let starts: BTreeSet<usize> = ranges.map(|range| range.start).collect();
    let ends = starts.iter().copied().skip(1).chain([BUCKETS]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

fn decide_buckets(readings: &[Reading<'_>], read: &[Read], timing: &Timing, buckets: Range<usize>) -> Result<Tally> {
    let indexes: Vec<EligibilityIndex> = (readings.iter().zip(read))
        .map(|(reading, read)| reading.execution.load_index(&read.splits, &buckets))
        .collect::<Result<_>>()?;
    let decide = |mut tally: Tally, bucket: usize| {
        let mut people = Vec::with_capacity(readings.len());
        for (number, reading) in readings.iter().enumerate() {
            reading.execution.interrupt.check()?;
            let decider = KeyDecider::new(reading, timing);
            let (index, splits) = (&indexes[number], &read[number].splits);
            people.push(decide_reading(decider, index, splits, bucket, &mut tally.readings[number])?);
        }
        tally.compare(&people);
        Ok(tally)
    };
    let empty = || Tally::new(readings);
    buckets.into_par_iter().try_fold(empty, decide).try_reduce(empty, |mut sum, tally| {
        sum.add(tally);
        Ok(sum)
    })
}

/// Who stands at some places of the source, as `KIND:ID`; an alias as `user_alias:LABEL:NAME`.
fn recipients_of(source: &dyn TriggerSource, places: &BTreeSet<Place>) -> Result<BTreeMap<Place, String>> {
    let mut found = BTreeMap::new();
    let splits: BTreeSet<u32> = places.iter().map(|(split, _)| *split).collect();
    for split in splits {
        let mut ordinal = 0;
        source.read(split as usize, Need::Keys, &mut |row| {
            if let (true, Ok(trigger)) = (places.contains(&(split, ordinal)), &row.parsed) {
                found.insert((split, ordinal), name_of(&trigger.recipient));
            }
            ordinal += 1;
            Ok(())
        })?;
    }
    Ok(found)
}

fn name_of(recipient: &Recipient<'_>) -> String {
    format!("{}:{}", recipient.kind.code(), recipient.profile_key())
}
