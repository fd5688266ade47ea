//! One line of text: is it a flat row or a request body, and where in the line does it stand.
//!
//! Flat rows and requests may be mixed in one file. With a body pointer the line is a caller's log record; the body
//! inside it, an object or a string holding one, is then read as the line would be, and `triggered_at`, `trigger_id` and
//! carried keys may stand in the record instead.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{self, Fields, Kind, Layout, Place, Slot, kind};
use super::{InputOptions, Mapping, PropertiesFrom, flat, request, rules};
use crate::error::{Error, Result};
use crate::triggers::{Reason, Rejection, Trigger};

/// Takes the triggers of a line: the position inside the request, and the trigger or why there is none.
pub(super) type Emit<'e> = dyn FnMut(Option<u32>, Result<Trigger<'_>, Rejection>) -> Result<()> + 'e;

/// Keys that make an object a request body. `recipient` alone is also a flat column's name: see [`is_request`].
const REQUEST_KEYS: [Slot; 5] = [Slot::Recipients, Slot::Broadcast, Slot::Audience, Slot::Attachments, Slot::Schedule];

const IDENTIFIERS: [Slot; 4] = [Slot::ExternalUserId, Slot::UserAlias, Slot::BrazeId, Slot::Email];

/// The options of a run, made ready for reading lines.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) options: InputOptions,
    pub(super) flat: Layout,
    pub(super) body: Layout,
    pub(super) recipient: Layout,
    pub(super) schedule: Layout,
    pub(super) alias: Layout,
    outer: Layout,
    everything: Layout,
}

impl Rules {
    /// Prepares options. Nothing in them can be wrong here; a body pointer is taken as RFC 6901 reads it.
    pub(super) fn new(options: InputOptions) -> Rules {
        let mapping = &options.mapping;
        let kept = || {
            let ids = options.trigger_id_from.iter().map(String::as_str);
            options.carry.iter().map(String::as_str).chain(ids)
        };
        // Bodies have the API's own names; only what stands beside them can be mapped.
        let beside = |layout| mapped(layout, mapping, &["triggered_at", "trigger_id"]).keeping(kept());
        let body = [Slot::CampaignId, Slot::SendId, Slot::TriggerProperties, Slot::Recipient];
        let recipient = [
            Slot::TriggerId,
            Slot::TriggerProperties,
            Slot::Attributes,
            Slot::Prioritization,
            Slot::SendToExistingOnly,
        ];
        Rules {
            flat: flat_layout(mapping).keeping(kept()),
            body: beside(Layout::of(&[&body[..], &REQUEST_KEYS].concat())),
            recipient: Layout::of(&[&IDENTIFIERS[..], &recipient].concat()).keeping(kept()),
            schedule: Layout::of(&[Slot::Time, Slot::InLocalTime, Slot::AtOptimalTime]),
            alias: Layout::of(&[Slot::AliasName, Slot::AliasLabel]),
            outer: beside(Layout::default()).keeping_rest(),
            everything: Layout::default().keeping_rest(),
            options,
        }
    }
}

fn mapped(layout: Layout, mapping: &Mapping, fields: &[&'static str]) -> Layout {
    fields.iter().fold(layout, |layout, field| match (Slot::of_name(field), rules::column(mapping, field)) {
        (Some(slot), Some(column)) => layout.field(slot, column),
        _ => layout,
    })
}

fn flat_layout(mapping: &Mapping) -> Layout {
    let layout = mapped(Layout::default(), mapping, &Mapping::FIELDS);
    let marked = REQUEST_KEYS.iter().chain(&[Slot::Recipient]);
    let layout = marked.fold(layout, |layout, slot| layout.field(*slot, slot.name()));
    match &mapping.properties {
        PropertiesFrom::Field => layout,
        PropertiesFrom::Columns(names) => layout.keeping(names.iter().map(String::as_str)),
        PropertiesFrom::All => layout.keeping_rest(),
    }
}

/// Reads one line, which is not blank. Returns the number of unknown fields; an error of `emit` ends the reading.
pub(super) fn read(rules: &Rules, line: &[u8], emit: &mut Emit<'_>) -> Result<u64> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            let found = format!("an invalid sequence at byte {}", error.valid_up_to());
            emit(None, Err(Rejection::new(Reason::BadRow, "", "UTF-8 text", found)))?;
            return Ok(0);
        }
    };
    let unwrapped = match &rules.options.body {
        Some(pointer) => unwrap(rules, text, pointer).map(|(outer, body)| (Some(outer), body)),
        None => Ok((None, Cow::Borrowed(text))),
    };
    let (outer, body) = match unwrapped {
        Ok(unwrapped) => unwrapped,
        Err(rejection) => return emit(None, Err(rejection)).map(|()| 0),
    };
    match read_object(rules, &body, outer.as_ref(), emit) {
        Ok(unknown) => Ok(unknown),
        Err(Stop::Row(mut rejection)) => {
            if let (Some(pointer), true) = (&rules.options.body, rejection.field.is_empty()) {
                rejection.field.clone_from(pointer);
            }
            emit(None, Err(rejection)).map(|()| 0)
        }
        Err(Stop::Reading(error)) => Err(error),
    }
}

