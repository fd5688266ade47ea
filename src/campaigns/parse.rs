//! `campaign.json` → [`Campaign`]: every field checked, every fault kept.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::value::RawValue;

use super::definition::{Campaign, ChannelMessage, Field, MAX_VARIANTS, Status, Variant};
use super::fields::{Checked, Object};
use super::load::Folder;
use super::names;
use super::variants::Slices;
use crate::eligibility::{Pick, Reeligibility, parse_duration_seconds};
use crate::error::Fault;
use crate::templates::{Escape, OnMissing, Template, TemplateSource};
use crate::triggers::MICROS_PER_SECOND;

const CAMPAIGN_FIELDS: [&str; 10] = [
    "id",
    "name",
    "status",
    "reeligibility",
    "max_age",
    "pick",
    "control_percent",
    "variants",
    "messages",
    "on_missing",
];
const VARIANT_FIELDS: [&str; 3] = ["name", "percent", "messages"];
const FIELD_FIELDS: [&str; 3] = ["file", "template", "escape"];

/// Reads one campaign. The id is returned even where the rest is broken, so that its triggers can be named.
pub fn campaign(file: &str, text: &str, folder: &Folder) -> (Option<String>, Result<Campaign, Vec<Fault>>) {
    let mut checked = Checked { file: file.to_owned(), text, faults: Vec::new() };
    let root = match serde_json::from_str::<&RawValue>(text) {
        Ok(root) => root,
        Err(error) => {
            checked.syntax(&error);
            return (None, Err(checked.faults));
        }
    };
    let Some(object) = checked.object(root, "the campaign", Some(&CAMPAIGN_FIELDS)) else {
        return (None, Err(checked.faults));
    };
    let id = required_text(&mut checked, root, &object, "id");
    let reader = CopyReader { folder, on_missing: on_missing(&mut checked, &object) };
    let campaign = assemble(&mut checked, root, &object, &reader, id.clone());
    match campaign {
        Some(campaign) if checked.faults.is_empty() => (id, Ok(campaign)),
        _ => (id, Err(checked.faults)),
    }
}

fn assemble<'a>(
    checked: &mut Checked<'a>,
    root: &'a RawValue,
    object: &Object<'a>,
    reader: &CopyReader<'_>,
    id: Option<String>,
) -> Option<Campaign> {
    let name = object.get("name").and_then(|raw| checked.value::<String>(raw, "name", "a string"));
    let status = choice(checked, object, "status", &[("active", Status::Active), ("paused", Status::Paused)]);
    let pick = choice(checked, object, "pick", &[("first", Pick::First), ("last", Pick::Last)]);
    let reeligibility = reeligibility(checked, root, object);
    let max_age_micros = max_age(checked, object);
    let control = percent(checked, object, "control_percent").unwrap_or(0);
    let variants = variants(checked, object, reader, control);
    let id = id?;
    Some(Campaign {
        name: name.unwrap_or_else(|| id.clone()),
        id,
        status: status.unwrap_or(Status::Active),
        reeligibility: reeligibility?,
        max_age_micros,
        pick: pick.unwrap_or_default(),
        slices: Slices::new(&variants.iter().map(|v| v.percent).collect::<Vec<_>>()),
        variants,
        files: BTreeMap::new(),
    })
}

fn required_text(checked: &mut Checked<'_>, root: &RawValue, object: &Object<'_>, key: &str) -> Option<String> {
    let Some(raw) = object.get(key) else {
        checked.fault_at(root.get(), format!("`{key}` is required"));
        return None;
    };
    let text: String = checked.value(raw, key, "a string")?;
    if text.is_empty() {
        checked.fault_at(raw.get(), format!("`{key}` must not be empty"));
        return None;
    }
    Some(text)
}

fn choice<T: Copy>(checked: &mut Checked<'_>, object: &Object<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
    let raw = object.get(key)?;
    let names = choices.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
    let text: String = checked.value(raw, key, &names)?;
    let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    if chosen.is_none() {
        checked.fault_at(raw.get(), format!("`{key}` must be {names}, found `{text}`"));
    }
    chosen
}

fn on_missing(checked: &mut Checked<'_>, object: &Object<'_>) -> OnMissing {
    let choices = [("fail", OnMissing::Fail), ("blank", OnMissing::Blank)];
    choice(checked, object, "on_missing", &choices).unwrap_or(OnMissing::Fail)
}

