//! Which column plays which part, and whether its type can: everything about a file that is known without its rows.
//!
//! A file is checked as a whole and every fault is reported. Columns of other uses are ignored and never decoded.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use parquet::basic::Type as PhysicalType;
use parquet::schema::types::SchemaDescriptor;

use crate::error::{Fault, nearest};
use crate::input::{InputOptions, Mapping, PropertiesFrom};
use crate::triggers::{MAX_DEPTH, RecipientKind};

/// The schema to ask the `parquet` crate for: one Arrow type for each kind of value, whatever the writer stored.
/// Strings and binaries become views, dictionaries their values, every list a list with 32-bit offsets, and `INT96`
/// times microseconds (nanoseconds would overflow outside the years 1677 to 2262). Without a Parquet schema there is no
/// `INT96`.
pub(super) fn normal(schema: &Schema, parquet: Option<&SchemaDescriptor>) -> Schema {
    let mut leaf = 0;
    let fields: Fields = schema.fields().iter().map(|field| normal_field(field, &mut leaf, parquet)).collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

fn normal_field(field: &FieldRef, leaf: &mut usize, parquet: Option<&SchemaDescriptor>) -> FieldRef {
    let data_type = normal_type(field.data_type(), leaf, parquet);
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone()))
}

/// `leaf` counts the Parquet columns passed so far: Arrow's leaves stand in the same order.
fn normal_type(data_type: &DataType, leaf: &mut usize, parquet: Option<&SchemaDescriptor>) -> DataType {
    match data_type {
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| normal_field(field, leaf, parquet)).collect())
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => DataType::List(normal_field(item, leaf, parquet)),
        DataType::Map(entries, sorted) => DataType::Map(normal_field(entries, leaf, parquet), *sorted),
        DataType::Dictionary(_, value) => normal_type(value, leaf, parquet),
        primitive => {
            let stored = parquet.filter(|parquet| *leaf < parquet.num_columns());
            let is_int96 = stored.is_some_and(|parquet| parquet.column(*leaf).physical_type() == PhysicalType::INT96);
            *leaf += 1;
            match primitive {
                DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
                DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
                DataType::Timestamp(_, zone) if is_int96 => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
                other => other.clone(),
            }
        }
    }
}

/// The parts that columns play, as positions in the file's schema. `None`: the file has no such column.
#[derive(Debug, Clone, Default)]
pub(super) struct Roles {
    pub(super) campaign_id: Option<usize>,
    /// In the order of [`RecipientKind::ALL`].
    pub(super) recipients: [Option<usize>; 4],
    pub(super) triggered_at: Option<usize>,
    pub(super) trigger_id: Option<usize>,
    pub(super) send_id: Option<usize>,
    pub(super) properties: Option<usize>,
    /// Top-level columns laid over the properties.
    pub(super) overlay: Vec<usize>,
    pub(super) attributes: Option<usize>,
    pub(super) carried: Vec<Option<usize>>,
    pub(super) derived_id: Vec<IdPart>,
}

/// Where a part of a derived trigger id comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IdPart {
    /// A top-level column.
    Column(usize),
    /// A property, where the row has one of this name.
    Property(String),
}

impl Roles {
    /// The columns to decode, in file order.
    pub(super) fn columns(&self) -> Vec<usize> {
        let single =
            [self.campaign_id, self.triggered_at, self.trigger_id, self.send_id, self.properties, self.attributes];
        let id_parts = self.derived_id.iter().filter_map(|part| match part {
            IdPart::Column(column) => Some(*column),
            IdPart::Property(_) => None,
        });
        let optional = single.iter().chain(&self.recipients).chain(&self.carried).flatten().copied();
        let mut columns: Vec<usize> = optional.chain(self.overlay.iter().copied()).chain(id_parts).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// What a pass over the keys needs: without the columns that can neither matter to it nor break a row. A row must
    /// be rejected by every pass or by none.
    pub(super) fn keys_only(&self, schema: &Schema) -> Roles {
        let needed = |column: &usize| can_break(schema.field(*column).data_type(), 0);
        let is_text = |column: &usize| is_text(schema.field(*column).data_type());
        let mut keys = self.clone();
        keys.send_id = self.send_id.filter(needed);
        keys.attributes = self.attributes.filter(|column| is_text(column) || needed(column));
        keys.carried = self.carried.iter().map(|column| column.filter(needed)).collect();
        keys
    }
}

/// What a field accepts.
#[derive(Clone, Copy)]
enum Accepts {
    Text,
    TextOrInteger,
    Alias,
    Time,
    Object,
}

impl Accepts {
    fn words(self) -> &'static str {
        match self {
            Accepts::Text => "a string",
            Accepts::TextOrInteger => "a string or an integer",
            Accepts::Alias => "a struct of the strings `alias_name` and `alias_label`",
            Accepts::Time => "a timestamp, a date, an epoch integer or a string",
            Accepts::Object => "a struct, a map or a JSON string",
        }
    }

