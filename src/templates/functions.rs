//! The inline helpers as pure functions over values: no context, no output, no clock.
//!
//! Arguments are never missing: an absent value is `null`. Comparisons: numbers by value, strings by code point, anything
//! else only for equality; mixed types are not equal and neither greater nor less.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::triggers::print_json;

use super::format;
use super::scope::child;

/// What a helper is given.
pub(super) struct Given<'a> {
    /// Positional arguments; their number was checked when the template was compiled.
    pub args: Vec<&'a Value>,
    /// Named arguments.
    pub named: &'a dyn Fn(&str) -> Option<&'a Value>,
    /// Whether an absent value prints nothing instead of failing.
    pub blank: bool,
}

/// Why a helper has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Halt {
    /// The template does not want this message sent.
    Abort(String),
    /// The value cannot be used. The text never quotes the value.
    Failed(String),
}

/// An inline helper.
pub(super) type Function = fn(&Given<'_>) -> Result<Value, Halt>;

static NULL: Value = Value::Null;

impl<'a> Given<'a> {
    fn arg(&self, index: usize) -> &'a Value {
        self.args.get(index).copied().unwrap_or(&NULL)
    }

    fn named_text(&self, key: &str) -> Option<&'a str> {
        (self.named)(key).and_then(Value::as_str)
    }
}

/// Handlebars' notion of truth: `false`, `null`, `""`, `0` and `[]` are false.
pub(super) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => !is_zero(number),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) => true,
    }
}

/// Whether a number is zero, however it is spelled.
pub(super) fn is_zero(number: &Number) -> bool {
    let mantissa = number.as_str().split(['e', 'E']).next().unwrap_or("");
    mantissa.bytes().all(|b| matches!(b, b'0' | b'.' | b'-'))
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_str().parse::<i128>(), b.as_str().parse::<i128>()) {
        (Ok(a), Ok(b)) => Some(a.cmp(&b)),
        _ => a.as_str().parse::<f64>().ok()?.partial_cmp(&b.as_str().parse::<f64>().ok()?),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b) == Some(Ordering::Equal),
        _ => a == b,
    }
}

fn ordered(given: &Given<'_>, wanted: fn(Ordering) -> bool) -> Result<Value, Halt> {
    Ok(Value::Bool(compare(given.arg(0), given.arg(1)).is_some_and(wanted)))
}

/// `{{abort_message "reason"}}`: this message is not sent.
pub(super) fn abort_message(given: &Given<'_>) -> Result<Value, Halt> {
    let reason = given.args.first().map(|reason| print_json(reason).into_owned());
    Err(Halt::Abort(reason.unwrap_or_else(|| "{{abort_message}} called".to_owned())))
}

/// All are true.
pub(super) fn and(given: &Given<'_>) -> Result<Value, Halt> {
    Ok(Value::Bool(given.args.iter().all(|value| is_truthy(value))))
}

/// One is true.
pub(super) fn or(given: &Given<'_>) -> Result<Value, Halt> {
    Ok(Value::Bool(given.args.iter().any(|value| is_truthy(value))))
}

/// It is not true.
pub(super) fn not(given: &Given<'_>) -> Result<Value, Halt> {
    Ok(Value::Bool(!is_truthy(given.arg(0))))
}

/// Equal.
pub(super) fn eq(given: &Given<'_>) -> Result<Value, Halt> {
    Ok(Value::Bool(equal(given.arg(0), given.arg(1))))
}

/// Not equal.
pub(super) fn ne(given: &Given<'_>) -> Result<Value, Halt> {
    Ok(Value::Bool(!equal(given.arg(0), given.arg(1))))
}

/// Greater.
pub(super) fn gt(given: &Given<'_>) -> Result<Value, Halt> {
    ordered(given, Ordering::is_gt)
}

/// Greater or equal.
pub(super) fn gte(given: &Given<'_>) -> Result<Value, Halt> {
    ordered(given, Ordering::is_ge)
}

