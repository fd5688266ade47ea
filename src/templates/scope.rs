//! The values that one trigger's templates see, and how a path is followed in them.
//!
//! Paths are followed here and not by the crate: a list has a `length`, and a name asked of a number is absent instead of an
//! error.

use std::borrow::Cow;
use std::fmt;

use handlebars::Context;
use serde_json::{Map, Value};

use crate::triggers::Values;

/// A path from the top of a scope: `api_trigger_properties`, `price`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValuePath(pub Vec<String>);

impl fmt::Display for ValuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Names of the top whose members are asked for one by one.
pub(super) const NAMESPACES: [&str; 3] = ["api_trigger_properties", "custom_attribute", "campaign"];

/// The values one trigger's templates see: built once, used for every field of the trigger.
#[derive(Debug, Clone)]
pub struct Scope {
    pub(super) context: Context,
}

impl Scope {
    /// A scope of these top-level names. Numbers should have been normalised ([`crate::triggers::number_text`]).
    pub fn new(values: Map<String, Value>) -> Scope {
        Scope { context: Context::from(Value::Object(values)) }
    }

    /// Whether there is a value at `path`, and it is not `null`.
    pub fn has(&self, path: &ValuePath) -> bool {
        self.at(path).is_some_and(|value| !value.is_null())
    }

    /// Puts the value at each path into the slot of its number.
    pub(super) fn fill(&self, paths: &[ValuePath], values: &mut Values) {
        values.begin(paths.len());
        for (slot, path) in (0..).zip(paths) {
            if let Some(value) = self.at(path) {
                values.put(slot);
                values.value(&value);
            }
        }
    }

    fn at(&self, path: &ValuePath) -> Option<Cow<'_, Value>> {
        path.0.iter().try_fold(Cow::Borrowed(self.context.data()), |value, name| match value {
            Cow::Borrowed(value) => child(value, name),
            Cow::Owned(value) => Some(Cow::Owned(child(&value, name)?.into_owned())),
        })
    }
}

/// The member of a value by name: a field, an item by its index from 0, the `length` of a list. A text has a `length` and
/// items too, in units of UTF-16, as in JavaScript; half a character is printed as U+FFFD.
pub(super) fn child<'v>(value: &'v Value, name: &str) -> Option<Cow<'v, Value>> {
    match value {
        Value::Object(map) => map.get(name).map(Cow::Borrowed),
        Value::Array(items) if name == "length" => Some(Cow::Owned(Value::from(items.len()))),
        Value::Array(items) => items.get(index(name)?).map(Cow::Borrowed),
        Value::String(text) => Some(Cow::Owned(match unit_of_text(text, name)? {
            Unit::Length(length) => Value::from(length),
            Unit::Character(character) => Value::from(character.to_string()),
        })),
        _ => None,
    }
}

/// What a name leads to in a text.
pub(super) enum Unit {
    /// How many units of UTF-16 it has.
    Length(i64),
    /// The one at an index; half a character is U+FFFD.
    Character(char),
}

/// The `length` of a text, or the character at an index.
pub(super) fn unit_of_text(text: &str, name: &str) -> Option<Unit> {
    if name == "length" {
        return Some(Unit::Length(text.encode_utf16().count() as i64));
    }
    let unit = text.encode_utf16().nth(index(name)?)?;
    Some(Unit::Character(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)))
}

/// A number as JavaScript spells it: `01` is no index.
pub(super) fn index(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if plain { name.parse().ok() } else { None }
}
