//! One batch of columns as triggers, row by row.
//!
//! Strings are borrowed from the batch, properties from a scratch text that is cleared for every row; nothing of one
//! row is left for the next. A row that cannot be a trigger is a [`Rejection`]; no recipient's value ever stands in it.

use std::borrow::Cow;

use arrow_array::RecordBatch;

use crate::error::Result;
use crate::input::InputOptions;
use crate::triggers::{MAX_PROPERTIES_BYTES, Properties, Reason, Recipient, RecipientKind};
use crate::triggers::{Rejection, Trigger, Values, Wanted, write_string};

use super::cells::{Cells, Kind, Member};
use super::objects::Objects;
use super::schema::{IdPart, Roles};

/// The columns of a batch by the part they play.
pub(super) struct Rows<'a> {
    options: &'a InputOptions,
    campaign_id: Option<Cells<'a>>,
    recipients: [Option<Cells<'a>>; 4],
    triggered_at: Option<Cells<'a>>,
    trigger_id: Option<Cells<'a>>,
    send_id: Option<Cells<'a>>,
    properties: Objects<'a>,
    attributes: Objects<'a>,
    carried: Vec<Option<Cells<'a>>>,
    derived_id: Vec<IdSource<'a>>,
}

enum IdSource<'a> {
    Column(Cells<'a>),
    Property(Wanted),
}

impl<'a> Rows<'a> {
    /// Downcasts the columns of a batch, which are those of `roles.columns()` in that order.
    pub(super) fn of(
        batch: &'a RecordBatch,
        columns: &[usize],
        roles: &'a Roles,
        options: &'a InputOptions,
    ) -> Result<Rows<'a>> {
        let position = |column: usize| columns.binary_search(&column).expect("roles name only columns that are read");
        let cells = |column: usize| Cells::of(batch.column(position(column)).as_ref());
        let maybe = |column: Option<usize>| column.map(cells).transpose();
        let member = |column: &usize| {
            let name = batch.schema_ref().field(position(*column)).name();
            cells(*column).map(|cells| Member::new(name, cells))
        };
        let [external, alias, braze, email] = roles.recipients;
        Ok(Rows {
            options,
            campaign_id: maybe(roles.campaign_id)?,
            recipients: [maybe(external)?, maybe(alias)?, maybe(braze)?, maybe(email)?],
            triggered_at: maybe(roles.triggered_at)?,
            trigger_id: maybe(roles.trigger_id)?,
            send_id: maybe(roles.send_id)?,
            properties: Objects::new(
                "trigger_properties",
                maybe(roles.properties)?,
                roles.overlay.iter().map(member).collect::<Result<_>>()?,
                MAX_PROPERTIES_BYTES,
            ),
            attributes: Objects::new("attributes", maybe(roles.attributes)?, Vec::new(), usize::MAX),
            carried: roles.carried.iter().map(|column| maybe(*column)).collect::<Result<_>>()?,
            derived_id: roles
                .derived_id
                .iter()
                .map(|part| match part {
                    IdPart::Column(column) => cells(*column).map(IdSource::Column),
                    IdPart::Property(name) => Ok(IdSource::Property(Wanted::new(vec![(name.clone(), 0)], None))),
                })
                .collect::<Result<_>>()?,
        })
    }

    /// The trigger of a row, or why there is none.
    pub(super) fn trigger<'s>(&'s self, row: usize, scratch: &mut String) -> Result<Trigger<'s>, Rejection> {
        let campaign_id = self.campaign_id(row)?;
        let recipient = self.recipient(row)?;
        let triggered_at = match &self.triggered_at {
            Some(cells) => cells.instant(row, &self.options.times).map_err(|b| b.in_field("triggered_at"))?,
            None => None,
        };
        let properties = self.properties.of(row, scratch)?;
        let trigger_id = match text(&self.trigger_id, row, "trigger_id")? {
            Some(id) if !id.is_empty() => Some(id),
            _ => self.derived_id(row, &properties)?.map(Cow::Owned),
        };
        Ok(Trigger {
            campaign_id,
            recipient,
            triggered_at,
            trigger_id,
            send_id: text(&self.send_id, row, "send_id")?,
            properties,
            attributes: self.attributes.of(row, scratch)?,
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
                IdSource::Property(wanted) => write_property(wanted, given, &mut id),
            }
            any |= &id[start..] != "null";
        }
        id.push(']');
        Ok(any.then(|| normalised(id)))
    }
}

/// Appends one property as JSON, `null` for none.
fn write_property(wanted: &Wanted, given: &Properties<'_>, out: &mut String) {
    let mut values = Values::default();
    values.begin(1);
    given.fill(wanted, &mut values);
    match values.slot(0) {
        Some(at) => values.write_json(at, out),
        None => out.push_str("null"),
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
