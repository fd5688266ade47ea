//! Decisions that a run recorded, taken over where only the receipts of that time could make them again.
//!
//! What a trigger says alone is decided anew ([`super::classify`]), and so is whether a message can be produced. Of the rest, what was
//! recorded as sent must at least agree with itself: the same rules are asked with nothing known but those triggers.

use rayon::prelude::*;

use super::execute::Execution;
use super::keys::{Placed, SplitKeys};
use super::verdicts::{Decided, Note, NotesToSpill};
use crate::eligibility::{Blocked, Candidate, History, Scratch, Verdict, decide_key};
use crate::error::Result;
use crate::ids::BUCKETS;
use crate::triggers::{Outcome, Reason};

/// One row of a run's decisions, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct RecordedDecision<'a> {
    /// The campaign's id; none where the row could not be understood.
    pub campaign_id: Option<&'a str>,
    /// Code of the outcome.
    pub outcome: &'a str,
    /// Code of the reason.
    pub reason: Option<&'a str>,
    /// The variant's name.
    pub variant: Option<&'a str>,
    /// The receipt that refused it.
    pub blocked: Option<Blocked>,
}

/// Takes recorded decisions in source order; [`Adoption::finish`] stands in the place of [`Execution::decide`].
pub struct Adoption<'a> {
    execution: &'a Execution<'a>,
    splits: &'a [SplitKeys],
    /// The split and the trigger in it that comes next.
    next: (usize, usize),
    notes: Vec<(u32, Note)>,
}

impl<'a> Adoption<'a> {
    /// Nothing is taken yet.
    pub fn new(execution: &'a Execution<'a>, splits: &'a [SplitKeys]) -> Adoption<'a> {
        Adoption { execution, splits, next: (0, 0), notes: Vec::new() }
    }

    /// Takes the decision of the next trigger, where the trigger alone does not say it. More decisions than triggers are for a
    /// comparison to find.
    pub fn take(&mut self, recorded: &RecordedDecision<'_>) {
        while self.splits.get(self.next.0).is_some_and(|keys| keys.verdicts.len() == self.next.1) {
            self.next = (self.next.0 + 1, 0);
        }
        let Some(keys) = self.splits.get(self.next.0) else { return };
        let (split, ordinal) = (self.next.0 as u32, self.next.1 as u32);
        self.next.1 += 1;
        if keys.verdicts.get(ordinal as usize) != Some(Decided::Pending) {
            return;
        }
        let decided = self.decided(recorded);
        keys.verdicts.set(ordinal, decided);
        if let (Decided::Settled(reason), Some(blocked)) = (decided, recorded.blocked) {
            let note = Note::of(ordinal, Verdict::Refused { reason, blocked: Some(blocked) });
            self.notes.extend(note.map(|note| (split, note)));
        }
    }

    /// What was recorded, where receipts may have been the cause; pending where they cannot have been.
    fn decided(&self, recorded: &RecordedDecision<'_>) -> Decided {
        let rules = self.execution.rules;
        let number = recorded.campaign_id.and_then(|id| rules.numbers.get(id));
        let Some(campaign) = number.map(|number| &rules.campaigns.loaded[usize::from(*number)]) else {
            return Decided::Pending;
        };
        let variant = campaign.variant_of_name(recorded.variant);
        match (recorded.outcome, recorded.reason.and_then(Reason::from_code), variant) {
            (outcome, None, Some(variant)) if outcome == Outcome::Sent.code() => Decided::Sent { variant },
            (outcome, None, _) if outcome == Outcome::Control.code() && campaign.slices.has_control() => {
                Decided::Control { enrols: false }
            }
            (_, Some(Reason::MissingValue | Reason::RenderError | Reason::Aborted), Some(variant)) => {
                Decided::NotReceivable { variant }
            }
            (_, Some(reason), _) if is_of_receipts(reason) => Decided::Settled(reason),
            _ => Decided::Pending,
        }
    }

    /// Decides what is left: what was sent against what else was sent, and what can be rendered.
    pub fn finish(self) -> Result<()> {
        let Adoption { execution, splits, mut notes, .. } = self;
        let spill = NotesToSpill::new(execution.memory);
        let verdicts = |split: u32| &splits[split as usize].verdicts;
        notes.sort_unstable_by_key(|(split, _)| *split);
        spill.add(&notes, &verdicts)?;
        let buckets: Vec<Result<()>> =
            (0..BUCKETS).into_par_iter().map(|bucket| decide_sent(execution, splits, bucket, &spill)).collect();
        buckets.into_iter().collect::<Result<()>>()?;
        spill.finish(&verdicts)
    }
}

/// Reasons that depend on what a state knew.
fn is_of_receipts(reason: Reason) -> bool {
    matches!(reason, Reason::DuplicateTrigger | Reason::AlreadyReceived | Reason::WithinWindow | Reason::HistoryExpired)
}

/// Decides the triggers of a bucket that were recorded as sent, as if nothing else were known.
fn decide_sent(execution: &Execution<'_>, splits: &[SplitKeys], bucket: usize, spill: &NotesToSpill<'_>) -> Result<()> {
    let mut sent: Vec<(Placed, u8)> = Vec::new();
    for (split, keys) in splits.iter().enumerate() {
        keys.visit(bucket..bucket + 1, execution.memory, |record| {
            let slices = &execution.rules.campaigns.loaded[usize::from(record.campaign())].slices;
            let variant = match keys.verdicts.get(record.ordinal as usize) {
                Some(Decided::Sent { variant } | Decided::NotReceivable { variant }) => variant,
                Some(Decided::Pending) => slices.variant(record.slice()).unwrap_or(0),
                _ => return,
            };
            match record.receivable(variant) {
                true => sent.push(((split as u32, record), variant)),
                false => keys.verdicts.set(record.ordinal, Decided::NotReceivable { variant }),
            }
        })?;
    }
    sent.sort_unstable_by_key(|((split, r), _)| (r.hash, r.campaign(), r.at, *split, r.ordinal));
    let mut notes: Vec<(u32, Note)> = Vec::new();
    let mut scratch = Scratch::default();
    for key in sent.chunk_by(|((_, a), _), ((_, b), _)| a.hash == b.hash && a.campaign() == b.campaign()) {
        let candidates: Vec<Candidate> = key.iter().map(|((_, record), _)| candidate(record)).collect();
        let rule = execution.rules.key_rule(key[0].0.1.campaign());
        decide_key(&rule, false, History::default(), &candidates, &mut scratch, |index, verdict| {
            let ((split, record), variant) = &key[index];
            splits[*split as usize].verdicts.set(record.ordinal, Decided::of(verdict, *variant));
            notes.extend(Note::of(record.ordinal, verdict).map(|note| (*split, note)));
        });
    }
    notes.sort_unstable_by_key(|(split, _)| *split);
    spill.add(&notes, &|split| &splits[split as usize].verdicts)
}

fn candidate(record: &super::keys::Record) -> Candidate {
    Candidate {
        at: record.at,
        trigger_hash: record.has_id().then_some(record.trigger_hash),
        content_hash: record.trigger_hash,
        receivable: true,
    }
}
