//! A flat row: one recipient, one campaign, one instant, in one JSON object (design section 4).
//!
//! What the fields mean stands in [`super::rules`]; here is which of them a flat row has. Both passes make the same
//! rejections; the key pass drops what it does not need only after it was checked.

use std::borrow::Cow;

use super::json::{self, Fields, Slot};
use super::line::Rules;
use super::{PropertiesFrom, rules};
use crate::pipeline::Need;
use crate::triggers::{Properties, Rejection, Trigger};

/// The trigger of a flat row. `outer` is the log record around it, if there is one.
pub(super) fn trigger<'a>(
    rules: &'a Rules,
    fields: &Fields<'a>,
    outer: Option<&Fields<'a>>,
    need: Need,
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
    finish(&mut trigger, levels, rules, need)?;
    Ok(trigger)
}

/// What is left when all levels are known: a derived id, and dropping what the pass does not need.
pub(super) fn finish(
    trigger: &mut Trigger<'_>,
    levels: &[&Fields<'_>],
    rules: &Rules,
    need: Need,
) -> Result<(), Rejection> {
    if trigger.trigger_id.is_none() && !rules.options.trigger_id_from.is_empty() {
        trigger.trigger_id = rules::derived_trigger_id(trigger, levels, &rules.options)?.map(Cow::Owned);
    }
    if need == Need::Keys {
        trigger.properties = Properties::Empty;
        trigger.attributes = Properties::Empty;
        trigger.carried = Vec::new();
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
