//! One batch of columns as triggers, row by row.
//!
//! Strings are borrowed from the batch, properties from a scratch text that is cleared for every row; nothing of one
//! row is left for the next. A row that cannot be a trigger is a [`Rejection`]; no recipient's value ever stands in it.

use std::borrow::Cow;

use arrow_array::RecordBatch;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::input::InputOptions;
use crate::pipeline::Need;
use crate::triggers::{MAX_PROPERTIES_BYTES, Properties, PropertiesFault, Reason, Recipient, RecipientKind};
use crate::triggers::{Rejection, Trigger};

use super::cells::{Broken, Cells, Kind, Member};
use super::json::{write_members, write_string};
use super::schema::{IdPart, Roles, has_decimals};

/// Texts that rows borrow from, kept so that a row allocates nothing.
#[derive(Default)]
pub(super) struct Scratch {
    properties: String,
    overlay: String,
    attributes: String,
}

/// The columns of a batch by the part they play.
pub(super) struct Rows<'a> {
    options: &'a InputOptions,
    need: Need,
    campaign_id: Option<Cells<'a>>,
    recipients: [Option<Cells<'a>>; 4],
    triggered_at: Option<Cells<'a>>,
    trigger_id: Option<Cells<'a>>,
    send_id: Option<Cells<'a>>,
    properties: Option<Cells<'a>>,
    overlay: Vec<Member<'a>>,
    attributes: Option<Cells<'a>>,
    carried: Vec<Option<Cells<'a>>>,
    derived_id: Vec<IdSource<'a>>,
    /// Decimals stand in the properties.
    exact: bool,
    /// Decimals stand in the attributes.
    exact_attributes: bool,
}

