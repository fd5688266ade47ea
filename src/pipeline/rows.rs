//! The columns of what a run writes, and builders that fill them row by row.

use std::sync::Arc;

use arrow_array::builder::TimestampMicrosecondBuilder;
use arrow_array::{ArrayRef, ListArray, RecordBatch, StringArray};
use arrow_buffer::{Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::rules::{PROPERTIES_CHANNEL, Rules};
use crate::error::{Error, Kind, Result};
use crate::ids::DispatchId;
use crate::triggers::{Micros, Trigger};

/// Columns of every message row, before carried columns and the channel's fields. `batch_id` is added at delivery.
const MESSAGE_COLUMNS: [&str; 10] = [
    "dispatch_id",
    "campaign_id",
    "send_id",
    "variant",
    "channel",
    "recipient_kind",
    "recipient",
    "triggered_at",
    "trigger_id",
    "source",
];

/// Text in one record batch, in bytes: far below what 32-bit offsets hold. Small batches, since their memory is asked for
/// once and not grown into again and again.
const BATCH_TEXT_BYTES: usize = 8 << 20;

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn instant(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
}

/// Channel names of a set of campaigns, in order of first use.
pub fn channel_names(rules: &Rules) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    };
    for campaign in &rules.campaigns.loaded {
        campaign.variants.iter().flat_map(|v| &v.messages).for_each(|m| add(&m.channel));
        if campaign.decide_only() {
            add(PROPERTIES_CHANNEL);
        }
    }
    names
}

/// Where one message's parts go.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The channel's number.
    pub channel: usize,
    /// For each field of the message, its column among the channel's fields.
    pub columns: Vec<usize>,
}

/// The schemas of a run's tables, and where each campaign's fields stand in them.
#[derive(Debug)]
pub struct Schemas {
    /// Name and row schema of each channel.
    pub channels: Vec<(String, SchemaRef)>,
    /// `decisions.parquet`.
    pub decisions: SchemaRef,
    /// `dropped_messages.parquet`.
    pub dropped: SchemaRef,
    field_counts: Vec<usize>,
    /// By campaign, variant and message.
    placements: Vec<Vec<Vec<Placement>>>,
    properties_channel: Option<usize>,
}

impl Schemas {
    /// The schemas for these rules. A carried column that would shadow another is a usage error.
    pub fn new(rules: &Rules) -> Result<Schemas> {
        let names = channel_names(rules);
        let mut fields: Vec<Vec<String>> = vec![Vec::new(); names.len()];
        let number = |channel: &str| names.iter().position(|n| n == channel).unwrap_or(0);
        let mut placements = Vec::new();
        for campaign in &rules.campaigns.loaded {
            let of_variant = |messages: &[crate::campaigns::ChannelMessage], fields: &mut Vec<Vec<String>>| {
                let place = |m: &crate::campaigns::ChannelMessage, fields: &mut Vec<Vec<String>>| {
                    let channel = number(&m.channel);
                    let columns = m.fields.iter().map(|f| column_of(&mut fields[channel], &f.name)).collect();
                    Placement { channel, columns }
                };
                messages.iter().map(|m| place(m, fields)).collect::<Vec<_>>()
            };
            placements.push(campaign.variants.iter().map(|v| of_variant(&v.messages, &mut fields)).collect());
        }
        let properties_channel = names.iter().position(|n| n == PROPERTIES_CHANNEL);
        if let Some(channel) = properties_channel {
            column_of(&mut fields[channel], "properties");
        }
        check_carry(&rules.carry, &fields)?;
        let channels = names.iter().zip(&fields).map(|(n, f)| (n.clone(), message_schema(&rules.carry, f))).collect();
        let field_counts = fields.iter().map(Vec::len).collect();
        let (decisions, dropped) = (decisions_schema(), dropped_schema());
        Ok(Schemas { channels, decisions, dropped, field_counts, placements, properties_channel })
    }

    /// Where the messages of a variant go.
    pub fn placements(&self, campaign: u16, variant: u8) -> &[Placement] {
        &self.placements[usize::from(campaign)][usize::from(variant)]
    }

    /// The channel of decide-only campaigns, and its one column.
    pub fn properties_channel(&self) -> Option<usize> {
        self.properties_channel
    }

