//! The first pass: every row once, a small record for each trigger whose key must decide, a verdict for every other.

use std::ops::Range;

use super::classify::{Standing, classify};
use super::memory::{Memory, Spillable};
use super::rules::Rules;
use super::scope::Filling;
use super::seams::{Need, Row, SplitLines, TriggerSource};
use super::verdicts::{Decided, SplitVerdicts};
use crate::campaigns::{Campaign, hash_slice};
use crate::eligibility::Reeligibility;
use crate::error::{Error, Kind, Result};
use crate::ids::{BUCKETS, PartsHasher};
use crate::triggers::{Micros, Reason, Trigger};

/// What deciding needs of one trigger: 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The key hash's 64 bits after the bucket.
    pub hash: u64,
    /// `triggered_at`, or as-of.
    pub at: Micros,
    /// Hash of the trigger id; of the content where there is no id and content matters.
    pub trigger_hash: u64,
    /// Position in the split.
    pub ordinal: u32,
    /// The campaign's number (13 bits), its hash slice (7 bits), whether there is a trigger id (1 bit).
    packed: u32,
}

impl Record {
    /// The campaign's number.
    pub fn campaign(&self) -> u16 {
        (self.packed & 0x1fff) as u16
    }

    /// The variant slice, 0..100.
    pub fn slice(&self) -> u8 {
        (self.packed >> 13 & 0x7f) as u8
    }

    /// Whether the trigger hash is one of a trigger id.
    pub fn has_id(&self) -> bool {
        self.packed >> 20 & 1 == 1
    }

    /// Whether variant `variant` can produce a message.
    pub fn receivable(&self, variant: u8) -> bool {
        self.packed >> (21 + u32::from(variant)) & 1 == 1
    }
}

/// A record and the split it came from.
pub type Placed = (u32, Record);

const RECORD_WORDS: usize = 4;

impl Spillable<RECORD_WORDS> for Record {
    fn to_words(self) -> [u64; RECORD_WORDS] {
        let place = u64::from(self.ordinal) | u64::from(self.packed) << 32;
        [self.hash, self.at as u64, self.trigger_hash, place]
    }

    fn from_words([hash, at, trigger_hash, place]: [u64; RECORD_WORDS]) -> Record {
        Record { hash, at: at as Micros, trigger_hash, ordinal: place as u32, packed: (place >> 32) as u32 }
    }
}

/// Where the records of a split are.
enum Records {
    Held(Vec<Record>),
    /// From this place on.
    Spilled(u64),
}

/// The keys of one split: records grouped by bucket, verdicts of all triggers, and how much was read.
pub struct SplitKeys {
    records: Records,
    /// Where each bucket begins among the records.
    starts: Vec<u32>,
    /// A verdict for every trigger, pending where there is a record.
    pub verdicts: SplitVerdicts,
    /// Lines read.
    pub lines: SplitLines,
}

impl SplitKeys {
    /// Number of records of some buckets.
    pub fn count(&self, buckets: &Range<usize>) -> usize {
        (self.starts[buckets.end] - self.starts[buckets.start]) as usize
    }

    /// Visits the records of some buckets, by bucket and in source order.
    pub fn visit(&self, buckets: Range<usize>, memory: &Memory<'_>, mut visit: impl FnMut(Record)) -> Result<()> {
        let (start, count) = (self.starts[buckets.start] as usize, self.count(&buckets));
        match &self.records {
            Records::Held(records) => records[start..start + count].iter().copied().for_each(visit),
            Records::Spilled(_) if count == 0 => {}
            Records::Spilled(at) => memory.read(at + (start * RECORD_WORDS * 8) as u64, count, &mut visit)?,
        }
        Ok(())
    }

    /// Gives back the memory of the records: they are decided.
    pub fn forget_records(&mut self) {
        self.records = Records::Held(Vec::new());
    }
}

