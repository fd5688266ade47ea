//! When triggers arrive: a rate over time, and the instant by which a share of all has arrived.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::profile::Share;
use crate::error::{Error, Kind, Result};
use crate::triggers::{MICROS_PER_SECOND, Micros, format_micros};

const HOUR: Micros = 3_600 * MICROS_PER_SECOND;

/// The most bursts of a profile.
pub(super) const MAX_BURSTS: u32 = 100_000;

/// Longer periods than this are a slip of the pen.
const MAX_PERIOD: Micros = 100 * 366 * 24 * HOUR;

/// Little at night, a working day, and most in the evening.
const DAILY_HOURS: [f64; 24] = [
    2.0, 1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 10.0, 10.0, 11.0, 10.0, 9.0, 9.0, 10.0, 11.0, 13.0, 14.0, 13.0,
    10.0, 7.0, 4.0,
];

/// The shape of arrivals over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Arrival {
    /// As many in every second.
    #[default]
    Uniform,
    /// The same rhythm every day: a weight for each hour, in UTC.
    Daily {
        /// From midnight; none negative.
        hours: [f64; 24],
    },
    /// Most of them in a few short bursts, the rest as in `Uniform`.
    Bursts {
        /// How many bursts; where they begin is drawn from the seed.
        count: u32,
        /// What they have of all triggers.
        share: Share,
        /// How long each is, in microseconds.
        length: Micros,
    },
}

impl Arrival {
    /// The built-in day.
    pub fn daily() -> Arrival {
        Arrival::Daily { hours: DAILY_HOURS }
    }

    /// Twelve bursts of ten minutes with half of the triggers.
    pub fn bursts() -> Arrival {
        Arrival::Bursts { count: 12, share: Share::new(0.5).unwrap_or(Share::NONE), length: 600 * MICROS_PER_SECOND }
    }
}

/// Stretches of a constant rate, as the share that has arrived at their ends.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    /// Rises from 0 to 1.
    arrived: Vec<f64>,
    /// The instants of those shares.
    instants: Vec<Micros>,
}

impl Timeline {
    /// Arrivals in `[from, until)`. Kind `Usage` where they cannot lie as asked.
    pub(super) fn new(arrival: &Arrival, from: Micros, until: Micros, seed: u64) -> Result<Timeline> {
        let period = until.saturating_sub(from);
        if !(1..=MAX_PERIOD).contains(&period) {
            let what = format!("no arrivals fit between {} and {}", format_micros(from), format_micros(until));
            return Err(Error::new(Kind::Usage, what).hint("`until` must lie after `from`, by at most 100 years"));
        }
        match arrival {
            Arrival::Uniform => Timeline::of_stretches([(until, 1.0)], from),
            Arrival::Daily { hours } => Timeline::of_stretches(daily(hours, from, until), from),
            Arrival::Bursts { length, .. } if *length < 1 || *length > period => {
                let error = Error::new(Kind::Usage, "a burst must be shorter than the time from `from` to `until`");
                Err(error.hint("set the `length` of `arrival`, or move `until`"))
            }
            Arrival::Bursts { count, share, length } => {
                let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
                let mut starts: Vec<Micros> = (0..*count).map(|_| random.random_range(from..=until - length)).collect();
                starts.sort_unstable();
                Timeline::of_stretches(bursts(&starts, share.get(), *length, from, until), from)
            }
        }
    }

    /// From the end and the rate of every stretch.
    fn of_stretches(stretches: impl IntoIterator<Item = (Micros, f64)>, from: Micros) -> Result<Timeline> {
        let (mut arrived, mut instants) = (vec![0.0], vec![from]);
        let (mut sum, mut start) = (0.0, from);
        for (end, rate) in stretches {
            sum += rate * (end - start) as f64;
            start = end;
            arrived.push(sum);
            instants.push(end);
        }
        if sum <= 0.0 {
            let error = Error::new(Kind::Usage, "no hour between `from` and `until` has any arrivals");
            return Err(error.hint("give one of those `hours` (UTC) a weight, or move `from` and `until`"));
        }
        arrived.iter_mut().for_each(|share| *share /= sum);
        Ok(Timeline { arrived, instants })
    }

    /// Where it begins and ends.
    pub(super) fn period(&self) -> (Micros, Micros) {
        (self.instants[0], self.instants[self.instants.len() - 1])
    }

    /// The instant by which this share, from 0 to below 1, has arrived. Never falls as the share rises.
    pub(super) fn at(&self, share: f64) -> Micros {
        let last = self.arrived.len() - 1;
        let end = self.arrived.partition_point(|arrived| *arrived <= share).clamp(1, last);
        let (before, after) = (self.arrived[end - 1], self.arrived[end]);
        let (start, stop) = (self.instants[end - 1], self.instants[end]);
        let inside = ((share - before) / (after - before)).clamp(0.0, 1.0);
        (start + (inside * (stop - start) as f64) as Micros).min(stop - 1)
    }
}

fn daily(hours: &[f64; 24], from: Micros, until: Micros) -> impl Iterator<Item = (Micros, f64)> {
    let first = from.div_euclid(HOUR);
    let last = (until - 1).div_euclid(HOUR);
    (first..=last).map(move |hour| (((hour + 1) * HOUR).min(until), hours[hour.rem_euclid(24) as usize]))
}

fn bursts(starts: &[Micros], share: f64, length: Micros, from: Micros, until: Micros) -> Vec<(Micros, f64)> {
    let base = (1.0 - share) / (until - from) as f64;
    let each = share / (starts.len().max(1) as f64 * length as f64);
    let ends: Vec<Micros> = starts.iter().map(|start| start + length).collect();
    let mut edges: Vec<Micros> = starts.iter().chain(&ends).copied().chain([from, until]).collect();
    edges.sort_unstable();
    edges.dedup();
    let begun = |edges: &[Micros], at: Micros| edges.partition_point(|edge| *edge <= at);
    let rate = |at: Micros| base + each * (begun(starts, at) - begun(&ends, at)) as f64;
    edges.windows(2).map(|stretch| (stretch[1], rate(stretch[0]))).collect()
}