fn reeligibility(checked: &mut Checked<'_>, root: &RawValue, object: &Object<'_>) -> Option<Reeligibility> {
    const EXPECTED: &str = "`never`, `always` or a duration such as `1d`";
    let Some(raw) = object.get("reeligibility") else {
        let hint = "write \"never\" (once ever), \"always\", or a window such as \"1d\"";
        checked.fault_with_hint(root.get(), "`reeligibility` is required", hint);
        return None;
    };
    let text: String = checked.value(raw, "reeligibility", EXPECTED)?;
    Reeligibility::parse(&text).map_err(|why| checked.fault_at(raw.get(), format!("`reeligibility`: {why}"))).ok()
}

fn max_age(checked: &mut Checked<'_>, object: &Object<'_>) -> Option<i64> {
    let raw = object.get("max_age")?;
    let text: String = checked.value(raw, "max_age", "a duration such as `6h`")?;
    match parse_duration_seconds(&text) {
        Ok(seconds) => Some(seconds as i64 * MICROS_PER_SECOND),
        Err(why) => {
            checked.fault_at(raw.get(), format!("`max_age`: {why}"));
            None
        }
    }
}

fn percent(checked: &mut Checked<'_>, object: &Object<'_>, key: &str) -> Option<u8> {
    let raw = object.get(key)?;
    let value: u64 = checked.value(raw, key, "a whole number from 0 to 100")?;
    if value > 100 {
        checked.fault_at(raw.get(), format!("`{key}` must be a whole number from 0 to 100, found {value}"));
    }
    u8::try_from(value).ok().filter(|p| *p <= 100)
}

fn variants<'a>(checked: &mut Checked<'a>, object: &Object<'a>, reader: &CopyReader<'_>, control: u8) -> Vec<Variant> {
    let Some(list) = object.get("variants") else {
        let messages = object.get("messages").map(|raw| reader.messages(checked, "", raw)).unwrap_or_default();
        return vec![Variant::new(None, 100 - control, messages)];
    };
    if object.get("messages").is_some() {
        checked.fault_at(list.get(), "`variants` and `messages` exclude each other; move the messages into a variant");
    }
    let Some(items) = checked.value::<Vec<&RawValue>>(list, "variants", "a list") else { return Vec::new() };
    if items.is_empty() || items.len() > MAX_VARIANTS {
        checked.fault_at(list.get(), format!("`variants` must hold 1 to {MAX_VARIANTS}, found {}", items.len()));
    }
    let variants: Vec<Variant> = items
        .iter()
        .enumerate()
        .filter_map(|(i, raw)| variant(checked, &format!("variants[{i}]."), raw, reader))
        .collect();
    if variants.len() == items.len() && !variants.is_empty() {
        check_shares(checked, list, &variants, control);
    }
    variants
}

fn variant<'a>(checked: &mut Checked<'a>, place: &str, raw: &'a RawValue, reader: &CopyReader<'_>) -> Option<Variant> {
    let object = checked.object(raw, "the variant", Some(&VARIANT_FIELDS))?;
    let name = required_text(checked, raw, &object, "name");
    let share = percent(checked, &object, "percent");
    if object.get("percent").is_none() {
        checked.fault_at(raw.get(), "`percent` is required");
    }
    let messages = match object.get("messages") {
        Some(messages) => reader.messages(checked, place, messages),
        None => {
            checked.fault_at(raw.get(), "`messages` is required");
            Vec::new()
        }
    };
    Some(Variant::new(Some(name?), share?, messages))
}

fn check_shares(checked: &mut Checked<'_>, list: &RawValue, variants: &[Variant], control: u8) {
    let sum: u32 = variants.iter().map(|v| u32::from(v.percent)).sum::<u32>() + u32::from(control);
    if sum != 100 {
        let message = format!("the variants' `percent` and `control_percent` must sum to 100, found {sum}");
        checked.fault_at(list.get(), message);
    }
    for (i, variant) in variants.iter().enumerate() {
        if variants[..i].iter().any(|other| other.name == variant.name) {
            let name = variant.name.as_deref().unwrap_or_default();
            checked.fault_at(list.get(), format!("two variants are named `{name}`"));
        }
    }
}

/// Where a field stands: faults of a template in place name it.
struct Place<'a> {
    /// `variants[0].email.subject`.
    path: String,
    channel: &'a str,
    name: &'a str,
}

/// Reads the copy of a campaign: templates in place or in files.
struct CopyReader<'a> {
    folder: &'a Folder,
    on_missing: OnMissing,
}

