//! A flat row: one recipient, one campaign, one instant, in one JSON object (design section 4).
//!
//! What the fields mean stands in [`super::rules`]; here is which of them a flat row has. Both passes make the same
//! rejections; the key pass drops what it does not need only after it was checked.

use std::borrow::Cow;

use super::json::{self, Fields, Slot};
use super::line::Rules;
use super::{PropertiesFrom, rules};
use crate::triggers::{Rejection, Trigger};

/// The trigger of a flat row. `outer` is the log record around it, if there is one.
pub(super) fn trigger<'a>(
    rules: &'a Rules,
    fields: &Fields<'a>,
    outer: Option<&Fields<'a>>,
) -> Result<Trigger<'a>, Rejection> {
    let options = &rules.options;
    let pair = [fields, outer.unwrap_or(fields)];
    let levels = &pair[..1 + usize::from(outer.is_some())];
    let first_with = |slot: Slot| *levels.iter().find(|level| level.get(slot).is_some()).unwrap_or(&fields);
    let mut trigger = Trigger {
        campaign_id: rules::campaign(fields, options)?,
        recipient: rules::recipient(fields, &rules.alias)?,
        triggered_at: rules::time(first_with(Slot::TriggeredAt), Slot::TriggeredAt, &options.times)?,
        trigger_id: rules::trigger_id(first_with(Slot::TriggerId))?,
        send_id: rules::send_id(fields)?,
        properties: rules::merged(rules::properties(fields, true)?, top_level(rules, fields)?, || {
            fields.name(Slot::TriggerProperties)
        })?,
        attributes: rules::attributes(fields)?,
        carried: rules::carried(levels, options)?,
        duplicate_recipient: false,
    };
    finish(&mut trigger, levels, rules)?;
    Ok(trigger)
}

/// What is left when all levels are known: a derived id.
pub(super) fn finish(trigger: &mut Trigger<'_>, levels: &[&Fields<'_>], rules: &Rules) -> Result<(), Rejection> {
    if trigger.trigger_id.is_none() && !rules.options.trigger_id_from.is_empty() {
        trigger.trigger_id = rules::derived_trigger_id(trigger, levels, &rules.options)?.map(Cow::Owned);
    }
    Ok(())
}

