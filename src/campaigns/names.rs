//! Names that templates may mention. A row's attributes are names too, so an unknown name is not wrong by itself; a
//! platform namespace that this program does not fill, and a near miss of a name of ours, are.

use std::collections::BTreeMap;

use super::definition::Campaign;
use crate::error::{Fault, nearest};
use crate::templates::{Reference, Template, TemplateSource};

/// Names that every template sees.
pub(super) const SCOPE: [&str; 8] = [
    "api_trigger_properties",
    "custom_attribute",
    "external_user_id",
    "recipient",
    "campaign",
    "variant",
    "send_id",
    "triggered_at",
];

/// Namespaces of the platform (reference 9.3) that have no value in a batch of triggers.
const UNAVAILABLE: [&str; 13] = [
    "subscribed_state",
    "event_properties",
    "context",
    "canvas",
    "canvas_entry_properties",
    "card",
    "app",
    "most_recently_used_device",
    "targeted_device",
    "sms",
    "whats_app",
    "catalog_items",
    "content_blocks",
];

/// Members of `campaign`.
const CAMPAIGN: [&str; 2] = ["id", "name"];

/// The faults of a template's names, one a name and place.
pub fn check(template: &Template, source: &TemplateSource, partials: &BTreeMap<String, TemplateSource>) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    for reference in template.references() {
        let Some((message, hint)) = judge(&reference) else { continue };
        let text = partials.values().chain([source]).find(|s| s.file == reference.file).map_or("", |s| s.text.as_str());
        let fault = Fault::new(reference.file.clone(), message).at_place(text, reference.at).hint(hint);
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    faults
}

/// The faults of every name that only a row's attributes could fill, for input that has none.
pub fn attribute_faults(campaigns: &[Campaign]) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let messages = campaigns.iter().flat_map(|c| &c.variants).flat_map(|v| &v.messages);
    for reference in messages.flat_map(|m| &m.fields).flat_map(|f| f.template.references()) {
        let first = reference.path.0.first().map_or("", String::as_str);
        if first == "custom_attribute" || !SCOPE.contains(&first) {
            let message = format!("`{}` needs attributes, and no input has any", reference.name);
            let hint = "give the input an `attributes` column (`--map attributes=COLUMN`), or print a trigger property";
            let fault = Fault { at: Some(reference.at), ..Fault::new(reference.file.clone(), message) }.hint(hint);
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    faults
}

fn judge(reference: &Reference) -> Option<(String, String)> {
    let first = reference.path.0.first()?.as_str();
    if first == "campaign" {
        let member = reference.path.0.get(1)?;
        if CAMPAIGN.contains(&member.as_str()) {
            return None;
        }
        return Some((format!("`campaign` has no `{member}`"), "it has `id` and `name`".to_owned()));
    }
    if UNAVAILABLE.contains(&first) {
        let hint = "put the value into the trigger's properties, and print `api_trigger_properties.${name}`".to_owned();
        return Some((format!("`{first}` is not known for triggers from a file"), hint));
    }
    let near = nearest(first, SCOPE).filter(|_| !SCOPE.contains(&first))?;
    let hint = format!("did you mean `{near}`? An attribute of that name is `custom_attribute.${{{first}}}`");
    Some((format!("unknown name `{first}`"), hint))
}
