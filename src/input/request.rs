//! A request body as a caller logged it: `/campaigns/trigger/send` and `/campaigns/trigger/schedule/create` (reference
//! sections 1.2-1.4, 1.10, 2, 13).
//!
//! A fatal fault rejects every recipient of the request, as the platform would; a fault of one recipient only that
//! one. What would reach other people if it were ignored (audiences, broadcasts, attachments, local times) is refused, never
//! skipped. Field names are the API's own: a mapping applies only to `triggered_at` and `trigger_id` beside them.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::flat::finish;
use super::json::{self, Fields, Kind, Place, Slot, describe, kind, wrong_type};
use super::line::{Emit, Rules};
use super::rules;
use crate::error::Result;
use crate::ids::KeyHash;
use crate::pipeline::Need;
use crate::triggers::{Micros, Reason, RecipientKind, Rejection, TimeReader, Trigger};

/// Most recipients of one request (reference 1.2).
const MAX_RECIPIENTS: usize = 50;

/// The documented text for more of them (reference 1.10).
const TOO_MANY: &str = "400 The max number of external_ids and aliases per request was exceeded";

/// What all recipients of a request share.
struct Shared<'a> {
    campaign_id: Cow<'a, str>,
    send_id: Option<Cow<'a, str>>,
    triggered_at: Option<Micros>,
    trigger_id: Option<Cow<'a, str>>,
    properties: Option<Cow<'a, str>>,
}

/// The recipients as they stand in the body, and under which key.
struct Recipients<'a> {
    key: &'static str,
    listed: bool,
    items: Vec<&'a str>,
}

impl Recipients<'_> {
    fn place(&self, index: u32) -> Place {
        if self.listed { Place::Item(self.key, index) } else { Place::Under(self.key) }
    }
}

/// Expands a request into its recipients, in order. Returns the number of unknown fields.
pub(super) fn expand<'a>(
    rules: &'a Rules,
    body: &Fields<'a>,
    outer: Option<&Fields<'a>>,
    need: Need,
    emit: &mut Emit<'_>,
) -> Result<u64> {
    let recipients = match recipients(body) {
        Ok(recipients) => recipients,
        Err(rejection) => return emit(None, Err(rejection)).map(|()| body.unknown),
    };
    match check(body, &recipients).and_then(|()| shared(rules, body, outer)) {
        Ok(shared) => {
            let levels = [&[body][..], outer.as_slice()].concat();
            expand_each(rules, &shared, &recipients, &levels, need, emit).map(|unknown| body.unknown + unknown)
        }
        Err(rejection) => reject_all(&recipients, &rejection, emit).map(|()| body.unknown),
    }
}

fn reject_all(recipients: &Recipients<'_>, rejection: &Rejection, emit: &mut Emit<'_>) -> Result<()> {
    if recipients.items.is_empty() {
        return emit(None, Err(rejection.clone()));
    }
    (0u32..).zip(&recipients.items).try_for_each(|(index, _)| emit(Some(index), Err(rejection.clone())))
}

fn expand_each<'a>(
    rules: &'a Rules,
    shared: &Shared<'a>,
    recipients: &Recipients<'a>,
    outside: &[&Fields<'a>],
    need: Need,
    emit: &mut Emit<'_>,
) -> Result<u64> {
    let mut unknown = 0;
    let mut seen: Vec<KeyHash> = Vec::with_capacity(recipients.items.len());
    for (index, raw) in (0u32..).zip(&recipients.items) {
        let parsed = item(rules, raw, recipients.place(index)).and_then(|item| {
            unknown += item.unknown;
            let levels = [&[&item][..], outside].concat();
            trigger(rules, shared, &item, &levels, need)
        });
        let parsed = parsed.map(|mut trigger| {
            let key = trigger.recipient.key_hash();
            trigger.duplicate_recipient = seen.contains(&key);
            seen.push(key);
            trigger
        });
        emit(Some(index), parsed)?;
    }
    Ok(unknown)
}

fn item<'a>(rules: &'a Rules, raw: &'a str, place: Place) -> Result<Fields<'a>, Rejection> {
    if kind(raw) != Kind::Object {
        return Err(wrong_type(place.name(), "a recipient object", raw));
    }
    Fields::parse(&rules.recipient, raw, place)
}

