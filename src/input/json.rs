//! One JSON object of a line, parsed once: known keys go to slots, values stay borrowed text.
//!
//! A [`Layout`] says which keys matter; [`Fields`] is one object read by it. Values are checked to be JSON but not built, so
//! a line costs one pass and no copies. It knows nothing of what fields mean: that is [`super::rules`].
//! Nothing here recurses into a line: the parser skips nested values with a stack of its own.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use regex::bytes::Regex;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::triggers::{Reason, Rejection, normalised};

/// The keys that mean something, over all objects that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Slot {
    CampaignId,
    ExternalUserId,
    UserAlias,
    BrazeId,
    Email,
    TriggeredAt,
    TriggerId,
    TriggerProperties,
    SendId,
    Attributes,
    Recipients,
    Recipient,
    Broadcast,
    Audience,
    Attachments,
    Schedule,
    Prioritization,
    SendToExistingOnly,
    Time,
    InLocalTime,
    AtOptimalTime,
    AliasName,
    AliasLabel,
}

impl Slot {
    const COUNT: usize = Slot::AliasLabel as usize + 1;

    /// Every slot, in order.
    const ALL: [Slot; Slot::COUNT] = [
        Slot::CampaignId,
        Slot::ExternalUserId,
        Slot::UserAlias,
        Slot::BrazeId,
        Slot::Email,
        Slot::TriggeredAt,
        Slot::TriggerId,
        Slot::TriggerProperties,
        Slot::SendId,
        Slot::Attributes,
        Slot::Recipients,
        Slot::Recipient,
        Slot::Broadcast,
        Slot::Audience,
        Slot::Attachments,
        Slot::Schedule,
        Slot::Prioritization,
        Slot::SendToExistingOnly,
        Slot::Time,
        Slot::InLocalTime,
        Slot::AtOptimalTime,
        Slot::AliasName,
        Slot::AliasLabel,
    ];

    /// The name of the field, which is its key unless a mapping says otherwise.
    pub(super) fn name(self) -> &'static str {
        match self {
            Slot::CampaignId => "campaign_id",
            Slot::ExternalUserId => "external_user_id",
            Slot::UserAlias => "user_alias",
            Slot::BrazeId => "braze_id",
            Slot::Email => "email",
            Slot::TriggeredAt => "triggered_at",
            Slot::TriggerId => "trigger_id",
            Slot::TriggerProperties => "trigger_properties",
            Slot::SendId => "send_id",
            Slot::Attributes => "attributes",
            Slot::Recipients => "recipients",
            Slot::Recipient => "recipient",
            Slot::Broadcast => "broadcast",
            Slot::Audience => "audience",
            Slot::Attachments => "attachments",
            Slot::Schedule => "schedule",
            Slot::Prioritization => "prioritization",
            Slot::SendToExistingOnly => "send_to_existing_only",
            Slot::Time => "time",
            Slot::InLocalTime => "in_local_time",
            Slot::AtOptimalTime => "at_optimal_time",
            Slot::AliasName => "alias_name",
            Slot::AliasLabel => "alias_label",
        }
    }

    /// The slot of a field name.
    pub(super) fn of_name(name: &str) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| slot.name() == name)
    }
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A field of its own.
    Slot(Slot),
    /// Kept under its name: carried, part of the properties, or of a derived trigger id.
    Kept,
}

/// Which keys of an object matter.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    roles: Vec<(String, Role)>,
    /// Slots whose key is another slot's key too: (to, from).
    shared: Vec<(Slot, Slot)>,
    keep_rest: bool,
}

impl Layout {
    /// A layout of fields under their own names.
    pub(super) fn of(slots: &[Slot]) -> Layout {
        slots.iter().fold(Layout::default(), |layout, slot| layout.field(*slot, slot.name()))
    }

    /// Adds a field that stands under `key`. Several fields may share a key.
    #[must_use]
    pub(super) fn field(mut self, slot: Slot, key: &str) -> Layout {
        match self.role(key) {
            Some(Role::Slot(first)) => self.shared.push((slot, first)),
            _ => self.roles.push((key.to_owned(), Role::Slot(slot))),
        }
        self
    }

