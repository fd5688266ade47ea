//! What the fields of a trigger mean, for every form of row: identifiers, times, ids, properties.
//!
//! Pure functions of one value or a few. The first half knows nothing of JSON text and serves columns as well; the
//! second half reads values of [`super::json::Fields`]. Rejections name fields and types, never values.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::json::{self, Fields, Kind, Slot, describe, kind, wrong_type};
use super::{InputOptions, Mapping};
use crate::triggers::{
    MAX_DEPTH, MAX_PROPERTIES_BYTES, Micros, Properties, PropertiesFault, Reason, Recipient, RecipientKind, Rejection,
    TimeReader, Trigger, format_micros, text_depth,
};

/// The column or key of a field; `None` when an explicit mapping gave its column to another field.
pub(crate) fn column<'m>(mapping: &'m Mapping, field: &'m str) -> Option<&'m str> {
    match mapping.columns.get(field) {
        Some(column) => Some(column),
        None => (!mapping.columns.values().any(|taken| taken == field)).then_some(field),
    }
}

/// The one identifier of a row, given in the order of [`RecipientKind::ALL`] (reference 2.2, R5).
pub(crate) fn only_identifier<T>(given: [Option<T>; 4], place: &str) -> Result<(RecipientKind, T), Rejection> {
    let mut present = RecipientKind::ALL.into_iter().zip(given).filter_map(|(kind, id)| Some((kind, id?)));
    let Some(first) = present.next() else {
        let expected = "one of `external_user_id`, `user_alias`, `braze_id`, `email`";
        return Err(Rejection::new(Reason::NoRecipient, place, expected, "none"));
    };
    let others: Vec<_> = present.map(|(kind, _)| kind.code()).collect();
    if others.is_empty() {
        return Ok(first);
    }
    let found = format!("{} and {}", first.0.code(), others.join(" and "));
    Err(Rejection::new(Reason::SeveralIdentifiers, place, "exactly one identifier", found))
}

/// A recipient by a plain id, which must not be empty. Aliases have [`alias`].
pub(crate) fn plain_recipient<'a>(
    kind: RecipientKind,
    id: Cow<'a, str>,
    field: impl Fn() -> String,
) -> Result<Recipient<'a>, Rejection> {
    let recipient = match kind {
        RecipientKind::Email => Recipient::email(id),
        kind => Recipient { kind, id, label: Cow::Borrowed("") },
    };
    if recipient.id.is_empty() { Err(empty_string(field())) } else { Ok(recipient) }
}

/// A recipient by alias; neither part may be empty.
pub(crate) fn alias<'a>(
    name: Cow<'a, str>,
    label: Cow<'a, str>,
    field: impl Fn() -> String,
) -> Result<Recipient<'a>, Rejection> {
    if name.is_empty() || label.is_empty() {
        return Err(empty_string(field()));
    }
    Ok(Recipient::alias(name, label))
}

fn empty_string(field: String) -> Rejection {
    Rejection::new(Reason::WrongType, field, "a non-empty string", "an empty string")
}

/// A trigger id made of several values: their JSON array text, which no other list of values has. `None` when all are null.
pub(crate) fn joined_trigger_id(values: Vec<Value>) -> Option<String> {
    let any = values.iter().any(|value| !value.is_null());
    any.then(|| Value::Array(values).to_string())
}

/// The rejection of properties that break a limit (reference R12, R13).
pub(crate) fn limit_rejection(fault: PropertiesFault, field: String) -> Rejection {
    match fault {
        PropertiesFault::TooLarge(bytes) => Rejection::new(
            Reason::PropertiesTooLarge,
            field,
            format!("at most {MAX_PROPERTIES_BYTES} bytes of compact JSON"),
            format!("{bytes} bytes"),
        ),
        PropertiesFault::TooDeep => too_deep(field),
    }
}

fn too_deep(field: String) -> Rejection {
    let found = format!("nesting of more than {MAX_DEPTH}");
    Rejection::new(Reason::TooDeep, field, format!("nesting of at most {MAX_DEPTH}"), found)
}

