//! The lines of `rejected.ndjson` and `remainder.ndjson`.
//!
//! Rejected rows show where they stand and what they hold; the remainder holds failed and rejected triggers as flat rows,
//! to be mended and fed back. Secrets are redacted in both.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::seams::Row;
use crate::triggers::{RecipientKind, Rejection, Trigger, format_micros, redact};

/// Most bytes of a raw line that are kept.
const RAW_BYTES: usize = 64 * 1024;

/// Adds the line of a rejected row. `line` counts from 1 in its file. Of a line with several rejected recipients the first
/// shows the text (`show_raw`): shown with each, a line of 8 MiB could become terabytes.
pub fn push_rejected(out: &mut Vec<u8>, file: &str, line: u64, row: &Row<'_>, rejection: &Rejection, show_raw: bool) {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("reason", rejection.reason.code().into());
    put("file", file.into());
    put("line", line.into());
    if let Some(index) = row.recipient_index {
        put("recipient_index", index.into());
    }
    if let Some(offset) = row.offset {
        put("offset", offset.into());
    }
    put("field", rejection.field.as_str().into());
    put("expected", rejection.expected.as_str().into());
    put("found", rejection.found.as_str().into());
    if let Some(raw) = row.raw.filter(|_| show_raw) {
        let shown = redact(&raw[..raw.len().min(RAW_BYTES)]);
        match std::str::from_utf8(&shown) {
            Ok(text) => put("raw", text.into()),
            Err(_) => put("raw_base64", base64::engine::general_purpose::STANDARD.encode(&shown).into()),
        };
        if raw.len() > RAW_BYTES {
            put("raw_truncated", true.into());
        }
    }
    push_line(out, &Value::Object(object));
}

/// Adds a trigger as a flat row, as a later run can read it.
pub fn push_remainder(out: &mut Vec<u8>, trigger: &Trigger<'_>, carry: &[String]) {
    let recipient = match trigger.recipient.kind {
        RecipientKind::UserAlias => json!({"alias_name": trigger.recipient.id, "alias_label": trigger.recipient.label}),
        _ => Value::from(trigger.recipient.id.as_ref()),
    };
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("campaign_id", trigger.campaign_id.as_ref().into());
    put(trigger.recipient.kind.code(), recipient);
    if let Some(at) = trigger.triggered_at {
        put("triggered_at", format_micros(at).into());
    }
    if let Some(id) = &trigger.trigger_id {
        put("trigger_id", id.as_ref().into());
    }
    if let Some(id) = &trigger.send_id {
        put("send_id", id.as_ref().into());
    }
    for (key, properties) in [("trigger_properties", &trigger.properties), ("attributes", &trigger.attributes)] {
        let map = properties.to_map();
        if !map.is_empty() {
            put(key, Value::Object(map));
        }
    }
    for (name, value) in carry.iter().zip(&trigger.carried) {
        if let Some(value) = value {
            put(name, value.as_ref().into());
        }
    }
    let mut line = Vec::new();
    push_line(&mut line, &Value::Object(object));
    out.extend_from_slice(&redact(&line));
}

fn push_line(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(value.to_string().as_bytes());
    out.push(b'\n');
}
