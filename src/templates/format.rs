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

/// A decimal number in a style; half rounds away from zero. `None` where `text` is not a number.
pub(super) fn number(text: &str, style: &NumberStyle<'_>) -> Option<String> {
    let (negative, mut whole, mut fraction) = digits(text)?;
    if let Some(decimals) = style.decimals {
        round(&mut whole, &mut fraction, decimals);
    }
    let zero = whole.iter().chain(&fraction).all(|digit| *digit == b'0');
    let mut out = String::with_capacity(whole.len() * 2 + fraction.len() + 2);
    if negative && !zero {
        out.push('-');
    }
    for (index, digit) in whole.iter().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push_str(style.thousands);
        }
        out.push(char::from(*digit));
    }
    if !fraction.is_empty() {
        out.push_str(style.point);
        out.extend(fraction.iter().map(|digit| char::from(*digit)));
    }
    Some(out)
}

/// Sign, digits before and digits after the point, the exponent worked in.
fn digits(text: &str) -> Option<(bool, Vec<u8>, Vec<u8>)> {
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
    let length = whole.len() + fraction.len() + exponent.unsigned_abs() as usize;
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || length > MAX_DIGITS {
        return None;
    }
    if mantissa.ends_with('.') {
        return None;
    }
    let (mut whole, mut fraction) = (whole.as_bytes().to_vec(), fraction.as_bytes().to_vec());
    for _ in 0..exponent {
        whole.push(if fraction.is_empty() { b'0' } else { fraction.remove(0) });
    }
    for _ in exponent..0 {
        fraction.insert(0, whole.pop().unwrap_or(b'0'));
    }
    let leading = whole.iter().take_while(|digit| **digit == b'0').count();
    whole.drain(..leading.min(whole.len().saturating_sub(1)));
    if whole.is_empty() {
        whole.push(b'0');
    }
    Some((negative, whole, fraction))
}

fn round(whole: &mut Vec<u8>, fraction: &mut Vec<u8>, decimals: usize) {
    let up = fraction.get(decimals).is_some_and(|digit| *digit >= b'5');
    fraction.resize(decimals, b'0');
    if !up {
        return;
    }
    for digit in fraction.iter_mut().rev().chain(whole.iter_mut().rev()) {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    whole.insert(0, b'1');
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

/// A time in a format of `strftime`, or what is wrong with the format.
pub(super) fn date(when: &When, pattern: &str) -> Result<String, String> {
    strtime::format(pattern, &when.0).map_err(|error| format!("the date format cannot be used: {error}"))
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
        number(text, &NumberStyle { decimals, thousands, point: "." })
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
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in ["", "-", "abc", "1.", ".5", "1,5", "1e9999999", "0x10", "1 2", "NaN", "١٢"] {
            assert_eq!(styled(text, Some(2), ""), None, "{text}");
        }
    }

    #[test]
    fn a_day_is_the_same_day_in_every_zone() {
        let day = When::of_text("2026-11-23", "America/New_York").expect("a day");
        assert_eq!(date(&day, "%Y-%m-%d").expect("a format"), "2026-11-23");
        let instant = When::of_text("2026-11-23T02:00:00Z", "America/New_York").expect("an instant");
        assert_eq!(date(&instant, "%Y-%m-%d %H:%M").expect("a format"), "2026-11-22 21:00");
    }
}
