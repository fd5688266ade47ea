//! Row *i*: who triggers which campaign when, and what is odd about it.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, Zipf};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::profile::Profile;
use super::shape::Drawn;
use crate::error::{Error, Kind, Result};
use crate::triggers::Micros;

/// How many rows back a copy finds its original, at most.
const REACH: u64 = 50_000;

/// What a row's random numbers are for. A purpose of its own keeps what is added later from moving what is there.
#[derive(Clone, Copy)]
enum Purpose {
    /// What all rows of a request share: the campaign and the instant.
    Request,
    Row,
    Properties,
}

/// What a row is, in place of an ordinary one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Late,
    OutOfOrder,
    Duplicate,
    Retry,
    Bad,
}

/// One row, apart from its properties.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    /// The row that this trigger was first in: it names the trigger id.
    pub(super) origin: u64,
    /// The first row of the request that this row belongs to; `None` for a row that no other shares its request with.
    pub(super) request: Option<u64>,
    /// Position in the profile's campaigns.
    pub(super) campaign: usize,
    /// From 1, the one with the most triggers.
    pub(super) recipient: u64,
    pub(super) at: Micros,
    /// A number to choose a fault by, in a bad row.
    pub(super) fault: Option<u32>,
}

/// Makes the rows of a profile.
pub(super) struct Rows<'p> {
    pub(super) profile: &'p Profile,
    campaigns: WeightedAliasIndex<f64>,
    recipients: Zipf<f64>,
    /// What shares add up to, in the order of [`Class`] after `Plain`.
    bounds: [(f64, Class); 5],
}

impl<'p> Rows<'p> {
    pub(super) fn new(profile: &'p Profile) -> Result<Rows<'p>> {
        let broken = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(Kind::Internal, "the profile has no distribution").caused_by(cause)
        };
        let weights = profile.campaigns.iter().map(|campaign| campaign.weight).collect();
        let classes = [
            (profile.late, Class::Late),
            (profile.out_of_order, Class::OutOfOrder),
            (profile.duplicates, Class::Duplicate),
            (profile.retries, Class::Retry),
            (profile.bad_rows, Class::Bad),
        ];
        let mut sum = 0.0;
        Ok(Rows {
            profile,
            campaigns: WeightedAliasIndex::new(weights).map_err(|e| broken(e.into()))?,
            recipients: Zipf::new(profile.recipients as f64, profile.recipient_skew).map_err(|e| broken(e.into()))?,
            bounds: classes.map(|(share, class)| {
                sum += share.get();
                (sum, class)
            }),
        })
    }

    /// The row at an index, and its properties if `drawn` is wanted.
    pub(super) fn row(&self, index: u64, drawn: &mut Drawn) -> Row {
        let mut random = self.random(index, Purpose::Row);
        let row = match self.class(index, &mut random) {
            Class::Duplicate => self.original(self.origin(index, &mut random)),
            Class::Retry => {
                let original = self.original(self.origin(index, &mut random));
                Row { at: self.request(index).1, ..original }
            }
            class => self.fresh(index, class, random),
        };
        drawn.redraw(&self.profile.properties, self.seed(row.origin, Purpose::Properties));
        row
    }

    fn seed(&self, index: u64, purpose: Purpose) -> u64 {
        let mut key = [purpose as u8; 9];
        key[..8].copy_from_slice(&index.to_le_bytes());
        xxh3_64_with_seed(&key, self.profile.seed)
    }

    fn random(&self, index: u64, purpose: Purpose) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(self.seed(index, purpose))
    }

    /// The class is the first thing that a row draws. The first row has nothing before it that it could repeat.
    fn class(&self, index: u64, random: &mut Xoshiro256PlusPlus) -> Class {
        let drawn: f64 = random.random();
        let found = self.bounds.iter().find(|(bound, _)| drawn < *bound);
        found.filter(|_| index > 0).map_or(Class::Plain, |(_, class)| *class)
    }

    /// The row that a copy repeats: the nearest one, from a place drawn at random backwards, that is no copy itself and not bad.
    fn origin(&self, index: u64, random: &mut Xoshiro256PlusPlus) -> u64 {
        let mut origin = index - random.random_range(1..=index.min(REACH));
        let copies = |class| matches!(class, Class::Duplicate | Class::Retry | Class::Bad);
        while copies(self.class(origin, &mut self.random(origin, Purpose::Row))) {
            origin -= 1;
        }
        origin
    }

    /// The row that a copy repeats, as a row that shares no request.
    fn original(&self, origin: u64) -> Row {
        let mut random = self.random(origin, Purpose::Row);
        let class = self.class(origin, &mut random);
        Row { request: None, ..self.fresh(origin, class, random) }
    }

    /// A row that repeats no other. `random` has drawn its class.
    fn fresh(&self, index: u64, class: Class, mut random: Xoshiro256PlusPlus) -> Row {
        let (campaign, arrived) = self.request(index);
        let recipient = (self.recipients.sample(&mut random) as u64).clamp(1, self.profile.recipients);
        let (late_by, out_of_order_by) = (self.profile.late_by, self.profile.out_of_order_by);
        let before = match class {
            Class::Late => random.random_range(out_of_order_by + 1..=late_by),
            Class::OutOfOrder => random.random_range(1..=out_of_order_by),
            _ => 0,
        };
        Row {
            origin: index,
            request: (class == Class::Plain).then(|| self.leader(index)),
            campaign,
            recipient,
            at: arrived - before,
            fault: (class == Class::Bad).then(|| random.random()),
        }
    }

    /// The first row of the request that a row is part of.
    fn leader(&self, index: u64) -> u64 {
        index - index % self.profile.recipients_per_request
    }

    /// The campaign and the instant of the request that a row is part of. Instants never fall as the index rises: arrivals
    /// are spread evenly along the profile's timeline, each at random within its own part of it.
    fn request(&self, index: u64) -> (usize, Micros) {
        let leader = self.leader(index);
        let mut random = self.random(leader, Purpose::Request);
        let campaign = self.campaigns.sample(&mut random);
        let place = leader as f64 + random.random::<f64>();
        (campaign, self.profile.timeline.at(place / self.profile.triggers as f64))
    }
}

/// The id of a recipient: the smaller the number, the more triggers.
pub(super) fn push_recipient(text: &mut String, recipient: u64) {
    text.push_str("u-");
    push_padded(text, recipient);
}

/// The id of a trigger. The seed is part of it, so that files of several seeds can be read together.
pub(super) fn push_trigger_id(text: &mut String, seed: u64, origin: u64) {
    text.push('t');
    text.push_str(itoa::Buffer::new().format(seed));
    text.push('-');
    push_padded(text, origin);
}

/// At least nine digits.
fn push_padded(text: &mut String, number: u64) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number);
    text.push_str(&"000000000"[digits.len().min(9)..]);
    text.push_str(digits);
}
