//! The third pass: the rows of a split once more, with what was decided of each, into what is written.

use std::borrow::Cow;
use std::ops::Range;

use arrow_array::RecordBatch;

use super::classify::{Standing, classify};
use super::keys::id_hash;
use super::ledger::Tally;
use super::lines;
use super::rows::{DecisionCells, DecisionRows, DroppedRows, MessageRows, Schemas, Who, digits};
use super::rules::Rules;
use super::scope::{Dropped, Filling, Subject, trigger_reason};
use super::seams::{Need, Row, StoredOutcome, Table, TriggerSource};
use super::verdicts::{Decided, Note, SplitVerdicts};
use crate::campaigns::{Campaign, Variant};
use crate::error::{Error, Kind, Result};
use crate::ids::{DispatchId, KeyHash};
use crate::triggers::{Dispatch, Micros, Outcome, Reason, RecipientKind, Rejection, Trigger};

/// What a run adds to the state for one trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The recipient.
    pub key: KeyHash,
    /// The campaign's number.
    pub campaign: u16,
    /// How the recipient is named.
    pub kind: RecipientKind,
    /// The recipient's text: the id, the address, or `label:name`.
    pub recipient: String,
    /// When.
    pub received_at: Micros,
    /// Received, or enrolled in control.
    pub outcome: StoredOutcome,
    /// The variant's number; none for control.
    pub variant: Option<u8>,
    /// Channel numbers and ids of its messages.
    pub messages: Vec<(u16, DispatchId)>,
    /// Hash of the trigger id.
    pub trigger_hash: Option<u64>,
}

/// What some rows of a split give to the sink and the state.
pub struct SplitOutput {
    /// The split.
    pub split: usize,
    /// The rows.
    pub rows: Range<usize>,
    /// Rows that were asked for and not rendered, since those before them produced enough.
    pub rest: Range<usize>,
    /// Rows by table, in source order within each.
    pub tables: Vec<(Table, RecordBatch)>,
    /// Lines of `rejected.ndjson`.
    pub rejected: Vec<u8>,
    /// Lines of `remainder.ndjson`.
    pub remainder: Vec<u8>,
    /// Receipts and enrolments.
    pub receipts: Vec<Receipt>,
    /// Counts.
    pub tally: Tally,
}

impl SplitOutput {
    /// Number of rows it comes from.
    pub fn rendered_rows(&self) -> usize {
        self.rows.len()
    }
}

/// `file:line`, with the position inside a request.
fn write_source(file: &str, line: u64, recipient_index: Option<u32>, out: &mut String) {
    out.clear();
    out.push_str(file);
    out.push(':');
    out.push_str(itoa::Buffer::new().format(line));
    if let Some(index) = recipient_index {
        out.push('[');
        out.push_str(itoa::Buffer::new().format(index));
        out.push(']');
    }
}

/// Everything a split's rendering reads.
pub struct RenderTask<'a> {
    /// The rules.
    pub rules: &'a Rules,
    /// The schemas.
    pub schemas: &'a Schemas,
    /// The input.
    pub source: &'a dyn TriggerSource,
    /// The split.
    pub split: usize,
    /// Its rows that are wanted.
    pub rows: Range<usize>,
    /// Number of the split's first line in its file, from 1.
    pub first_line: u64,
    /// What was decided.
    pub verdicts: &'a SplitVerdicts,
    /// Notes of these rows, by ordinal.
    pub notes: &'a [Note],
    /// Whether receipts are wanted.
    pub keep_receipts: bool,
    /// Bytes of rows that are enough.
    pub most_bytes: u64,
}

impl RenderTask<'_> {
    /// Reads the split again and renders its rows; not all of them where they come to more than `most_bytes`. The builders
    /// come back empty.
    pub fn run(&self, builders: Builders) -> Result<(SplitOutput, Builders)> {
        let mut renderer = Renderer::new(self, builders);
        match self.source.read(self.split, Need::Everything, &mut |row| renderer.row(&row)) {
            Err(_) if renderer.is_done => renderer.finish(),
            Err(error) => Err(error),
            Ok(_) => renderer.finish(),
        }
    }
}

/// What rows are built with. Tasks hand it on, since memory that has grown once need not grow again.
pub struct Builders {
    messages: Vec<MessageRows>,
    decisions: DecisionRows,
    dropped: DroppedRows,
    filling: Filling,
}

impl Builders {
    /// Empty ones.
    pub fn new(schemas: &Schemas, rules: &Rules) -> Builders {
        Builders {
            messages: schemas.message_rows(rules.carry.len()),
            decisions: DecisionRows::new(schemas.decisions.clone()),
            dropped: DroppedRows::new(schemas.dropped.clone()),
            filling: Filling::default(),
        }
    }
}