/// The trigger of one recipient, whose own properties and id win over those of the request.
fn trigger<'a>(
    rules: &'a Rules,
    shared: &Shared<'a>,
    item: &Fields<'a>,
    levels: &[&Fields<'a>],
    need: Need,
) -> Result<Trigger<'a>, Rejection> {
    let recipient = rules::recipient(item, &rules.alias)?;
    check_addressing(item, recipient.kind)?;
    let own = rules::properties(item, false)?;
    let mut trigger = Trigger {
        campaign_id: shared.campaign_id.clone(),
        recipient,
        triggered_at: shared.triggered_at,
        trigger_id: rules::trigger_id(item)?.or_else(|| shared.trigger_id.clone()),
        send_id: shared.send_id.clone(),
        properties: rules::merged(shared.properties.clone(), own, || item.name(Slot::TriggerProperties))?,
        attributes: rules::attributes(item)?,
        carried: rules::carried(levels, &rules.options)?,
        duplicate_recipient: false,
    };
    finish(&mut trigger, levels, rules, need)?;
    Ok(trigger)
}

/// `recipients`, or the singular that some clients write (reference 12): an array or, for the singular, one object.
fn recipients<'a>(body: &Fields<'a>) -> Result<Recipients<'a>, Rejection> {
    let (slot, key, raw) = match (body.get(Slot::Recipients), body.get(Slot::Recipient)) {
        (Some(_), Some(_)) => return Err(bad_request("recipient", "either `recipients` or `recipient`", "both")),
        (Some(raw), None) => (Slot::Recipients, "recipients", raw),
        (None, Some(raw)) => (Slot::Recipient, "recipient", raw),
        (None, None) => return Ok(Recipients { key: "recipients", listed: true, items: Vec::new() }),
    };
    match kind(raw) {
        Kind::Array => {
            let items = serde_json::from_str::<Vec<&'a RawValue>>(raw);
            let items = items.map_err(|error| json::broken(raw, &error, key.to_owned()))?;
            Ok(Recipients { key, listed: true, items: items.into_iter().map(RawValue::get).collect() })
        }
        Kind::Object if slot == Slot::Recipient => Ok(Recipients { key, listed: false, items: vec![raw] }),
        _ => Err(bad_request(key, "an array of recipient objects", &describe(raw))),
    }
}

fn bad_request(field: &str, expected: &str, found: &str) -> Rejection {
    Rejection::new(Reason::BadRequest, field, expected, format!("400 Bad Request: {found}"))
}

fn unsupported(field: &str, expected: &str, found: &str) -> Rejection {
    Rejection::new(Reason::Unsupported, field, expected, found)
}

/// The targeting matrix (reference 1.3) and what is not built: faults of the whole request.
fn check(body: &Fields<'_>, recipients: &Recipients<'_>) -> Result<(), Rejection> {
    let broadcast = flag(body, Slot::Broadcast)?;
    let count = recipients.items.len();
    if broadcast && count > 0 {
        return Err(bad_request("broadcast", "`false` beside recipients", "`true` with recipients"));
    }
    if broadcast {
        return Err(unsupported("broadcast", "listed recipients", "a broadcast"));
    }
    if let Some(raw) = body.get(Slot::Audience) {
        return Err(unsupported("audience", "listed recipients without an audience", &describe(raw)));
    }
    if let Some(raw) = body.get(Slot::Attachments).filter(|raw| !is_empty_array(raw)) {
        return Err(unsupported("attachments", "no attachments", &describe(raw)));
    }
    match count {
        0 => {
            let expected = format!("1 to {MAX_RECIPIENTS} recipients");
            Err(Rejection::new(Reason::NoRecipients, recipients.key, expected, "400 No Recipients"))
        }
        1..=MAX_RECIPIENTS => Ok(()),
        _ => {
            let expected = format!("at most {MAX_RECIPIENTS} recipients");
            Err(Rejection::new(Reason::TooManyRecipients, recipients.key, expected, format!("{TOO_MANY}: {count}")))
        }
    }
}

fn is_empty_array(raw: &str) -> bool {
    raw.strip_prefix('[').is_some_and(|rest| rest.trim_start() == "]")
}

/// A boolean of the request; absent is false.
fn flag(fields: &Fields<'_>, slot: Slot) -> Result<bool, Rejection> {
    match fields.get(slot) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(raw) => Err(bad_request(&fields.name(slot), "a boolean", &describe(raw))),
    }
}

