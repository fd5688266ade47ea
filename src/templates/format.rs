//! Numbers and dates as text. Numbers are rounded on their decimal digits, never through a float.

use jiff::{Timestamp, ZonedDateTime, civil, fmt::strtime, tz::TimeZone};

use crate::triggers::TimeReader;

/// Most digits that a number is written out to, before or after the point.
const MAX_DIGITS: usize = 400;

/// How a number is written.
pub(super) struct NumberStyle<'a> {
    /// Digits after the point; `None` keeps those it has.
    pub decimals: Option<usize>,
    /// Between groups of three digits before the point.
    pub thousands: &'a str,
    /// The decimal point.
    pub point: &'a str,
}

/// Appends a decimal number in a style; half rounds away from zero. `None` where `text` is not a number.
pub(super) fn number(text: &str, style: &NumberStyle<'_>, out: &mut String) -> Option<()> {
    let mut digits = Digits::of(text)?;
    if let Some(decimals) = style.decimals {
        digits.round(decimals);
    }
    if digits.negative && digits.all().any(|digit| digit != b'0') {
        out.push('-');
    }
    for at in 0..digits.point {
        if at > 0 && (digits.point - at).is_multiple_of(3) {
            out.push_str(style.thousands);
        }
        out.push(char::from(digits.at(at)));
    }
    let fraction = style.decimals.unwrap_or(digits.len.saturating_sub(digits.point));
    if fraction > 0 {
        out.push_str(style.point);
        out.extend((digits.point..digits.point + fraction).map(|at| char::from(digits.at(at))));
    }
    Some(())
}

/// The digits of a number, the exponent worked in.
struct Digits {
    negative: bool,
    /// Digits with a free place before them; behind them zeros are meant.
    digits: [u8; MAX_DIGITS + 2],
    start: usize,
    len: usize,
    /// How many stand before the point, at least one.
    point: usize,
}

impl Digits {
    fn of(text: &str) -> Option<Digits> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let shift = exponent.unsigned_abs() as usize;
        let length = whole.len() + fraction.len() + shift;
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || length > MAX_DIGITS {
            return None;
        }
        if mantissa.ends_with('.') {
            return None;
        }
        let mut digits = Digits { negative, digits: [b'0'; MAX_DIGITS + 2], start: 1, len: 0, point: whole.len() };
        if exponent < 0 {
            digits.len = shift;
        }
        digits.push(whole);
        digits.push(fraction);
        // Zeros before a negative exponent's digits keep the point where it was.
        digits.point = if exponent < 0 { whole.len() } else { whole.len() + shift };
        digits.len = digits.len.max(digits.point);
        let leading = digits.all().take_while(|digit| *digit == b'0').count().min(digits.point - 1);
        digits.start += leading;
        digits.len -= leading;
        digits.point -= leading;
        Some(digits)
    }

    fn push(&mut self, part: &str) {
        let at = self.start + self.len;
        self.digits[at..at + part.len()].copy_from_slice(part.as_bytes());
        self.len += part.len();
    }

    fn all(&self) -> impl Iterator<Item = u8> {
        self.digits[self.start..self.start + self.len].iter().copied()
    }

    fn at(&self, at: usize) -> u8 {
        if at < self.len { self.digits[self.start + at] } else { b'0' }
    }

    fn round(&mut self, decimals: usize) {
        let kept = self.point.saturating_add(decimals);
        if kept >= self.len {
            return;
        }
        let up = self.at(kept) >= b'5';
        self.len = kept;
        if !up {
            return;
        }
        for digit in self.digits[self.start..self.start + kept].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
        self.start -= 1;
        self.digits[self.start] = b'1';
        self.len += 1;
        self.point += 1;
    }
}

/// An instant in a zone, or a day, which is the same day in every zone.
pub(super) struct When(ZonedDateTime);

