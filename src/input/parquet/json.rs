//! Column values as compact JSON text, the one form that properties, carried values and derived ids are made of.
//!
//! Integers plain; floats as the shortest text that reads back (`20.0`); decimals with their scale (`20.00`); dates,
//! timestamps and times of day as RFC 3339 text, zoneless ones as they stand with a `Z`; members that are null are
//! left out. `NaN` and infinities have no JSON text and break the row.

use std::fmt::Write;

use arrow_schema::TimeUnit;
use jiff::Timestamp;

use crate::triggers::{MAX_DEPTH, Reason, format_micros, write_string};

use super::cells::{Broken, Cells, Ints, Kind, Member, to_micros, utf8};

impl Cells<'_> {
    /// Appends the JSON text of a value, `null` for none. `depth` counts the containers around it.
    pub(super) fn write_json(&self, row: usize, depth: usize, out: &mut String) -> Result<(), Broken> {
        if self.is_null(row) {
            out.push_str("null");
            return Ok(());
        }
        match &self.kind {
            Kind::Null => out.push_str("null"),
            Kind::Bool(values) => out.push_str(if values.value(row) { "true" } else { "false" }),
            Kind::Int(values) => write_int(values, row, out),
            Kind::F16(values) => write_f32(values.value(row).to_f32(), out)?,
            Kind::F32(values) => write_f32(values[row], out)?,
            Kind::F64(values) => write_f64(values[row], out)?,
            Kind::Decimal(values) => out.push_str(&values.text(row)),
            Kind::Text(values) => write_string(values.value(row), out),
            Kind::Bytes(values) => write_string(utf8(values.value(row))?, out),
            Kind::FixedBytes(values) => write_string(utf8(values.value(row))?, out),
            Kind::Stamp { .. } | Kind::Days(_) | Kind::DayMillis(_) | Kind::Clock32 { .. } | Kind::Clock64 { .. } => {
                out.push('"');
                self.write_time(row, out)?;
                out.push('"');
            }
            Kind::List { offsets, items } => write_list(items, range(offsets, row), deeper(depth)?, out)?,
            Kind::Map { offsets, keys, values } => {
                write_map(keys, values, range(offsets, row), deeper(depth)?, out)?;
            }
            Kind::Struct(members) => write_members(members, row, depth, out)?,
        }
        Ok(())
    }

    /// Appends an instant, a date or a time of day as RFC 3339 spells it.
    pub(super) fn write_time(&self, row: usize, out: &mut String) -> Result<(), Broken> {
        match &self.kind {
            Kind::Stamp { values, unit, .. } => write_stamp(values[row], *unit, out),
            Kind::Days(values) => write_date(values[row].into(), out),
            Kind::DayMillis(values) => write_date(values[row].div_euclid(86_400_000), out),
            Kind::Clock32 { values, unit } => write_clock(values[row].into(), *unit, out),
            Kind::Clock64 { values, unit } => write_clock(values[row], *unit, out),
            _ => Ok(()),
        }
    }
}

/// Appends a JSON object of the members that are not null.
pub(super) fn write_members(members: &[Member<'_>], row: usize, depth: usize, out: &mut String) -> Result<(), Broken> {
    let depth = deeper(depth)?;
    out.push('{');
    let mut first = true;
    for member in members.iter().filter(|m| !m.cells.is_null(row)) {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        out.push_str(&member.key);
        member.cells.write_json(row, depth, out).map_err(|broken| broken.inside(member.name))?;
    }
    out.push('}');
    Ok(())
}

fn deeper(depth: usize) -> Result<usize, Broken> {
    if depth >= MAX_DEPTH {
        return Err(Broken::new(Reason::TooDeep, "nesting of at most 64", "deeper nesting"));
    }
    Ok(depth + 1)
}

/// The rows of a list's child that belong to one of its rows.
fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn write_list(items: &Cells<'_>, rows: std::ops::Range<usize>, depth: usize, out: &mut String) -> Result<(), Broken> {
    out.push('[');
    for (index, row) in rows.enumerate() {
        if index > 0 {
            out.push(',');
        }
        items.write_json(row, depth, out).map_err(|broken| broken.inside(&format!("[{index}]")))?;
    }
    out.push(']');
    Ok(())
}

fn write_map(
    keys: &Cells<'_>,
    values: &Cells<'_>,
    rows: std::ops::Range<usize>,
    depth: usize,
    out: &mut String,
) -> Result<(), Broken> {
    out.push('{');
    let mut first = true;
    for row in rows.filter(|row| !values.is_null(*row)) {
        let key = keys.text(row)?.unwrap_or_default();
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        write_string(&key, out);
        out.push(':');
        values.write_json(row, depth, out).map_err(|broken| broken.inside(&key))?;
    }
    out.push('}');
    Ok(())
}

/// Formats onto a string.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string never fails");
}