/// Why an object was not read: it is no row, or whoever takes the rows wants no more.
enum Stop {
    Row(Rejection),
    Reading(Error),
}

fn read_object<'a>(
    rules: &'a Rules,
    text: &'a str,
    outer: Option<&Fields<'a>>,
    emit: &mut Emit<'_>,
) -> Result<u64, Stop> {
    let fields = Fields::parse(&rules.flat, text, Place::Top).map_err(Stop::Row)?;
    if is_request(&fields, outer.is_some()) {
        let body = Fields::parse(&rules.body, text, Place::Top).map_err(Stop::Row)?;
        return request::expand(rules, &body, outer, emit).map_err(Stop::Reading);
    }
    emit(None, flat::trigger(rules, &fields, outer)).map_err(Stop::Reading)?;
    Ok(fields.unknown)
}

/// A logged body without any of the keys is still a request, one that was answered `400 No Recipients`, unless it
/// names a recipient as flat rows do.
fn is_request(fields: &Fields<'_>, wrapped: bool) -> bool {
    let listed = |raw: &str| matches!(kind(raw), Kind::Object | Kind::Array);
    REQUEST_KEYS.iter().any(|slot| fields.has(*slot))
        || fields.get(Slot::Recipient).is_some_and(listed)
        || (wrapped && !IDENTIFIERS.iter().any(|slot| fields.has(*slot)))
}

/// The record of a line and the body that its pointer leads to.
fn unwrap<'a>(rules: &'a Rules, text: &'a str, pointer: &str) -> Result<(Fields<'a>, Cow<'a, str>), Rejection> {
    let outer = Fields::parse(&rules.outer, text, Place::Top)?;
    let missing = || Rejection::new(Reason::MissingField, pointer, "a request body", "nothing");
    let raw = follow(rules, &outer, text, pointer)?.filter(|raw| *raw != "null").ok_or_else(missing)?;
    let body = match kind(raw) {
        Kind::Object => Cow::Borrowed(raw),
        Kind::String => json::string(raw).map_err(|error| json::broken(raw, &error, pointer.to_owned()))?,
        _ => return Err(json::wrong_type(pointer.to_owned(), "an object, or a string holding one", raw)),
    };
    Ok((outer, body))
}

/// The value at a JSON pointer (RFC 6901). Each step reads one level and skips the rest.
fn follow<'a>(
    rules: &'a Rules,
    outer: &Fields<'a>,
    text: &'a str,
    pointer: &str,
) -> Result<Option<&'a str>, Rejection> {
    let mut steps = pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
    if steps.next().is_some_and(|first| !first.is_empty()) {
        return Ok(None);
    }
    let Some(first) = steps.next() else { return Ok(Some(text)) };
    let mut value = outer.named(&first);
    for step in steps {
        value = match value.map(|raw| (raw, kind(raw))) {
            Some((raw, Kind::Object)) => Fields::parse(&rules.everything, raw, Place::Top)?.named(&step),
            Some((raw, Kind::Array)) => element(raw, &step),
            _ => return Ok(None),
        };
    }
    Ok(value)
}

fn element<'a>(raw: &'a str, step: &str) -> Option<&'a str> {
    let items: Vec<&'a RawValue> = serde_json::from_str(raw).ok()?;
    items.get(step.parse::<usize>().ok()?).map(|item| item.get())
}
