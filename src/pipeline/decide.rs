//! The second pass: one bucket at a time, a sort and a scan, the index asked once per key.

use super::keys::{Placed, SplitKeys};
use super::memory::Memory;
use super::rules::Rules;
use super::verdicts::{Decided, Note, NotesToSpill};
use crate::campaigns::Campaign;
use crate::eligibility::{
    Candidate, EligibilityIndex, History, IndexKey, KeyHistory, KeyRule, Scratch, StoredAssignment, Verdict, decide_key,
};
use crate::error::Result;

/// Decides a bucket: verdicts and notes go to their splits.
pub fn decide_bucket(
    rules: &Rules,
    index: &EligibilityIndex,
    splits: &[SplitKeys],
    bucket: usize,
    memory: &Memory<'_>,
    spill: &NotesToSpill<'_>,
) -> Result<()> {
    let records = sorted_bucket(splits, bucket, memory)?;
    let mut notes: Vec<(u32, Note)> = Vec::new();
    let mut triggers = KeyTriggers::default();
    let mut scratch = Scratch::default();
    // Asked once: the map looks into all its shards to answer.
    let knows_nobody = index.is_empty();
    for key in by_key(&records) {
        let campaign = key[0].1.campaign();
        triggers.gather(rules, index, knows_nobody, bucket, key);
        triggers.decide(&rules.key_rule(campaign), &mut scratch, |number, variant, verdict| {
            let (split, record) = &key[number];
            splits[*split as usize].verdicts.set(record.ordinal, Decided::of(verdict, variant));
            notes.extend(Note::of(record.ordinal, verdict).map(|note| (*split, note)));
        });
    }
    notes.sort_unstable_by_key(|(split, _)| *split);
    spill.add(&notes, &|split| &splits[split as usize].verdicts)
}

/// The records of a bucket in the order of deciding: by recipient, campaign, instant and source position.
pub fn sorted_bucket(splits: &[SplitKeys], bucket: usize, memory: &Memory<'_>) -> Result<Vec<Placed>> {
    let buckets = bucket..bucket + 1;
    let mut records: Vec<Placed> = Vec::with_capacity(splits.iter().map(|s| s.count(&buckets)).sum());
    for (split, keys) in splits.iter().enumerate() {
        keys.visit(buckets.clone(), memory, |record| records.push((split as u32, record)))?;
    }
    records.sort_unstable_by_key(|(split, r)| (r.hash, r.campaign(), r.at, *split, r.ordinal));
    Ok(records)
}

/// Sorted records in pieces of one recipient and campaign.
pub fn by_key(records: &[Placed]) -> impl Iterator<Item = &[Placed]> {
    records.chunk_by(|a, b| a.1.hash == b.1.hash && a.1.campaign() == b.1.campaign())
}

/// The triggers of one recipient and campaign with what was received before: ready to be decided, by one rule or by several in
/// turn. Memory is used again for the next key.
#[derive(Default)]
pub struct KeyTriggers {
    /// What was received before this run.
    pub history: KeyHistory,
    /// The recipient's variant; `None` is control.
    pub variant: Option<u8>,
    /// The triggers, in the order of the records.
    pub candidates: Vec<Candidate>,
}

impl KeyTriggers {
    /// Takes a key's records, and its history out of the index.
    pub fn gather(
        &mut self,
        rules: &Rules,
        index: &EligibilityIndex,
        knows_nobody: bool,
        bucket: usize,
        key: &[Placed],
    ) {
        let first = &key[0].1;
        self.history = match knows_nobody {
            true => KeyHistory::default(),
            false => index.take(IndexKey { bucket: bucket as u8, hash: first.hash, campaign: first.campaign() }),
        };
        let campaign = &rules.campaigns.loaded[usize::from(first.campaign())];
        self.variant = assignment(campaign, &self.history, first.slice());
        let variant = self.variant.unwrap_or(0);
        self.candidates.clear();
        self.candidates.extend(key.iter().map(|(_, record)| Candidate {
            at: record.at,
            trigger_hash: record.has_id().then_some(record.trigger_hash),
            content_hash: record.trigger_hash,
            receivable: record.receivable(variant),
        }));
    }

    /// Decides all of them by a rule; each is reported by its number with the variant.
    pub fn decide(&self, rule: &KeyRule, scratch: &mut Scratch, mut report: impl FnMut(usize, u8, Verdict)) {
        let past = History {
            receipts: &self.history.receipts,
            trigger_hashes: &self.history.trigger_hashes,
            enrolled: self.history.enrolled,
        };
        let variant = self.variant.unwrap_or(0);
        decide_key(rule, self.variant.is_none(), past, &self.candidates, scratch, |number, verdict| {
            report(number, variant, verdict);
        });
    }
}

/// The variant of a recipient, `None` for control. A stored assignment stays while its group exists; somebody who has
/// received the campaign never enters control (reference 6.3).
fn assignment(campaign: &Campaign, history: &KeyHistory, slice: u8) -> Option<u8> {
    let slices = &campaign.slices;
    match history.assignment.map(|(_, stored)| stored) {
        Some(StoredAssignment::Control) if slices.has_control() => None,
        Some(StoredAssignment::Variant(variant)) => Some(variant),
        Some(StoredAssignment::Control | StoredAssignment::Received) => Some(slices.variant_outside_control(slice)),
        None => slices.variant(slice),
    }
}
