//! The eligibility index: what each (recipient, campaign) of this run has received before.
//!
//! A [`DashMap`] filled in parallel from the state and then only read: deciding asks it once per key, and what a run
//! decides goes into the next state's files, never back into the map. [`KeyFilter`] keeps out receipts that no trigger
//! of the run can ask for.

use std::hash::{BuildHasherDefault, Hasher};

use dashmap::DashMap;

use crate::ids::KeyHash;
use crate::triggers::Micros;

/// A recipient of a campaign inside one run: 72 bits of the key hash and the campaign's number. Two of a hundred million
/// recipients share 72 bits with a probability of about one in a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IndexKey {
    /// Bucket of the key hash.
    pub bucket: u8,
    /// The key hash's 64 bits after the bucket.
    pub hash: u64,
    /// The campaign's number in the plan.
    pub campaign: u16,
}

impl IndexKey {
    /// The index key of a recipient's hash and a campaign.
    pub fn new(key: KeyHash, campaign: u16) -> IndexKey {
        IndexKey { bucket: key.bucket() as u8, hash: key.within_bucket(), campaign }
    }
}

/// The newest assignment in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredAssignment {
    /// Enrolled in the control group.
    Control,
    /// Received this variant, by its number in the plan.
    Variant(u8),
    /// Received something that is not a variant of the campaign any more.
    Received,
}

/// What one key has received before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyHistory {
    /// Receipts, ascending.
    pub receipts: Vec<Micros>,
    /// Hashes of received trigger ids.
    pub trigger_hashes: Vec<u64>,
    /// Whether an enrolment in control is recorded.
    pub enrolled: bool,
    /// The assignment that counts and its instant: the newest receipt, or else the newest enrolment.
    pub assignment: Option<(Micros, StoredAssignment)>,
}

impl KeyHistory {
    /// Adds a receipt or an enrolment. The order of calls does not matter.
    pub fn add(&mut self, at: Micros, assignment: StoredAssignment, trigger_hash: Option<u64>) {
        if assignment == StoredAssignment::Control {
            self.enrolled = true;
        } else {
            let place = self.receipts.partition_point(|receipt| *receipt <= at);
            self.receipts.insert(place, at);
        }
        self.trigger_hashes.extend(trigger_hash);
        // Any receipt beats an enrolment: who has received the campaign never enters control (reference 6.3).
        let rank = |a: &(Micros, StoredAssignment)| (a.1 != StoredAssignment::Control, a.0, assignment_rank(a.1));
        if self.assignment.as_ref().is_none_or(|known| rank(known) < rank(&(at, assignment))) {
            self.assignment = Some((at, assignment));
        }
    }
}

/// Ties of one instant are settled the same way whatever order receipts are loaded in.
fn assignment_rank(assignment: StoredAssignment) -> u16 {
    match assignment {
        StoredAssignment::Control => 0,
        StoredAssignment::Received => 1,
        StoredAssignment::Variant(variant) => 2 + u16::from(variant),
    }
}

/// Key hashes are uniform already; hashing them again would cost and gain nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}

/// One row of the log, as it is kept until its key is asked for.
#[derive(Debug, Clone, Copy)]
struct Fact {
    at: Micros,
    /// None: a receipt of this instant and trigger id was taken back.
    assignment: Option<StoredAssignment>,
    trigger_hash: Option<u64>,
}

/// The history that these facts make, in whatever order they were loaded: each revocation takes one receipt back.
fn settled(mut facts: Vec<Fact>) -> KeyHistory {
    for revoked in facts.extract_if(.., |fact| fact.assignment.is_none()).collect::<Vec<_>>() {
        let is_meant = |fact: &Fact| {
            let is_receipt = fact.assignment.is_some_and(|given| given != StoredAssignment::Control);
            is_receipt && (fact.at, fact.trigger_hash) == (revoked.at, revoked.trigger_hash)
        };
        // Equal receipts are told apart by nothing but their variant: the order of variants settles which one goes.
        let rank = |fact: &Fact| fact.assignment.map(assignment_rank);
        let meant = (0..facts.len()).filter(|n| is_meant(&facts[*n])).max_by_key(|n| rank(&facts[*n]));
        meant.map(|n| facts.swap_remove(n));
    }
    let mut history = KeyHistory::default();
    for Fact { at, assignment, trigger_hash } in facts {
        assignment.into_iter().for_each(|assignment| history.add(at, assignment, trigger_hash));
    }
    history
}

/// The receipts of a run's keys.
#[derive(Debug, Default)]
pub struct EligibilityIndex {
    map: DashMap<IndexKey, Vec<Fact>, BuildHasherDefault<AlreadyHashed>>,
}

impl EligibilityIndex {
    /// Adds a receipt; callable from any thread.
    pub fn add(&self, key: IndexKey, at: Micros, assignment: StoredAssignment, trigger_hash: Option<u64>) {
        self.map.entry(key).or_default().push(Fact { at, assignment: Some(assignment), trigger_hash });
    }