impl CopyReader<'_> {
    fn messages<'a>(&self, checked: &mut Checked<'a>, place: &str, raw: &'a RawValue) -> Vec<ChannelMessage> {
        let Some(channels) = checked.object(raw, "`messages`", None) else { return Vec::new() };
        if channels.entries.is_empty() {
            checked.fault_at(raw.get(), "`messages` names no channel");
        }
        channels.entries.iter().filter_map(|(channel, raw)| self.channel(checked, place, channel, raw)).collect()
    }

    fn channel<'a>(
        &self,
        checked: &mut Checked<'a>,
        place: &str,
        channel: &str,
        raw: &'a RawValue,
    ) -> Option<ChannelMessage> {
        if channel.is_empty() {
            checked.fault_at(raw.get(), "a channel needs a name");
        }
        let fields = checked.object(raw, &format!("channel `{channel}`"), None)?;
        if fields.entries.is_empty() {
            checked.fault_at(raw.get(), format!("channel `{channel}` has no fields"));
        }
        let fields = fields.entries.iter().filter_map(|(name, raw)| {
            let path = format!("{place}{channel}.{name}");
            self.field(checked, &Place { path, channel, name }, raw)
        });
        let fields = fields.collect();
        Some(ChannelMessage { channel: channel.to_owned(), fields })
    }

    fn field<'a>(&self, checked: &mut Checked<'a>, place: &Place<'_>, raw: &'a RawValue) -> Option<Field> {
        let Place { channel, name, .. } = *place;
        if RESERVED_COLUMNS.contains(&name) || name.is_empty() {
            let hint = format!("columns every message row has: {}", RESERVED_COLUMNS.join(", "));
            checked.fault_with_hint(raw.get(), format!("a field cannot be named `{name}`"), hint);
            return None;
        }
        let (source, escape) = self.source(checked, place, raw)?;
        let escape = escape.unwrap_or_else(|| default_escape(channel, name));
        match Template::compile(&source, &self.folder.partials, escape, self.on_missing) {
            Ok(template) => {
                checked.faults.extend(names::check(&template, &source, &self.folder.partials));
                let single_line = is_single_line(name);
                Some(Field { name: name.to_owned(), template, slots: Vec::new(), single_line })
            }
            Err(faults) => {
                checked.faults.extend(faults);
                None
            }
        }
    }

    fn source<'a>(
        &self,
        checked: &mut Checked<'a>,
        place: &Place<'_>,
        raw: &'a RawValue,
    ) -> Option<(TemplateSource, Option<Escape>)> {
        let name = place.name;
        let file = format!("{}#{}", checked.file, place.path);
        if raw.get().starts_with('"') {
            let text = checked.value(raw, name, "a template")?;
            return Some((TemplateSource { file, text }, None));
        }
        if !raw.get().starts_with('{') {
            let message = format!("`{name}` must be a template or an object with a `file`");
            checked.fault_at(raw.get(), message);
            return None;
        }
        let object = checked.object(raw, &format!("`{name}`"), Some(&FIELD_FIELDS))?;
        let escapes = [("html", Escape::Html), ("json", Escape::Json), ("none", Escape::None)];
        let escape = choice(checked, &object, "escape", &escapes);
        match (object.get("file"), object.get("template")) {
            (Some(raw), None) => {
                let path: String = checked.value(raw, "file", "a path inside the campaign's folder")?;
                match self.folder.read(Path::new(&path)) {
                    Ok(source) => Some((source, escape)),
                    Err(why) => {
                        checked.fault_at(raw.get(), why);
                        None
                    }
                }
            }
            (None, Some(raw)) => {
                let text = checked.value(raw, "template", "a template")?;
                Some((TemplateSource { file, text }, escape))
            }
            _ => {
                checked.fault_at(raw.get(), format!("`{name}` needs either `file` or `template`"));
                None
            }
        }
    }
}

/// Columns of every message row; a field of the same name would shadow one.
const RESERVED_COLUMNS: [&str; 12] = [
    "dispatch_id",
    "batch_id",
    "campaign_id",
    "send_id",
    "variant",
    "channel",
    "recipient_kind",
    "recipient",
    "triggered_at",
    "trigger_id",
    "source",
    "properties",
];

/// HTML for e-mail bodies, JSON for webhook bodies, none elsewhere.
fn default_escape(channel: &str, field: &str) -> Escape {
    match (channel, field) {
        ("email", "body" | "html" | "html_body") => Escape::Html,
        ("webhook", "body") => Escape::Json,
        _ => Escape::None,
    }
}

/// Fields that end up in one header line.
fn is_single_line(field: &str) -> bool {
    matches!(field, "subject" | "from" | "reply_to" | "preheader" | "bcc") || field.starts_with("header")
}