/// Reads the keys of a split. `settled` hears of every trigger that no key decides: its campaign, where that is known, and why.
pub fn read_keys(
    rules: &Rules,
    source: &dyn TriggerSource,
    split: usize,
    sticky: bool,
    memory: &Memory<'_>,
    settled: impl Fn(Option<u16>, Reason),
) -> Result<SplitKeys> {
    let mut verdicts = SplitVerdicts::default();
    let mut records: Vec<(u8, Record)> = Vec::new();
    let mut filling = Filling::default();
    let need = if rules.campaigns.loaded.iter().all(is_free) { Need::Keys } else { Need::Everything };
    let lines = source.read(split, need, &mut |row: Row<'_>| {
        let ordinal = u32::try_from(verdicts.len()).map_err(|_| too_many_rows())?;
        let settle = |campaign: Option<u16>, reason: Reason| {
            settled(campaign, reason);
            Decided::Settled(reason)
        };
        let decided = match &row.parsed {
            Err(rejection) => settle(None, rejection.reason),
            Ok(trigger) => match classify(rules, trigger) {
                Standing::Rejected(campaign, rejection) => settle(campaign, rejection.reason),
                Standing::Settled(campaign, reason) => settle(campaign, reason),
                Standing::Open { campaign, at } => {
                    records.push(record(rules, campaign, trigger, at, ordinal, sticky, &mut filling));
                    Decided::Pending
                }
            },
        };
        verdicts.push(decided);
        Ok(())
    })?;
    let (records, starts) = group_by_bucket(&records);
    let records = match memory.holds_records(size_of_val(records.as_slice())) {
        true => Records::Held(records),
        false => Records::Spilled(memory.spill(records.into_iter())?),
    };
    Ok(SplitKeys { records, starts, verdicts, lines })
}

fn too_many_rows() -> Error {
    Error::new(Kind::Input, "more than 4,294,967,295 triggers in one split")
}

/// Whether a campaign's triggers can be decided by their keys and properties.
fn is_free(campaign: &Campaign) -> bool {
    campaign.variants.iter().all(|variant| variant.layout.is_of_keys_and_properties())
}

/// `sticky`: a stored assignment may beat the hash, so that every variant's receivability matters.
fn record(
    rules: &Rules,
    number: u16,
    trigger: &Trigger<'_>,
    at: Micros,
    ordinal: u32,
    sticky: bool,
    filling: &mut Filling,
) -> (u8, Record) {
    let campaign = &rules.campaigns.loaded[usize::from(number)];
    let key = trigger.recipient.key_hash();
    let slice = match campaign.slices.is_trivial() {
        true => 0,
        false => hash_slice(&trigger.recipient.profile_key(), &campaign.id),
    };
    let drawn = if sticky { u8::MAX } else { campaign.slices.variant(slice).map_or(0, |variant| 1 << variant) };
    let mask = filling.receivable_mask(campaign, trigger, drawn);
    let trigger_hash = match &trigger.trigger_id {
        Some(id) => id_hash(id),
        None if campaign.reeligibility == Reeligibility::Always => trigger.properties.content_hash() as u64,
        None => 0,
    };
    let has_id = u32::from(trigger.trigger_id.is_some());
    let packed = u32::from(number) | u32::from(slice) << 13 | has_id << 20 | u32::from(mask) << 21;
    (key.bucket() as u8, Record { hash: key.within_bucket(), at, trigger_hash, ordinal, packed })
}

/// The hash of a trigger id, as the state stores it.
pub fn id_hash(trigger_id: &str) -> u64 {
    PartsHasher::new().part(trigger_id.as_bytes()).finish64()
}

/// A counting sort: records of a bucket stand together, in source order.
fn group_by_bucket(records: &[(u8, Record)]) -> (Vec<Record>, Vec<u32>) {
    let mut starts = vec![0u32; BUCKETS + 1];
    records.iter().for_each(|(bucket, _)| starts[usize::from(*bucket) + 1] += 1);
    (0..BUCKETS).for_each(|bucket| starts[bucket + 1] += starts[bucket]);
    let Some((_, first)) = records.first() else { return (Vec::new(), starts) };
    let mut next = starts.clone();
    let mut grouped = vec![*first; records.len()];
    for (bucket, record) in records {
        let place = &mut next[usize::from(*bucket)];
        grouped[*place as usize] = *record;
        *place += 1;
    }
    (grouped, starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_32_bytes() {
        assert_eq!(size_of::<Record>(), 32);
    }

    #[test]
    fn grouping_keeps_source_order_within_a_bucket() {
        let record = |ordinal| Record { hash: 0, at: 0, trigger_hash: 0, ordinal, packed: 0 };
        let (grouped, starts) = group_by_bucket(&[(9, record(0)), (3, record(1)), (9, record(2)), (255, record(3))]);
        assert_eq!(grouped.iter().map(|r| r.ordinal).collect::<Vec<_>>(), [1, 0, 2, 3]);
        assert_eq!((starts[3], starts[4], starts[9], starts[10], starts[255], starts[256]), (0, 1, 1, 3, 3, 4));
    }
}
