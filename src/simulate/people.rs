//! Recipients: how much each gets by each rule, and who gains or loses from one rule to another.

use std::collections::BTreeMap;

use crate::pipeline::Placed;

/// A trigger's place in the source: split, and position in it.
pub type Place = (u32, u32);

/// Examples that are kept of recipients gained, and of recipients lost.
const EXAMPLES: usize = 10;

/// The recipients of one bucket by ascending hash, with what each rule sends them.
pub struct People {
    hashes: Vec<u64>,
    /// Where each stands first in the source.
    places: Vec<Place>,
    /// By rule.
    sends: Vec<Vec<u32>>,
}

impl People {
    /// Nobody yet, under so many rules.
    pub fn new(rules: usize) -> People {
        People { hashes: Vec::new(), places: Vec::new(), sends: vec![Vec::new(); rules] }
    }

    /// Goes on to the next recipient by one's records.
    pub fn begin(&mut self, records: &[Placed]) {
        let place = records.iter().map(|(split, record)| (*split, record.ordinal)).min();
        self.hashes.push(records[0].1.hash);
        self.places.push(place.unwrap_or_default());
        self.sends.iter_mut().for_each(|sends| sends.push(0));
    }

    /// The recipient is sent so many more by a rule.
    pub fn receives(&mut self, rule: usize, more: u32) {
        if let Some(sends) = self.sends[rule].last_mut() {
            *sends = sends.saturating_add(more);
        }
    }

    /// What each recipient gets by a rule.
    pub fn sends(&self, rule: usize) -> &[u32] {
        &self.sends[rule]
    }
}

/// Who gets something by one rule and nothing by the other. Each rule is given with the recipients of its reading.
pub fn cross(base: (&People, usize), other: (&People, usize), gained: &mut Crossing, lost: &mut Crossing) {
    let (mut i, mut j) = (0, 0);
    loop {
        let (a, b) = (base.0.hashes.get(i), other.0.hashes.get(j));
        let Some(next) = a.into_iter().chain(b).min().copied() else { return };
        let take = |side: (&People, usize), at: &mut usize| {
            let is_here = side.0.hashes.get(*at) == Some(&next);
            let here = is_here.then(|| (side.0.places[*at], side.0.sends[side.1][*at] > 0));
            *at += usize::from(is_here);
            here
        };
        match (take(base, &mut i), take(other, &mut j)) {
            (Some((_, true)), Some((_, true))) => {}
            (Some((place, true)), _) => lost.note(place),
            (_, Some((place, true))) => gained.note(place),
            _ => {}
        }
    }
}

/// A number of recipients, and those of them who stand first in the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crossing {
    /// How many.
    pub count: u64,
    /// At most [`EXAMPLES`], ascending.
    pub first: Vec<Place>,
}

impl Crossing {
    fn note(&mut self, place: Place) {
        self.count += 1;
        if self.first.len() == EXAMPLES && self.first.last() < Some(&place) {
            return;
        }
        let at = self.first.partition_point(|known| *known < place);
        self.first.insert(at, place);
        self.first.truncate(EXAMPLES);
    }

    /// Adds others.
    pub fn add(&mut self, other: Crossing) {
        self.count += other.count;
        self.first.extend(other.first);
        self.first.sort_unstable();
        self.first.truncate(EXAMPLES);
    }
}

/// Numbers below this are counted in an array.
const COMMON: usize = 64;

/// How many recipients are sent how much.
#[derive(Debug, Clone)]
pub struct Distribution {
    common: [u64; COMMON],
    rare: BTreeMap<u32, u64>,
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution { common: [0; COMMON], rare: BTreeMap::new() }
    }
}

impl Distribution {
    /// Counts a recipient.
    pub fn count(&mut self, sends: u32) {
        match self.common.get_mut(sends as usize) {
            Some(recipients) => *recipients += 1,
            None => *self.rare.entry(sends).or_default() += 1,
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: Distribution) {
        self.common.iter_mut().zip(other.common).for_each(|(mine, theirs)| *mine += theirs);
        other.rare.into_iter().for_each(|(sends, recipients)| *self.rare.entry(sends).or_default() += recipients);
    }

    /// Number of sends and of recipients who get as many, ascending; numbers that nobody gets are left out.
    pub fn entries(&self) -> Vec<(u32, u64)> {
        let common = self.common.iter().enumerate().map(|(sends, recipients)| (sends as u32, *recipients));
        common.chain(self.rare.iter().map(|(sends, n)| (*sends, *n))).filter(|(_, n)| *n > 0).collect()
    }
}

/// The smallest number of sends that at least so many per cent of the recipients do not exceed; 0 where there is nobody.
pub fn percentile(entries: &[(u32, u64)], percent: u64) -> u32 {
    let total: u64 = entries.iter().map(|(_, recipients)| recipients).sum();
    let rank = (u128::from(total) * u128::from(percent)).div_ceil(100) as u64;
    let mut seen = 0;
    let reached = entries.iter().find(|(_, recipients)| {
        seen += recipients;
        seen >= rank
    });
    reached.map_or(0, |(sends, _)| *sends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(sends: &[(u64, u32)]) -> People {
        People {
            hashes: sends.iter().map(|(hash, _)| *hash).collect(),
            places: sends.iter().map(|(hash, _)| (0, *hash as u32)).collect(),
            sends: vec![sends.iter().map(|(_, sends)| *sends).collect()],
        }
    }

    #[test]
    fn who_is_on_one_side_only_gains_or_loses_if_sent_anything() {
        let (mut gained, mut lost) = (Crossing::default(), Crossing::default());
        let base = people(&[(1, 2), (2, 0), (4, 1), (5, 0), (7, 3)]);
        let other = people(&[(1, 1), (2, 1), (3, 1), (4, 0), (6, 0)]);
        cross((&base, 0), (&other, 0), &mut gained, &mut lost);
        assert_eq!((gained.count, gained.first), (2, vec![(0, 2), (0, 3)]));
        assert_eq!((lost.count, lost.first), (2, vec![(0, 4), (0, 7)]));
    }

    #[test]
    fn the_first_examples_are_kept_in_whatever_order_they_come() {
        let of = |places: &mut dyn Iterator<Item = u32>| {
            let mut crossing = Crossing::default();
            places.for_each(|place| crossing.note((0, place)));
            crossing
        };
        let mut parts = of(&mut (0..25).filter(|n| n % 2 == 1));
        parts.add(of(&mut (0..25).filter(|n| n % 2 == 0)));
        assert_eq!(parts, of(&mut (0..25).rev()));
        assert_eq!((parts.count, parts.first), (25, (0..10).map(|place| (0, place)).collect()));
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut numbers = Distribution::default();
        (1..=100).for_each(|sends| numbers.count(sends));
        let mut all = numbers.clone();
        all.add(numbers);
        let entries = all.entries();
        assert_eq!(entries.len(), 100);
        assert_eq!([50, 95, 99, 100].map(|percent| percentile(&entries, percent)), [50, 95, 99, 100]);
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!([50, 51].map(|percent| percentile(&[(0, 1), (9, 1)], percent)), [0, 9]);
    }
}
