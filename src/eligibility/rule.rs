//! Re-eligibility: never again, always, or after a window of seconds (reference section 5).

use crate::triggers::{MICROS_PER_SECOND, Micros};

/// The longest window: 720 days.
pub const MAX_WINDOW_SECONDS: u64 = 720 * 86_400;

/// When a recipient may receive a campaign again. Days are 86,400 s and months 2,592,000 s, never calendar dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reeligibility {
    /// Once, ever.
    Never,
    /// Every time: a window of 0.
    Always,
    /// When at least this many microseconds lie between two receipts.
    After {
        /// The window, above 0.
        window_micros: i64,
    },
}

impl Reeligibility {
    /// Reads `never`, `always` or a duration of at most 720 days.
    pub fn parse(text: &str) -> Result<Reeligibility, String> {
        match text {
            "never" => Ok(Reeligibility::Never),
            "always" => Ok(Reeligibility::Always),
            _ => match parse_duration_seconds(text)? {
                0 => Ok(Reeligibility::Always),
                seconds if seconds > MAX_WINDOW_SECONDS => Err(format!("`{text}` is longer than 720 days")),
                seconds => Ok(Reeligibility::After { window_micros: seconds as i64 * MICROS_PER_SECOND }),
            },
        }
    }

    /// The window in seconds; `None` for `never`.
    pub fn window_seconds(self) -> Option<u64> {
        match self {
            Reeligibility::Never => None,
            Reeligibility::Always => Some(0),
            Reeligibility::After { window_micros } => Some((window_micros / MICROS_PER_SECOND) as u64),
        }
    }

    /// How far back a receipt can still refuse a trigger at `at`: the earliest instant that must be known.
    pub fn looks_back_to(self, at: Micros) -> Micros {
        match self {
            Reeligibility::Never => Micros::MIN,
            Reeligibility::Always => Micros::MAX,
            Reeligibility::After { window_micros } => at.saturating_sub(window_micros),
        }
    }
}

/// Whole seconds of `90s`, `15m`, `12h`, `1d`, `2w`, `1mo` (30 days) or `0`.
pub fn parse_duration_seconds(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("`{text}` is not a duration; write a whole number and s, m, h, d, w or mo, such as `90s` or `1d`");
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "mo" => 2_592_000,
        "" if number == 0 => 1,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).filter(|s| *s <= i64::MAX as u64 / MICROS_PER_SECOND as u64).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_of_known_units() {
        let read = |t| parse_duration_seconds(t).ok();
        assert_eq!(
            ["90s", "15m", "12h", "1d", "2w", "1mo", "0"].map(read),
            [90, 900, 43_200, 86_400, 1_209_600, 2_592_000, 0].map(Some)
        );
        assert_eq!(["", "1", "d", "1.5h", "-1d", "1y", "99999999999999999999d"].map(read), [None; 7]);
    }

    #[test]
    fn a_window_over_720_days_is_refused() {
        assert!(Reeligibility::parse("720d").is_ok());
        assert!(Reeligibility::parse("721d").is_err());
        assert_eq!(Reeligibility::parse("0s"), Ok(Reeligibility::Always));
    }
}
