//! Rows as text: flat NDJSON, and request bodies as a caller would have logged them.

use super::rows::{Row, Rows, push_recipient, push_trigger_id};
use super::shape::{Drawn, Property, Shape, Token, Value, Walk};
use crate::triggers::{format_micros, write_string};

/// What is wrong with a bad row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    NoCampaign,
    NoRecipient,
    TwoRecipients,
    BadTime,
    BadProperties,
    BrokenJson,
}

const FAULTS: [Fault; 6] = [
    Fault::NoCampaign,
    Fault::NoRecipient,
    Fault::TwoRecipients,
    Fault::BadTime,
    Fault::BadProperties,
    Fault::BrokenJson,
];

fn fault(row: &Row) -> Option<Fault> {
    row.fault.map(|number| FAULTS[number as usize % FAULTS.len()])
}

/// The flat rows of a range, a line each.
pub(super) fn flat(rows: &Rows<'_>, range: std::ops::Range<u64>) -> String {
    let mut lines = Lines::new(rows);
    let mut drawn = Drawn::default();
    for index in range {
        let row = rows.row(index, &mut drawn);
        let fault = fault(&row);
        lines.open();
        lines.campaign(&row, fault);
        lines.recipient(&row, fault);
        lines.time(&row, fault);
        lines.trigger(&row, fault, &drawn);
        lines.close(fault);
    }
    lines.text
}

/// The request bodies of a range, a line each. Rows of one request stand in one body as long as nothing stands between them.
pub(super) fn requests(rows: &Rows<'_>, range: std::ops::Range<u64>) -> String {
    let mut lines = Lines::new(rows);
    let mut drawn = Drawn::default();
    let mut open: Option<Row> = None;
    for index in range {
        let row = rows.row(index, &mut drawn);
        let fault = fault(&row);
        if open.is_some_and(|open| row.request.is_none() || row.request != open.request) {
            lines.end_request(open.take());
        }
        if open.is_none() {
            lines.open();
            lines.campaign(&row, fault);
            lines.key("recipients");
            lines.text.push('[');
        } else {
            lines.text.push(',');
        }
        lines.open();
        lines.recipient(&row, fault);
        lines.trigger(&row, fault, &drawn);
        lines.text.push('}');
        open = Some(row);
    }
    lines.end_request(open);
    lines.text
}

/// Lines being written.
struct Lines<'r> {
    rows: &'r Rows<'r>,
    text: String,
}

impl<'r> Lines<'r> {
    fn new(rows: &'r Rows<'r>) -> Lines<'r> {
        Lines { rows, text: String::new() }
    }

    fn open(&mut self) {
        self.text.push('{');
    }

    /// The key of one more member.
    fn key(&mut self, name: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        write_string(name, &mut self.text);
        self.text.push(':');
    }

    fn close(&mut self, fault: Option<Fault>) {
        self.text.push_str(if fault == Some(Fault::BrokenJson) { "\n" } else { "}\n" });
    }

    fn campaign(&mut self, row: &Row, fault: Option<Fault>) {
        if fault != Some(Fault::NoCampaign) {
            self.key("campaign_id");
            write_string(&self.rows.profile.campaigns[row.campaign].id, &mut self.text);
        }
    }

    fn recipient(&mut self, row: &Row, fault: Option<Fault>) {
        let keys: &[&str] = match fault {
            Some(Fault::NoRecipient) => &[],
            Some(Fault::TwoRecipients) => &["external_user_id", "braze_id"],
            _ => &["external_user_id"],
        };
        for key in keys {
            self.key(key);
            self.text.push('"');
            push_recipient(&mut self.text, row.recipient);
            self.text.push('"');
        }
    }

    fn time(&mut self, row: &Row, fault: Option<Fault>) {
        self.key("triggered_at");
        let text = if fault == Some(Fault::BadTime) { "yesterday".to_owned() } else { format_micros(row.at) };
        write_string(&text, &mut self.text);
    }

    /// The id and the properties.
    fn trigger(&mut self, row: &Row, fault: Option<Fault>, drawn: &Drawn) {
        self.key("trigger_id");
        self.text.push('"');
        push_trigger_id(&mut self.text, self.rows.profile.seed, row.origin);
        self.text.push('"');
        let properties = &self.rows.profile.properties;
        if fault == Some(Fault::BadProperties) {
            self.key("trigger_properties");
            self.text.push_str("[]");
        } else if !properties.is_empty() {
            self.key("trigger_properties");
            self.members(properties, &mut drawn.walk());
        }
    }

    /// Ends the body that began with the last row, if any is open.
    fn end_request(&mut self, row: Option<Row>) {
        let Some(row) = row else { return };
        let fault = fault(&row);
        self.text.push(']');
        self.time(&row, fault);
        self.close(fault);
    }

    fn members(&mut self, members: &[Property], walk: &mut Walk<'_>) {
        self.open();
        for member in members {
            match walk.step() {
                Token::Missing => {}
                token => {
                    self.key(&member.name);
                    self.value(token, &member.shape, walk);
                }
            }
        }
        self.text.push('}');
    }

    fn value(&mut self, token: Token, shape: &Shape, walk: &mut Walk<'_>) {
        match (token, &shape.value) {
            (Token::Items(items), Value::Array { of, .. }) => {
                self.text.push('[');
                for item in 0..items {
                    self.text.push_str(if item > 0 { "," } else { "" });
                    let token = walk.step();
                    self.value(token, of, walk);
                }
                self.text.push(']');
            }
            (Token::Members, Value::Object(members)) => self.members(members, walk),
            (Token::Text { start, end }, _) => write_string(walk.text(start, end), &mut self.text),
            (Token::Whole(number), _) => self.text.push_str(itoa::Buffer::new().format(number)),
            (Token::Number(number), _) => self.text.push_str(ryu::Buffer::new().format_finite(number)),
            (Token::Flag(flag), _) => self.text.push_str(if flag { "true" } else { "false" }),
            _ => self.text.push_str("null"),
        }
    }
}
