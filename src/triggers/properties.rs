//! `trigger_properties` and attributes: JSON objects kept as text until somebody needs their values.
//!
//! Numbers keep one text whatever file they came from: integers as they are, floats as the shortest text that reads
//! back (`37.85`, `20.0`), decimals with their scale. Limits: 51,200 bytes of compact text, depth 64 (reference R12, R13).

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Number, Value};

use super::json_text;
use super::values::{Values, Wanted};
use crate::ids::PartsHasher;

/// Largest compact text of one trigger's merged properties, in bytes. Exactly this many are accepted.
pub const MAX_PROPERTIES_BYTES: usize = 51_200;

/// Deepest nesting of objects and arrays; the properties object itself is depth 1.
pub const MAX_DEPTH: usize = 64;

/// Rows whose properties stand in columns.
pub trait Columns {
    /// Puts the wanted members of a row's properties into their slots. Members without a value are absent.
    fn fill(&self, row: usize, wanted: &Wanted, values: &mut Values);

    /// No row's JSON text is longer, in bytes.
    fn most_bytes(&self) -> usize;
}

/// The properties (or attributes) of one trigger.
#[derive(Clone, Default)]
pub enum Properties<'a> {
    /// None given, `null`, or `""`.
    #[default]
    Empty,
    /// The text of one JSON object, checked to be valid.
    Text(Cow<'a, str>),
    /// Two JSON objects, the second laid over the first key by key (shallow, reference R7).
    Overlaid(Cow<'a, str>, Cow<'a, str>),
    /// The columns of a row; its text is known to be within the limits.
    Columns(&'a dyn Columns, usize),
}

impl fmt::Debug for Properties<'_> {
    /// Never a value: they are somebody's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Properties::Empty => "Empty",
            Properties::Text(_) => "Text",
            Properties::Overlaid(..) => "Overlaid",
            Properties::Columns(..) => "Columns",
        })
    }
}

/// Which limit properties break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertiesFault {
    /// Compact text of this many bytes.
    TooLarge(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

impl Properties<'_> {
    /// The values, with numbers normalised. Text that is not a JSON object counts as empty: readers check it before.
    pub fn to_map(&self) -> Map<String, Value> {
        match self {
            Properties::Empty => Map::new(),
            Properties::Text(text) => parse(text),
            Properties::Overlaid(base, over) => {
                let mut map = parse(base);
                map.extend(parse(over));
                map
            }
            Properties::Columns(columns, row) => {
                let mut values = Values::default();
                values.begin(1);
                columns.fill(*row, &Wanted::all(), &mut values);
                values.slot(0).map_or_else(Map::new, |at| values.to_map(at as usize))
            }
        }
    }

    /// Puts the wanted members into their slots; an absent one leaves its slot empty. As a whole, they are always an
    /// object.
    pub fn fill(&self, wanted: &Wanted, values: &mut Values) {
        if wanted.is_empty() {
            return;
        }
        match self {
            Properties::Columns(columns, row) => columns.fill(*row, wanted, values),
            Properties::Text(text) if json_text::fill(text, wanted, values).is_ok() => {}
            Properties::Overlaid(base, over)
                if wanted.whole.is_none()
                    && json_text::fill(base, wanted, values).is_ok()
                    && json_text::fill(over, wanted, values).is_ok() => {}
            // None, two of them as one value, or a text that no reader let through.
            _ => {
                wanted.names.iter().for_each(|(_, slot)| values.put_nothing(*slot));
                wanted.fill_from(&self.to_map(), values);
            }
        }
    }

    /// Compact JSON text, numbers normalised, keys in their given order.
    pub fn text(&self) -> String {
        Value::Object(self.to_map()).to_string()
    }

    /// At least as many bytes as the JSON text has.
    pub fn most_bytes(&self) -> usize {
        match self {
            Properties::Empty => 0,
            Properties::Text(text) => text.len(),
            Properties::Overlaid(base, over) => base.len() + over.len(),
            Properties::Columns(columns, _) => columns.most_bytes(),
        }
    }

    /// Whether both limits hold. A text that is short enough as it stands is not parsed for its size.
    pub fn check(&self) -> Result<(), PropertiesFault> {
        let (given, depth) = match self {
            Properties::Empty => return Ok(()),
            Properties::Text(text) => (text.len(), text_depth(text)),
            Properties::Overlaid(base, over) => (base.len() + over.len(), text_depth(base).max(text_depth(over))),
            Properties::Columns(..) => return Ok(()),
        };
        if depth > MAX_DEPTH {
            return Err(PropertiesFault::TooDeep);
        }
        let size = if given <= MAX_PROPERTIES_BYTES { given } else { self.text().len() };
        if size > MAX_PROPERTIES_BYTES { Err(PropertiesFault::TooLarge(size)) } else { Ok(()) }
    }

    /// A hash of the content that does not depend on the file format: keys sorted, nulls left out.
    pub fn content_hash(&self) -> u128 {
        let value = Value::Object(self.to_map());
        canonical(&value, PartsHasher::new()).finish()
    }
}

fn parse(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map.into_iter().map(|(key, value)| (key, normalised(value))).collect(),
        _ => Map::new(),
    }
}

/// A value with every number in its one text.
pub(crate) fn normalised(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(Number::from_string_unchecked(number_text(&number).into_owned())),
        Value::Array(items) => Value::Array(items.into_iter().map(normalised).collect()),
        Value::Object(map) => Value::Object(map.into_iter().map(|(k, v)| (k, normalised(v))).collect()),
        other => other,
    }
}

