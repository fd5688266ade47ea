//! Instants: microseconds since 1970-01-01T00:00:00Z in an `i64`, read from the forms that files use.

use jiff::{Timestamp, civil, tz::TimeZone};

/// Microseconds since the Unix epoch, UTC.
pub type Micros = i64;

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// 2000-01-01 and 2100-01-01 in seconds: an epoch integer's unit is the one that puts it between them.
const EPOCH_SECONDS: std::ops::Range<i64> = 946_684_800..4_102_444_800;

/// The unit of an epoch integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds; what is below a microsecond is cut off towards the past.
    Nanos,
}

impl EpochUnit {
    const ALL: [EpochUnit; 4] = [EpochUnit::Seconds, EpochUnit::Millis, EpochUnit::Micros, EpochUnit::Nanos];

    /// Units in a second.
    pub fn per_second(self) -> i64 {
        match self {
            EpochUnit::Seconds => 1,
            EpochUnit::Millis => 1_000,
            EpochUnit::Micros => 1_000_000,
            EpochUnit::Nanos => 1_000_000_000,
        }
    }

    /// An integer of this unit as an instant; `None` where it does not fit.
    pub fn to_micros(self, value: i64) -> Option<Micros> {
        match self {
            EpochUnit::Nanos => Some(value.div_euclid(1_000)),
            unit => value.checked_mul(MICROS_PER_SECOND / unit.per_second()),
        }
    }
}

/// Why a time could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeError {
    /// What would have been right.
    pub expected: &'static str,
}

/// How a run reads times: what a zoneless one means, and the unit of epoch integers.
#[derive(Debug, Clone)]
pub struct TimeReader {
    /// The zone of zoneless times.
    pub zone: TimeZone,
    /// The unit of epoch integers; `None` decides by magnitude between 2000 and 2100.
    pub epoch_unit: Option<EpochUnit>,
}

impl Default for TimeReader {
    fn default() -> TimeReader {
        TimeReader { zone: TimeZone::UTC, epoch_unit: None }
    }
}

impl TimeReader {
    /// RFC 3339, also with a space for the `T`, an offset without a colon, without a zone, or a date alone.
    pub fn text(&self, text: &str) -> Result<Micros, TimeError> {
        let wrong = TimeError { expected: "an RFC 3339 time such as `2026-11-23T08:30:00Z`" };
        let text = text.trim();
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(instant.as_microsecond());
        }
        let local = text.parse::<civil::DateTime>().map_err(|_| wrong.clone())?;
        self.zoneless(local).ok_or(wrong)
    }

    /// A wall-clock time in the reader's zone. In a gap it moves forward by the gap; in an overlap the earlier offset counts.
    pub fn zoneless(&self, local: civil::DateTime) -> Option<Micros> {
        self.zone.to_ambiguous_timestamp(local).compatible().ok().map(|t| t.as_microsecond())
    }

    /// Zoneless microseconds, as Parquet stores them, in the reader's zone.
    pub fn zoneless_micros(&self, micros: i64) -> Option<Micros> {
        if self.zone == TimeZone::UTC {
            return Some(micros);
        }
        self.zoneless(TimeZone::UTC.to_datetime(Timestamp::from_microsecond(micros).ok()?))
    }

    /// An epoch integer.
    pub fn epoch(&self, value: i64) -> Result<Micros, TimeError> {
        let unit = self.epoch_unit.or_else(|| {
            EpochUnit::ALL.into_iter().find(|unit| EPOCH_SECONDS.contains(&value.div_euclid(unit.per_second())))
        });
        let wrong = TimeError { expected: "an epoch integer between 2000 and 2100 (or give `--epoch-unit`)" };
        unit.and_then(|u| u.to_micros(value)).ok_or(wrong)
    }
}

/// RFC 3339 in UTC with as many digits as needed: `2026-11-23T08:30:00.25Z`. Outside jiff's range: the number itself.
pub fn format_micros(at: Micros) -> String {
    Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_and_its_relatives_are_one_instant() {
        let reader = TimeReader::default();
        for text in [
            "2026-11-23T08:30:00Z",
            "2026-11-23 08:30:00Z",
            "2026-11-23T10:30:00+02:00",
            "2026-11-23T10:30:00+0200",
            "2026-11-23T08:30:00",
        ] {
            assert_eq!(reader.text(text), Ok(1_795_422_600_000_000), "{text}");
        }
        assert!(reader.text("yesterday").is_err());
    }

    #[test]
    fn epoch_units_are_told_apart_by_magnitude() {
        let reader = TimeReader::default();
        for value in [1_795_422_600, 1_795_422_600_000, 1_795_422_600_000_000, 1_795_422_600_000_000_000] {
            assert_eq!(reader.epoch(value), Ok(1_795_422_600_000_000));
        }
        assert!(reader.epoch(12).is_err());
        assert_eq!(TimeReader { epoch_unit: Some(EpochUnit::Seconds), ..reader }.epoch(12), Ok(12_000_000));
    }

    #[test]
    fn a_zoneless_time_in_a_gap_moves_forward() {
        let reader = TimeReader { zone: TimeZone::get("Europe/Paris").expect("bundled zone"), epoch_unit: None };
        assert_eq!(reader.text("2026-03-29T02:30:00"), reader.text("2026-03-29T03:30:00"));
    }
}