enum IdSource<'a> {
    Column(Cells<'a>),
    Property(&'a str),
}

impl<'a> Rows<'a> {
    /// Downcasts the columns of a batch, which are those of `roles.columns()` in that order.
    pub(super) fn of(
        batch: &'a RecordBatch,
        columns: &[usize],
        roles: &'a Roles,
        need: Need,
        options: &'a InputOptions,
    ) -> Result<Rows<'a>> {
        let position = |column: usize| columns.binary_search(&column).expect("roles name only columns that are read");
        let cells = |column: usize| Cells::of(batch.column(position(column)).as_ref());
        let maybe = |column: Option<usize>| column.map(cells).transpose();
        let decimals = |column: usize| has_decimals(batch.schema_ref().field(position(column)).data_type());
        let member = |column: &usize| {
            let name = batch.schema_ref().field(position(*column)).name();
            cells(*column).map(|cells| Member::new(name, cells))
        };
        let [external, alias, braze, email] = roles.recipients;
        Ok(Rows {
            options,
            need,
            campaign_id: maybe(roles.campaign_id)?,
            recipients: [maybe(external)?, maybe(alias)?, maybe(braze)?, maybe(email)?],
            triggered_at: maybe(roles.triggered_at)?,
            trigger_id: maybe(roles.trigger_id)?,
            send_id: maybe(roles.send_id)?,
            properties: maybe(roles.properties)?,
            overlay: roles.overlay.iter().map(member).collect::<Result<_>>()?,
            attributes: maybe(roles.attributes)?,
            carried: roles.carried.iter().map(|column| maybe(*column)).collect::<Result<_>>()?,
            derived_id: roles
                .derived_id
                .iter()
                .map(|part| match part {
                    IdPart::Column(column) => cells(*column).map(IdSource::Column),
                    IdPart::Property(name) => Ok(IdSource::Property(name)),
                })
                .collect::<Result<_>>()?,
            exact: roles.properties.iter().chain(&roles.overlay).any(|column| decimals(*column)),
            exact_attributes: roles.attributes.is_some_and(decimals),
        })
    }

    /// The trigger of a row, or why there is none.
    pub(super) fn trigger<'s>(&'s self, row: usize, scratch: &'s mut Scratch) -> Result<Trigger<'s>, Rejection> {
        let campaign_id = self.campaign_id(row)?;
        let recipient = self.recipient(row)?;
        let triggered_at = match &self.triggered_at {
            Some(cells) => cells.instant(row, &self.options.times).map_err(|b| b.in_field("triggered_at"))?,
            None => None,
        };
        let given = self.properties(row, &mut scratch.properties, &mut scratch.overlay)?;
        let trigger_id = match text(&self.trigger_id, row, "trigger_id")? {
            Some(id) if !id.is_empty() => Some(id),
            _ => self.derived_id(row, &given)?.map(Cow::Owned),
        };
        let attributes = self.attributes(row, &mut scratch.attributes)?;
        Ok(Trigger {
            campaign_id,
            recipient,
            triggered_at,
            trigger_id,
            send_id: text(&self.send_id, row, "send_id")?,
            properties: if self.exact { self.exact(given, is_json_text(&self.properties)) } else { given },
            attributes: if self.exact_attributes { self.exact(attributes, false) } else { attributes },
            carried: self.carried(row)?,
            duplicate_recipient: false,
        })
    }

    fn campaign_id(&self, row: usize) -> Result<Cow<'_, str>, Rejection> {
        let named = text(&self.campaign_id, row, "campaign_id")?;
        let fallback = || self.options.mapping.campaign_id.as_deref().map(Cow::Borrowed);
        match named.or_else(fallback) {
            Some(id) if id.is_empty() => Err(empty("campaign_id")),
            Some(id) => Ok(id),
            None => Err(Rejection::new(Reason::MissingField, "campaign_id", "a string", "null")),
        }
    }

    fn recipient(&self, row: usize) -> Result<Recipient<'_>, Rejection> {
        let kinds = RecipientKind::ALL.into_iter().zip(&self.recipients);
        let mut given =
            kinds.filter_map(|(kind, cells)| cells.as_ref().filter(|c| is_given(c, row)).map(|c| (kind, c)));
        let Some((kind, cells)) = given.next() else {
            return Err(Rejection::new(Reason::NoRecipient, "", "exactly one identifier", "none"));
        };
        let others: Vec<&str> = given.map(|(kind, _)| kind.code()).collect();
        if !others.is_empty() {
            let found = format!("{}, {}", kind.code(), others.join(", "));
            return Err(Rejection::new(Reason::SeveralIdentifiers, "", "exactly one identifier", found));
        }
        if kind == RecipientKind::UserAlias {
            return alias(cells, row);
        }
        let field = kind.code();
        let id = cells.text(row).map_err(|b| b.in_field(field))?.unwrap_or_default();
        let recipient = match kind {
            RecipientKind::Email => Recipient::email(id),
            RecipientKind::BrazeId => Recipient::braze(id),
            _ => Recipient::external(id),
        };
        if recipient.id.is_empty() { Err(empty(field)) } else { Ok(recipient) }
    }

    /// The properties as text, within their limits. Texts made from columns are compact already.
    fn properties<'s>(
        &'s self,
        row: usize,
        base: &'s mut String,
        over: &'s mut String,
    ) -> Result<Properties<'s>, Rejection> {
        let base = match &self.properties {
            Some(cells) => object(cells, row, base).map_err(|b| b.in_field("trigger_properties"))?,
            None => None,
        };
        over.clear();
        if !self.overlay.is_empty() {
            write_members(&self.overlay, row, 0, over).map_err(|b| b.in_field(""))?;
        }
        let over = Some(over.as_str()).filter(|text| text.len() > "{}".len());
        let given = match (base, over) {
            (None, None) => return Ok(Properties::Empty),
            (Some(base), None) => Properties::Text(base),
            (None, Some(over)) => Properties::Text(Cow::Borrowed(over)),
            (Some(base), Some(over)) => Properties::Overlaid(base, Cow::Borrowed(over)),
        };
        within_limit(&given)?;
        Ok(given)
    }

    fn attributes<'s>(&'s self, row: usize, out: &'s mut String) -> Result<Properties<'s>, Rejection> {
        match &self.attributes {
            Some(cells) => {
                let given = object(cells, row, out).map_err(|b| b.in_field("attributes"))?;
                Ok(given.map_or(Properties::Empty, Properties::Text))
            }
            None => Ok(Properties::Empty),
        }
    }

    /// Properties with decimals as values: their scale would be lost where text is read, since JSON numbers are
    /// normalised there. Numbers of a JSON text underneath are normalised here.
    fn exact<'s>(&self, given: Properties<'s>, json_text_below: bool) -> Properties<'s> {
        if self.need == Need::Keys {
            return Properties::Empty;
        }
        match given {
            Properties::Text(text) => Properties::Values(parse(&text)),
            Properties::Overlaid(base, over) => {
                let mut map = if json_text_below { Properties::Text(base).to_map() } else { parse(&base) };
                map.extend(parse(&over));
                Properties::Values(map)
            }
            other => other,
        }
    }

    fn carried(&self, row: usize) -> Result<Vec<Option<Cow<'_, str>>>, Rejection> {
        let names = &self.options.carry;
        self.carried.iter().zip(names).map(|(cells, name)| carried(cells.as_ref(), row, name)).collect()
    }

    /// The id derived by `--trigger-id-from`: the compact JSON array of the values, numbers normalised; `None` where
    /// the row has none of them.
    fn derived_id(&self, row: usize, given: &Properties<'_>) -> Result<Option<String>, Rejection> {
        let mut id = String::from("[");
        let mut any = false;
        for (index, source) in self.derived_id.iter().enumerate() {
            if index > 0 {
                id.push(',');
            }
            let start = id.len();
            match source {
                IdSource::Column(cells) => cells.write_json(row, 0, &mut id).map_err(|b| b.in_field("trigger_id"))?,
                IdSource::Property(name) => self.write_property(row, name, given, &mut id)?,
            }
            any |= &id[start..] != "null";
        }
        id.push(']');
        Ok(any.then(|| normalised(id)))
    }

    /// Appends one property as JSON, `null` for none.
    fn write_property(
        &self,
        row: usize,
        name: &str,
        given: &Properties<'_>,
        out: &mut String,
    ) -> Result<(), Rejection> {
        let members = match &self.properties {
            Some(Cells { kind: Kind::Struct(members), .. }) if self.overlay.is_empty() => members,
            _ => {
                match given.to_map().get(name) {
                    Some(value) => out.push_str(&value.to_string()),
                    None => out.push_str("null"),
                }
                return Ok(());
            }
        };
        let given = !matches!(given, Properties::Empty);
        match members.iter().find(|m| m.name == name).filter(|_| given) {
            Some(member) => member.cells.write_json(row, 0, out).map_err(|b| b.in_field("trigger_id")),
            None => {
                out.push_str("null");
                Ok(())
            }
        }
    }
}

