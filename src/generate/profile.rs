//! What to generate: a draft of what a file and flags ask for, and the profile that it comes to.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::arrival::{Arrival, Timeline};
use super::shape::{MAX_WEIGHT, Property, default_properties, weight};
use crate::error::{Error, Kind, Result};
use crate::triggers::{MICROS_PER_SECOND, Micros};

/// The most that the shares of special rows may come to together; the others are what duplicates and retries repeat.
pub const MAX_SHARES: f64 = 0.9;

/// Triggers of one profile, and recipients: counts that a double holds exactly, with room.
pub(super) const COUNTS: RangeInclusive<u64> = 1..=1_000_000_000_000;

/// Recipients of one request, as the API limits them.
pub(super) const REQUEST_SIZES: RangeInclusive<u64> = 1..=50;

/// Zipf exponents; above the last, one recipient gets nearly everything.
pub(super) const SKEWS: RangeInclusive<f64> = 0.0..=10.0;

const DAY: Micros = 86_400 * MICROS_PER_SECOND;

/// 2026-01-01T00:00:00Z: an instant of its own, so that the same command makes the same file next month.
const DEFAULT_FROM: Micros = 1_767_225_600 * MICROS_PER_SECOND;

/// A campaign and how often it is triggered, compared with the others.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedCampaign {
    /// The id as triggers name it.
    pub id: String,
    /// Above 0.
    pub weight: f64,
}