    /// Empty builders for every channel.
    pub fn message_rows(&self, carried: usize) -> Vec<MessageRows> {
        let rows = self.channels.iter().zip(&self.field_counts);
        rows.map(|((name, schema), fields)| MessageRows::new(name, schema.clone(), carried, *fields)).collect()
    }
}

fn column_of(columns: &mut Vec<String>, name: &str) -> usize {
    columns.iter().position(|c| c == name).unwrap_or_else(|| {
        columns.push(name.to_owned());
        columns.len() - 1
    })
}

fn check_carry(carry: &[String], fields: &[Vec<String>]) -> Result<()> {
    for (i, name) in carry.iter().enumerate() {
        let taken = MESSAGE_COLUMNS.contains(&name.as_str()) || name == "batch_id" || carry[..i].contains(name);
        if taken || fields.iter().flatten().any(|field| field == name) {
            let summary =
                format!("`--carry {name}` would stand beside another column of that name in the message rows");
            return Err(Error::new(Kind::Usage, summary).hint("leave it out, or rename the column in the input"));
        }
    }
    Ok(())
}

fn message_schema(carry: &[String], fields: &[String]) -> SchemaRef {
    let fixed = MESSAGE_COLUMNS.iter().map(|name| if *name == "triggered_at" { instant(name) } else { text(name) });
    let more = carry.iter().chain(fields).map(|name| text(name));
    Arc::new(Schema::new(fixed.chain(more).collect::<Vec<_>>()))
}

fn decisions_schema() -> SchemaRef {
    let ids = Field::new("dispatch_ids", DataType::List(Arc::new(text("item"))), true);
    let fields = vec![
        text("campaign_id"),
        text("recipient_kind"),
        text("recipient"),
        instant("triggered_at"),
        text("trigger_id"),
        text("source"),
        text("outcome"),
        text("reason"),
        instant("blocked_by"),
        instant("eligible_at"),
        text("variant"),
        ids,
    ];
    Arc::new(Schema::new(fields))
}

fn dropped_schema() -> SchemaRef {
    let fields = vec![
        text("campaign_id"),
        text("recipient_kind"),
        text("recipient"),
        instant("triggered_at"),
        text("trigger_id"),
        text("source"),
        text("channel"),
        text("variant"),
        text("reason"),
        text("detail"),
    ];
    Arc::new(Schema::new(fields))
}

/// A column of texts, rendered or pushed right where they stay.
struct Texts {
    text: String,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Default for Texts {
    fn default() -> Texts {
        Texts { text: String::new(), ends: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }
}

impl Texts {
    fn push(&mut self, value: Option<&str>) {
        self.text.push_str(value.unwrap_or_default());
        self.end(value.is_some());
    }

    /// Ends a value that was appended to the text.
    fn end(&mut self, given: bool) {
        self.ends.push(self.text.len() as i32);
        self.nulls.append(given);
    }

    /// Where the value that is not ended begins.
    fn start(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// What was collected. The next rows get room for as many.
    fn finish(&mut self) -> ArrayRef {
        let (rows, bytes) = (self.ends.len(), self.text.len());
        let mut offsets = Vec::with_capacity(self.ends.len() + 1);
        offsets.push(0);
        offsets.append(&mut self.ends);
        let text = std::mem::replace(&mut self.text, String::with_capacity(bytes + bytes / 16)).into_bytes();
        self.ends.reserve(rows + rows / 16);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Arc::new(StringArray::new(offsets, Buffer::from_vec(text), self.nulls.finish()))
    }
}

/// Text columns and one instant: what all three tables are made of.
struct Columns {
    schema: SchemaRef,
    texts: Vec<Texts>,
    rows: usize,
}

impl Columns {
    fn new(schema: SchemaRef, texts: usize) -> Columns {
        Columns { schema, texts: (0..texts).map(|_| Texts::default()).collect(), rows: 0 }
    }

    fn push(&mut self, column: usize, value: Option<&str>) {
        self.texts[column].push(value);
    }

    fn is_large(&self) -> bool {
        self.texts.iter().map(|texts| texts.text.len()).sum::<usize>() >= BATCH_TEXT_BYTES
    }

    fn finish(&mut self) -> std::vec::IntoIter<ArrayRef> {
        self.rows = 0;
        self.texts.iter_mut().map(Texts::finish).collect::<Vec<_>>().into_iter()
    }
}

fn instants() -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::new().with_timezone("UTC")
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let broken = |e| Error::new(Kind::Internal, "built columns do not match their schema").caused_by(e);
    RecordBatch::try_new(schema.clone(), columns).map_err(broken)
}

/// The digits of a dispatch id as text.
pub fn digits(hex: &[u8; 32]) -> &str {
    std::str::from_utf8(hex).expect("hex digits are ASCII")
}

/// What identifies a trigger in every table.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The trigger; `None` where the row could not be parsed.
    pub trigger: Option<&'a Trigger<'a>>,
    /// Its recipient's text: the id, the address, or `label:name`.
    pub recipient: Option<&'a str>,
    /// `file:line`.
    pub source: &'a str,
}

impl Who<'_> {
    fn push(&self, columns: &mut Columns, at: &mut TimestampMicrosecondBuilder) {
        columns.push(0, self.trigger.map(|t| t.campaign_id.as_ref()));
        columns.push(1, self.trigger.map(|t| t.recipient.kind.code()));
        columns.push(2, self.recipient);
        at.append_option(self.trigger.and_then(|t| t.triggered_at));
        columns.push(3, self.trigger.and_then(|t| t.trigger_id.as_deref()));
        columns.push(4, Some(self.source));
        columns.rows += 1;
    }
}