    fn takes(self, data_type: &DataType) -> bool {
        let text = is_text(data_type);
        match self {
            Accepts::Text => text,
            Accepts::TextOrInteger => text || data_type.is_integer(),
            Accepts::Alias => match data_type {
                DataType::Struct(fields) => ["alias_name", "alias_label"]
                    .iter()
                    .all(|name| fields.find(name).is_some_and(|(_, field)| is_text(field.data_type()))),
                other => *other == DataType::Null,
            },
            Accepts::Time => {
                let time = matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
                text || time || data_type.is_integer()
            }
            Accepts::Object => text || matches!(data_type, DataType::Struct(_) | DataType::Map(..)),
        }
    }
}

/// Strings, binaries (old writers leave out the string annotation) and columns without any value.
fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8View | DataType::BinaryView | DataType::FixedSizeBinary(_) | DataType::Null)
}

/// Checks a file's (normal) schema against what the run asks for.
pub(super) fn bind(schema: &Schema, file: &str, options: &InputOptions) -> Result<Roles, Vec<Fault>> {
    let mut binder = Binder { schema, file, options, faults: Vec::new() };
    let roles = binder.roles();
    if binder.faults.is_empty() { Ok(roles) } else { Err(binder.faults) }
}

struct Binder<'a> {
    schema: &'a Schema,
    file: &'a str,
    options: &'a InputOptions,
    faults: Vec<Fault>,
}

impl Binder<'_> {
    fn roles(&mut self) -> Roles {
        let roles = Roles {
            campaign_id: self.field("campaign_id", Accepts::Text),
            recipients: RecipientKind::ALL.map(|kind| self.field(kind.code(), accepted(kind))),
            triggered_at: self.field("triggered_at", Accepts::Time),
            trigger_id: self.field("trigger_id", Accepts::TextOrInteger),
            send_id: self.field("send_id", Accepts::Text),
            properties: self.field("trigger_properties", Accepts::Object),
            overlay: self.overlay(),
            attributes: self.field("attributes", Accepts::Object),
            carried: self.options.carry.iter().map(|name| self.value(name)).collect(),
            derived_id: self.options.trigger_id_from.iter().map(|name| self.id_part(name)).collect(),
        };
        self.require(&roles);
        roles
    }

    fn find(&self, column: &str) -> Option<usize> {
        self.schema.fields().find(column).map(|(index, _)| index)
    }

    /// The column of a field, if the file has it; a wrong type is a fault.
    fn field(&mut self, field: &str, accepts: Accepts) -> Option<usize> {
        let column = self.options.mapping.column(field);
        let index = self.find(column)?;
        let data_type = self.schema.field(index).data_type();
        if !accepts.takes(data_type) {
            let found = type_name(data_type);
            let mut fault =
                Fault::new(self.file, format!("column `{column}` is {found}; expected {}", accepts.words()));
            if column == field {
                fault =
                    fault.hint(format!("if `{field}` stands in another column, say so with `--map {field}=COLUMN`"));
            }
            self.faults.push(fault);
        } else {
            self.refuse_unprintable(column, data_type);
        }
        Some(index)
    }

    /// The column of a name that may be a field's; absent ones are no fault, files may differ in optional columns.
    fn value(&mut self, name: &str) -> Option<usize> {
        let index = self.find(self.column_of(name))?;
        let field = self.schema.field(index);
        self.refuse_unprintable(field.name(), field.data_type());
        Some(index)
    }

    fn column_of<'n>(&'n self, name: &'n str) -> &'n str {
        if Mapping::FIELDS.contains(&name) { self.options.mapping.column(name) } else { name }
    }

    fn id_part(&mut self, name: &str) -> IdPart {
        match name.strip_prefix("trigger_properties.") {
            Some(property) => IdPart::Property(property.to_owned()),
            None => self.value(name).map_or_else(|| IdPart::Property(name.to_owned()), IdPart::Column),
        }
    }

    fn overlay(&mut self) -> Vec<usize> {
        match &self.options.mapping.properties {
            PropertiesFrom::Field => Vec::new(),
            PropertiesFrom::Columns(names) => names.iter().filter_map(|name| self.listed(name)).collect(),
            PropertiesFrom::All => {
                let taken = Mapping::FIELDS.map(|field| self.options.mapping.column(field));
                let free = (0..self.schema.fields().len())
                    .filter(|index| !taken.contains(&self.schema.field(*index).name().as_str()));
                let free: Vec<usize> = free.collect();
                for index in &free {
                    let field = self.schema.field(*index);
                    self.refuse_unprintable(field.name(), field.data_type());
                }
                free
            }
        }
    }

    /// A column named by `--properties`: it must be there.
    fn listed(&mut self, name: &str) -> Option<usize> {
        let found = self.find(name);
        match found {
            Some(index) => self.refuse_unprintable(name, self.schema.field(index).data_type()),
            None => {
                let fault = Fault::new(self.file, format!("no column `{name}`, which `--properties` names"));
                let hint = match self.near(name) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => self.columns_hint(),
                };
                self.faults.push(fault.hint(hint));
            }
        }
        found
    }

    /// Types that have no JSON form.
    fn refuse_unprintable(&mut self, path: &str, data_type: &DataType) {
        let mut found = Vec::new();
        unprintable(path, data_type, &mut found);
        for (path, type_name) in found {
            self.faults.push(
                Fault::new(self.file, format!("column `{path}` is {type_name}, which has no JSON form"))
                    .hint("write it as a string or a number, or leave the column out"),
            );
        }
    }

    fn require(&mut self, roles: &Roles) {
        let mapping = &self.options.mapping;
        if roles.campaign_id.is_none() && mapping.campaign_id.is_none() {
            let column = mapping.column("campaign_id");
            let other = "name the campaign of all rows with `--campaign-id ID`";
            let hint = match self.near(column) {
                Some(near) => format!("did you mean `{near}`? Say so with `--map campaign_id={near}`, or {other}"),
                None => format!("{}; use `--map campaign_id=COLUMN`, or {other}", self.columns_hint()),
            };
            self.faults.push(Fault::new(self.file, format!("no column `{column}`; expected a string")).hint(hint));
        }
        if roles.recipients.iter().all(Option::is_none) {
            self.faults.push(self.no_recipient());
        }
    }

    fn no_recipient(&self) -> Fault {
        let kinds = RecipientKind::ALL.map(RecipientKind::code);
        let columns = kinds.map(|kind| format!("`{}`", self.options.mapping.column(kind)));
        let near = kinds.iter().find_map(|kind| Some((kind, self.near(self.options.mapping.column(kind))?)));
        let hint = match near {
            Some((kind, near)) => format!("did you mean `{near}`? Say so with `--map {kind}={near}`"),
            None => format!("{}; use `--map external_user_id=COLUMN`", self.columns_hint()),
        };
        Fault::new(self.file, format!("no column says who: expected one of {}", columns.join(", "))).hint(hint)
    }

    fn near(&self, name: &str) -> Option<&str> {
        nearest(name, self.schema.fields().iter().map(|field| field.name().as_str()))
    }

    fn columns_hint(&self) -> String {
        const SHOWN: usize = 12;
        let fields = self.schema.fields();
        let names: Vec<String> = fields.iter().take(SHOWN).map(|field| format!("`{}`", field.name())).collect();
        let rest = if fields.len() > SHOWN { format!(" and {} more", fields.len() - SHOWN) } else { String::new() };
        format!("the file has {}{rest}", names.join(", "))
    }
}