    /// Keeps values of these keys under their names.
    #[must_use]
    pub(super) fn keeping<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Layout {
        for name in names {
            if self.role(name).is_none() {
                self.roles.push((name.to_owned(), Role::Kept));
            }
        }
        self
    }

    /// Keeps every key that is no field.
    #[must_use]
    pub(super) fn keeping_rest(mut self) -> Layout {
        self.keep_rest = true;
        self
    }

    fn role(&self, key: &str) -> Option<Role> {
        self.roles.iter().find(|(name, _)| name == key).map(|(_, role)| *role)
    }

    /// The key under which a field stands.
    fn key(&self, slot: Slot) -> &str {
        let slot = self.shared.iter().find(|(to, _)| *to == slot).map_or(slot, |(_, from)| *from);
        self.roles.iter().find(|(_, role)| *role == Role::Slot(slot)).map_or(slot.name(), |(name, _)| name)
    }
}

/// Where an object stands in its line, for the field names of rejections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The line, or the body inside it.
    Top,
    /// An object under this key.
    Under(&'static str),
    /// An element of the array under this key.
    Item(&'static str, u32),
}

impl Place {
    /// The name of the object itself; empty for the line.
    pub(super) fn name(self) -> String {
        match self {
            Place::Top => String::new(),
            Place::Under(key) => key.to_owned(),
            Place::Item(key, index) => format!("{key}[{index}]"),
        }
    }

    fn of_key(self, key: &str) -> String {
        if self == Place::Top { key.to_owned() } else { format!("{}.{key}", self.name()) }
    }
}

/// One object, read by a layout. Of a key that stands twice, the last counts (reference R1).
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    layout: &'a Layout,
    place: Place,
    slots: [Option<&'a str>; Slot::COUNT],
    /// Kept keys in their order, with the text of their values.
    pub(super) kept: Vec<(Cow<'a, str>, &'a str)>,
    /// Keys that mean nothing here.
    pub(super) unknown: u64,
}

impl<'a> Fields<'a> {
    /// Reads a text that ought to be one object and nothing else.
    pub(super) fn parse(layout: &'a Layout, text: &'a str, place: Place) -> Result<Fields<'a>, Rejection> {
        if kind(text.trim_ascii_start()) != Kind::Object {
            return Err(match serde_json::from_str::<&RawValue>(text) {
                Ok(raw) => Rejection::new(Reason::BadRow, place.name(), "a JSON object", describe(raw.get())),
                Err(error) => broken(text, &error, place.name()),
            });
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let fields = Seed { layout, place }.deserialize(&mut parser);
        fields.and_then(|f| parser.end().map(|()| f)).map_err(|error| broken(text, &error, place.name()))
    }

    /// The text of a field's value; `null` counts as absent.
    pub(super) fn get(&self, slot: Slot) -> Option<&'a str> {
        self.slots[slot as usize].filter(|raw| *raw != "null")
    }

    /// Whether the key is there, with whatever value.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.slots[slot as usize].is_some()
    }

    /// The text of the value under a key that is a field or kept; `null` counts as a value.
    pub(super) fn named(&self, key: &str) -> Option<&'a str> {
        match self.layout.role(key) {
            Some(Role::Slot(slot)) => self.slots[slot as usize],
            _ => self.kept.iter().rev().find(|(name, _)| name == key).map(|(_, raw)| *raw),
        }
    }

    /// The name of a field as it is shown: its key, with the path to its object.
    pub(super) fn name(&self, slot: Slot) -> String {
        self.place.of_key(self.layout.key(slot))
    }

    /// The name of a key as it is shown.
    pub(super) fn key_name(&self, key: &str) -> String {
        self.place.of_key(key)
    }

    /// The name of the object itself.
    pub(super) fn own_name(&self) -> String {
        self.place.name()
    }

    fn put(&mut self, key: Cow<'a, str>, raw: &'a str) {
        match self.layout.role(&key) {
            Some(Role::Slot(slot)) => self.slots[slot as usize] = Some(raw),
            Some(Role::Kept) => self.kept.push((key, raw)),
            None if self.layout.keep_rest => self.kept.push((key, raw)),
            None => self.unknown += 1,
        }
    }
}

struct Seed<'a> {
    layout: &'a Layout,
    place: Place,
}