fn text<'a>(cells: &Option<Cells<'a>>, row: usize, field: &str) -> Result<Option<Cow<'a, str>>, Rejection> {
    cells.as_ref().map_or(Ok(None), |cells| cells.text(row).map_err(|b| b.in_field(field)))
}

fn empty(field: &str) -> Rejection {
    Rejection::new(Reason::WrongType, field, "a non-empty string", "an empty string")
}

/// A structure whose members are all null, as converters write it for an absent alias, is none.
fn is_given(cells: &Cells<'_>, row: usize) -> bool {
    let all_null = match &cells.kind {
        Kind::Struct(members) => members.iter().all(|member| member.cells.is_null(row)),
        _ => false,
    };
    !cells.is_null(row) && !all_null
}

fn alias<'a>(cells: &Cells<'a>, row: usize) -> Result<Recipient<'a>, Rejection> {
    let Kind::Struct(members) = &cells.kind else {
        return Err(Rejection::new(Reason::WrongType, "user_alias", "an object", "another type"));
    };
    let part = |name: &str| {
        let field = format!("user_alias.{name}");
        let member = members.iter().find(|member| member.name == name);
        let text = member.map_or(Ok(None), |m| m.cells.text(row)).map_err(|b| b.in_field(&field))?;
        match text {
            Some(text) if text.is_empty() => Err(empty(&field)),
            Some(text) => Ok(text),
            None => Err(Rejection::new(Reason::MissingField, field, "a non-empty string", "null")),
        }
    };
    Ok(Recipient::alias(part("alias_name")?, part("alias_label")?))
}

fn is_json_text(cells: &Option<Cells<'_>>) -> bool {
    cells.as_ref().is_some_and(|cells| !matches!(cells.kind, Kind::Struct(_) | Kind::Map { .. }))
}

