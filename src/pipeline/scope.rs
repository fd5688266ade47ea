//! The names a template sees, and whether it can produce a message from them.

use serde_json::{Map, Value};

use crate::campaigns::{Campaign, ChannelMessage, Field, Own, Variant};
use crate::templates::{Data, Scope, Stop, Workspace};
use crate::triggers::{Outcome, Reason, RecipientKind, Trigger, Values, format_micros};

/// The values of one trigger. Attributes stand under `custom_attribute` and under their own names, where those are not
/// names of ours.
fn scope_of(subject: Subject<'_>) -> Scope {
    let Subject { campaign, variant, trigger } = subject;
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

/// A trigger of a variant of a campaign.
#[derive(Clone, Copy)]
pub struct Subject<'s> {
    /// The campaign.
    pub campaign: &'s Campaign,
    /// The variant.
    pub variant: &'s Variant,
    /// The trigger.
    pub trigger: &'s Trigger<'s>,
}

/// The values of one trigger for the templates of one variant, in memory that is used again for the next.
#[derive(Default)]
pub struct Filling {
    values: Values,
    /// At least as many bytes as the values have as JSON.
    bytes: usize,
    memory: Workspace,
    buffer: String,
}

impl Filling {
    /// Takes what the variant's templates ask for.
    pub fn fill(&mut self, subject: Subject<'_>) {
        let layout = &subject.variant.layout;
        self.values.begin(layout.slots);
        self.bytes = most_bytes(subject.campaign, subject.trigger);
        for (own, slot) in &layout.own {
            self.values.put(*slot);
            put_own(*own, subject, &mut self.values);
        }
        subject.trigger.properties.fill(&layout.properties, &mut self.values);
        subject.trigger.attributes.fill(&layout.attributes, &mut self.values);
    }

    /// Appends the text of a field of what was filled in last; nothing after a stop.
    fn render(&mut self, field: &Field, subject: Subject<'_>, text: &mut String) -> Result<(), Stop> {
        let data = Data { values: &self.values, slots: &field.slots, bytes: self.bytes, scope: &|| scope_of(subject) };
        field.template.append(&data, &mut self.memory, text)
    }

    fn would_render(&mut self, message: &ChannelMessage, subject: Subject<'_>) -> bool {
        message.fields.iter().all(|field| {
            let data =
                Data { values: &self.values, slots: &field.slots, bytes: self.bytes, scope: &|| scope_of(subject) };
            field.template.would_render(&data, &mut self.memory, &mut self.buffer)
        })
    }

    /// One bit a variant: whether a message could be produced in at least one channel. `asked` has the bits that matter.
    pub fn receivable_mask(&mut self, campaign: &Campaign, trigger: &Trigger<'_>, asked: u8) -> u8 {
        let variants = campaign.variants.iter().enumerate().filter(|(number, _)| asked & (1 << number) != 0);
        let bytes = most_bytes(campaign, trigger);
        variants.fold(0, |mask, (number, variant)| {
            let receivable = variant.always_receivable(bytes) || {
                let subject = Subject { campaign, variant, trigger };
                self.fill(subject);
                variant.messages.iter().any(|message| self.would_render(message, subject))
            };
            mask | (u8::from(receivable) << number)
        })
    }
}

/// No text that a template can print has more bytes as JSON.
fn most_bytes(campaign: &Campaign, trigger: &Trigger<'_>) -> usize {
    let recipient = &trigger.recipient;
    let send_id = trigger.send_id.as_deref().unwrap_or("");
    let texts = [&campaign.id, &campaign.name, &*recipient.id, &*recipient.label, send_id].map(str::len).into_iter();
    let objects = trigger.properties.most_bytes().saturating_add(trigger.attributes.most_bytes());
    // A character of a plain text has up to six as JSON.
    texts.fold(objects, |sum, length| sum.saturating_add(length.saturating_mul(6)))
}

fn put_own(own: Own, subject: Subject<'_>, values: &mut Values) {
    let Subject { campaign, variant, trigger } = subject;
    match own {
        Own::ExternalUserId if trigger.recipient.kind == RecipientKind::ExternalUserId => {
            values.text(&trigger.recipient.id);
        }
        Own::ExternalUserId | Own::Nothing => values.null(),
        Own::Recipient => values.text(&trigger.recipient.profile_key()),
        Own::Campaign => {
            let opened = values.open_object();
            for text in ["id", &campaign.id, "name", &campaign.name] {
                values.text(text);
            }
            values.close_object(opened);
        }
        Own::CampaignId => values.text(&campaign.id),
        Own::CampaignName => values.text(&campaign.name),
        Own::Variant => values.text_or_null(variant.name.as_deref()),
        Own::SendId => values.text_or_null(trigger.send_id.as_deref()),
        Own::TriggeredAt => values.text_or_null(trigger.triggered_at.map(format_micros).as_deref()),
    }
}

/// Why one channel's message was not produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// `aborted`, `missing_value` or `render_error`.
    pub reason: Reason,
    /// Field and cause; no value of a recipient.
    pub detail: String,
}

impl Filling {
    /// Appends a field's text to `out`; on a stop, says why.
    pub fn render_field(&mut self, field: &Field, subject: Subject<'_>, out: &mut String) -> Result<(), Dropped> {
        let start = out.len();
        self.render(field, subject, out).map_err(|stop| dropped(&field.name, stop))?;
        if field.single_line && out[start..].contains(['\r', '\n']) {
            let line = out[start..].replace("\r\n", " ").replace(['\r', '\n'], " ");
            out.truncate(start);
            out.push_str(&line);
        }
        Ok(())
    }

    /// Why a channel produces no message, if it does not.
    pub fn why_dropped(&mut self, message: &ChannelMessage, subject: Subject<'_>) -> Option<Dropped> {
        let mut out = std::mem::take(&mut self.buffer);
        let result = message.fields.iter().try_for_each(|field| {
            out.clear();
            self.render_field(field, subject, &mut out)
        });
        self.buffer = out;
        result.err()
    }
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
    let mut filling = Filling::default();
    for variant in &campaign.variants {
        let subject = Subject { campaign, variant, trigger };
        filling.fill(subject);
        for message in &variant.messages {
            let fields = message.fields.iter().map(|field| {
                let mut text = String::new();
                filling.render_field(field, subject, &mut text).map(|()| (field.name.as_str(), text))
            });
            let rendered: Result<Vec<_>, Dropped> = fields.collect();
            let rendered = rendered.map_err(|dropped| format!("{}: {}", dropped.reason.code(), dropped.detail));
            previews.push((variant.name.as_deref(), message.channel.as_str(), rendered));
        }
    }
    previews
}