fn shared<'a>(rules: &'a Rules, body: &Fields<'a>, outer: Option<&Fields<'a>>) -> Result<Shared<'a>, Rejection> {
    let scheduled = schedule(rules, body)?;
    let with = |slot: Slot| match outer {
        Some(outer) if body.get(slot).is_none() => outer,
        _ => body,
    };
    let given = rules::time(with(Slot::TriggeredAt), Slot::TriggeredAt, &rules.options.times)?;
    Ok(Shared {
        campaign_id: rules::campaign(body, &rules.options)?,
        send_id: rules::send_id(body)?,
        // The time that was asked for says more about the trigger than the time of the log record around it.
        triggered_at: match body.get(Slot::TriggeredAt) {
            Some(_) => given,
            None => scheduled.or(given),
        },
        trigger_id: rules::trigger_id(with(Slot::TriggerId))?,
        properties: rules::properties(body, false)?,
    })
}

/// The instant of an absolute schedule. A zoneless time is UTC here, whatever `--timezone` says (reference 1.4).
fn schedule(rules: &Rules, body: &Fields<'_>) -> Result<Option<Micros>, Rejection> {
    let Some(raw) = body.get(Slot::Schedule) else { return Ok(None) };
    if kind(raw) != Kind::Object {
        return Err(bad_request("schedule", "an object with `time`", &describe(raw)));
    }
    let schedule = Fields::parse(&rules.schedule, raw, Place::Under("schedule"))?;
    for slot in [Slot::InLocalTime, Slot::AtOptimalTime] {
        if flag(&schedule, slot)? {
            return Err(unsupported(&schedule.name(slot), "an absolute time", "`true`"));
        }
    }
    match schedule.get(Slot::Time) {
        None => Err(bad_request("schedule.time", "an ISO 8601 time", "nothing")),
        Some(raw) if kind(raw) != Kind::String => {
            Err(Rejection::new(Reason::BadTimestamp, "schedule.time", "an ISO 8601 time", describe(raw)))
        }
        Some(_) => rules::time(&schedule, Slot::Time, &TimeReader::default()),
    }
}

/// What the API asks of a recipient beyond its identifier (reference 2.3, 2.5).
fn check_addressing(item: &Fields<'_>, kind: RecipientKind) -> Result<(), Rejection> {
    if kind == RecipientKind::Email {
        check_prioritization(item)?;
    }
    match item.get(Slot::SendToExistingOnly) {
        None | Some("true") => Ok(()),
        Some("false") if kind != RecipientKind::ExternalUserId => {
            let found = format!("`false` with `{}`", kind.code());
            Err(refused(item, "`true`, as only users with an `external_user_id` can be created", &found))
        }
        Some("false") if item.get(Slot::Attributes).is_none() => {
            Err(refused(item, "`attributes` beside `false`", "`false` without `attributes`"))
        }
        Some("false") => Ok(()),
        Some(raw) => Err(wrong_type(item.name(Slot::SendToExistingOnly), "a boolean", raw)),
    }
}

fn refused(item: &Fields<'_>, expected: &str, found: &str) -> Rejection {
    Rejection::new(Reason::BadRow, item.name(Slot::SendToExistingOnly), expected, found)
}

fn check_prioritization(item: &Fields<'_>) -> Result<(), Rejection> {
    const KNOWN: [&str; 4] = ["identified", "unidentified", "most_recently_updated", "least_recently_updated"];
    const EXPECTED: &str =
        "an array of `identified` or `unidentified`, `most_recently_updated`, `least_recently_updated`";
    let field = || item.name(Slot::Prioritization);
    let wrong = |found: &str| Rejection::new(Reason::WrongType, field(), EXPECTED, found);
    let Some(raw) = item.get(Slot::Prioritization) else {
        return Err(Rejection::new(Reason::MissingField, field(), EXPECTED, "nothing"));
    };
    if kind(raw) != Kind::Array {
        return Err(wrong_type(field(), EXPECTED, raw));
    }
    let Ok(words) = serde_json::from_str::<Vec<Cow<'_, str>>>(raw) else {
        return Err(wrong("an array with something that is no string"));
    };
    let has = |word: &str| words.iter().any(|w| w == word);
    if words.is_empty() {
        Err(wrong("an empty array"))
    } else if words.iter().any(|word| !KNOWN.contains(&word.as_ref())) {
        Err(wrong("an unknown word"))
    } else if has("identified") && has("unidentified") {
        Err(wrong("both `identified` and `unidentified`"))
    } else {
        Ok(())
    }
}