/// Integers are accepted for external ids only: the other kinds are text by nature.
fn accepted(kind: RecipientKind) -> Accepts {
    match kind {
        RecipientKind::ExternalUserId => Accepts::TextOrInteger,
        RecipientKind::UserAlias => Accepts::Alias,
        RecipientKind::BrazeId | RecipientKind::Email => Accepts::Text,
    }
}

/// Collects the parts of a type that have no JSON form, with their paths.
fn unprintable(path: &str, data_type: &DataType, found: &mut Vec<(String, String)>) {
    match data_type {
        DataType::Struct(fields) => {
            for field in fields {
                unprintable(&format!("{path}.{}", field.name()), field.data_type(), found);
            }
        }
        DataType::List(item) => unprintable(&format!("{path}[]"), item.data_type(), found),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let key = fields[0].data_type();
                if !is_text(key) && !key.is_integer() {
                    found.push((format!("{path}.key"), type_name(key)));
                }
                unprintable(&format!("{path}.value"), fields[1].data_type(), found);
            }
            other => found.push((path.to_owned(), format!("a map of {}", type_name(other)))),
        },
        DataType::Null
        | DataType::Boolean
        | DataType::Utf8View
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_)
        | DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_) => {}
        number if number.is_numeric() => {}
        other => found.push((path.to_owned(), type_name(other))),
    }
}

/// Whether a value of this type, `depth` containers down, can be unprintable: not UTF-8, not finite, out of range,
/// too deep.
fn can_break(data_type: &DataType, depth: usize) -> bool {
    match data_type {
        DataType::Struct(fields) => {
            depth >= MAX_DEPTH || fields.iter().any(|field| can_break(field.data_type(), depth + 1))
        }
        DataType::List(item) => depth >= MAX_DEPTH || can_break(item.data_type(), depth + 1),
        // The entries are a struct themselves, but no level of their own.
        DataType::Map(entries, _) => can_break(entries.data_type(), depth),
        DataType::Null | DataType::Boolean | DataType::Utf8View => false,
        other => !(other.is_integer() || other.is_decimal()),
    }
}

/// A type in the words of Parquet users.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8View => "string".to_owned(),
        DataType::BinaryView => "binary".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Struct(fields) => {
            let members: Vec<_> =
                fields.iter().map(|field| format!("{}: {}", field.name(), type_name(field.data_type()))).collect();
            format!("struct<{}>", members.join(", "))
        }
        DataType::List(item) => format!("list<{}>", type_name(item.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let parts: Vec<_> = fields.iter().map(|field| type_name(field.data_type())).collect();
                format!("map<{}>", parts.join(", "))
            }
            other => format!("map<{}>", type_name(other)),
        },
        other => other.to_string().to_lowercase(),
    }
}