impl When {
    /// RFC 3339; without a zone it is UTC; a date alone is that day.
    pub fn of_text(text: &str, zone: &str) -> Option<When> {
        if text.len() == "2026-11-23".len()
            && let Ok(day) = text.parse::<civil::Date>()
        {
            return day.to_zoned_datetime(TimeZone::UTC).ok().map(When);
        }
        let micros = TimeReader::default().text(text).ok()?;
        When::at(Timestamp::from_microsecond(micros).ok()?, zone)
    }

    /// Seconds since 1970.
    pub fn of_seconds(seconds: i64, zone: &str) -> Option<When> {
        When::at(Timestamp::from_second(seconds).ok()?, zone)
    }

    fn at(instant: Timestamp, zone: &str) -> Option<When> {
        Some(When(instant.to_zoned_datetime(self::zone(zone)?)))
    }
}

/// A zone of the bundled time zone database.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() }
}

/// Appends a time in a format of `strftime`, or tells what is wrong with the format.
pub(super) fn date(when: &When, pattern: &str, out: &mut String) -> Result<(), String> {
    let time = strtime::BrokenDownTime::from(&when.0);
    time.format(pattern, out).map_err(|error| format!("the date format cannot be used: {error}"))
}

/// Whether a date format can be used.
pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
    strtime::format(pattern, &Timestamp::UNIX_EPOCH.to_zoned_datetime(TimeZone::UTC))
        .map(drop)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn styled(text: &str, decimals: Option<usize>, thousands: &str) -> Option<String> {
        let mut out = String::new();
        number(text, &NumberStyle { decimals, thousands, point: "." }, &mut out)?;
        Some(out)
    }

    #[test]
    fn half_rounds_away_from_zero_on_decimal_digits() {
        for (text, expected) in [
            ("1.005", "1.01"),
            ("2.675", "2.68"),
            ("-1.005", "-1.01"),
            ("0.994", "0.99"),
            ("9.995", "10.00"),
            ("7", "7.00"),
        ] {
            assert_eq!(styled(text, Some(2), "").as_deref(), Some(expected), "{text}");
        }
        assert_eq!(styled("0.5", Some(0), "").as_deref(), Some("1"));
        assert_eq!(styled("-0.001", Some(2), "").as_deref(), Some("0.00"), "no negative zero");
    }

    #[test]
    fn thousands_are_grouped_from_the_right() {
        assert_eq!(styled("1234567.5", Some(1), ",").as_deref(), Some("1,234,567.5"));
        assert_eq!(styled("123", None, ",").as_deref(), Some("123"));
        assert_eq!(styled("-1000", None, " ").as_deref(), Some("-1 000"));
    }

    #[test]
    fn exponents_are_worked_in() {
        assert_eq!(styled("1.5e3", None, "").as_deref(), Some("1500"));
        assert_eq!(styled("25e-3", None, "").as_deref(), Some("0.025"));
        assert_eq!(styled("1e-7", Some(2), "").as_deref(), Some("0.00"));
        assert_eq!(styled("1234.5e-2", None, "").as_deref(), Some("12.345"));
        assert_eq!(styled("0.0012e2", None, "").as_deref(), Some("0.12"));
        assert_eq!(styled("99.99e1", Some(0), ",").as_deref(), Some("1,000"));
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in ["", "-", "abc", "1.", ".5", "1,5", "1e9999999", "0x10", "1 2", "NaN", "١٢"] {
            assert_eq!(styled(text, Some(2), ""), None, "{text}");
        }
    }

    fn formatted(when: &When, pattern: &str) -> String {
        let mut out = String::new();
        date(when, pattern, &mut out).expect("a format");
        out
    }

    #[test]
    fn a_day_is_the_same_day_in_every_zone() {
        let day = When::of_text("2026-11-23", "America/New_York").expect("a day");
        assert_eq!(formatted(&day, "%Y-%m-%d"), "2026-11-23");
        let instant = When::of_text("2026-11-23T02:00:00Z", "America/New_York").expect("an instant");
        assert_eq!(formatted(&instant, "%Y-%m-%d %H:%M"), "2026-11-22 21:00");
    }
}