/// Properties that stand as text in a string: the text of one object; nothing, white space or `null` is none.
pub(crate) fn properties_text<'a>(
    text: Cow<'a, str>,
    field: impl Fn() -> String,
) -> Result<Option<Cow<'a, str>>, Rejection> {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed == "null" {
        return Ok(None);
    }
    let wrong = |found: String| Rejection::new(Reason::WrongType, field(), "an object, or the text of one", found);
    if kind(trimmed) != Kind::Object {
        return Err(wrong(format!("a string of {} characters that is no object", text.chars().count())));
    }
    if let Err(error) = serde_json::from_str::<&RawValue>(trimmed) {
        return Err(wrong(format!(
            "a string with broken JSON: {}",
            json::broken(trimmed, &error, String::new()).found
        )));
    }
    json::check_object(trimmed, &field)?;
    Ok(Some(if trimmed.len() == text.len() { text } else { Cow::Owned(trimmed.to_owned()) }))
}

/// Two levels of properties as one, within the limits. The second level wins key by key (reference R7).
pub(super) fn merged<'a>(
    base: Option<Cow<'a, str>>,
    over: Option<Cow<'a, str>>,
    field: impl Fn() -> String,
) -> Result<Properties<'a>, Rejection> {
    let properties = match (base, over) {
        (None, None) => Properties::Empty,
        (Some(text), None) | (None, Some(text)) => Properties::Text(text),
        (Some(base), Some(over)) => Properties::Overlaid(base, over),
    };
    properties.check().map_err(|fault| limit_rejection(fault, field()))?;
    Ok(properties)
}

/// A string that must not be empty, or an integer: ids of all kinds (reference 2.1, R5).
pub(super) fn id_text<'a>(
    raw: &'a str,
    expected: &str,
    integers: bool,
    field: impl Fn() -> String,
) -> Result<Cow<'a, str>, Rejection> {
    match kind(raw) {
        Kind::String => match json::string(raw) {
            Ok(text) if text.is_empty() => Err(empty_string(field())),
            Ok(text) => Ok(text),
            Err(error) => Err(json::broken(raw, &error, field())),
        },
        Kind::Integer if integers && raw == "-0" => Ok(Cow::Borrowed("0")),
        Kind::Integer if integers => Ok(Cow::Borrowed(raw)),
        _ => Err(wrong_type(field(), expected, raw)),
    }
}

/// The campaign a row names, or the one that the options give to rows without.
pub(super) fn campaign<'a>(fields: &Fields<'a>, options: &'a InputOptions) -> Result<Cow<'a, str>, Rejection> {
    let field = || fields.name(Slot::CampaignId);
    match (fields.get(Slot::CampaignId), &options.mapping.campaign_id) {
        (Some(raw), _) => id_text(raw, "a string", false, field),
        (None, Some(campaign)) => Ok(Cow::Borrowed(campaign)),
        (None, None) => Err(Rejection::new(Reason::MissingField, field(), "a string", "nothing")),
    }
}

/// The recipient that a row or an element of `recipients` names.
pub(super) fn recipient<'a>(fields: &Fields<'a>, alias_layout: &'a json::Layout) -> Result<Recipient<'a>, Rejection> {
    const SLOTS: [Slot; 4] = [Slot::ExternalUserId, Slot::UserAlias, Slot::BrazeId, Slot::Email];
    let (kind, raw) = only_identifier(SLOTS.map(|slot| fields.get(slot)), &fields.own_name())?;
    let field = || fields.name(SLOTS[kind as usize]);
    match kind {
        RecipientKind::UserAlias => alias_object(raw, alias_layout, field),
        RecipientKind::ExternalUserId => {
            plain_recipient(kind, id_text(raw, "a string or an integer", true, field)?, field)
        }
        _ => plain_recipient(kind, id_text(raw, "a string", false, field)?, field),
    }
}

