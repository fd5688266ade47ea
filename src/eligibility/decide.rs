//! The decision over all triggers of one (recipient, campaign): one scan in order, against what was received before.
//!
//! Precedence here: control, duplicate trigger, window, not receivable, sent. What comes earlier in the precedence of
//! the whole (rejected, paused, excluded, too late, …) never reaches this file. A trigger that is not receivable is
//! not received: it consumes nothing.

use super::rule::Reeligibility;
use crate::triggers::{Micros, Reason};

/// When a receipt happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// At as-of, when the batch goes out; a recipient's triggers compete.
    Run,
    /// At `triggered_at`, as if each trigger had been sent in its own time.
    Event,
}

/// Which of several competing triggers is sent on the run clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pick {
    /// The earliest.
    #[default]
    First,
    /// The latest.
    Last,
}

/// What decides one key.
#[derive(Debug, Clone, Copy)]
pub struct KeyRule {
    /// The campaign's re-eligibility.
    pub rule: Reeligibility,
    /// When receipts happen.
    pub clock: Clock,
    /// The run's instant.
    pub as_of: Micros,
    /// Which trigger wins on the run clock.
    pub pick: Pick,
}

impl KeyRule {
    /// When a trigger of instant `at` would be received.
    pub fn receipt_at(&self, at: Micros) -> Micros {
        match self.clock {
            Clock::Run => self.as_of,
            Clock::Event => at,
        }
    }
}

/// One trigger of the key. Candidates are given in (`at`, source position) order.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// `triggered_at`, or as-of where the row had none.
    pub at: Micros,
    /// Hash of the trigger id, if it has one.
    pub trigger_hash: Option<u64>,
    /// Hash of the content of a trigger without an id, where several may be sent at one instant.
    pub content_hash: u64,
    /// Whether a message could be produced in at least one channel.
    pub receivable: bool,
}

/// What the key has received before this run.
#[derive(Debug, Clone, Copy, Default)]
pub struct History<'a> {
    /// Receipts, ascending.
    pub receipts: &'a [Micros],
    /// Trigger ids received before.
    pub trigger_hashes: &'a [u64],
    /// Already enrolled in the control group.
    pub enrolled: bool,
}

/// The receipt that refuses a trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked {
    /// When it was received.
    pub by: Micros,
    /// The first instant at which nothing known would refuse; `None` for never.
    pub eligible_at: Option<Micros>,
}

/// What becomes of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Received. `ordinal` counts equal triggers (same instant, same content, no id) sent before it in this run.
    Sent {
        /// Ordinal among equals, from 0.
        ordinal: u16,
    },
    /// In the control group; `enrols` on the first time ever.
    Control {
        /// Whether this trigger is the enrolment to record.
        enrols: bool,
    },
    /// Refused by an earlier trigger or receipt.
    Refused {
        /// `duplicate_trigger`, `already_received` or `within_window`.
        reason: Reason,
        /// The receipt at fault; `None` for a duplicate trigger.
        blocked: Option<Blocked>,
    },
    /// Allowed, but no channel can produce a message: rendering will say why.
    NotReceivable,
}

/// Reused memory of [`decide_key`].
#[derive(Debug, Default)]
pub struct Scratch {
    receipts: Vec<Micros>,
    trigger_hashes: Vec<u64>,
    equals: Vec<(Micros, u64)>,
}

/// Decides every candidate of one key and reports each by its index in `candidates`. Pure and deterministic.
pub fn decide_key(
    rule: &KeyRule,
    in_control: bool,
    history: History<'_>,
    candidates: &[Candidate],
    scratch: &mut Scratch,
    mut report: impl FnMut(usize, Verdict),
) {
    if in_control {
        for index in 0..candidates.len() {
            report(index, Verdict::Control { enrols: index == 0 && !history.enrolled });
        }
        return;
    }
    scratch.receipts.clear();
    scratch.receipts.extend_from_slice(history.receipts);
    scratch.trigger_hashes.clear();
    scratch.trigger_hashes.extend_from_slice(history.trigger_hashes);
    scratch.equals.clear();
    let backwards = rule.clock == Clock::Run && rule.pick == Pick::Last;
    for step in 0..candidates.len() {
        let index = if backwards { candidates.len() - 1 - step } else { step };
        report(index, decide_one(rule, &candidates[index], scratch));
    }
}

