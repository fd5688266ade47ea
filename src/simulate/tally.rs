//! Counters of a simulation: arrays while buckets are decided, added up in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use super::engine::Reading;
use super::people::{Crossing, Distribution, People, Place, cross};
use crate::campaigns::MAX_VARIANTS;
use crate::eligibility::Verdict;
use crate::pipeline::KeyTriggers;
use crate::triggers::{MICROS_PER_SECOND, Micros, Reason};

/// Outcomes by number: first the reasons, then these.
pub const SENT: usize = Reason::ALL.len();
/// Of a control user.
pub const CONTROL: usize = SENT + 1;
/// Allowed, but no message can be produced.
pub const NOT_RECEIVABLE: usize = SENT + 2;

/// Triggers by outcome.
pub type ByOutcome = [u64; SENT + 3];

/// The arms of a campaign: its variants, and last its control group.
pub type Arms = [u64; MAX_VARIANTS + 1];

/// What the keys pass has settled, counted from any thread: by campaign, and last without one.
pub struct Settled(Vec<[AtomicU64; SENT]>);

impl Settled {
    /// Nothing, of so many campaigns.
    pub fn new(campaigns: usize) -> Settled {
        Settled((0..=campaigns).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect())
    }

    /// Counts a trigger.
    pub fn count(&self, campaign: Option<u16>, reason: Reason) {
        let place = campaign.map_or(self.0.len() - 1, usize::from);
        self.0[place][reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Everything that is counted, by reading.
pub struct Tally {
    /// The readings.
    pub readings: Vec<ReadingTally>,
}

/// What is counted in one reading.
pub struct ReadingTally {
    /// Recipients drawn by their hash, by campaign. Whom a receipt has assigned before is not among them.
    pub drawn: Vec<Arms>,
    /// By rule.
    pub rules: Vec<RuleTally>,
}

/// What is counted of one rule.
pub struct RuleTally {
    /// By campaign, and last without one.
    pub outcomes: Vec<ByOutcome>,
    /// Sends by hour.
    pub hours: Hours,
    /// Recipients by what they are sent.
    pub people: Distribution,
    /// Who gets something, and nothing by the first rule.
    pub gained: Crossing,
    /// Who gets nothing, and something by the first rule.
    pub lost: Crossing,
}

impl Tally {
    /// Nothing, for these readings.
    pub fn new(readings: &[Reading<'_>]) -> Tally {
        Tally { readings: readings.iter().map(ReadingTally::new).collect() }
    }

    /// Adds others.
    pub fn add(&mut self, other: Tally) {
        for (mine, theirs) in self.readings.iter_mut().zip(other.readings) {
            mine.drawn.iter_mut().zip(&theirs.drawn).for_each(|(a, b)| add_each(a, b));
            mine.rules.iter_mut().zip(theirs.rules).for_each(|(a, b)| a.add(b));
        }
    }

    /// Counts the recipients of a bucket, and compares each rule with the first one.
    pub fn compare(&mut self, people: &[People]) {
        for (number, of_reading) in people.iter().enumerate() {
            for (rule, tally) in self.readings[number].rules.iter_mut().enumerate() {
                of_reading.sends(rule).iter().for_each(|sends| tally.people.count(*sends));
                if (number, rule) != (0, 0) {
                    cross((&people[0], 0), (of_reading, rule), &mut tally.gained, &mut tally.lost);
                }
            }
        }
    }

    /// Whether every rule has one outcome for each trigger.
    pub fn balances(&self, triggers: u64) -> bool {
        let sum = |rule: &RuleTally| rule.outcomes.iter().flatten().sum::<u64>();
        self.readings.iter().flat_map(|reading| &reading.rules).all(|rule| sum(rule) == triggers)
    }

    /// Where the recipients stand who serve as examples.
    pub fn examples(&self) -> BTreeSet<Place> {
        let rules = self.readings.iter().flat_map(|reading| &reading.rules);
        rules.flat_map(|rule| rule.gained.first.iter().chain(&rule.lost.first)).copied().collect()
    }
}

impl ReadingTally {
    fn new(reading: &Reading<'_>) -> ReadingTally {
        let rules = reading.execution.rules;
        let campaigns = rules.campaigns.loaded.len();
        let rule = || RuleTally {
            outcomes: vec![[0; SENT + 3]; campaigns + 1],
            hours: Hours::until(rules.as_of),
            people: Distribution::default(),
            gained: Crossing::default(),
            lost: Crossing::default(),
        };
        ReadingTally {
            drawn: vec![[0; MAX_VARIANTS + 1]; campaigns],
            rules: reading.rules.iter().map(|_| rule()).collect(),
        }
    }

    /// Adds what the keys pass has settled, which is the same for every rule.
    pub fn settle(&mut self, settled: &Settled) {
        for rule in &mut self.rules {
            for (counts, settled) in rule.outcomes.iter_mut().zip(&settled.0) {
                counts.iter_mut().zip(settled).for_each(|(count, more)| *count += more.load(Ordering::Relaxed));
            }
        }
    }

    /// Counts a recipient whose arm was drawn.
    pub fn draw(&mut self, campaign: u16, triggers: &KeyTriggers) {
        if triggers.history.assignment.is_none() {
            self.drawn[usize::from(campaign)][triggers.variant.map_or(MAX_VARIANTS, usize::from)] += 1;
        }
    }
}

impl RuleTally {
    /// Counts a decision; whether it is a send, which happens at `at`.
    pub fn count(&mut self, campaign: u16, verdict: Verdict, at: impl FnOnce() -> Micros) -> bool {
        let outcome = match verdict {
            Verdict::Sent { .. } => SENT,
            Verdict::Control { .. } => CONTROL,
            Verdict::NotReceivable => NOT_RECEIVABLE,
            Verdict::Refused { reason, .. } => reason as usize,
        };
        self.outcomes[usize::from(campaign)][outcome] += 1;
        if outcome == SENT {
            self.hours.count(at());
        }
        outcome == SENT
    }

    /// Counts a trigger that its key did not decide.
    pub fn reason(&mut self, campaign: u16, reason: Reason) {
        self.outcomes[usize::from(campaign)][reason as usize] += 1;
    }

    fn add(&mut self, other: RuleTally) {
        self.outcomes.iter_mut().zip(&other.outcomes).for_each(|(a, b)| add_each(a, b));
        self.hours.add(other.hours);
        self.people.add(other.people);
        self.gained.add(other.gained);
        self.lost.add(other.lost);
    }
}

fn add_each(mine: &mut [u64], theirs: &[u64]) {
    mine.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
}

/// An hour in microseconds.
pub const HOUR: Micros = 3_600 * MICROS_PER_SECOND;

/// The hours before the end of time that are counted in an array: a quarter of a year.
const RECENT_HOURS: i64 = 92 * 24;

/// Sends by the hour, counted from 1970 on.
pub struct Hours {
    /// The first hour of the array.
    first: i64,
    recent: Vec<u64>,
    older: BTreeMap<i64, u64>,
}

impl Hours {
    /// None yet. Hardly any send comes later than two days after `as_of`.
    fn until(as_of: Micros) -> Hours {
        let first = as_of.div_euclid(HOUR) + 48 - RECENT_HOURS;
        Hours { first, recent: vec![0; RECENT_HOURS as usize], older: BTreeMap::new() }
    }

    fn count(&mut self, at: Micros) {
        let hour = at.div_euclid(HOUR);
        match usize::try_from(hour - self.first).ok().and_then(|place| self.recent.get_mut(place)) {
            Some(sends) => *sends += 1,
            None => *self.older.entry(hour).or_default() += 1,
        }
    }

    fn add(&mut self, other: Hours) {
        add_each(&mut self.recent, &other.recent);
        other.older.into_iter().for_each(|(hour, sends)| *self.older.entry(hour).or_default() += sends);
    }

    /// Hours with sends, ascending.
    pub fn entries(&self) -> BTreeMap<i64, u64> {
        let recent = self.recent.iter().zip(self.first..).filter(|(sends, _)| **sends > 0);
        recent
            .map(|(sends, hour)| (hour, *sends))
            .chain(self.older.iter().map(|(hour, sends)| (*hour, *sends)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_counted_inside_and_outside_of_the_array() {
        let as_of = 1_000_000 * HOUR + 5;
        let count = |times: &[Micros]| {
            let mut hours = Hours::until(as_of);
            times.iter().for_each(|at| hours.count(*at));
            hours
        };
        let mut hours = count(&[as_of, as_of + 1, -1, i64::MIN]);
        hours.add(count(&[as_of - HOUR, -HOUR, i64::MAX]));
        let least = i64::MIN.div_euclid(HOUR);
        let expected = [(least, 1), (-1, 2), (999_999, 1), (1_000_000, 2), (i64::MAX / HOUR, 1)];
        assert_eq!(hours.entries(), BTreeMap::from(expected));
    }
}