/// The message rows of one channel.
pub struct MessageRows {
    channel: String,
    columns: Columns,
    triggered_at: TimestampMicrosecondBuilder,
    carried: usize,
    fields: usize,
}

/// Text columns among [`MESSAGE_COLUMNS`]: all but `triggered_at`.
const FIXED_TEXTS: usize = MESSAGE_COLUMNS.len() - 1;

impl MessageRows {
    fn new(channel: &str, schema: SchemaRef, carried: usize, fields: usize) -> MessageRows {
        let columns = Columns::new(schema, FIXED_TEXTS + carried + fields);
        MessageRows { channel: channel.to_owned(), columns, triggered_at: instants(), carried, fields }
    }

    /// Renders the fields of a message into the columns named by `places`; on a stop nothing of it is left.
    /// [`Self::push`] adds the rest of the row.
    pub fn render<E>(
        &mut self,
        places: &[usize],
        mut render: impl FnMut(usize, &mut String) -> Result<(), E>,
    ) -> Result<(), E> {
        let first = FIXED_TEXTS + self.carried;
        for (index, place) in places.iter().enumerate() {
            if let Err(stop) = render(index, &mut self.columns.texts[first + place].text) {
                self.forget(&places[..=index]);
                return Err(stop);
            }
        }
        Ok(())
    }

    /// Forgets what was rendered for a row that is not pushed.
    pub fn forget(&mut self, places: &[usize]) {
        let first = FIXED_TEXTS + self.carried;
        for place in places {
            let column = &mut self.columns.texts[first + place];
            column.text.truncate(column.start());
        }
    }

    /// Adds the row of a message whose fields were rendered into the columns named by `places`; other fields are null.
    pub fn push(&mut self, dispatch_id: &str, who: &Who<'_>, variant: Option<&str>, places: &[usize]) {
        let Some(trigger) = who.trigger else { return };
        let columns = &mut self.columns;
        let fixed = [
            Some(dispatch_id),
            Some(trigger.campaign_id.as_ref()),
            trigger.send_id.as_deref(),
            variant,
            Some(self.channel.as_str()),
            Some(trigger.recipient.kind.code()),
            who.recipient,
            trigger.trigger_id.as_deref(),
            Some(who.source),
        ];
        fixed.iter().enumerate().for_each(|(column, value)| columns.push(column, *value));
        self.triggered_at.append_option(trigger.triggered_at);
        for carried in 0..self.carried {
            columns.push(FIXED_TEXTS + carried, trigger.carried.get(carried).and_then(|v| v.as_deref()));
        }
        for field in 0..self.fields {
            columns.texts[FIXED_TEXTS + self.carried + field].end(places.contains(&field));
        }
        columns.rows += 1;
    }