/// The text of a JSON number: an integer as it stands, anything else as the shortest text that reads back. A number
/// beyond `f64` keeps its given text (reference R13).
pub fn number_text(number: &Number) -> Cow<'_, str> {
    let text = number.as_str();
    if !text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        return Cow::Borrowed(text);
    }
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() => Cow::Owned(ryu::Buffer::new().format_finite(float).to_owned()),
        _ => Cow::Borrowed(text),
    }
}

/// Appends a finite number as the shortest text that reads back. Money and the like, at most two decimals and at most
/// fifteen digits, is an integer of hundredths: fifteen digits tell any two floats apart, so that no shorter text can mean
/// the same float.
pub(crate) fn push_float(value: f64, out: &mut String) {
    let hundredths = (value * 100.0).round();
    if hundredths.abs() < 1e15 && hundredths / 100.0 == value && value != 0.0 {
        push_hundredths(hundredths as i64, out);
    } else {
        out.push_str(ryu::Buffer::new().format_finite(value));
    }
}

fn push_hundredths(hundredths: i64, out: &mut String) {
    let (whole, part) = (hundredths.unsigned_abs() / 100, (hundredths.unsigned_abs() % 100) as u8);
    if hundredths < 0 {
        out.push('-');
    }
    out.push_str(itoa::Buffer::new().format(whole));
    out.push('.');
    out.push(char::from(b'0' + part / 10));
    if !part.is_multiple_of(10) {
        out.push(char::from(b'0' + part % 10));
    }
}

/// How a value prints in a message: strings as they are, `null` as nothing, everything else as compact JSON.
pub fn print_json(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Number(number) => Cow::Borrowed(number.as_str()),
        other => Cow::Owned(other.to_string()),
    }
}

/// Nesting of valid JSON text, without recursion: brackets outside strings. Where there are no more than [`MAX_DEPTH`]
/// brackets in all, their number, which is at least as much.
pub(crate) fn text_depth(text: &str) -> usize {
    // Nearly every text has few brackets in all, which are counted many at a time.
    let brackets = text.bytes().map(|b| usize::from((b == b'{') | (b == b'['))).sum::<usize>();
    if brackets <= MAX_DEPTH { brackets } else { exact_text_depth(text) }
}

fn exact_text_depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn canonical(value: &Value, hasher: PartsHasher) -> PartsHasher {
    match value {
        Value::Null => hasher.tag(0),
        Value::Bool(b) => hasher.tag(1).tag(u8::from(*b)),
        Value::Number(n) => hasher.tag(2).part(number_text(n).as_bytes()),
        Value::String(s) => hasher.tag(3).part(s.as_bytes()),
        Value::Array(items) => items.iter().fold(hasher.tag(4), |h, item| canonical(item, h)).tag(5),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().filter(|(_, v)| !v.is_null()).collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            entries.into_iter().fold(hasher.tag(6), |h, (k, v)| canonical(v, h.part(k.as_bytes()))).tag(7)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Properties<'_> {
        Properties::Text(json.into())
    }

    #[test]
    fn floats_have_the_shortest_text() {
        let same = |value: f64| {
            let mut out = String::new();
            push_float(value, &mut out);
            assert_eq!(out, ryu::Buffer::new().format_finite(value));
        };
        let edges =
            [0.0, -0.0, 0.01, 0.07, 0.1, 0.29, 1.1, 20.0, 9_999_999_999_999.99, 1e13, 1e15, 1e16, 0.005, 1.005, 5e-324];
        edges.iter().for_each(|value| [*value, -*value].into_iter().for_each(same));
        (0..200_000u32).for_each(|n| same(f64::from(n) / 100.0));
        (0..200_000u64).for_each(|n| same((n * 48_271_002_113 % 1_000_000_000_000_000) as f64 / 100.0));
        (0..200_000u64)
            .map(|n| f64::from_bits(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
            .filter(|f| f.is_finite())
            .for_each(same);
    }

    #[test]
    fn numbers_have_one_text() {
        let printed = text(r#"{"a":37.850,"b":2e1,"c":123456789012345678901234567890,"d":-7,"e":1e400}"#).text();
        assert_eq!(printed, r#"{"a":37.85,"b":20.0,"c":123456789012345678901234567890,"d":-7,"e":1e+400}"#);
    }

    #[test]
    fn the_recipient_level_wins_key_by_key() {
        let merged = Properties::Overlaid(r#"{"a":1,"o":{"x":1,"y":2}}"#.into(), r#"{"o":{"x":9},"n":null}"#.into());
        assert_eq!(merged.text(), r#"{"a":1,"o":{"x":9},"n":null}"#);
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let exactly = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_PROPERTIES_BYTES - 8));
        assert_eq!(text(&exactly).check(), Ok(()));
        assert_eq!(text(&format!("{} ", exactly)).check(), Ok(()), "white space does not count");
        let over = exactly.replace(":\"", ":\"y");
        assert_eq!(text(&over).check(), Err(PropertiesFault::TooLarge(MAX_PROPERTIES_BYTES + 1)));
        let nested = |n: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(n), "]".repeat(n));
        assert_eq!(text(&nested(MAX_DEPTH - 1)).check(), Ok(()));
        assert_eq!(text(&nested(MAX_DEPTH)).check(), Err(PropertiesFault::TooDeep));
        assert_eq!(text(r#"{"a":"[[[[\"[[[["}"#).check(), Ok(()));
    }

    #[test]
    fn content_does_not_depend_on_order_nulls_or_number_spelling() {
        assert_eq!(text(r#"{"a":1,"b":2.50,"c":null}"#).content_hash(), text(r#"{"b":2.5,"a":1}"#).content_hash());
        assert_ne!(text(r#"{"a":1}"#).content_hash(), text(r#"{"a":"1"}"#).content_hash());
    }
}
