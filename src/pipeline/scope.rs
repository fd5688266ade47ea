//! The names a template sees, and whether it can produce a message from them.

use serde_json::{Map, Value};

use crate::campaigns::{Campaign, ChannelMessage, Variant};
use crate::templates::{Scope, Stop, Stops};
use crate::triggers::{Outcome, Reason, RecipientKind, Trigger, format_micros};

/// The values of one trigger. Attributes stand under `custom_attribute` and under their own names, where those are not
/// names of ours.
pub fn scope_of(campaign: &Campaign, variant: &Variant, trigger: &Trigger<'_>) -> Scope {
    let text = |text: &str| Value::String(text.to_owned());
    let attributes = trigger.attributes.to_map();
    let mut values = attributes.clone();
    let external = trigger.recipient.kind == RecipientKind::ExternalUserId;
    let own = [
        ("api_trigger_properties", Value::Object(trigger.properties.to_map())),
        ("external_user_id", if external { text(&trigger.recipient.id) } else { Value::Null }),
        ("recipient", text(&trigger.recipient.profile_key())),
        (
            "campaign",
            Value::Object(Map::from_iter(
                [("id", &campaign.id), ("name", &campaign.name)].map(|(k, v)| (k.to_owned(), text(v))),
            )),
        ),
        ("variant", variant.name.as_deref().map_or(Value::Null, text)),
        ("send_id", trigger.send_id.as_deref().map_or(Value::Null, text)),
        ("triggered_at", trigger.triggered_at.map_or(Value::Null, |at| Value::String(format_micros(at)))),
        ("custom_attribute", Value::Object(attributes)),
    ];
    values.extend(own.map(|(name, value)| (name.to_owned(), value)));
    Scope::new(values)
}

/// One bit a variant: whether a message could be produced in at least one channel. `asked` has the bits that matter.
pub fn receivable_mask(campaign: &Campaign, trigger: &Trigger<'_>, asked: u8) -> u8 {
    let mut buffer = String::new();
    campaign.variants.iter().enumerate().filter(|(number, _)| asked & (1 << number) != 0).fold(
        0,
        |mask, (number, variant)| {
            let receivable = variant.always_receivable() || {
                let scope = scope_of(campaign, variant, trigger);
                variant.messages.iter().any(|message| would_render(message, &scope, &mut buffer))
            };
            mask | (u8::from(receivable) << number)
        },
    )
}

fn would_render(message: &ChannelMessage, scope: &Scope, buffer: &mut String) -> bool {
    message.fields.iter().all(|field| match field.template.stops() {
        Stops::Never => true,
        Stops::IfMissing(paths) => paths.iter().all(|path| scope.has(path)),
        Stops::Unknown => field.template.render(scope, buffer).is_ok(),
    })
}

/// Why one channel's message was not produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// `aborted`, `missing_value` or `render_error`.
    pub reason: Reason,
    /// Field and cause; no value of a recipient.
    pub detail: String,
}

/// Renders the fields of a channel into `texts`; on a stop, says why.
pub fn render_channel(message: &ChannelMessage, scope: &Scope, texts: &mut Vec<String>) -> Result<(), Dropped> {
    texts.resize_with(message.fields.len(), String::new);
    for (field, text) in message.fields.iter().zip(texts.iter_mut()) {
        field.template.render(scope, text).map_err(|stop| dropped(&field.name, stop))?;
        if field.single_line && text.contains(['\r', '\n']) {
            *text = text.replace("\r\n", " ").replace(['\r', '\n'], " ");
        }
    }
    Ok(())
}

fn dropped(field: &str, stop: Stop) -> Dropped {
    match stop {
        Stop::Aborted { reason } => Dropped { reason: Reason::Aborted, detail: format!("{field}: {reason}") },
        Stop::Missing { name, at, file } => {
            let detail = format!("{field}: `{name}` has no value ({file}, line {}, column {})", at.line, at.column);
            Dropped { reason: Reason::MissingValue, detail }
        }
        Stop::Failed { message, at, file } => {
            let place = at.map(|at| format!(", line {}, column {}", at.line, at.column)).unwrap_or_default();
            Dropped { reason: Reason::RenderError, detail: format!("{field}: {message} ({file}{place})") }
        }
    }
}

/// The reason of a trigger whose channels all dropped: a failure if any failed, else the first channel's.
pub fn trigger_reason(dropped: &[(usize, Dropped)]) -> Option<Reason> {
    let failed = dropped.iter().find(|(_, d)| d.reason.outcome() == Outcome::Failed);
    failed.or(dropped.first()).map(|(_, d)| d.reason)
}

/// One previewed message: variant, channel, and its fields by name or why there are none.
pub type Preview<'a> = (Option<&'a str>, &'a str, Result<Vec<(&'a str, String)>, String>);

/// Every message of every variant for one trigger, whatever its recipient's own variant is.
pub fn preview<'a>(campaign: &'a Campaign, trigger: &Trigger<'_>) -> Vec<Preview<'a>> {
    let mut previews = Vec::new();
    for variant in &campaign.variants {
        let scope = scope_of(campaign, variant, trigger);
        for message in &variant.messages {
            let mut texts = Vec::new();
            let rendered = match render_channel(message, &scope, &mut texts) {
                Ok(()) => Ok(message.fields.iter().map(|f| f.name.as_str()).zip(texts).collect()),
                Err(dropped) => Err(format!("{}: {}", dropped.reason.code(), dropped.detail)),
            };
            previews.push((variant.name.as_deref(), message.channel.as_str(), rendered));
        }
    }
    previews
}