fn alias_object<'a>(
    raw: &'a str,
    layout: &'a json::Layout,
    field: impl Fn() -> String,
) -> Result<Recipient<'a>, Rejection> {
    if kind(raw) != Kind::Object {
        return Err(wrong_type(field(), "an object with `alias_name` and `alias_label`", raw));
    }
    let fields = Fields::parse(layout, raw, json::Place::Top)?;
    let part = |slot: Slot| {
        let name = || format!("{}.{}", field(), slot.name());
        let raw = fields.get(slot);
        let raw = raw.ok_or_else(|| Rejection::new(Reason::MissingField, name(), "a string", "nothing"))?;
        id_text(raw, "a string", false, name)
    };
    alias(part(Slot::AliasName)?, part(Slot::AliasLabel)?, field)
}

/// When a row says it happened; absent is for the engine to judge.
pub(super) fn time(fields: &Fields<'_>, slot: Slot, times: &TimeReader) -> Result<Option<Micros>, Rejection> {
    let Some(raw) = fields.get(slot) else { return Ok(None) };
    let wrong = |expected: &str| Rejection::new(Reason::BadTimestamp, fields.name(slot), expected, describe(raw));
    let read = match kind(raw) {
        Kind::String => times.text(&json::string(raw).map_err(|e| json::broken(raw, &e, fields.name(slot)))?),
        Kind::Integer => times.epoch(raw.parse().map_err(|_| wrong("an epoch integer between 2000 and 2100"))?),
        _ => return Err(wrong("an RFC 3339 time or an epoch integer")),
    };
    read.map(Some).map_err(|error| wrong(error.expected))
}

/// The trigger id that an object gives.
pub(super) fn trigger_id<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Rejection> {
    let field = || fields.name(Slot::TriggerId);
    fields.get(Slot::TriggerId).map(|raw| id_text(raw, "a string or an integer", true, field)).transpose()
}

/// The reporting label that an object gives; an empty one is none.
pub(super) fn send_id<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Rejection> {
    match fields.get(Slot::SendId) {
        None | Some("\"\"") => Ok(None),
        Some(raw) => id_text(raw, "a string", false, || fields.name(Slot::SendId)).map(Some),
    }
}

/// `trigger_properties` of one level. `""` and `null` are none (reference R8); other strings only where `texts` says so.
pub(super) fn properties<'a>(fields: &Fields<'a>, texts: bool) -> Result<Option<Cow<'a, str>>, Rejection> {
    let field = || fields.name(Slot::TriggerProperties);
    let Some(raw) = fields.get(Slot::TriggerProperties) else { return Ok(None) };
    match kind(raw) {
        Kind::Object => json::check_object(raw, field).map(|()| Some(Cow::Borrowed(raw))),
        Kind::String if texts => {
            properties_text(json::string(raw).map_err(|error| json::broken(raw, &error, field()))?, field)
        }
        Kind::String if raw == "\"\"" => Ok(None),
        _ => Err(wrong_type(field(), "an object", raw)),
    }
}

/// `attributes`: an object, with the depth limit of properties but no size limit of its own.
pub(super) fn attributes<'a>(fields: &Fields<'a>) -> Result<Properties<'a>, Rejection> {
    let field = || fields.name(Slot::Attributes);
    let Some(raw) = fields.get(Slot::Attributes) else { return Ok(Properties::Empty) };
    if kind(raw) != Kind::Object {
        return Err(wrong_type(field(), "an object", raw));
    }
    if text_depth(raw) > MAX_DEPTH {
        return Err(too_deep(field()));
    }
    json::check_object(raw, field)?;
    Ok(Properties::Text(Cow::Borrowed(raw)))
}

/// The `--carry` values: the first level (innermost first) that has one.
pub(super) fn carried<'a>(
    levels: &[&Fields<'a>],
    options: &InputOptions,
) -> Result<Vec<Option<Cow<'a, str>>>, Rejection> {
    options.carry.iter().map(|name| given(levels, name).map_or(Ok(None), |found| printed(found, name))).collect()
}

/// The first level with a value under a key, and the value.
fn given<'f, 'a>(levels: &[&'f Fields<'a>], name: &str) -> Option<(&'f Fields<'a>, &'a str)> {
    levels.iter().find_map(|fields| Some((*fields, fields.named(name).filter(|raw| *raw != "null")?)))
}