/// The properties that stand at the top level, as the text of one object.
fn top_level<'a>(rules: &'a Rules, fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Rejection> {
    let entries: Vec<(&str, &str)> = match &rules.options.mapping.properties {
        PropertiesFrom::Field => return Ok(None),
        PropertiesFrom::Columns(names) => {
            names.iter().filter_map(|name| Some((name.as_str(), fields.named(name)?))).collect()
        }
        PropertiesFrom::All => fields.kept.iter().map(|(key, raw)| (key.as_ref(), *raw)).collect(),
    };
    if entries.is_empty() {
        return Ok(None);
    }
    let mut text = String::from("{");
    for (key, raw) in entries {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::Value::from(key).to_string());
        text.push(':');
        text.push_str(raw);
    }
    text.push('}');
    json::check_object(&text, || fields.name(Slot::TriggerProperties))?;
    Ok(Some(Cow::Owned(text)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, options, read, read_counted, trigger, words};
    use super::super::{InputOptions, Mapping, PropertiesFrom};
    use crate::triggers::{MAX_PROPERTIES_BYTES, Reason};

    fn nested(levels: usize) -> String {
        format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
    }

    fn with_properties(properties: &str) -> String {
        format!(r#"{{"campaign_id":"c","email":"a@x","trigger_properties":{properties}}}"#)
    }

    #[test]
    fn a_whole_row_is_read() {
        let line = r#"{"campaign_id":"c-1","external_user_id":"zo\u00eb","triggered_at":"2026-11-23T08:30:00Z","trigger_id":"t1",
            "trigger_properties":{"price":37.850,"n":[1,{"x":null}]},"send_id":"s","attributes":{"first_name":"Zoë"}}"#;
        let seen = trigger(line, &options());
        assert_eq!((seen.campaign.as_str(), seen.recipient.as_str()), ("c-1", "external_user_id zoë"));
        assert_eq!((seen.at, seen.id.as_deref()), (Some(1_795_422_600_000_000), Some("t1")));
        assert_eq!(seen.properties, r#"{"price":37.85,"n":[1,{"x":null}]}"#);
        assert_eq!((seen.send_id.as_deref(), seen.attributes.as_str()), (Some("s"), r#"{"first_name":"Zoë"}"#));
    }

    #[test]
    fn every_kind_of_recipient_is_read_and_null_is_absent() {
        let recipient = |ids: &str| trigger(&format!(r#"{{"campaign_id":"c",{ids}}}"#), &options()).recipient;
        assert_eq!(recipient(r#""external_user_id":12345,"email":null"#), "external_user_id 12345");
        assert_eq!(recipient(r#""external_user_id":-0"#), "external_user_id 0");
        assert_eq!(recipient(r#""email":" Ines@Example.ORG ""#), "email ines@example.org");
        assert_eq!(recipient(r#""braze_id":"b\"1""#), "braze_id b\"1");
        assert_eq!(recipient(r#""user_alias":{"alias_name":"n","alias_label":"l","x":1}"#), "user_alias l:n");
    }

    #[test]
    fn times_are_text_or_epoch_integers_or_absent() {
        let at =
            |time: &str| trigger(&format!(r#"{{"campaign_id":"c","email":"a","triggered_at":{time}}}"#), &options()).at;
        for time in ["\"2026-11-23T10:30:00+02:00\"", "1795422600", "1795422600000", "\"2026-11-23 08:30:00\""] {
            assert_eq!(at(time), Some(1_795_422_600_000_000), "{time}");
        }
        assert_eq!(at("null"), None);
    }

    #[test]
    fn properties_may_be_an_object_or_text_or_nothing() {
        for empty in ["null", r#""""#, r#"" ""#, r#""null""#] {
            assert_eq!(trigger(&with_properties(empty), &options()).properties, "", "{empty}");
        }
        let text = with_properties(r#"" {\"a\":\"\\u00e9\",\"b\":2e1} ""#);
        assert_eq!(trigger(&text, &options()).properties, r#"{"a":"é","b":20.0}"#);
    }

    #[test]
    fn bad_rows_get_their_reason_and_field() {
        use Reason::*;
        let cases: &[(&str, Reason, &str)] = &[
            (r#"{"campaign_id":"c","email":"a""#, BadJson, ""),
            (r#"{"campaign_id":"c","email":"a"} x"#, BadJson, ""),
            (r#"{"campaign_id":"c","email":"a","p":NaN}"#, BadJson, ""),
            (r#"{"campaign_id":"c","email":"\ud800"}"#, BadJson, "email"),
            (r#"{"campaign_id":"c","email":"a","trigger_properties":{"x":"\udc00"}}"#, BadJson, "trigger_properties"),
            (r#"{"campaign_id":"c","email":"a","attributes":{"x":"\udc00"}}"#, BadJson, "attributes"),
            (r#"[{"campaign_id":"c"}]"#, BadRow, ""),
            ("null", BadRow, ""),
            (r#"{"email":"a"}"#, MissingField, "campaign_id"),
            (r#"{"campaign_id":null,"email":"a"}"#, MissingField, "campaign_id"),
            (r#"{"campaign_id":7,"email":"a"}"#, WrongType, "campaign_id"),
            (r#"{"campaign_id":"","email":"a"}"#, WrongType, "campaign_id"),
            (r#"{"campaign_id":"c"}"#, NoRecipient, ""),
            (r#"{"campaign_id":"c","email":null}"#, NoRecipient, ""),
            (r#"{"campaign_id":"c","email":"a","braze_id":"b"}"#, SeveralIdentifiers, ""),
            (r#"{"campaign_id":"c","external_user_id":1.0}"#, WrongType, "external_user_id"),
            (r#"{"campaign_id":"c","external_user_id":true}"#, WrongType, "external_user_id"),
            (r#"{"campaign_id":"c","external_user_id":""}"#, WrongType, "external_user_id"),
            (r#"{"campaign_id":"c","email":"  "}"#, WrongType, "email"),
            (r#"{"campaign_id":"c","email":5}"#, WrongType, "email"),
            (r#"{"campaign_id":"c","user_alias":"n"}"#, WrongType, "user_alias"),
            (r#"{"campaign_id":"c","user_alias":{"alias_name":"n"}}"#, MissingField, "user_alias.alias_label"),
            (
                r#"{"campaign_id":"c","user_alias":{"alias_name":1,"alias_label":"l"}}"#,
                WrongType,
                "user_alias.alias_name",
            ),
            (r#"{"campaign_id":"c","email":"a","triggered_at":"yesterday"}"#, BadTimestamp, "triggered_at"),
            (r#"{"campaign_id":"c","email":"a","triggered_at":""}"#, BadTimestamp, "triggered_at"),
            (r#"{"campaign_id":"c","email":"a","triggered_at":1.5}"#, BadTimestamp, "triggered_at"),
            (r#"{"campaign_id":"c","email":"a","triggered_at":12}"#, BadTimestamp, "triggered_at"),
            (r#"{"campaign_id":"c","email":"a","triggered_at":99999999999999999999}"#, BadTimestamp, "triggered_at"),
            (r#"{"campaign_id":"c","email":"a","trigger_id":{}}"#, WrongType, "trigger_id"),
            (r#"{"campaign_id":"c","email":"a","send_id":1}"#, WrongType, "send_id"),
            (r#"{"campaign_id":"c","email":"a","trigger_properties":[1]}"#, WrongType, "trigger_properties"),
            (r#"{"campaign_id":"c","email":"a","trigger_properties":"x"}"#, WrongType, "trigger_properties"),
            (r#"{"campaign_id":"c","email":"a","attributes":"{}"}"#, WrongType, "attributes"),
        ];
        for (line, reason, field) in cases {
            assert_eq!(faults(line, &options()), [Some((*reason, (*field).to_owned()))], "{line}");
        }
        assert_eq!(faults(b"{\"email\":\"\xff\"}", &options()), [Some((BadRow, String::new()))]);
    }

    #[test]
    fn a_rejection_never_tells_a_value() {
        for line in [
            r#"{"campaign_id":"c","email":"ada@x","braze_id":"ada"}"#,
            r#"{"campaign_id":"c","user_alias":"ada"}"#,
            r#"{"campaign_id":"c","email":"b","triggered_at":"ada"}"#,
            r#"{"campaign_id":"c","email":"b","trigger_properties":"ada"}"#,
            r#"{"campaign_id":"c","email":"b","trigger_properties":"{\"ada\"}"}"#,
            r#""ada""#,
        ] {
            let rejection = read(line, &options())[0].clone().unwrap_err();
            assert!(!format!("{rejection:?}").contains("ada"), "{rejection:?}");
        }
    }

    #[test]
    fn limits_hold_and_deep_lines_never_overflow_the_stack() {
        use Reason::*;
        let reason = |properties: &str| faults(with_properties(properties), &options())[0].clone().map(|f| f.0);
        assert_eq!(reason(&format!(r#"{{"a":{}}}"#, nested(63))), None);
        for levels in [64, 127, 128, 200_000] {
            assert_eq!(reason(&format!(r#"{{"a":{}}}"#, nested(levels))), Some(TooDeep), "{levels}");
        }
        let sized = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
        assert_eq!(reason(&sized(MAX_PROPERTIES_BYTES)), None);
        assert_eq!(reason(&sized(MAX_PROPERTIES_BYTES + 1)), Some(PropertiesTooLarge));
        let text = serde_json::Value::from(format!(r#"{{"a":{}}}"#, nested(5000))).to_string();
        assert_eq!(reason(&text), Some(TooDeep));
        let attributes = |n| format!(r#"{{"campaign_id":"c","email":"a","attributes":{{"a":{}}}}}"#, nested(n));
        assert_eq!(faults(attributes(64), &options()), [Some((TooDeep, "attributes".to_owned()))]);
        assert_eq!(faults(attributes(63), &options()), [None]);
        let carry = InputOptions { carry: words(&["x"]), ..options() };
        let line = format!(r#"{{"campaign_id":"c","email":"a","x":{}}}"#, nested(5000));
        assert_eq!(faults(&line, &carry), [Some((TooDeep, "x".to_owned()))]);
        assert_eq!(faults(&line, &options()), [None], "an ignored field may be anything");
    }

    #[test]
    fn a_mapping_names_columns_and_a_campaign_for_rows_without() {
        let mapping = Mapping {
            columns: [("external_user_id", "email"), ("triggered_at", "ts"), ("campaign_id", "camp")]
                .map(|(field, column)| (field.to_owned(), column.to_owned()))
                .into(),
            campaign_id: Some("fallback".into()),
            properties: PropertiesFrom::Field,
        };
        let options = InputOptions { mapping, ..options() };
        let seen = trigger(r#"{"email":"Ada","ts":1795422600}"#, &options);
        assert_eq!((seen.campaign.as_str(), seen.recipient.as_str()), ("fallback", "external_user_id Ada"));
        assert_eq!(seen.at, Some(1_795_422_600_000_000));
        assert_eq!(trigger(r#"{"email":"Ada","camp":"own"}"#, &options).campaign, "own");
        assert_eq!(faults(r#"{"email":"a","ts":"x"}"#, &options), [Some((Reason::BadTimestamp, "ts".into()))]);
    }

    #[test]
    fn top_level_keys_become_properties_over_the_field() {
        let line = r#"{"campaign_id":"c","email":"a","it\"em":"x","n":1,"trigger_properties":{"n":0,"k":2},"z":null}"#;
        let with = |properties| {
            let mapping = Mapping { properties, ..Mapping::default() };
            read_counted(line, &InputOptions { mapping, ..options() })
        };
        let (rows, unknown) = with(PropertiesFrom::Columns(words(&["n", "email", "absent"])));
        assert_eq!((rows[0].as_ref().unwrap().properties.as_str(), unknown), (r#"{"n":1,"k":2,"email":"a"}"#, 2));
        let (rows, unknown) = with(PropertiesFrom::All);
        let expected = r#"{"n":1,"k":2,"it\"em":"x","z":null}"#;
        assert_eq!((rows[0].as_ref().unwrap().properties.as_str(), unknown), (expected, 0));
    }

    #[test]
    fn carried_values_are_strings_or_compact_json() {
        let carry = words(&["s", "n", "o", "none", "email", "absent", "f"]);
        let line = r#"{"campaign_id":"c","email":"A","s":"q\"","n":12,"o":{"a": [1.50]},"none":null,"f":2e1,"u":1}"#;
        let (rows, unknown) = read_counted(line, &InputOptions { carry, ..options() });
        let expected = [Some("q\""), Some("12"), Some(r#"{"a":[1.5]}"#), None, Some("A"), None, Some("20.0")];
        assert_eq!(rows[0].as_ref().unwrap().carried, expected.map(|e| e.map(str::to_owned)));
        assert_eq!(unknown, 1);
    }

    #[test]
    fn a_missing_trigger_id_is_derived_from_fields_columns_and_properties() {
        let from = words(&["email", "order", "trigger_properties.line", "line", "triggered_at"]);
        let options = InputOptions { trigger_id_from: from, ..options() };
        let line = r#"{"campaign_id":"c","email":" Ada","order":"7","triggered_at":1795422600,"trigger_properties":{"line":1.50}}"#;
        let id = |line: &str| trigger(line, &options).id;
        assert_eq!(id(line).as_deref(), Some(r#"["ada","7",1.5,1.5,"2026-11-23T08:30:00Z"]"#));
        assert_eq!(id(r#"{"campaign_id":"c","email":"a","trigger_id":9}"#).as_deref(), Some("9"));
        assert_eq!(id(r#"{"campaign_id":"c","braze_id":"b"}"#), None);
    }

    #[test]
    fn unknown_fields_are_ignored_and_counted() {
        let (rows, unknown) = read_counted(r#"{"campaign_id":"c","email":"a","api_key":"k","x":{"y":[]}}"#, &options());
        assert!(rows[0].is_ok());
        assert_eq!(unknown, 2);
    }

    #[test]
    fn a_flat_column_named_recipient_makes_no_request() {
        assert_eq!(trigger(r#"{"campaign_id":"c","email":"a","recipient":"a"}"#, &options()).recipient, "email a");
    }
}
