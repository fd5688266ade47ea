//! The inline helpers as pure functions over values: no context, no clock, no memory of their own.
//!
//! Arguments are never missing: an absent value is `null`. Comparisons: numbers by value, strings by code point, anything
//! else only for equality; mixed types are not equal and neither greater nor less.

use std::cmp::Ordering;

use super::format;
use super::view::{Child, View};

/// What a helper is given.
pub(super) struct Given<'g, 'v> {
    /// Positional arguments; their number was checked when the template was compiled.
    pub args: &'g [View<'v>],
    /// Named arguments.
    pub named: &'g [(&'g str, View<'v>)],
    /// Whether an absent value prints nothing instead of failing.
    pub blank: bool,
}

/// What a helper results in.
pub(super) enum Answer<'v> {
    /// A value.
    Value(View<'v>),
    /// A text, which was appended to the buffer.
    Written,
}

/// Why a helper has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// The template does not want this message sent.
    Abort(String),
    /// The value cannot be used. The text never quotes the value.
    Failed(String),
}

/// The result of a helper, or why there is none.
type Result<'v> = std::result::Result<Answer<'v>, Halt>;

/// An inline helper. Texts that it makes are appended to the buffer.
pub(super) type Function = for<'v> fn(&Given<'_, 'v>, &mut String) -> Result<'v>;

impl<'v> Given<'_, 'v> {
    fn arg(&self, index: usize) -> View<'v> {
        self.args.get(index).copied().unwrap_or(View::Null)
    }

    fn named(&self, key: &str) -> Option<View<'v>> {
        self.named.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    fn named_text(&self, key: &str) -> Option<&'v str> {
        self.named(key).and_then(View::as_text)
    }
}

fn truth<'v>(truth: bool) -> Result<'v> {
    Ok(Answer::Value(View::Bool(truth)))
}

fn compare(a: View<'_>, b: View<'_>) -> Option<Ordering> {
    match (a, b) {
        (View::Int(a), View::Int(b)) => Some(a.cmp(&b)),
        (View::Text(a), View::Text(b)) => Some(a.cmp(b)),
        (a, b) if a.is_number() && b.is_number() => match (whole(a), whole(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => float(a)?.partial_cmp(&float(b)?),
        },
        _ => None,
    }
}

fn whole(number: View<'_>) -> Option<i128> {
    match number {
        View::Int(value) => Some(value.into()),
        View::Number(text) => text.parse().ok(),
        _ => None,
    }
}

fn float(number: View<'_>) -> Option<f64> {
    match number {
        View::Int(value) => Some(value as f64),
        View::Float(value) => Some(value),
        View::Number(text) => text.parse().ok(),
        _ => None,
    }
}

fn equal(a: View<'_>, b: View<'_>) -> bool {
    match (a, b) {
        (View::Null, View::Null) => true,
        (View::Bool(a), View::Bool(b)) => a == b,
        (View::Tree(_), View::Tree(_)) => a.to_json() == b.to_json(),
        _ => compare(a, b) == Some(Ordering::Equal),
    }
}

fn ordered<'v>(given: &Given<'_, 'v>, wanted: fn(Ordering) -> bool) -> Result<'v> {
    truth(compare(given.arg(0), given.arg(1)).is_some_and(wanted))
}

/// `{{abort_message "reason"}}`: this message is not sent.
pub(super) fn abort_message<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    let reason = given.args.first().map(|reason| reason.printed().into_owned());
    Err(Halt::Abort(reason.unwrap_or_else(|| "{{abort_message}} called".to_owned())))
}

/// All are true.
pub(super) fn and<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    truth(given.args.iter().all(|value| value.is_truthy()))
}

/// One is true.
pub(super) fn or<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    truth(given.args.iter().any(|value| value.is_truthy()))
}

/// It is not true.
pub(super) fn not<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    truth(!given.arg(0).is_truthy())
}

/// Equal.
pub(super) fn eq<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    truth(equal(given.arg(0), given.arg(1)))
}

/// Not equal.
pub(super) fn ne<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    truth(!equal(given.arg(0), given.arg(1)))
}

/// Greater.
pub(super) fn gt<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    ordered(given, Ordering::is_gt)
}

/// Greater or equal.
pub(super) fn gte<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    ordered(given, Ordering::is_ge)
}

/// Less.
pub(super) fn lt<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    ordered(given, Ordering::is_lt)
}

/// Less or equal.
pub(super) fn lte<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    ordered(given, Ordering::is_le)
}

/// The fallback where the value is absent, `null` or `""`.
pub(super) fn default<'v>(given: &Given<'_, 'v>, _: &mut String) -> Result<'v> {
    let empty = matches!(given.arg(0), View::Null | View::Text(""));
    Ok(Answer::Value(given.arg(usize::from(empty))))
}

/// An item of a list or a field of an object by a computed name. A value that is not true and no list is its own answer,
/// as in the JavaScript implementation.
pub(super) fn lookup<'v>(given: &Given<'_, 'v>, out: &mut String) -> Result<'v> {
    let (from, name) = (given.arg(0), given.arg(1));
    if !from.is_list() && !from.is_truthy() {
        return Ok(Answer::Value(from));
    }
    if let View::Null = name {
        return Ok(Answer::Value(View::Null));
    }
    Ok(match from.child(&name.printed(), out) {
        Child::Absent => Answer::Value(View::Null),
        Child::View(value) => Answer::Value(value),
        Child::Written => Answer::Written,
    })
}