fn decide_one(rule: &KeyRule, candidate: &Candidate, scratch: &mut Scratch) -> Verdict {
    let at = rule.receipt_at(candidate.at);
    if candidate.trigger_hash.is_some_and(|hash| scratch.trigger_hashes.contains(&hash)) {
        return Verdict::Refused { reason: Reason::DuplicateTrigger, blocked: None };
    }
    if let Some((reason, blocked)) = refused(&scratch.receipts, at, rule.rule) {
        return Verdict::Refused { reason, blocked: Some(blocked) };
    }
    if !candidate.receivable {
        return Verdict::NotReceivable;
    }
    let place = scratch.receipts.partition_point(|receipt| *receipt <= at);
    scratch.receipts.insert(place, at);
    scratch.trigger_hashes.extend(candidate.trigger_hash);
    Verdict::Sent { ordinal: ordinal_among_equals(candidate, &mut scratch.equals) }
}

/// Only triggers without an id can equal each other: a repeated id is refused before it gets here.
fn ordinal_among_equals(candidate: &Candidate, equals: &mut Vec<(Micros, u64)>) -> u16 {
    if candidate.trigger_hash.is_some() {
        return 0;
    }
    let content = (candidate.at, candidate.content_hash);
    let ordinal = equals.iter().filter(|other| **other == content).count();
    equals.push(content);
    u16::try_from(ordinal).unwrap_or(u16::MAX)
}

/// Whether a receipt at `at` keeps its distance to **every** receipt of the key, later ones too. `receipts` ascend, so
/// only the neighbours of `at` can be too close.
fn refused(receipts: &[Micros], at: Micros, rule: Reeligibility) -> Option<(Reason, Blocked)> {
    match rule {
        Reeligibility::Always => None,
        Reeligibility::Never => {
            receipts.first().map(|first| (Reason::AlreadyReceived, Blocked { by: *first, eligible_at: None }))
        }
        Reeligibility::After { window_micros } => {
            let next = receipts.partition_point(|receipt| *receipt <= at);
            let close = |receipt: &&Micros| receipt.abs_diff(at) < window_micros as u64;
            let before = next.checked_sub(1).map(|i| &receipts[i]).filter(close);
            let by = *before.or_else(|| receipts.get(next).filter(close))?;
            let eligible_at = Some(first_free_instant(receipts, at, window_micros));
            Some((Reason::WithinWindow, Blocked { by, eligible_at }))
        }
    }
}

