//! The keys of one bucket: sorted once, each decided by every rule in the same visit.

use super::engine::{Reading, Timing};
use super::people::People;
use super::tally::{ReadingTally, RuleTally};
use crate::eligibility::{Candidate, Clock, EligibilityIndex, History, KeyRule, Scratch, StoredAssignment, decide_key};
use crate::error::Result;
use crate::pipeline::{KeyTriggers, SplitKeys, by_key, needs_lost_receipts, sorted_bucket};
use crate::triggers::{Micros, Reason};

/// Decides keys by the rules of a reading, in memory that is used again for the next key.
pub struct KeyDecider<'a> {
    reading: &'a Reading<'a>,
    timing: &'a Timing,
    triggers: KeyTriggers,
    scratch: Scratch,
    admitted: Vec<Candidate>,
    received: Vec<(Micros, Option<u64>)>,
}

/// Decides a bucket by every rule, and says how much each recipient gets by each.
pub fn decide_reading(
    mut decider: KeyDecider<'_>,
    index: &EligibilityIndex,
    splits: &[SplitKeys],
    bucket: usize,
    tally: &mut ReadingTally,
) -> Result<People> {
    let reading = decider.reading;
    let records = sorted_bucket(splits, bucket, reading.execution.memory)?;
    let knows_nobody = index.is_empty();
    let mut people = People::new(reading.rules.len());
    for recipient in records.chunk_by(|a, b| a.1.hash == b.1.hash) {
        people.begin(recipient);
        for key in by_key(recipient) {
            let number = key[0].1.campaign();
            decider.triggers.gather(reading.execution.rules, index, knows_nobody, bucket, key);
            tally.draw(number, &decider.triggers);
            for (rule, counts) in tally.rules.iter_mut().enumerate() {
                people.receives(rule, decider.decide(rule, number, counts));
            }
        }
    }
    Ok(people)
}

impl<'a> KeyDecider<'a> {
    /// For the rules of this reading.
    pub fn new(reading: &'a Reading<'a>, timing: &'a Timing) -> KeyDecider<'a> {
        let (triggers, scratch) = (KeyTriggers::default(), Scratch::default());
        KeyDecider { reading, timing, triggers, scratch, admitted: Vec::new(), received: Vec::new() }
    }

    /// Decides the key by one rule; how often it is sent.
    fn decide(&mut self, rule: usize, campaign: u16, counts: &mut RuleTally) -> u32 {
        let reeligibility = self.reading.rules[rule].reeligibility[usize::from(campaign)];
        let key_rule = KeyRule { rule: reeligibility, ..self.reading.execution.rules.key_rule(campaign) };
        let floor = self.reading.history_floors[usize::from(campaign)];
        if floor.is_some() || matches!(self.timing, Timing::Nights(_)) {
            return self.replay(key_rule, campaign, floor, counts);
        }
        let mut sends = 0;
        let candidates = &self.triggers.candidates;
        self.triggers.decide(&key_rule, &mut self.scratch, |number, _, verdict| {
            sends += u32::from(counts.count(campaign, verdict, || key_rule.receipt_at(candidates[number].at)));
        });
        sends
    }

    /// Batch after batch, each with what the ones before have sent. The variant stays: a key that was sent one keeps it, and
    /// so does one that was enrolled in control.
    fn replay(&mut self, rule: KeyRule, campaign: u16, floor: Option<Micros>, counts: &mut RuleTally) -> u32 {
        let KeyDecider { reading, timing, triggers, scratch, admitted, received } = self;
        let max_age = reading.max_ages[usize::from(campaign)];
        let mut history = triggers.history.clone();
        let mut rest = triggers.candidates.as_slice();
        let mut sends = 0;
        while !rest.is_empty() {
            let (rule, batch) = next_batch(timing, rule, rest);
            rest = &rest[batch.len()..];
            admitted.clear();
            for candidate in batch {
                match refused_before_its_key(&rule, candidate, floor, max_age) {
                    Some(reason) => counts.reason(campaign, reason),
                    None => admitted.push(*candidate),
                }
            }
            received.clear();
            let past = History {
                receipts: &history.receipts,
                trigger_hashes: &history.trigger_hashes,
                enrolled: history.enrolled,
            };
            decide_key(&rule, triggers.variant.is_none(), past, admitted, scratch, |number, verdict| {
                let at = rule.receipt_at(admitted[number].at);
                if counts.count(campaign, verdict, || at) {
                    received.push((at, admitted[number].trigger_hash));
                }
            });
            sends += received.len() as u32;
            received.iter().for_each(|(at, hash)| history.add(*at, StoredAssignment::Received, *hash));
        }
        sends
    }
}

/// The triggers that are decided next, and the rule at that instant.
fn next_batch<'c>(timing: &Timing, rule: KeyRule, rest: &'c [Candidate]) -> (KeyRule, &'c [Candidate]) {
    let Timing::Nights(nights) = timing else { return (rule, rest) };
    let coming = nights.partition_point(|night| *night < rest[0].at);
    let Some(as_of) = nights.get(coming).or(nights.last()).copied() else { return (rule, rest) };
    let end = rest.partition_point(|candidate| candidate.at <= as_of).max(1);
    (KeyRule { clock: Clock::Run, as_of, ..rule }, &rest[..end])
}

/// What the keys pass left to the rule and the night, in the order of the precedence.
fn refused_before_its_key(
    rule: &KeyRule,
    candidate: &Candidate,
    floor: Option<Micros>,
    max_age: Option<Micros>,
) -> Option<Reason> {
    if max_age.is_some_and(|limit| candidate.at < rule.as_of.saturating_sub(limit)) {
        return Some(Reason::TooLate);
    }
    let is_lost = |floor| needs_lost_receipts(rule, floor, candidate.trigger_hash.is_some(), candidate.at);
    floor.is_some_and(is_lost).then_some(Reason::HistoryExpired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eligibility::{Pick, Reeligibility};

    fn at(at: Micros) -> Candidate {
        Candidate { at, trigger_hash: None, content_hash: 0, receivable: true }
    }

    const RULE: KeyRule = KeyRule { rule: Reeligibility::Never, clock: Clock::Event, as_of: 99, pick: Pick::First };

    #[test]
    fn a_trigger_falls_to_the_first_night_at_or_after_it() {
        let nights = Timing::Nights(vec![10, 20, 30]);
        let candidates = [at(3), at(10), at(11), at(20), at(21)];
        let mut rest = &candidates[..];
        let mut batches = Vec::new();
        while !rest.is_empty() {
            let (rule, batch) = next_batch(&nights, RULE, rest);
            assert_eq!(rule.clock, Clock::Run);
            batches.push((rule.as_of, batch.len()));
            rest = &rest[batch.len()..];
        }
        assert_eq!(batches, [(10, 2), (20, 2), (30, 1)]);
        let (rule, batch) = next_batch(&Timing::AtOnce, RULE, &candidates);
        assert_eq!((rule.clock, rule.as_of, batch.len()), (Clock::Event, 99, 5));
    }

    #[test]
    fn too_late_comes_before_what_is_lost() {
        let refused = |time, floor, max_age| refused_before_its_key(&RULE, &at(time), floor, max_age);
        assert_eq!(refused(5, None, None), None);
        assert_eq!(refused(5, Some(3), Some(10)), Some(Reason::TooLate));
        assert_eq!(refused(89, Some(3), Some(10)), Some(Reason::HistoryExpired));
        assert_eq!(refused(89, None, Some(10)), None);
    }
}