/// An object column's value as JSON text: written from a struct or a map, checked where it is text already.
fn object<'s>(cells: &'s Cells<'_>, row: usize, out: &'s mut String) -> Result<Option<Cow<'s, str>>, Broken> {
    if cells.is_null(row) {
        return Ok(None);
    }
    if matches!(cells.kind, Kind::Struct(_) | Kind::Map { .. }) {
        out.clear();
        cells.write_json(row, 0, out)?;
        return Ok(Some(Cow::Borrowed(out.as_str())).filter(|text| text.len() > "{}".len()));
    }
    match cells.text(row)? {
        Some(text) => Ok(object_text(&text)?.then_some(text)),
        None => Ok(None),
    }
}

/// Whether a JSON text column holds an object; blank text and `null` are none. The depth is checked before the text
/// is parsed, so that the parser's own limit is never met.
fn object_text(text: &str) -> Result<bool, Broken> {
    let body = text.trim_matches([' ', '\t', '\n', '\r']);
    if body.is_empty() || body == "null" {
        return Ok(false);
    }
    if Properties::Text(Cow::Borrowed(body)).check() == Err(PropertiesFault::TooDeep) {
        return Err(Broken::new(Reason::TooDeep, "nesting of at most 64", "deeper nesting"));
    }
    // Only a full parse finds halves of surrogate pairs, which no text can hold.
    let parsed = if body.contains("\\u") {
        serde_json::from_str::<Value>(body).map(drop)
    } else {
        serde_json::from_str::<IgnoredAny>(body).map(drop)
    };
    parsed.map_err(|error| Broken::new(Reason::BadJson, "a JSON object", error.to_string()))?;
    match body.as_bytes()[0] {
        b'{' => Ok(true),
        b'[' => Err(Broken::new(Reason::WrongType, "a JSON object", "an array")),
        b'"' => Err(Broken::new(Reason::WrongType, "a JSON object", "a string")),
        b't' | b'f' => Err(Broken::new(Reason::WrongType, "a JSON object", "a boolean")),
        _ => Err(Broken::new(Reason::WrongType, "a JSON object", "a number")),
    }
}

/// Depth was checked where the text was written or parsed; what is left is the size.
fn within_limit(given: &Properties<'_>) -> Result<(), Rejection> {
    let short = match given {
        Properties::Text(text) => text.len() <= MAX_PROPERTIES_BYTES,
        Properties::Overlaid(base, over) => base.len() + over.len() <= MAX_PROPERTIES_BYTES,
        Properties::Empty | Properties::Values(_) => true,
    };
    match if short { Ok(()) } else { given.check() } {
        Err(PropertiesFault::TooLarge(size)) => Err(Rejection::new(
            Reason::PropertiesTooLarge,
            "trigger_properties",
            format!("at most {MAX_PROPERTIES_BYTES} bytes of JSON text"),
            format!("{size} bytes"),
        )),
        _ => Ok(()),
    }
}

/// Strings as they are, anything else as compact JSON.
fn carried<'a>(cells: Option<&Cells<'a>>, row: usize, name: &str) -> Result<Option<Cow<'a, str>>, Rejection> {
    let Some(cells) = cells.filter(|cells| !cells.is_null(row)) else {
        return Ok(None);
    };
    if matches!(cells.kind, Kind::Text(_) | Kind::Bytes(_) | Kind::FixedBytes(_)) {
        return cells.text(row).map_err(|b| b.in_field(name));
    }
    let mut out = String::new();
    cells.write_json(row, 0, &mut out).map_err(|b| b.in_field(name))?;
    Ok(Some(Cow::Owned(out)))
}

/// The members of a JSON object that was just written or checked.
fn parse(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// A JSON array with its numbers as [`Properties`] normalises them.
fn normalised(array: String) -> String {
    if !array.bytes().any(|b| b == b'.') {
        return array;
    }
    let mut wrapped = String::from("{");
    write_string("id", &mut wrapped);
    wrapped.push(':');
    wrapped.push_str(&array);
    wrapped.push('}');
    Properties::Text(wrapped.into()).to_map().remove("id").map_or(array, |value| value.to_string())
}
