//! The second pass: one bucket at a time, a sort and a scan, the index asked once per key.

use super::keys::{Record, SplitKeys};
use super::rules::Rules;
use super::verdicts::{BlockedTrigger, Decided};
use crate::campaigns::Campaign;
use crate::eligibility::{
    Candidate, EligibilityIndex, History, IndexKey, KeyHistory, Scratch, StoredAssignment, Verdict, decide_key,
};

/// A record and the split it came from.
type Placed = (u32, Record);

/// Decides a bucket: verdicts and blocking receipts go to their splits.
pub fn decide_bucket(rules: &Rules, index: &EligibilityIndex, splits: &[SplitKeys], bucket: usize) {
    let mut records: Vec<Placed> = Vec::with_capacity(splits.iter().map(|s| s.bucket(bucket).len()).sum());
    for (split, keys) in splits.iter().enumerate() {
        records.extend(keys.bucket(bucket).iter().map(|record| (split as u32, *record)));
    }
    records.sort_unstable_by_key(|(split, r)| (r.hash, r.campaign(), r.at, *split, r.ordinal));
    let mut blocked: Vec<(u32, BlockedTrigger)> = Vec::new();
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
            if let Verdict::Refused { blocked: Some(by), .. } = verdict {
                blocked.push((*split, BlockedTrigger::new(record.ordinal, by)));
            }
        });
    }
    blocked.sort_unstable_by_key(|(split, _)| *split);
    for of_split in blocked.chunk_by(|a, b| a.0 == b.0) {
        let triggers: Vec<BlockedTrigger> = of_split.iter().map(|(_, blocked)| *blocked).collect();
        splits[of_split[0].0 as usize].verdicts.add_blocked(&triggers);
    }
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