impl<'a> DeserializeSeed<'a> for Seed<'a> {
    type Value = Fields<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Fields<'a>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Seed<'a> {
    type Value = Fields<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Fields<'a>, A::Error> {
        let slots = [None; Slot::COUNT];
        let mut fields = Fields { layout: self.layout, place: self.place, slots, kept: Vec::new(), unknown: 0 };
        while let Some(key) = map.next_key_seed(Key)? {
            let raw: &'a RawValue = map.next_value()?;
            fields.put(key, raw.get());
        }
        for (to, from) in &self.layout.shared {
            fields.slots[*to as usize] = fields.slots[*from as usize];
        }
        Ok(fields)
    }
}

/// A key: borrowed unless it holds escapes.
struct Key;

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Cow<'a, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'a str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// The type of a value, from its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Integer,
    Float,
    String,
    Array,
    Object,
}

/// The type of a JSON value from its text, without leading space.
pub(super) fn kind(raw: &str) -> Kind {
    match raw.as_bytes().first() {
        Some(b'"') => Kind::String,
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') | None => Kind::Null,
        Some(_) if raw.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) => Kind::Float,
        Some(_) => Kind::Integer,
    }
}

/// What a value is, without the value: a rejection must not tell a recipient's data.
pub(super) fn describe(raw: &str) -> String {
    match kind(raw) {
        Kind::Null => "null".to_owned(),
        Kind::Bool => "a boolean".to_owned(),
        Kind::Integer => "an integer".to_owned(),
        Kind::Float => "a number with a fraction or an exponent".to_owned(),
        Kind::Array => "an array".to_owned(),
        Kind::Object => "an object".to_owned(),
        Kind::String => match string(raw).map_or(raw.len() - 2, |text| text.chars().count()) {
            0 => "an empty string".to_owned(),
            1 => "a string of 1 character".to_owned(),
            n => format!("a string of {n} characters"),
        },
    }
}

/// A field of another type than expected.
pub(super) fn wrong_type(field: String, expected: &str, raw: &str) -> Rejection {
    Rejection::new(Reason::WrongType, field, expected, describe(raw))
}

/// The text of a string value: borrowed unless it holds escapes. Fails on half a surrogate pair only.
pub(super) fn string(raw: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    let inside = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inside {
        Some(plain) if !plain.as_bytes().contains(&b'\\') => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(raw).map(Cow::Owned),
    }
}

/// A value built, numbers with their one text (reference R13).
pub(super) fn value(raw: &str, field: impl Fn() -> String) -> Result<Value, Rejection> {
    serde_json::from_str(raw).map(normalised).map_err(|error| broken(raw, &error, field()))
}

/// Skipping a value does not look at surrogate pairs, and two of the parser's own key names are not kept as keys. Only
/// texts with such signs pay for being built.
static SUSPECT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?-u)\\u(?:[dD][89a-fA-F]|0024)|\$serde_json::private").expect("a constant pattern"));

/// Whether an object's text, already skipped over as JSON, can also be built as an object.
pub(super) fn check_object(raw: &str, field: impl Fn() -> String) -> Result<(), Rejection> {
    if !SUSPECT.is_match(raw.as_bytes()) {
        return Ok(());
    }
    match value(raw, &field)? {
        Value::Object(_) => Ok(()),
        _ => Err(Rejection::new(Reason::BadRow, field(), "an object", "a key that is reserved by the JSON parser")),
    }
}

/// The rejection of a text that is not JSON. Only the parser's fixed phrases are told.
pub(super) fn broken(text: &str, error: &serde_json::Error, field: String) -> Rejection {
    let offset = byte_offset(text, error);
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    if said.contains("recursion limit") {
        return Rejection::new(Reason::TooDeep, field, "nesting of at most 64", "nesting of more than 127");
    }
    let found = match not_a_number(text, offset) {
        Some(word) => format!("`{word}`, which JSON does not have, at byte {offset}"),
        None => format!("{said} at byte {offset}"),
    };
    Rejection::new(Reason::BadJson, field, "JSON", found)
}

/// The parser counts lines and columns from 1; a text inside a string may have several lines.
fn byte_offset(text: &str, error: &serde_json::Error) -> usize {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}