fn write_int(values: &Ints<'_>, row: usize, out: &mut String) {
    match values {
        // 128-bit division is several times slower, and nearly every integer column is one of these two.
        Ints::I64(v) => push(out, format_args!("{}", v[row])),
        Ints::I32(v) => push(out, format_args!("{}", v[row])),
        other => push(out, format_args!("{}", other.get(row))),
    }
}

fn no_number() -> Broken {
    Broken::new(Reason::BadRow, "a finite number", "NaN or infinity")
}

fn write_f64(value: f64, out: &mut String) -> Result<(), Broken> {
    if !value.is_finite() {
        return Err(no_number());
    }
    out.push_str(ryu::Buffer::new().format_finite(value));
    Ok(())
}

/// The shortest digits that read back as this `f32`, laid out as an `f64` prints them: the two differ only in where
/// the exponent begins, and a message must not show which of them a file used.
fn write_f32(value: f32, out: &mut String) -> Result<(), Broken> {
    if !value.is_finite() {
        return Err(no_number());
    }
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format_finite(value);
    if value == 0.0 || (1e-4..1e12).contains(&value.abs()) {
        out.push_str(shortest);
        return Ok(());
    }
    write_f64(shortest.parse::<f64>().expect("a printed float is a float"), out)
}

fn write_stamp(value: i64, unit: TimeUnit, out: &mut String) -> Result<(), Broken> {
    let out_of_range = || Broken::new(Reason::BadRow, "a time that RFC 3339 can hold", "one out of range");
    let micros = to_micros(value, unit).ok_or_else(out_of_range)?;
    if unit == TimeUnit::Nanosecond && value.rem_euclid(1_000) != 0 {
        let at = Timestamp::from_nanosecond(value.into()).map_err(|_| out_of_range())?;
        push(out, format_args!("{at}"));
        return Ok(());
    }
    Timestamp::from_microsecond(micros).map_err(|_| out_of_range())?;
    out.push_str(&format_micros(micros));
    Ok(())
}

fn write_date(days: i64, out: &mut String) -> Result<(), Broken> {
    let midnight = days.checked_mul(86_400).and_then(|s| Timestamp::from_second(s).ok());
    let midnight = midnight
        .ok_or_else(|| Broken::new(Reason::BadRow, "a date of at most four digits of year", "a date out of range"))?;
    push(out, format_args!("{}", jiff::tz::TimeZone::UTC.to_datetime(midnight).date()));
    Ok(())
}

fn write_clock(value: i64, unit: TimeUnit, out: &mut String) -> Result<(), Broken> {
    let per_second: i64 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let (seconds, part) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    if !(0..86_400).contains(&seconds) {
        return Err(Broken::new(Reason::BadRow, "a time of day", "one out of range"));
    }
    push(out, format_args!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60));
    if part != 0 {
        let digits = format!("{:09}", part * (1_000_000_000 / per_second));
        push(out, format_args!(".{}", digits.trim_end_matches('0')));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_f32_prints_like_an_f64_with_the_same_shortest_digits() {
        for value in [0.1f32, 1e15, 1e-6, 1.5e20, 16_777_216.0, -0.0, f32::MIN_POSITIVE, f32::MAX, 1e-5, 1e-4] {
            let mut out = String::new();
            write_f32(value, &mut out).unwrap();
            let printed: f64 = out.parse().unwrap();
            assert_eq!(out, ryu::Buffer::new().format_finite(printed), "one layout");
            assert_eq!(out.parse::<f32>().unwrap(), value, "reads back");
        }
    }

    #[test]
    fn a_time_of_day_has_no_more_digits_than_it_needs() {
        let mut out = String::new();
        write_clock(30_600_250, TimeUnit::Millisecond, &mut out).unwrap();
        write_clock(86_399_000_000_001, TimeUnit::Nanosecond, &mut out).unwrap();
        assert_eq!(out, "08:30:00.2523:59:59.000000001");
        assert!(write_clock(86_400, TimeUnit::Second, &mut out).is_err());
        assert!(write_clock(-1, TimeUnit::Second, &mut out).is_err());
    }
}