/// Upper case.
pub(super) fn upper<'v>(given: &Given<'_, 'v>, out: &mut String) -> Result<'v> {
    cased(given.arg(0), str::make_ascii_uppercase, str::to_uppercase, out)
}

/// Lower case.
pub(super) fn lower<'v>(given: &Given<'_, 'v>, out: &mut String) -> Result<'v> {
    cased(given.arg(0), str::make_ascii_lowercase, str::to_lowercase, out)
}

fn cased<'v>(value: View<'_>, ascii: fn(&mut str), any: fn(&str) -> String, out: &mut String) -> Result<'v> {
    let start = out.len();
    value.print(out);
    if out[start..].is_ascii() {
        ascii(&mut out[start..]);
    } else {
        let changed = any(&out[start..]);
        out.truncate(start);
        out.push_str(&changed);
    }
    Ok(Answer::Written)
}

/// A number with a fixed number of decimals and separators.
pub(super) fn number<'v>(given: &Given<'_, 'v>, out: &mut String) -> Result<'v> {
    let (mut integer, mut float) = (itoa::Buffer::new(), ryu::Buffer::new());
    let text = match given.arg(0) {
        View::Int(value) => integer.format(value),
        View::Float(value) => float.format_finite(value),
        View::Number(text) => text,
        View::Text(text) => text.trim(),
        View::Null => "",
        View::Bool(_) | View::Tree(_) => return Err(not_usable("number", "a list, an object or a truth value")),
    };
    if text.is_empty() {
        return absent(given, "number");
    }
    let style = format::NumberStyle {
        decimals: given.named("decimals").and_then(whole).and_then(|decimals| usize::try_from(decimals).ok()),
        thousands: given.named_text("thousands").unwrap_or(""),
        point: given.named_text("decimal").unwrap_or("."),
    };
    match format::number(text, &style, out) {
        Some(()) => Ok(Answer::Written),
        None => Err(not_usable("number", "not a number")),
    }
}

/// An instant or a day in a format of `strftime`.
pub(super) fn date<'v>(given: &Given<'_, 'v>, out: &mut String) -> Result<'v> {
    let zone = given.named_text("tz").unwrap_or("UTC");
    let when = match given.arg(0) {
        View::Text(text) if !text.trim().is_empty() => format::When::of_text(text.trim(), zone),
        View::Int(seconds) => format::When::of_seconds(seconds, zone),
        View::Text(_) | View::Null => return absent(given, "date"),
        _ => None,
    };
    let when = when.ok_or_else(|| not_usable("date", "not an RFC 3339 time, a date or epoch seconds"))?;
    let pattern = given.arg(1).as_text().unwrap_or_default();
    format::date(&when, pattern, out).map(|()| Answer::Written).map_err(Halt::Failed)
}

fn absent<'v>(given: &Given<'_, 'v>, helper: &str) -> Result<'v> {
    if given.blank { Ok(Answer::Value(View::Null)) } else { Err(not_usable(helper, "absent or empty")) }
}

fn not_usable(helper: &str, what: &str) -> Halt {
    Halt::Failed(format!("`{helper}` cannot use this value: it is {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn call(function: Function, args: &[Value]) -> Value {
        let args: Vec<View<'_>> = args.iter().map(View::from).collect();
        let mut written = String::new();
        match function(&Given { args: &args, named: &[], blank: false }, &mut written).expect("a result") {
            Answer::Value(value) => value.to_json(),
            Answer::Written => Value::from(written),
        }
    }

    #[test]
    fn numbers_compare_by_value_and_integers_exactly() {
        assert_eq!(call(eq, &[json!(2), json!(2.0)]), json!(true));
        let (a, b): (Value, Value) =
            (serde_json::from_str("9007199254740993").unwrap(), serde_json::from_str("9007199254740992").unwrap());
        assert_eq!(call(gt, &[a, b]), json!(true));
        assert_eq!(call(lt, &[json!(9), json!(10)]), json!(true));
        assert_eq!(call(lt, &[json!("9"), json!("10")]), json!(false), "strings compare as text");
    }

    #[test]
    fn mixed_types_are_unequal_and_unordered() {
        for function in [eq as Function, gt, lt, gte, lte] {
            assert_eq!(call(function, &[json!(1), json!("1")]), json!(false));
            assert_eq!(call(function, &[json!(1), Value::Null]), json!(false));
        }
        assert_eq!(call(ne, &[json!(1), json!("1")]), json!(true));
        assert_eq!(call(eq, &[Value::Null, Value::Null]), json!(true));
    }

    #[test]
    fn truth_is_that_of_handlebars() {
        for value in [json!(false), json!(null), json!(""), json!(0), json!(0.0), json!([])] {
            assert!(!View::from(&value).is_truthy(), "{value}");
        }
        for value in [json!(true), json!("0"), json!(-1), json!([0]), json!({})] {
            assert!(View::from(&value).is_truthy(), "{value}");
        }
    }
}