/// A share of all rows, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// No row.
    pub const NONE: Share = Share(0.0);

    /// A number from 0 to 1; `None` for any other.
    pub fn new(share: f64) -> Option<Share> {
        (0.0..=1.0).contains(&share).then_some(Share(share))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// What to generate, complete and checked.
#[derive(Debug, Clone)]
pub struct Profile {
    pub(super) seed: u64,
    pub(super) triggers: u64,
    pub(super) recipients: u64,
    pub(super) recipient_skew: f64,
    pub(super) campaigns: Vec<WeightedCampaign>,
    pub(super) timeline: Timeline,
    pub(super) recipients_per_request: u64,
    pub(super) duplicates: Share,
    pub(super) retries: Share,
    pub(super) late: Share,
    pub(super) late_by: Micros,
    pub(super) out_of_order: Share,
    pub(super) out_of_order_by: Micros,
    pub(super) bad_rows: Share,
    pub(super) properties: Vec<Property>,
}

impl Profile {
    /// Rows of a file, bad ones and copies included.
    pub fn triggers(&self) -> u64 {
        self.triggers
    }

    /// The first instant of an arrival, and the one before which the last arrives.
    pub fn period(&self) -> (Micros, Micros) {
        self.timeline.period()
    }
}

/// What somebody asked for; what is `None` takes its default. The fields are those of a profile file, by the same names.
#[derive(Debug, Clone, Default)]
pub struct ProfileDraft {
    /// Another seed, other triggers.
    pub seed: Option<u64>,
    /// Rows in all.
    pub triggers: Option<u64>,
    /// People to draw from; by default a fourth of the triggers.
    pub recipients: Option<u64>,
    /// The Zipf exponent: 0 is even, 1 gives the n-th recipient 1/n of the first one's triggers.
    pub recipient_skew: Option<f64>,
    /// At least one; there is no default.
    pub campaigns: Option<Vec<WeightedCampaign>>,
    /// The first instant of an arrival.
    pub from: Option<Micros>,
    /// The instant before which the last trigger arrives.
    pub until: Option<Micros>,
    /// How arrivals lie between the two.
    pub arrival: Option<Arrival>,
    /// Neighbours that share campaign and instant, as one request has them.
    pub recipients_per_request: Option<u64>,
    /// Share of exact copies of an earlier row.
    pub duplicates: Option<Share>,
    /// Share of rows that repeat an earlier trigger, id and all, at a later time.
    pub retries: Option<Share>,
    /// Share of rows that arrive long after their trigger happened.
    pub late: Option<Share>,
    /// The longest time between the two, in microseconds.
    pub late_by: Option<Micros>,
    /// Share of rows that were overtaken by their neighbours.
    pub out_of_order: Option<Share>,
    /// By how much at most, in microseconds.
    pub out_of_order_by: Option<Micros>,
    /// Share of rows that no run understands.
    pub bad_rows: Option<Share>,
    /// What every trigger carries.
    pub properties: Option<Vec<Property>>,
}

impl ProfileDraft {
    /// Fills in the defaults and checks what only shows in the whole (kind `Usage`).
    pub fn finish(self) -> Result<Profile> {
        let triggers = self.triggers.unwrap_or(100_000);
        let seed = self.seed.unwrap_or(0);
        let (from, until) = match (self.from, self.until) {
            (Some(from), Some(until)) => (from, until),
            (None, Some(until)) => (until - 30 * DAY, until),
            (from, None) => (from.unwrap_or(DEFAULT_FROM), from.unwrap_or(DEFAULT_FROM) + 30 * DAY),
        };
        let profile = Profile {
            seed,
            triggers,
            recipients: self.recipients.unwrap_or((triggers / 4).max(1)),
            recipient_skew: self.recipient_skew.unwrap_or(0.8),
            campaigns: self.campaigns.unwrap_or_default(),
            timeline: Timeline::new(&self.arrival.unwrap_or_default(), from, until, seed)?,
            recipients_per_request: self.recipients_per_request.unwrap_or(1),
            duplicates: self.duplicates.unwrap_or(Share::NONE),
            retries: self.retries.unwrap_or(Share::NONE),
            late: self.late.unwrap_or(Share::NONE),
            late_by: self.late_by.unwrap_or(2 * DAY),
            out_of_order: self.out_of_order.unwrap_or(Share::NONE),
            out_of_order_by: self.out_of_order_by.unwrap_or(300 * MICROS_PER_SECOND),
            bad_rows: self.bad_rows.unwrap_or(Share::NONE),
            properties: self.properties.unwrap_or_else(default_properties),
        };
        profile.check()?;
        Ok(profile)
    }
}

fn usage(summary: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(Kind::Usage, summary).hint(hint)
}

impl Profile {
    /// The weight of a trigger's properties, at least 1.
    pub(super) fn weight(&self) -> u64 {
        let weights = self.properties.iter().map(|property| weight(&property.shape));
        weights.fold(0, u64::saturating_add).max(1)
    }

    fn check(&self) -> Result<()> {
        self.check_counts()?;
        self.check_campaigns()?;
        if self.weight() > MAX_WEIGHT {
            let hint = "lower the `max` of arrays and words; runs reject properties of more than 51,200 bytes anyway";
            return Err(usage("the properties of a trigger can become too large", hint));
        }
        let special = self.duplicates.0 + self.retries.0 + self.late.0 + self.out_of_order.0 + self.bad_rows.0;
        if special > MAX_SHARES {
            let what = "`duplicates`, `retries`, `late`, `out_of_order` and `bad_rows`";
            let hint = "they are shares of all rows, and no row is of two kinds; lower some of them";
            return Err(usage(format!("{what} come to {special} of all rows; at most {MAX_SHARES} is possible"), hint));
        }
        if self.out_of_order_by < 1 || self.late_by <= self.out_of_order_by {
            let hint = "a late trigger is one that comes later than one that is only out of order";
            return Err(usage("`late_by` must be longer than `out_of_order_by`, and both longer than nothing", hint));
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<()> {
        let counts = [
            ("triggers", self.triggers, COUNTS),
            ("recipients", self.recipients, COUNTS),
            ("recipients_per_request", self.recipients_per_request, REQUEST_SIZES),
        ];
        for (name, count, range) in counts {
            if !range.contains(&count) {
                let hint = format!("give a number from {} to {}", range.start(), range.end());
                return Err(usage(format!("`{name}` cannot be {count}"), hint));
            }
        }
        if !SKEWS.contains(&self.recipient_skew) {
            let hint = format!("give a number from {} (even) to {}", SKEWS.start(), SKEWS.end());
            return Err(usage(format!("`recipient_skew` cannot be {}", self.recipient_skew), hint));
        }
        Ok(())
    }

    fn check_campaigns(&self) -> Result<()> {
        if self.campaigns.is_empty() {
            let hint = "give `--campaign ID=WEIGHT`, `--campaigns DIR`, or `campaigns` in the profile";
            return Err(usage("no campaign is named that triggers could be for", hint));
        }
        let mut seen = BTreeSet::new();
        for campaign in &self.campaigns {
            if campaign.id.is_empty() || !(campaign.weight > 0.0 && campaign.weight <= 1e9) {
                let what = format!("the campaign `{}` has the weight {}", campaign.id, campaign.weight);
                return Err(usage(what, "every campaign needs an id, and a weight above 0 and up to 1e9"));
            }
            if !seen.insert(&campaign.id) {
                return Err(usage(format!("the campaign `{}` is named twice", campaign.id), "add its weights up"));
            }
        }
        Ok(())
    }
}