/// The word of a client that writes IEEE specials, at or just before the byte where the parser stopped.
fn not_a_number(text: &str, offset: usize) -> Option<&'static str> {
    const WORDS: [&str; 5] = ["-Infinity", "Infinity", "-NaN", "NaN", "nan"];
    let bytes = text.as_bytes();
    (offset.saturating_sub(2)..=offset + 1)
        .filter_map(|at| bytes.get(at..))
        .find_map(|rest| WORDS.into_iter().find(|word| rest.starts_with(word.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::of(&[Slot::CampaignId, Slot::Email]).keeping(["colour"])
    }

    #[test]
    fn the_last_of_two_equal_keys_counts_and_strangers_are_counted() {
        let layout = layout();
        let text = r#"{"email":"a","x":[{"email":"no"}],"em\u0061il":"b","colour":1,"y":null,"colour":2}"#;
        let fields = Fields::parse(&layout, text, Place::Top).unwrap();
        assert_eq!(fields.get(Slot::Email), Some(r#""b""#));
        assert_eq!(fields.named("colour"), Some("2"));
        assert_eq!(fields.unknown, 2);
    }

    #[test]
    fn one_key_may_serve_two_fields() {
        let layout = Layout::default().field(Slot::ExternalUserId, "id").field(Slot::TriggerId, "id");
        let fields = Fields::parse(&layout, r#"{"id":7}"#, Place::Item("recipients", 3)).unwrap();
        assert_eq!((fields.get(Slot::ExternalUserId), fields.get(Slot::TriggerId)), (Some("7"), Some("7")));
        assert_eq!(fields.name(Slot::TriggerId), "recipients[3].id");
    }

    #[test]
    fn what_is_no_object_is_told_apart_from_what_is_no_json() {
        let layout = layout();
        let reason = |text| Fields::parse(&layout, text, Place::Top).map(|_| ()).map_err(|r| (r.reason, r.found));
        assert_eq!(reason("[1]"), Err((Reason::BadRow, "an array".into())));
        assert_eq!(reason("\"secret\""), Err((Reason::BadRow, "a string of 6 characters".into())));
        for broken in
            ["{", "nope", "{} {}", r#"{"a":1,}"#, r#"{"a" 1}"#, r#"{"\ud800":1}"#, r#"{"a":01}"#, "{\"a\":\"\n\"}"]
        {
            assert_eq!(reason(broken).map_err(|r| r.0), Err(Reason::BadJson), "{broken}");
        }
    }

    #[test]
    fn ieee_specials_are_named() {
        let layout = layout();
        for word in ["NaN", "Infinity", "-Infinity", "nan"] {
            for text in [format!(r#"{{"a":{word}}}"#), format!(r#"{{"a":[1, {word} ]}}"#)] {
                let rejection = Fields::parse(&layout, &text, Place::Top).unwrap_err();
                assert_eq!(rejection.reason, Reason::BadJson);
                assert!(rejection.found.contains(&format!("`{word}`")), "{text}: {}", rejection.found);
            }
        }
    }

    #[test]
    fn a_broken_line_tells_no_values() {
        let layout = layout();
        let rejection = Fields::parse(&layout, r#"{"email":"ada@example.org" "x":1}"#, Place::Top).unwrap_err();
        assert!(!format!("{rejection:?}").contains("ada"), "{rejection:?}");
    }

    #[test]
    fn a_million_brackets_do_not_overflow_the_stack() {
        let layout = layout();
        let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(Fields::parse(&layout, &deep, Place::Top).unwrap().unknown, 1);
        let open = format!(r#"{{"x":{}"#, "[".repeat(1_000_000));
        assert_eq!(Fields::parse(&layout, &open, Place::Top).unwrap_err().reason, Reason::BadJson);
    }

    #[test]
    fn an_object_that_cannot_be_built_is_caught() {
        let field = || "p".to_owned();
        assert!(check_object(r#"{"a":"\ud83d\ude00 \u0024"}"#, field).is_ok());
        assert_eq!(check_object(r#"{"a":"\ud83d"}"#, field).unwrap_err().reason, Reason::BadJson);
        let reserved = r#"{"$serde_json::private::Number":"1"}"#;
        assert_eq!(check_object(reserved, field).unwrap_err().reason, Reason::BadRow);
    }
}