/// The first instant from `at` on that keeps the window to every receipt.
fn first_free_instant(receipts: &[Micros], at: Micros, window_micros: i64) -> Micros {
    receipts.iter().fold(at, |free, receipt| {
        if receipt.abs_diff(free) < window_micros as u64 { receipt.saturating_add(window_micros) } else { free }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn at(time: i64) -> Candidate {
        Candidate { at: time, trigger_hash: None, content_hash: 0, receivable: true }
    }

    fn decide(
        rule: Reeligibility,
        clock: Clock,
        pick: Pick,
        receipts: &[i64],
        candidates: &[Candidate],
    ) -> Vec<Verdict> {
        let rule = KeyRule { rule, clock, as_of: 100 * DAY, pick };
        let history = History { receipts, ..History::default() };
        let mut verdicts = vec![Verdict::NotReceivable; candidates.len()];
        decide_key(&rule, false, history, candidates, &mut Scratch::default(), |i, v| verdicts[i] = v);
        verdicts
    }

    fn blocked(by: i64, eligible_at: i64) -> Verdict {
        let blocked = Some(Blocked { by, eligible_at: Some(eligible_at) });
        Verdict::Refused { reason: Reason::WithinWindow, blocked }
    }

    const SENT: Verdict = Verdict::Sent { ordinal: 0 };
    const DAILY: Reeligibility = Reeligibility::After { window_micros: DAY };

    #[test]
    fn the_window_counts_from_the_last_receipt_and_its_edge_is_free() {
        let verdicts = decide(DAILY, Clock::Event, Pick::First, &[], &[at(0), at(DAY - 1), at(DAY)]);
        assert_eq!(verdicts, [SENT, blocked(0, DAY), SENT]);
    }

    #[test]
    fn a_late_trigger_is_refused_by_a_receipt_after_it() {
        assert_eq!(
            decide(DAILY, Clock::Event, Pick::First, &[5 * DAY], &[at(4 * DAY + 1)]),
            [blocked(5 * DAY, 6 * DAY)]
        );
        assert_eq!(decide(DAILY, Clock::Event, Pick::First, &[5 * DAY], &[at(4 * DAY)]), [SENT]);
    }

    #[test]
    fn eligible_at_clears_a_chain_of_receipts() {
        let receipts = [0, DAY + 10, 2 * DAY + 15];
        assert_eq!(decide(DAILY, Clock::Event, Pick::First, &receipts, &[at(5)]), [blocked(0, 3 * DAY + 15)]);
    }

    #[test]
    fn on_the_run_clock_pick_says_who_wins() {
        let refused = blocked(100 * DAY, 101 * DAY);
        assert_eq!(decide(DAILY, Clock::Run, Pick::First, &[], &[at(0), at(1)]), [SENT, refused]);
        assert_eq!(decide(DAILY, Clock::Run, Pick::Last, &[], &[at(0), at(1)]), [refused, SENT]);
    }

    #[test]
    fn what_is_not_receivable_consumes_nothing() {
        let unreceivable = Candidate { receivable: false, ..at(0) };
        let verdicts = decide(Reeligibility::Never, Clock::Event, Pick::First, &[], &[unreceivable, at(1), at(2)]);
        let already =
            Verdict::Refused { reason: Reason::AlreadyReceived, blocked: Some(Blocked { by: 1, eligible_at: None }) };
        assert_eq!(verdicts, [Verdict::NotReceivable, SENT, already]);
    }

    #[test]
    fn an_id_is_received_once_even_without_a_window() {
        let with_id = |hash| Candidate { trigger_hash: Some(hash), ..at(0) };
        let duplicate = Verdict::Refused { reason: Reason::DuplicateTrigger, blocked: None };
        let verdicts =
            decide(Reeligibility::Always, Clock::Event, Pick::First, &[], &[with_id(1), with_id(1), with_id(2)]);
        assert_eq!(verdicts, [SENT, duplicate, SENT]);
    }

    #[test]
    fn equal_triggers_without_ids_are_numbered() {
        let other = Candidate { content_hash: 9, ..at(0) };
        let verdicts = decide(Reeligibility::Always, Clock::Event, Pick::First, &[], &[at(0), other, at(0)]);
        assert_eq!(verdicts, [SENT, SENT, Verdict::Sent { ordinal: 1 }]);
    }

    #[test]
    fn control_enrols_once() {
        let rule = KeyRule { rule: Reeligibility::Always, clock: Clock::Event, as_of: 0, pick: Pick::First };
        let mut enrolments = Vec::new();
        for enrolled in [false, true] {
            let history = History { enrolled, ..History::default() };
            decide_key(&rule, true, history, &[at(0), at(1)], &mut Scratch::default(), |_, v| enrolments.push(v));
        }
        let control = [true, false, false, false].map(|enrols| Verdict::Control { enrols });
        assert_eq!(enrolments, control);
    }
}