    /// The rows so far as a batch, when there are any and either they are many or `all` are wanted.
    pub fn take(&mut self, all: bool) -> Result<Option<RecordBatch>> {
        if self.columns.rows == 0 || !(all || self.columns.is_large()) {
            return Ok(None);
        }
        let mut arrays: Vec<ArrayRef> = self.columns.finish().collect();
        arrays.insert(7, Arc::new(self.triggered_at.finish()));
        batch(&self.columns.schema, arrays).map(Some)
    }
}

/// The rows of `decisions.parquet`.
pub struct DecisionRows {
    columns: Columns,
    triggered_at: TimestampMicrosecondBuilder,
    blocked_by: TimestampMicrosecondBuilder,
    eligible_at: TimestampMicrosecondBuilder,
    dispatch_ids: Texts,
    /// Where each row's ids end among them.
    id_ends: Vec<i32>,
}

/// What was decided of a trigger.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecisionCells<'a> {
    /// Code of the outcome.
    pub outcome: &'a str,
    /// Code of the reason.
    pub reason: Option<&'a str>,
    /// The receipt that refused it.
    pub blocked_by: Option<Micros>,
    /// When it would be eligible.
    pub eligible_at: Option<Micros>,
    /// The variant's name.
    pub variant: Option<&'a str>,
}

impl DecisionRows {
    /// No rows.
    pub fn new(schema: SchemaRef) -> DecisionRows {
        DecisionRows {
            columns: Columns::new(schema, 8),
            triggered_at: instants(),
            blocked_by: instants(),
            eligible_at: instants(),
            dispatch_ids: Texts::default(),
            id_ends: Vec::new(),
        }
    }

    /// Adds a decision.
    pub fn push(&mut self, who: &Who<'_>, cells: &DecisionCells<'_>, dispatch_ids: &[DispatchId]) {
        who.push(&mut self.columns, &mut self.triggered_at);
        self.columns.push(5, Some(cells.outcome));
        self.columns.push(6, cells.reason);
        self.columns.push(7, cells.variant);
        self.blocked_by.append_option(cells.blocked_by);
        self.eligible_at.append_option(cells.eligible_at);
        for id in dispatch_ids {
            self.dispatch_ids.text.push_str(digits(&id.hex()));
            self.dispatch_ids.end(true);
        }
        self.id_ends.push(self.dispatch_ids.ends.len() as i32);
    }

    fn id_lists(&mut self) -> ArrayRef {
        let mut offsets = Vec::with_capacity(self.id_ends.len() + 1);
        offsets.push(0);
        offsets.append(&mut self.id_ends);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Arc::new(ListArray::new(Arc::new(text("item")), offsets, self.dispatch_ids.finish(), None))
    }

    /// All rows as a batch.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.columns.rows == 0 {
            return Ok(None);
        }
        let mut arrays: Vec<ArrayRef> = self.columns.finish().collect();
        arrays.insert(3, Arc::new(self.triggered_at.finish()));
        arrays.insert(8, Arc::new(self.blocked_by.finish()));
        arrays.insert(9, Arc::new(self.eligible_at.finish()));
        arrays.push(self.id_lists());
        batch(&self.columns.schema, arrays).map(Some)
    }
}

/// The rows of `dropped_messages.parquet`.
pub struct DroppedRows {
    columns: Columns,
    triggered_at: TimestampMicrosecondBuilder,
}

impl DroppedRows {
    /// No rows.
    pub fn new(schema: SchemaRef) -> DroppedRows {
        DroppedRows { columns: Columns::new(schema, 9), triggered_at: instants() }
    }

    /// Adds a message that was not produced.
    pub fn push(&mut self, who: &Who<'_>, channel: &str, variant: Option<&str>, reason: &str, detail: &str) {
        who.push(&mut self.columns, &mut self.triggered_at);
        self.columns.push(5, Some(channel));
        self.columns.push(6, variant);
        self.columns.push(7, Some(reason));
        self.columns.push(8, Some(detail));
    }

    /// All rows as a batch.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.columns.rows == 0 {
            return Ok(None);
        }
        let mut arrays: Vec<ArrayRef> = self.columns.finish().collect();
        arrays.insert(3, Arc::new(self.triggered_at.finish()));
        batch(&self.columns.schema, arrays).map(Some)
    }
}