fn printed<'a>((fields, raw): (&Fields<'a>, &'a str), name: &str) -> Result<Option<Cow<'a, str>>, Rejection> {
    let field = || fields.key_name(name);
    Ok(Some(match kind(raw) {
        Kind::String => json::string(raw).map_err(|error| json::broken(raw, &error, field()))?,
        Kind::Bool | Kind::Integer => Cow::Borrowed(raw),
        _ => Cow::Owned(json::value(raw, field)?.to_string()),
    }))
}

/// The trigger id derived by `--trigger-id-from`, for a trigger without one. Fields count with the value that was read,
/// so that the same row has the same id from every file format.
pub(super) fn derived_trigger_id(
    trigger: &Trigger<'_>,
    levels: &[&Fields<'_>],
    options: &InputOptions,
) -> Result<Option<String>, Rejection> {
    let mut map: Option<Map<String, Value>> = None;
    let mut property =
        |name: &str| map.get_or_insert_with(|| trigger.properties.to_map()).get(name).cloned().unwrap_or(Value::Null);
    let mut values = Vec::with_capacity(options.trigger_id_from.len());
    for name in &options.trigger_id_from {
        values.push(match (name.strip_prefix("trigger_properties."), field_value(trigger, name)) {
            (Some(inside), _) => property(inside),
            (None, Some(value)) => value,
            (None, None) => match given(levels, name) {
                Some((fields, raw)) => json::value(raw, || fields.key_name(name))?,
                None => property(name),
            },
        });
    }
    Ok(joined_trigger_id(values))
}

/// The value of a field of the trigger by its name; `None` for names that are no field.
fn field_value(trigger: &Trigger<'_>, name: &str) -> Option<Value> {
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    Some(match name {
        "campaign_id" => text(Some(&trigger.campaign_id)),
        "triggered_at" => trigger.triggered_at.map_or(Value::Null, |at| format_micros(at).into()),
        "trigger_id" => Value::Null,
        "send_id" => text(trigger.send_id.as_deref()),
        "trigger_properties" => Value::Object(trigger.properties.to_map()),
        "attributes" => Value::Object(trigger.attributes.to_map()),
        _ => match RecipientKind::from_code(name)? {
            kind if kind != trigger.recipient.kind => Value::Null,
            RecipientKind::UserAlias => {
                Value::from(vec![trigger.recipient.label.as_ref(), trigger.recipient.id.as_ref()])
            }
            _ => text(Some(&trigger.recipient.id)),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_mapping_takes_the_column_from_the_field_of_that_name() {
        let mapping =
            Mapping { columns: [("external_user_id".to_owned(), "email".to_owned())].into(), ..Mapping::default() };
        assert_eq!(column(&mapping, "external_user_id"), Some("email"));
        assert_eq!(column(&mapping, "email"), None);
        assert_eq!(column(&mapping, "braze_id"), Some("braze_id"));
    }

    #[test]
    fn a_derived_id_tells_lists_of_values_apart() {
        let id = |values: &[Value]| joined_trigger_id(values.to_vec());
        assert_ne!(id(&["a,b".into(), "c".into()]), id(&["a".into(), "b,c".into()]));
        assert_ne!(id(&["1".into()]), id(&[1.into()]));
        assert_eq!(id(&[Value::Null, Value::Null]), None);
        assert_eq!(id(&[Value::Null, 2.into()]).as_deref(), Some("[null,2]"));
    }

    #[test]
    fn properties_in_a_string_are_one_object_or_nothing() {
        let read = |text: &'static str| properties_text(Cow::Borrowed(text), || "p".into()).map_err(|r| r.reason);
        assert_eq!(read(" "), Ok(None));
        assert_eq!(read("null"), Ok(None));
        assert_eq!(read(" {\"a\":1}\n"), Ok(Some(Cow::Borrowed("{\"a\":1}"))));
        for wrong in ["[1]", "x", "{\"a\":NaN}", "{} {}", "{"] {
            assert_eq!(read(wrong), Err(Reason::WrongType), "{wrong}");
        }
    }
}