struct Renderer<'a> {
    task: &'a RenderTask<'a>,
    file: &'a str,
    ordinal: usize,
    /// Nothing more is wanted of this reading.
    is_done: bool,
    /// The note of the row at hand, and those after it.
    note: Option<Note>,
    next_note: usize,
    /// Bytes of the message rows in `out`.
    taken_bytes: usize,
    /// The last line whose text is among the rejected.
    shown_line: Option<u64>,
    builders: Builders,
    dispatch_ids: Vec<DispatchId>,
    /// `file:line` of the row at hand.
    source: String,
    out: SplitOutput,
}

impl<'a> Renderer<'a> {
    fn new(task: &'a RenderTask<'a>, builders: Builders) -> Renderer<'a> {
        let channels = task.schemas.channels.len();
        let tally = Tally::new(task.rules.campaigns.loaded.len(), channels);
        let (rejected, remainder, receipts) = (Vec::new(), Vec::new(), Vec::new());
        Renderer {
            task,
            file: task.source.file_name(task.source.file_of(task.split)),
            ordinal: 0,
            is_done: false,
            note: None,
            next_note: 0,
            taken_bytes: 0,
            shown_line: None,
            builders,
            dispatch_ids: Vec::new(),
            source: String::new(),
            out: SplitOutput {
                split: task.split,
                rows: task.rows.clone(),
                rest: 0..0,
                tables: Vec::new(),
                rejected,
                remainder,
                receipts,
                tally,
            },
        }
    }

    fn row(&mut self, row: &Row<'_>) -> Result<()> {
        let decided = self.task.verdicts.get(self.ordinal).ok_or_else(|| self.changed())?;
        let line = self.task.first_line + row.line;
        if self.ordinal < self.task.rows.start {
            return self.skip(line, decided);
        }
        self.note = self.note_here();
        let mut source = std::mem::take(&mut self.source);
        write_source(self.file, line, row.recipient_index, &mut source);
        match &row.parsed {
            Err(rejection) => self.unparsed(row, line, &source, rejection)?,
            Ok(trigger) => {
                let recipient = trigger.recipient.profile_key();
                let who = Who { trigger: Some(trigger), recipient: Some(&recipient), source: &source };
                self.trigger(row, line, &who, trigger, decided)?;
            }
        }
        self.source = source;
        self.ordinal += 1;
        self.take_messages(false)?;
        self.stop_where_enough()
    }

    /// Passes a row of an earlier task.
    fn skip(&mut self, line: u64, decided: Decided) -> Result<()> {
        self.ordinal += 1;
        if decided.is_rejected() {
            self.shown_line = Some(line);
        }
        Ok(())
    }

    /// Ends the reading after the last row that is wanted, or when enough was produced. An error is how a visitor does that.
    fn stop_where_enough(&mut self) -> Result<()> {
        let produced = (self.taken_bytes + self.out.rejected.len() + self.out.remainder.len()) as u64;
        let wanted = &self.task.rows;
        if self.ordinal < wanted.end && produced < self.task.most_bytes || self.ordinal == self.task.verdicts.len() {
            return Ok(());
        }
        self.is_done = true;
        (self.out.rows, self.out.rest) = (wanted.start..self.ordinal, self.ordinal..wanted.end);
        Err(Error::new(Kind::Internal, "enough was read"))
    }

    fn changed(&self) -> Error {
        let summary = format!("`{}` changed while it was read", self.file);
        Error::new(Kind::Input, summary).hint("run again once nothing writes to it; nothing was committed")
    }

    fn reject(&mut self, row: &Row<'_>, line: u64, rejection: &Rejection) {
        let show_raw = self.shown_line.replace(line) != Some(line);
        lines::push_rejected(&mut self.out.rejected, self.file, line, row, rejection, show_raw);
    }

    fn unparsed(&mut self, row: &Row<'_>, line: u64, source: &str, rejection: &Rejection) -> Result<()> {
        self.reject(row, line, rejection);
        self.settle(&Who { trigger: None, recipient: None, source }, None, rejection.reason)
    }

    fn trigger(
        &mut self,
        row: &Row<'_>,
        line: u64,
        who: &Who<'_>,
        trigger: &Trigger<'_>,
        decided: Decided,
    ) -> Result<()> {
        match (classify(self.task.rules, trigger), decided) {
            (Standing::Rejected(campaign, rejection), _) => {
                self.reject(row, line, &rejection);
                lines::push_remainder(&mut self.out.remainder, trigger, &self.task.rules.carry);
                self.settle(who, campaign, rejection.reason)
            }
            (Standing::Settled(campaign, reason), _) => self.settle(who, campaign, reason),
            (Standing::Open { campaign, .. }, Decided::Settled(reason)) => self.settle(who, Some(campaign), reason),
            (Standing::Open { campaign, at }, Decided::Sent { variant }) => {
                self.sent(who, trigger, campaign, variant, at)
            }
            (Standing::Open { campaign, at }, Decided::Control { enrols }) => {
                self.control(who, trigger, campaign, at, enrols)
            }
            (Standing::Open { campaign, .. }, Decided::NotReceivable { variant }) => {
                self.failed(who, trigger, campaign, variant)
            }
            (Standing::Open { .. }, Decided::Pending) => {
                Err(Error::new(Kind::Internal, format!("{} was never decided", who.source)))
            }
        }
    }

    /// A trigger that ends here with a reason and nothing else.
    fn settle(&mut self, who: &Who<'_>, campaign: Option<u16>, reason: Reason) -> Result<()> {
        let blocked = self.note.map(Note::blocked);
        let cells = DecisionCells {
            outcome: reason.outcome().code(),
            reason: (reason.outcome() != Outcome::OutOfScope).then_some(reason.code()),
            blocked_by: blocked.map(|b| b.by),
            eligible_at: blocked.and_then(|b| b.eligible_at),
            variant: None,
        };
        self.builders.decisions.push(who, &cells, &[]);
        self.out.tally.reason(campaign, reason);
        Ok(())
    }

    fn note_here(&mut self) -> Option<Note> {
        let next = self.task.notes.get(self.next_note).copied();
        let here = next.filter(|note| note.ordinal as usize == self.ordinal);
        self.next_note += usize::from(here.is_some());
        here
    }

    fn campaign(&self, campaign: u16, variant: u8) -> (&'a Campaign, &'a Variant) {
        let campaign = &self.task.rules.campaigns.loaded[usize::from(campaign)];
        (campaign, &campaign.variants[usize::from(variant)])
    }

    fn sent(&mut self, who: &Who<'_>, trigger: &Trigger<'_>, number: u16, variant: u8, at: Micros) -> Result<()> {
        let dispatch = Dispatch::of(trigger, at, self.note.map_or(0, |note| note.repeat));
        self.dispatch_ids.clear();
        let mut produced = Vec::new();
        let dropped = self.messages(who, trigger, number, variant, &mut |channel, name| {
            let id = dispatch.id(name);
            produced.push((channel as u16, id));
            id
        })?;
        if produced.is_empty() {
            let summary = format!("{} was decided to be sent, but no channel produced a message", who.source);
            return Err(Error::new(Kind::Internal, summary));
        }
        self.drop_messages(who, number, variant, &dropped);
        let cells = DecisionCells {
            outcome: Outcome::Sent.code(),
            variant: self.campaign(number, variant).1.name.as_deref(),
            ..DecisionCells::default()
        };
        self.builders.decisions.push(who, &cells, &self.dispatch_ids);
        self.out.tally.sent(number);
        if self.task.keep_receipts {
            self.receipt(trigger, number, at, StoredOutcome::Sent, Some(variant), produced);
        }
        Ok(())
    }

    /// Renders every channel of a trigger and adds the rows of those that produce a message; returns the others.
    fn messages(
        &mut self,
        who: &Who<'_>,
        trigger: &Trigger<'_>,
        number: u16,
        variant_number: u8,
        id_of: &mut dyn FnMut(usize, &str) -> DispatchId,
    ) -> Result<Vec<(usize, Dropped)>> {
        let (campaign, variant) = self.campaign(number, variant_number);
        if let (true, Some(channel)) = (variant.messages.is_empty(), self.task.schemas.properties_channel()) {
            let text = trigger.properties.text();
            let Ok(()) = self.builders.messages[channel].render(&[0], |_, out| {
                out.push_str(&text);
                Ok::<(), std::convert::Infallible>(())
            });
            self.message(who, number, channel, &[0], variant.name.as_deref(), id_of);
            return Ok(Vec::new());
        }
        let subject = Subject { campaign, variant, trigger };
        self.builders.filling.fill(subject);
        let mut dropped = Vec::new();
        let placements = self.task.schemas.placements(number, variant_number);
        for (message, placement) in variant.messages.iter().zip(placements) {
            let (rows, filling) = (&mut self.builders.messages[placement.channel], &mut self.builders.filling);
            let rendered = rows
                .render(&placement.columns, |index, out| filling.render_field(&message.fields[index], subject, out));
            match rendered {
                Ok(()) => {
                    self.message(who, number, placement.channel, &placement.columns, variant.name.as_deref(), id_of);
                }
                Err(drop) => dropped.push((placement.channel, drop)),
            }
        }
        Ok(dropped)
    }

    fn message(
        &mut self,
        who: &Who<'_>,
        campaign: u16,
        channel: usize,
        places: &[usize],
        variant: Option<&str>,
        id_of: &mut dyn FnMut(usize, &str) -> DispatchId,
    ) {
        let id = id_of(channel, &self.task.schemas.channels[channel].0);
        if self.task.rules.record_only {
            self.builders.messages[channel].forget(places);
        } else {
            self.builders.messages[channel].push(digits(&id.hex()), who, variant, places);
            self.out.tally.message(campaign, channel);
        }
        self.dispatch_ids.push(id);
    }

    fn drop_messages(&mut self, who: &Who<'_>, number: u16, variant: u8, dropped: &[(usize, Dropped)]) {
        let name = self.campaign(number, variant).1.name.as_deref();
        for (channel, drop) in dropped {
            let channel_name = &self.task.schemas.channels[*channel].0;
            self.builders.dropped.push(who, channel_name, name, drop.reason.code(), &drop.detail);
            self.out.tally.dropped(number, *channel, drop.reason);
        }
    }

    fn control(&mut self, who: &Who<'_>, trigger: &Trigger<'_>, number: u16, at: Micros, enrols: bool) -> Result<()> {
        self.builders.decisions.push(
            who,
            &DecisionCells { outcome: Outcome::Control.code(), ..DecisionCells::default() },
            &[],
        );
        self.out.tally.control(number);
        if enrols && self.task.keep_receipts {
            self.receipt(trigger, number, at, StoredOutcome::Control, None, Vec::new());
        }
        Ok(())
    }

    /// A trigger that was allowed but that no channel can render: says why, and keeps it for mending.
    fn failed(&mut self, who: &Who<'_>, trigger: &Trigger<'_>, number: u16, variant: u8) -> Result<()> {
        let (campaign, arm) = self.campaign(number, variant);
        let subject = Subject { campaign, variant: arm, trigger };
        self.builders.filling.fill(subject);
        let placements = self.task.schemas.placements(number, variant);
        let mut dropped = Vec::new();
        for (message, placement) in arm.messages.iter().zip(placements) {
            match self.builders.filling.why_dropped(message, subject) {
                Some(drop) => dropped.push((placement.channel, drop)),
                None => {
                    let summary = format!("{} was decided not to be receivable, but rendered", who.source);
                    return Err(Error::new(Kind::Internal, summary));
                }
            }
        }
        self.drop_messages(who, number, variant, &dropped);
        let reason = trigger_reason(&dropped).unwrap_or(Reason::RenderError);
        let cells = DecisionCells {
            outcome: reason.outcome().code(),
            reason: Some(reason.code()),
            variant: arm.name.as_deref(),
            ..DecisionCells::default()
        };
        self.builders.decisions.push(who, &cells, &[]);
        self.out.tally.reason(Some(number), reason);
        if reason.outcome() == Outcome::Failed {
            lines::push_remainder(&mut self.out.remainder, trigger, &self.task.rules.carry);
        }
        #[cfg(test)]
        if self.task.keep_receipts && crate::planted::is(crate::planted::Bug::FailedTriggersRecorded) {
            self.receipt(trigger, number, 0, StoredOutcome::Sent, Some(variant), Vec::new());
        }
        Ok(())
    }

    fn receipt(
        &mut self,
        trigger: &Trigger<'_>,
        campaign: u16,
        at: Micros,
        outcome: StoredOutcome,
        variant: Option<u8>,
        messages: Vec<(u16, DispatchId)>,
    ) {
        let rules = self.task.rules;
        let received_at = rules.key_rule(campaign).receipt_at(at);
        self.out.receipts.push(Receipt {
            key: trigger.recipient.key_hash(),
            campaign,
            kind: trigger.recipient.kind,
            recipient: Cow::into_owned(trigger.recipient.profile_key()),
            received_at,
            outcome,
            variant,
            messages,
            trigger_hash: trigger.trigger_id.as_deref().map(id_hash),
        });
    }

    fn take_messages(&mut self, all: bool) -> Result<()> {
        for (channel, rows) in self.builders.messages.iter_mut().enumerate() {
            if let Some(batch) = rows.take(all)? {
                self.taken_bytes += batch.get_array_memory_size();
                self.out.tables.push((Table::Messages(channel), batch));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(SplitOutput, Builders)> {
        if self.ordinal != self.task.verdicts.len() && !self.is_done {
            return Err(self.changed());
        }
        self.take_messages(true)?;
        self.out.tables.extend(self.builders.decisions.finish()?.map(|rows| (Table::Decisions, rows)));
        self.out.tables.extend(self.builders.dropped.finish()?.map(|rows| (Table::Dropped, rows)));
        Ok((self.out, self.builders))
    }
}