    /// Takes a receipt back; callable from any thread, before or after the receipt is added.
    pub fn revoke(&self, key: IndexKey, at: Micros, trigger_hash: Option<u64>) {
        self.map.entry(key).or_default().push(Fact { at, assignment: None, trigger_hash });
    }

    /// Takes a key's history out of the index: each key is decided once.
    pub fn take(&self, key: IndexKey) -> KeyHistory {
        self.map.remove(&key).map(|(_, facts)| settled(facts)).unwrap_or_default()
    }

    /// Whether no receipt was loaded.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

/// Which recipients a run asks for: one bit per hash slot, 16 slots a recipient. Lets one in sixteen strangers
/// through, and never keeps out a recipient of the run.
#[derive(Debug)]
pub struct KeyFilter {
    words: Vec<u64>,
}

impl KeyFilter {
    /// A filter for about this many recipients.
    pub fn for_recipients(count: usize) -> KeyFilter {
        KeyFilter { words: vec![0; (count / 4 + 1).next_power_of_two()] }
    }

    fn slot(&self, hash: u64) -> (usize, u64) {
        let bit = hash & (self.words.len() as u64 * 64 - 1);
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Notes a recipient by its hash within the bucket.
    pub fn insert(&mut self, hash: u64) {
        let (word, bit) = self.slot(hash);
        self.words[word] |= bit;
    }

    /// Whether a recipient may have been noted.
    pub fn may_contain(&self, hash: u64) -> bool {
        let (word, bit) = self.slot(hash);
        self.words[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_does_not_depend_on_the_order_of_loading() {
        let facts = [
            (5, StoredAssignment::Variant(1), Some(7)),
            (3, StoredAssignment::Control, None),
            (5, StoredAssignment::Received, None),
        ];
        let load = |order: [usize; 3]| {
            let mut history = KeyHistory::default();
            order.iter().for_each(|i| history.add(facts[*i].0, facts[*i].1, facts[*i].2));
            history
        };
        assert_eq!(load([0, 1, 2]), load([2, 1, 0]));
        assert_eq!(load([0, 1, 2]).assignment, Some((5, StoredAssignment::Variant(1))));
        assert_eq!(load([0, 1, 2]).receipts, [5, 5]);
    }

    #[test]
    fn a_receipt_beats_an_enrolment_even_a_later_one() {
        let mut history = KeyHistory::default();
        history.add(3, StoredAssignment::Variant(1), None);
        history.add(5, StoredAssignment::Control, None);
        assert_eq!(history.assignment, Some((3, StoredAssignment::Variant(1))));
        assert!(history.enrolled);
    }

    #[test]
    fn a_revocation_takes_one_receipt_back_whatever_comes_first() {
        let key = IndexKey::new(KeyHash(1 << 100), 0);
        let variant = StoredAssignment::Variant(1);
        for revoked_first in [true, false] {
            let index = EligibilityIndex::default();
            let revoke = || index.revoke(key, 5, Some(7));
            if revoked_first {
                revoke();
            }
            index.add(key, 3, StoredAssignment::Variant(0), Some(6));
            index.add(key, 5, variant, Some(7));
            index.add(key, 5, variant, None);
            index.add(key, 5, StoredAssignment::Control, Some(7));
            if !revoked_first {
                revoke();
            }
            let history = index.take(key);
            assert_eq!((history.receipts, history.enrolled), (vec![3, 5], true));
            assert_eq!(history.trigger_hashes.iter().filter(|hash| **hash == 7).count(), 1, "that of the enrolment");
            assert_eq!(history.assignment, Some((5, variant)));
        }
    }

    #[test]
    fn without_its_last_receipt_a_key_has_the_assignment_of_the_one_before() {
        let index = EligibilityIndex::default();
        let key = IndexKey::new(KeyHash(1 << 100), 0);
        index.add(key, 3, StoredAssignment::Variant(0), None);
        index.add(key, 5, StoredAssignment::Variant(1), None);
        index.revoke(key, 5, None);
        assert_eq!(index.take(key).assignment, Some((3, StoredAssignment::Variant(0))));
        index.add(key, 5, StoredAssignment::Variant(1), None);
        index.revoke(key, 5, None);
        assert_eq!(index.take(key), KeyHistory::default());
    }

    #[test]
    fn campaigns_do_not_share_receipts() {
        let index = EligibilityIndex::default();
        let key = |campaign| IndexKey::new(KeyHash(1 << 100), campaign);
        index.add(key(0), 1, StoredAssignment::Received, None);
        assert_eq!(index.take(key(1)), KeyHistory::default());
        assert_eq!(index.take(key(0)).receipts, [1]);
    }

    #[test]
    fn the_filter_keeps_nobody_of_the_run_out() {
        let hashes: Vec<u64> = (1..1000u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let mut filter = KeyFilter::for_recipients(hashes.len());
        hashes.iter().for_each(|h| filter.insert(*h));
        assert!(hashes.iter().all(|h| filter.may_contain(*h)));
        let strangers = (1..1000u64).filter(|n| filter.may_contain(n.wrapping_mul(0xD1B5_4A32_D192_ED03))).count();
        assert!(strangers < 200, "{strangers} of 999");
    }
}
