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
    emit: &mut Emit<'_>,
) -> Result<u64> {
    let recipients = match recipients(body) {
        Ok(recipients) => recipients,
        Err(rejection) => return emit(None, Err(rejection)).map(|()| body.unknown),
    };
    match check(body, &recipients).and_then(|()| shared(rules, body, outer)) {
        Ok(shared) => {
            let levels = [&[body][..], outer.as_slice()].concat();
            expand_each(rules, &shared, &recipients, &levels, emit).map(|unknown| body.unknown + unknown)
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
    emit: &mut Emit<'_>,
) -> Result<u64> {
    let mut unknown = 0;
    let mut seen: Vec<KeyHash> = Vec::with_capacity(recipients.items.len());
    for (index, raw) in (0u32..).zip(&recipients.items) {
        let parsed = item(rules, raw, recipients.place(index)).and_then(|item| {
            unknown += item.unknown;
            let levels = [&[&item][..], outside].concat();
            trigger(rules, shared, &item, &levels)
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
    finish(&mut trigger, levels, rules)?;
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Seen, faults, options, read, read_counted, trigger, words};
    use super::super::{InputOptions, Mapping};
    use crate::triggers::{MAX_PROPERTIES_BYTES, Reason, Reason::*, TimeReader};

    const CAMPAIGN: &str = "3f6c1a52-0d4e-4b8a-9a77-5e2d10c4b901";

    fn triggers(body: &str) -> Vec<Seen> {
        read(body, &options()).into_iter().map(|row| row.unwrap_or_else(|r| panic!("{body}: {r:?}"))).collect()
    }

    /// A body with these recipients.
    fn body(recipients: &str) -> String {
        format!(r#"{{"campaign_id":"{CAMPAIGN}","recipients":{recipients}}}"#)
    }

    /// A body with a good recipient and these fields.
    fn with(fields: &str) -> String {
        format!(r#"{{"campaign_id":"c","recipients":[{{"external_user_id":"u-1"}}],{fields}}}"#)
    }

    fn bad(reason: Reason, field: &str) -> Option<(Reason, String)> {
        Some((reason, field.to_owned()))
    }

    #[test]
    fn recipient_properties_lie_over_those_of_the_request() {
        let seen = triggers(
            r#"{"campaign_id":"3f6c1a52-0d4e-4b8a-9a77-5e2d10c4b901","broadcast":false,
 "trigger_properties":{"store":"Lyon","currency":"EUR","order":{"status":"packed"}},
 "recipients":[
  {"external_user_id":"u-1001","trigger_properties":{"order":{"id":"A-77","status":"shipped"},"eta days":2}},
  {"external_user_id":"u-1002"}]}"#,
        );
        assert_eq!(seen[0].recipient, "external_user_id u-1001");
        let own = r#"{"store":"Lyon","currency":"EUR","order":{"id":"A-77","status":"shipped"},"eta days":2}"#;
        assert_eq!(seen[0].properties, own);
        assert_eq!(seen[1].properties, r#"{"store":"Lyon","currency":"EUR","order":{"status":"packed"}}"#);
        assert_eq!((seen[0].campaign.as_str(), seen.len()), (CAMPAIGN, 2));
    }

    #[test]
    fn aliases_and_addresses_are_recipients() {
        let seen = triggers(&body(
            r#"[{"user_alias":{"alias_name":"crm-88123","alias_label":"crm"},"trigger_properties":{"code":"K7Q"}},
                {"email":"Ines@example.org","prioritization":["identified","most_recently_updated"]},{"braze_id":"b1"}]"#,
        ));
        let recipients: Vec<_> = seen.iter().map(|s| s.recipient.as_str()).collect();
        assert_eq!(recipients, ["user_alias crm:crm-88123", "email ines@example.org", "braze_id b1"]);
    }

    #[test]
    fn create_if_missing_brings_attributes_with_identity_keys() {
        let seen = triggers(&body(
            r#"[{"external_user_id":"new-4417","send_to_existing_only":false,
   "attributes":{"first_name":"Tomas","email":"tomas@example.net","user_alias":{"alias_name":"n","alias_label":"l"},
     "_update_existing_only":false,"loyalty_points":{"inc":25},"old_flag":null},
   "trigger_properties":{"welcome_gift":true}}]"#,
        ));
        assert!(seen[0].attributes.contains(r#""first_name":"Tomas","email":"tomas@example.net""#));
        assert_eq!(seen[0].properties, r#"{"welcome_gift":true}"#);
    }

    #[test]
    fn the_odd_forms_of_the_documentation_are_judged_one_recipient_at_a_time() {
        let rows = faults(
            body(
                r#"[{"external_user_id":"u-1","user_alias":{"alias_name":"a","alias_label":"b"},"trigger_properties":""},
                    {"user_alias":"example_alias"},{"external_user_id":12345,"trigger_properties":""},
                    {"external_user_id":"u-3","braze_id":"b","email":"e@x"},{},"u-4",null,{"external_user_id":"u-5"}]"#,
            ),
            &options(),
        );
        let expected = [
            bad(SeveralIdentifiers, "recipients[0]"),
            bad(WrongType, "recipients[1].user_alias"),
            None,
            bad(SeveralIdentifiers, "recipients[3]"),
            bad(NoRecipient, "recipients[4]"),
            bad(WrongType, "recipients[5]"),
            bad(WrongType, "recipients[6]"),
            None,
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn faults_of_one_recipient_leave_the_others() {
        let cases = [
            (r#"{"email":"a@example.org"}"#, MissingField, "prioritization"),
            (r#"{"email":"a@x","prioritization":[]}"#, WrongType, "prioritization"),
            (r#"{"email":"a@x","prioritization":"identified"}"#, WrongType, "prioritization"),
            (r#"{"email":"a@x","prioritization":["newest"]}"#, WrongType, "prioritization"),
            (r#"{"email":"a@x","prioritization":[1]}"#, WrongType, "prioritization"),
            (r#"{"email":"a@x","prioritization":["identified","unidentified"]}"#, WrongType, "prioritization"),
            (r#"{"external_user_id":"u-9","send_to_existing_only":false}"#, BadRow, "send_to_existing_only"),
            (r#"{"braze_id":"b","send_to_existing_only":false,"attributes":{}}"#, BadRow, "send_to_existing_only"),
            (r#"{"external_user_id":"u","send_to_existing_only":"no"}"#, WrongType, "send_to_existing_only"),
            (r#"{"external_user_id":"u","attributes":[]}"#, WrongType, "attributes"),
            (r#"{"external_user_id":"u","trigger_properties":"{}"}"#, WrongType, "trigger_properties"),
            (r#"{"external_user_id":1.5}"#, WrongType, "external_user_id"),
        ];
        for (recipient, reason, field) in cases {
            let rows = faults(body(&format!(r#"[{recipient},{{"external_user_id":"good"}}]"#)), &options());
            assert_eq!(rows, [bad(reason, &format!("recipients[0].{field}")), None], "{recipient}");
        }
    }

    #[test]
    fn limits_are_tested_on_the_merged_properties_of_each_recipient() {
        let half = "x".repeat(MAX_PROPERTIES_BYTES / 2);
        let deep = format!("{}1{}", "[".repeat(64), "]".repeat(64));
        let text = format!(
            r#"{{"campaign_id":"c","trigger_properties":{{"a":"{half}"}},"recipients":[
                {{"external_user_id":"1","trigger_properties":{{"b":"{half}"}}}},
                {{"external_user_id":"2","trigger_properties":{{"a":"{half}"}}}},
                {{"external_user_id":"3","trigger_properties":{{"b":{deep}}}}}]}}"#
        );
        let field = |i: usize| format!("recipients[{i}].trigger_properties");
        let expected = [bad(PropertiesTooLarge, &field(0)), None, bad(TooDeep, &field(2))];
        assert_eq!(faults(text, &options()), expected);
    }

    #[test]
    fn the_first_of_equal_recipients_stands() {
        let seen = triggers(&body(
            r#"[{"external_user_id":"7","trigger_properties":{"n":1}},{"braze_id":"7"},
                {"external_user_id":7,"trigger_properties":{"n":2}}]"#,
        ));
        assert_eq!(seen.iter().map(|s| s.duplicate).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn a_fatal_fault_rejects_every_recipient() {
        let cases = [
            (r#""broadcast":true"#, BadRequest, "broadcast"),
            (r#""broadcast":"no""#, BadRequest, "broadcast"),
            (r#""audience":{"AND":[]}"#, Unsupported, "audience"),
            (r#""audience":{}"#, Unsupported, "audience"),
            (r#""attachments":[{"file_name":"i","url":"https://x"}]"#, Unsupported, "attachments"),
            (r#""recipient":{"external_user_id":"u"}"#, BadRequest, "recipient"),
            (
                r#""schedule":{"time":"2026-09-03T18:30:00","in_local_time":true}"#,
                Unsupported,
                "schedule.in_local_time",
            ),
            (r#""schedule":{"time":"2026-09-03","at_optimal_time":true}"#, Unsupported, "schedule.at_optimal_time"),
            (r#""schedule":{"time":"soon"}"#, BadTimestamp, "schedule.time"),
            (r#""schedule":{"time":1795422600}"#, BadTimestamp, "schedule.time"),
            (r#""schedule":{}"#, BadRequest, "schedule.time"),
            (r#""schedule":"2026-09-03""#, BadRequest, "schedule"),
            (r#""triggered_at":"soon""#, BadTimestamp, "triggered_at"),
            (r#""trigger_properties":[1]"#, WrongType, "trigger_properties"),
            (r#""send_id":5"#, WrongType, "send_id"),
            (r#""campaign_id":5"#, WrongType, "campaign_id"),
            (r#""campaign_id":null"#, MissingField, "campaign_id"),
        ];
        for (fields, reason, field) in cases {
            assert_eq!(faults(with(fields), &options()), [bad(reason, field)], "{fields}");
        }
        let two = r#"{"broadcast":true,"campaign_id":"c","recipients":[{"external_user_id":"u-1"},7]}"#;
        assert_eq!(faults(two, &options()), [bad(BadRequest, "broadcast"), bad(BadRequest, "broadcast")]);
    }

    #[test]
    fn a_request_without_recipients_is_one_rejected_row() {
        let cases = [
            (r#"{"campaign_id":"c","recipients":[]}"#, NoRecipients, "recipients"),
            (r#"{"campaign_id":"c","recipients":null,"broadcast":false}"#, NoRecipients, "recipients"),
            (
                r#"{"campaign_id":"c","schedule_id":"s","schedule":{"time":"2026-09-03T16:30:00Z"}}"#,
                NoRecipients,
                "recipients",
            ),
            (r#"{"campaign_id":"c","broadcast":true,"audience":{"x":1}}"#, Unsupported, "broadcast"),
            (r#"{"campaign_id":"c","broadcast":true,"recipients":[]}"#, Unsupported, "broadcast"),
            (r#"{"campaign_id":"c","recipients":{"external_user_id":"u"}}"#, BadRequest, "recipients"),
            (r#"{"campaign_id":"c","recipients":"u"}"#, BadRequest, "recipients"),
            // Without any key of a request it is a flat row, but nobody gets it either.
            (r#"{"campaign_id":"c","trigger_properties":{"x":1}}"#, NoRecipient, ""),
        ];
        for (text, reason, field) in cases {
            assert_eq!(faults(text, &options()), [bad(reason, field)], "{text}");
        }
        let found = read(cases[0].0, &options())[0].clone().unwrap_err().found;
        assert_eq!(found, "400 No Recipients");
    }

    #[test]
    fn fifty_recipients_are_fine_and_fifty_one_are_none() {
        let many = |n: usize| {
            let items: Vec<_> = (0..n).map(|i| format!(r#"{{"external_user_id":{i}}}"#)).collect();
            body(&format!("[{}]", items.join(",")))
        };
        assert!(faults(many(50), &options()).iter().all(Option::is_none));
        let rows = read(many(51), &options());
        assert_eq!(rows.len(), 51);
        for row in rows {
            let rejection = row.unwrap_err();
            assert_eq!(rejection.reason, TooManyRecipients);
            assert!(rejection.found.starts_with("400 The max number of external_ids and aliases per request"));
        }
    }

    #[test]
    fn an_empty_list_of_attachments_and_null_fields_are_harmless() {
        triggers(&with(
            r#""attachments":[ ],"audience":null,"broadcast":null,"schedule":null,"trigger_properties":"""#,
        ));
    }

    #[test]
    fn an_absolute_schedule_is_the_time_unless_one_is_given() {
        let options = InputOptions {
            times: TimeReader { zone: jiff::tz::TimeZone::get("Europe/Paris").unwrap(), epoch_unit: None },
            ..options()
        };
        let at = |fields: &str| trigger(&with(fields), &options).at;
        let instant = Some(1_795_422_600_000_000);
        for time in ["2026-11-23T08:30:00Z", "2026-11-23T08:30:00", "2026-11-23T10:30:00+02:00"] {
            assert_eq!(at(&format!(r#""schedule":{{"time":"{time}","in_local_time":false}}"#)), instant, "{time}");
        }
        assert_eq!(at(r#""triggered_at":"2026-11-23T09:30:00","schedule":{"time":"2027-01-01T00:00:00Z"}"#), instant);
    }

    #[test]
    fn trigger_ids_stand_beside_the_body_or_in_a_recipient() {
        let text = r#"{"campaign_id":"c","trigger_id":"t","send_id":"s","recipients":[
            {"external_user_id":"1","trigger_id":5},{"external_user_id":"2"}]}"#;
        let seen = triggers(text);
        assert_eq!(seen.iter().map(|s| s.id.as_deref()).collect::<Vec<_>>(), [Some("5"), Some("t")]);
        assert_eq!(seen[1].send_id.as_deref(), Some("s"));
    }

    #[test]
    fn ids_and_carried_values_come_from_the_innermost_level_that_has_one() {
        let text = r#"{"log":"l1","batch":"outer","body":{"campaign_id":"c","batch":"body","trigger_properties":{"order":1},
            "recipients":[{"external_user_id":"1","batch":"own"},{"external_user_id":"2","trigger_properties":{"order":2}}]}}"#;
        let options = InputOptions {
            body: Some("/body".into()),
            carry: words(&["batch", "log"]),
            trigger_id_from: words(&["order", "external_user_id"]),
            ..options()
        };
        let (rows, unknown) = read_counted(text, &options);
        let rows: Vec<_> = rows.into_iter().map(|row| row.unwrap()).collect();
        let own = |value: &str| vec![Some(value.to_owned()), Some("l1".to_owned())];
        assert_eq!((rows[0].carried.clone(), rows[1].carried.clone()), (own("own"), own("body")));
        assert_eq!((rows[0].id.as_deref(), rows[1].id.as_deref()), (Some(r#"[1,"1"]"#), Some(r#"[2,"2"]"#)));
        assert_eq!(unknown, 0);
    }

    #[test]
    fn the_singular_key_is_a_list_of_one_or_more() {
        let one = triggers(r#"{"campaign_id":"c","recipient":{"external_user_id":"u"}}"#);
        assert_eq!(one[0].recipient, "external_user_id u");
        assert_eq!(triggers(r#"{"campaign_id":"c","recipient":[{"external_user_id":"u"}]}"#), one);
        let faulty = faults(r#"{"campaign_id":"c","recipient":{"email":"a@x"}}"#, &options());
        assert_eq!(faulty, [bad(MissingField, "recipient.prioritization")]);
    }

    #[test]
    fn a_wrapped_body_is_an_object_or_a_string() {
        let inner = with(r#""trigger_properties":{"q":"\"é\""},"api_key":"k""#);
        let string = serde_json::Value::from(inner.clone()).to_string();
        let mapping = Mapping { columns: [("triggered_at".to_owned(), "ts".to_owned())].into(), ..Mapping::default() };
        let options = InputOptions { body: Some("/rec~1ord/1/body".into()), mapping, ..options() };
        for value in [inner, string] {
            let line =
                format!(r#"{{"ts":1795422600,"trigger_id":"t","level":"info","rec/ord":[0,{{"body":{value}}}]}}"#);
            let (rows, unknown) = read_counted(&line, &options);
            let seen = rows[0].clone().unwrap();
            assert_eq!((seen.at, seen.id.as_deref()), (Some(1_795_422_600_000_000), Some("t")));
            assert_eq!(
                (seen.properties.as_str(), unknown),
                (r#"{"q":"\"é\""}"#, 1),
                "fields of the record do not count"
            );
        }
    }

    #[test]
    fn a_time_in_the_body_beats_the_schedule_which_beats_the_record() {
        let options = InputOptions { body: Some("/b".into()), ..options() };
        let at = |fields: &str| {
            let body = with(&format!(r#"{fields}"send_id":"s""#));
            trigger(&format!(r#"{{"triggered_at":1795422600,"b":{body}}}"#), &options).at.unwrap() / 1_000_000
        };
        assert_eq!(at(""), 1_795_422_600);
        assert_eq!(at(r#""schedule":{"time":"2026-11-23T08:30:01Z"},"#), 1_795_422_601);
        assert_eq!(at(r#""triggered_at":1795422602,"schedule":{"time":"2026-11-23T08:30:01Z"},"#), 1_795_422_602);
    }

    #[test]
    fn what_a_pointer_does_not_lead_to_is_rejected() {
        let options = InputOptions { body: Some("/log/body".into()), ..options() };
        let cases = [
            (r#"{"campaign_id":"c","email":"a"}"#, MissingField, "/log/body"),
            (r#"{"log":{"body":null}}"#, MissingField, "/log/body"),
            (r#"{"log":"text"}"#, MissingField, "/log/body"),
            (r#"{"log":{"body":7}}"#, WrongType, "/log/body"),
            (r#"{"log":{"body":"[1]"}}"#, BadRow, "/log/body"),
            (r#"{"log":{"body":"{\"recipients\":[NaN]}"}}"#, BadJson, "/log/body"),
            (r#"{"log":{"body":"\ud800"}}"#, BadJson, "/log/body"),
            (r#"{"log":{"body":{"campaign_id":"c","trigger_properties":{"x":1}}}}"#, NoRecipients, "recipients"),
            (r#"{"log":"#, BadJson, ""),
        ];
        for (line, reason, field) in cases {
            assert_eq!(faults(line, &options), [bad(reason, field)], "{line}");
        }
        let flat = r#"{"trigger_id":"t","log":{"body":"{\"campaign_id\":\"c\",\"email\":\"a\"}"}}"#;
        assert_eq!(trigger(flat, &options).id.as_deref(), Some("t"), "a wrapped flat row");
    }
}
