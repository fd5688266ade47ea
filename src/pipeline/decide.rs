//! The second pass: one bucket at a time, a sort and a scan, the index asked once per key.

use super::keys::{Placed, SplitKeys};
use super::memory::Memory;
use super::rules::Rules;
use super::verdicts::{Decided, Note, NotesToSpill};
use crate::campaigns::Campaign;
use crate::eligibility::{
    Candidate, EligibilityIndex, History, IndexKey, KeyHistory, Scratch, StoredAssignment, Verdict, decide_key,
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
    let buckets = bucket..bucket + 1;
    let mut records: Vec<Placed> = Vec::with_capacity(splits.iter().map(|s| s.count(&buckets)).sum());
    for (split, keys) in splits.iter().enumerate() {
        keys.visit(buckets.clone(), memory, |record| records.push((split as u32, record)))?;
    }
    records.sort_unstable_by_key(|(split, r)| (r.hash, r.campaign(), r.at, *split, r.ordinal));
    let mut notes: Vec<(u32, Note)> = Vec::new();
    let mut candidates = Vec::new();
    let mut scratch = Scratch::default();
    // Asked once: the map looks into all its shards to answer.
    let knows_nobody = index.is_empty();
    for key in records.chunk_by(|a, b| a.1.hash == b.1.hash && a.1.campaign() == b.1.campaign()) {
        let first = &key[0].1;
        let history = match knows_nobody {
            true => KeyHistory::default(),
            false => index.take(IndexKey { bucket: bucket as u8, hash: first.hash, campaign: first.campaign() }),
        };
        decide_records(rules, &history, key, &mut candidates, &mut scratch, |(split, record), variant, verdict| {
            splits[*split as usize].verdicts.set(record.ordinal, Decided::of(verdict, variant));
            notes.extend(Note::of(record.ordinal, verdict).map(|note| (*split, note)));
        });
    }
    notes.sort_unstable_by_key(|(split, _)| *split);
    spill.add(&notes, &|split| &splits[split as usize].verdicts)
}

fn decide_records(
    rules: &Rules,
    history: &KeyHistory,
    key: &[Placed],
    candidates: &mut Vec<Candidate>,
    scratch: &mut Scratch,
    mut report: impl FnMut(&Placed, u8, Verdict),
) {
    let number = key[0].1.campaign();
    let campaign = &rules.campaigns.loaded[usize::from(number)];
    let assigned = assignment(campaign, history, key[0].1.slice());
    let variant = assigned.unwrap_or(0);
    candidates.clear();
    candidates.extend(key.iter().map(|(_, record)| Candidate {
        at: record.at,
        trigger_hash: record.has_id().then_some(record.trigger_hash),
        content_hash: record.trigger_hash,
        receivable: record.receivable(variant),
    }));
    let past =
        History { receipts: &history.receipts, trigger_hashes: &history.trigger_hashes, enrolled: history.enrolled };
    decide_key(&rules.key_rule(number), assigned.is_none(), past, candidates, scratch, |index, verdict| {
        report(&key[index], variant, verdict);
    });
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