/// Less.
pub(super) fn lt(given: &Given<'_>) -> Result<Value, Halt> {
    ordered(given, Ordering::is_lt)
}

/// Less or equal.
pub(super) fn lte(given: &Given<'_>) -> Result<Value, Halt> {
    ordered(given, Ordering::is_le)
}

/// The fallback where the value is absent, `null` or `""`.
pub(super) fn default(given: &Given<'_>) -> Result<Value, Halt> {
    let empty = match given.arg(0) {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    Ok(given.arg(usize::from(empty)).clone())
}

/// An item of a list or a field of an object by a computed name. A value that is not true and no list is its own answer,
/// as in the JavaScript implementation.
pub(super) fn lookup(given: &Given<'_>) -> Result<Value, Halt> {
    let (from, name) = (given.arg(0), given.arg(1));
    if !from.is_array() && !is_truthy(from) {
        return Ok(from.clone());
    }
    if name.is_null() {
        return Ok(Value::Null);
    }
    Ok(child(given.arg(0), &print_json(given.arg(1))).map_or(Value::Null, |found| found.into_owned()))
}

/// Upper case.
pub(super) fn upper(given: &Given<'_>) -> Result<Value, Halt> {
    Ok(Value::String(print_json(given.arg(0)).to_uppercase()))
}

/// Lower case.
pub(super) fn lower(given: &Given<'_>) -> Result<Value, Halt> {
    Ok(Value::String(print_json(given.arg(0)).to_lowercase()))
}

/// A number with a fixed number of decimals and separators.
pub(super) fn number(given: &Given<'_>) -> Result<Value, Halt> {
    let text = match given.arg(0) {
        Value::Number(number) => number.as_str(),
        Value::String(text) => text.trim(),
        Value::Null => "",
        _ => return Err(not_usable("number", "a list, an object or a truth value")),
    };
    if text.is_empty() {
        return absent(given, "number");
    }
    let style = format::NumberStyle {
        decimals: (given.named)("decimals").and_then(Value::as_u64).map(|n| n as usize),
        thousands: given.named_text("thousands").unwrap_or(""),
        point: given.named_text("decimal").unwrap_or("."),
    };
    match format::number(text, &style) {
        Some(text) => Ok(Value::String(text)),
        None => Err(not_usable("number", "not a number")),
    }
}

/// An instant or a day in a format of `strftime`.
pub(super) fn date(given: &Given<'_>) -> Result<Value, Halt> {
    let zone = given.named_text("tz").unwrap_or("UTC");
    let when = match given.arg(0) {
        Value::String(text) if !text.trim().is_empty() => format::When::of_text(text.trim(), zone),
        Value::Number(number) => number.as_i64().and_then(|seconds| format::When::of_seconds(seconds, zone)),
        Value::String(_) | Value::Null => return absent(given, "date"),
        _ => None,
    };
    let when = when.ok_or_else(|| not_usable("date", "not an RFC 3339 time, a date or epoch seconds"))?;
    let pattern = given.arg(1).as_str().unwrap_or_default();
    format::date(&when, pattern).map(Value::String).map_err(Halt::Failed)
}

fn absent(given: &Given<'_>, helper: &str) -> Result<Value, Halt> {
    if given.blank { Ok(Value::Null) } else { Err(not_usable(helper, "absent or empty")) }
}

fn not_usable(helper: &str, what: &str) -> Halt {
    Halt::Failed(format!("`{helper}` cannot use this value: it is {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(function: Function, args: &[Value]) -> Value {
        let given = Given { args: args.iter().collect(), named: &|_| None, blank: false };
        function(&given).expect("a result")
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
            assert!(!is_truthy(&value), "{value}");
        }
        for value in [json!(true), json!("0"), json!(-1), json!([0]), json!({})] {
            assert!(is_truthy(&value), "{value}");
        }
    }
}
