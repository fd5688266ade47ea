//! Properties and attributes as they stand in columns: checked for a whole batch at a time where that is possible, and
//! read value by value when a template asks for them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use arrow_schema::TimeUnit;
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::triggers::{Columns, Properties, PropertiesFault, Reason, Rejection, Values, Wanted};
use crate::triggers::{MAX_DEPTH, MAX_PROPERTIES_BYTES};

use super::cells::{Broken, Cells, Ints, Kind, Member, to_micros, utf8};
use super::json::write_members;

/// The objects of a batch's rows: of a column, with other columns laid over its members.
pub(super) struct Objects<'a> {
    field: &'static str,
    base: Option<Cells<'a>>,
    overlay: Vec<Member<'a>>,
    limit: usize,
    /// No row's text is longer, in bytes.
    most_bytes: usize,
    /// No row can be unprintable or too large.
    sound: bool,
    bindings: RefCell<Vec<Binding>>,
}

/// Where wanted names stand, for one [`Wanted`]: positions in the overlay, then in the base.
struct Binding {
    number: u64,
    overlay: Vec<(usize, u32)>,
    base: Vec<(usize, u32)>,
}

impl<'a> Objects<'a> {
    /// Objects of a column (a structure, a map or JSON text) and further columns. `limit` is that of their JSON text, in
    /// bytes.
    pub(super) fn new(
        field: &'static str,
        base: Option<Cells<'a>>,
        overlay: Vec<Member<'a>>,
        limit: usize,
    ) -> Objects<'a> {
        let of_base = base.as_ref().map_or(Some(0), |cells| cells.most_json(0));
        let bytes = of_base.and_then(|bytes| {
            overlay.iter().try_fold(bytes + "{}".len(), |sum, member| sum.checked_add(member.most_json(1)?))
        });
        let sound = bytes.is_some_and(|bytes| bytes <= limit);
        let most_bytes = bytes.unwrap_or(limit).min(limit);
        Objects { field, base, overlay, limit, most_bytes, sound, bindings: RefCell::default() }
    }

    /// The object of a row, or why the row is broken.
    pub(super) fn of(&self, row: usize, scratch: &mut String) -> Result<Properties<'_>, Rejection> {
        if self.base.is_none() && self.overlay.is_empty() {
            return Ok(Properties::Empty);
        }
        if let (true, Some(text)) = (self.overlay.is_empty(), self.base_text()) {
            return self.json_text(text, row);
        }
        if !self.sound {
            self.check(row, scratch)?;
        }
        Ok(if self.is_given(row) { Properties::Columns(self, row) } else { Properties::Empty })
    }

    /// Whether the row has a member at all.
    fn is_given(&self, row: usize) -> bool {
        let in_base = self.base.as_ref().filter(|cells| !cells.is_null(row)).is_some_and(|cells| match &cells.kind {
            Kind::Struct(members) => has_one(members, row),
            Kind::Map { offsets, values, .. } => range(offsets, row).any(|at| !values.is_null(at)),
            _ => !matches!(self.base_properties(row), Properties::Empty),
        });
        in_base || has_one(&self.overlay, row)
    }

    /// The column of JSON text, if it is one.
    fn base_text(&self) -> Option<&Cells<'a>> {
        self.base.as_ref().filter(|cells| !matches!(cells.kind, Kind::Struct(_) | Kind::Map { .. }))
    }

    fn json_text<'s>(&'s self, cells: &'s Cells<'a>, row: usize) -> Result<Properties<'s>, Rejection> {
        let Some(text) = json_object(cells, row).map_err(|b| b.in_field(self.field))? else {
            return Ok(Properties::Empty);
        };
        self.within(text.len(), || Properties::Text(Cow::Borrowed(&text)).text().len())?;
        Ok(Properties::Text(text))
    }

    /// Checks one row by writing it.
    fn check(&self, row: usize, scratch: &mut String) -> Result<(), Rejection> {
        scratch.clear();
        match (&self.base, self.base_text()) {
            (_, Some(text)) => {
                let text = json_object(text, row).map_err(|b| b.in_field(self.field))?;
                scratch.push_str(&text.unwrap_or_default());
            }
            (Some(cells), None) => cells.write_json(row, 0, scratch).map_err(|b| b.in_field(self.field))?,
            (None, None) => {}
        }
        if !self.overlay.is_empty() {
            write_members(&self.overlay, row, 0, scratch).map_err(|b| b.in_field(""))?;
        }
        self.within(scratch.len(), || Properties::Columns(self, row).text().len())
    }

    /// `written` is at least the exact size, which is asked for only where that is not enough.
    fn within(&self, written: usize, exact: impl Fn() -> usize) -> Result<(), Rejection> {
        let size = if written <= self.limit { written } else { exact() };
        if size <= self.limit {
            return Ok(());
        }
        Err(Rejection::new(
            Reason::PropertiesTooLarge,
            self.field,
            format!("at most {MAX_PROPERTIES_BYTES} bytes of JSON text"),
            format!("{size} bytes"),
        ))
    }

    fn base_members(&self) -> &[Member<'a>] {
        match &self.base {
            Some(Cells { kind: Kind::Struct(members), .. }) => members,
            _ => &[],
        }
    }

    fn bind(&self, wanted: &Wanted) -> Binding {
        let positions = |members: &[Member<'_>]| {
            let find = |(name, slot): &(String, u32)| {
                members.iter().rposition(|member| member.name == name).map(|position| (position, *slot))
            };
            wanted.names.iter().filter_map(find).collect()
        };
        Binding { number: wanted.number, overlay: positions(&self.overlay), base: positions(self.base_members()) }
    }

    fn fill_names(&self, row: usize, wanted: &Wanted, values: &mut Values) {
        match &self.base {
            // Names of a map or a text differ from row to row.
            Some(cells) if !matches!(cells.kind, Kind::Struct(_)) => self.base_properties(row).fill(wanted, values),
            _ => {}
        }
        let mut bindings = self.bindings.borrow_mut();
        let known = bindings.iter().position(|binding| binding.number == wanted.number);
        let at = known.unwrap_or_else(|| {
            bindings.push(self.bind(wanted));
            bindings.len() - 1
        });
        let binding = &bindings[at];
        if self.base.as_ref().is_some_and(|base| !base.is_null(row)) {
            put(self.base_members(), &binding.base, row, values);
        }
        put(&self.overlay, &binding.overlay, row, values);
    }

    /// The object of the base column alone, where its names are not those of columns.
    fn base_properties(&self, row: usize) -> Properties<'_> {
        match (&self.base, self.base_text()) {
            (_, Some(text)) => json_object(text, row).ok().flatten().map_or(Properties::Empty, Properties::Text),
            (Some(cells), None) => Properties::Columns(cells, row),
            (None, None) => Properties::Empty,
        }
    }

    fn fill_whole(&self, row: usize, slot: u32, values: &mut Values) {
        let text = self.base_text().map(|_| self.base_properties(row).to_map());
        values.put(slot);
        let opened = values.open_object();
        match (text, &self.base) {
            (Some(map), _) => put_map(&map, values),
            (None, Some(cells)) if !cells.is_null(row) => cells.put_members(row, values),
            _ => {}
        }
        put_all(&self.overlay, row, values);
        values.close_object(opened);
    }
}

impl Columns for Objects<'_> {
    fn fill(&self, row: usize, wanted: &Wanted, values: &mut Values) {
        if !wanted.names.is_empty() {
            self.fill_names(row, wanted, values);
        }
        if let Some(slot) = wanted.whole {
            self.fill_whole(row, slot, values);
        }
    }

    fn most_bytes(&self) -> usize {
        self.most_bytes
    }
}

/// A map column: its names are looked for in every row.
impl Columns for Cells<'_> {
    fn fill(&self, row: usize, wanted: &Wanted, values: &mut Values) {
        let Kind::Map { offsets, keys, values: cells } = &self.kind else { return };
        if self.is_null(row) {
            return;
        }
        for at in range(offsets, row).filter(|at| !cells.is_null(*at)) {
            let name = keys.text(at).ok().flatten().unwrap_or_default();
            if let Some((_, slot)) = wanted.names.iter().find(|(wanted, _)| *wanted == name) {
                values.put(*slot);
                cells.put(at, values);
            }
        }
    }

    fn most_bytes(&self) -> usize {
        self.most_json(0).unwrap_or(usize::MAX)
    }
}

fn has_one(members: &[Member<'_>], row: usize) -> bool {
    members.iter().any(|member| !member.cells.is_null(row))
}

fn put(members: &[Member<'_>], bound: &[(usize, u32)], row: usize, values: &mut Values) {
    for (position, slot) in bound {
        let cells = &members[*position].cells;
        if !cells.is_null(row) {
            values.put(*slot);
            cells.put(row, values);
        }
    }
}

fn put_all(members: &[Member<'_>], row: usize, values: &mut Values) {
    for member in members.iter().filter(|member| !member.cells.is_null(row)) {
        values.text(member.name);
        member.cells.put(row, values);
    }
}

fn put_map(map: &Map<String, Value>, values: &mut Values) {
    for (name, value) in map {
        values.text(name);
        values.value(value);
    }
}

fn range(offsets: &[i32], row: usize) -> Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

impl Cells<'_> {
    /// Writes the value of a row that was checked; what could not be printed would be `null`.
    fn put(&self, row: usize, values: &mut Values) {
        if self.is_null(row) {
            return values.null();
        }
        match &self.kind {
            Kind::Null => values.null(),
            Kind::Bool(cells) => values.bool(cells.value(row)),
            Kind::Int(cells) => put_int(cells, row, values),
            Kind::F16(cells) => put_f32(cells.value(row).to_f32(), values),
            Kind::F32(cells) => put_f32(cells[row], values),
            Kind::F64(cells) => put_f64(cells[row], values),
            Kind::Decimal(cells) => values.number(&cells.text(row)),
            Kind::Text(cells) => values.text(cells.value(row)),
            Kind::Bytes(cells) => values.text_or_null(utf8(cells.value(row)).ok()),
            Kind::FixedBytes(cells) => values.text_or_null(utf8(cells.value(row)).ok()),
            Kind::List { offsets, items } => {
                let opened = values.open_list();
                let rows = range(offsets, row);
                rows.clone().for_each(|row| items.put(row, values));
                values.close_list(opened, rows.len());
            }
            Kind::Map { .. } | Kind::Struct(_) => {
                let opened = values.open_object();
                self.put_members(row, values);
                values.close_object(opened);
            }
            Kind::Stamp { .. } | Kind::Days(_) | Kind::DayMillis(_) | Kind::Clock32 { .. } | Kind::Clock64 { .. } => {
                // A row whose time cannot be written was rejected.
                values.text_by(|out| drop(self.write_time(row, out)));
            }
        }
    }

    fn put_members(&self, row: usize, values: &mut Values) {
        match &self.kind {
            Kind::Struct(members) => put_all(members, row, values),
            Kind::Map { offsets, keys, values: cells } => {
                for at in range(offsets, row).filter(|at| !cells.is_null(*at)) {
                    values.text(&keys.text(at).ok().flatten().unwrap_or_default());
                    cells.put(at, values);
                }
            }
            _ => {}
        }
    }
}

fn put_int(cells: &Ints<'_>, row: usize, values: &mut Values) {
    let value = match cells {
        Ints::I64(cells) => return values.int(cells[row]),
        Ints::I32(cells) => return values.int(cells[row].into()),
        other => other.get(row),
    };
    match i64::try_from(value) {
        Ok(value) => values.int(value),
        Err(_) => values.number(&value.to_string()),
    }
}

/// The shortest digits that read back as this `f32`, as an `f64` has them too: a message must not show which of them a
/// file used.
fn put_f32(value: f32, values: &mut Values) {
    match ryu::Buffer::new().format(value).parse::<f64>() {
        Ok(wide) => put_f64(wide, values),
        Err(_) => values.null(),
    }
}

fn put_f64(value: f64, values: &mut Values) {
    if value.is_finite() { values.float(value) } else { values.null() }
}

// --- Checks of a whole batch

/// Most bytes that one character of a string can become: `\u0001`.
const ESCAPED: usize = 6;

impl Member<'_> {
    fn most_json(&self, depth: usize) -> Option<usize> {
        self.cells.most_json(depth)?.checked_add(self.key.len() + 1)
    }
}

impl Cells<'_> {
    /// No value of this column has a longer JSON text, in bytes. `None` where one may have no text at all.
    fn most_json(&self, depth: usize) -> Option<usize> {
        if depth > MAX_DEPTH {
            return None;
        }
        match &self.kind {
            Kind::Null | Kind::Bool(_) => Some("false".len()),
            Kind::Int(_) => Some(20),
            Kind::F32(values) => values.iter().all(|v| v.is_finite()).then_some(24),
            Kind::F64(values) => values.iter().all(|v| v.is_finite()).then_some(24),
            Kind::F16(values) => values.values().iter().all(|v| v.is_finite()).then_some(24),
            Kind::Decimal(_) => Some(80),
            Kind::Text(values) => {
                let longest = values.views().iter().map(|view| *view as u32).max().unwrap_or(0);
                Some((longest as usize).saturating_mul(ESCAPED) + 2)
            }
            Kind::Stamp { values, unit, .. } => are_times(values, *unit).then_some(40),
            Kind::List { offsets, items } => containers(offsets, items.most_json(depth + 1)?.saturating_add(1)),
            Kind::Map { offsets, keys, values } => {
                let entry = keys.most_json(depth + 1)?.saturating_add(values.most_json(depth + 1)?);
                containers(offsets, entry.saturating_add(2))
            }
            Kind::Struct(members) => {
                members.iter().try_fold("{}".len(), |sum, member| sum.checked_add(member.most_json(depth + 1)?))
            }
            // Rare, and one row in a million may be wrong: each is looked at.
            Kind::Bytes(_)
            | Kind::FixedBytes(_)
            | Kind::Days(_)
            | Kind::DayMillis(_)
            | Kind::Clock32 { .. }
            | Kind::Clock64 { .. } => None,
        }
    }
}

fn are_times(values: &[i64], unit: TimeUnit) -> bool {
    let is_time = |value: Option<&i64>| {
        value.is_none_or(|v| to_micros(*v, unit).is_some_and(|micros| Timestamp::from_microsecond(micros).is_ok()))
    };
    is_time(values.iter().min()) && is_time(values.iter().max())
}

fn containers(offsets: &[i32], of_an_item: usize) -> Option<usize> {
    let most = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).max().unwrap_or(0);
    Some(most.saturating_mul(of_an_item).saturating_add(2))
}

// --- JSON text

/// The value of a column of JSON text: an object, or none where it is blank or `null`.
fn json_object<'s>(cells: &'s Cells<'_>, row: usize) -> Result<Option<Cow<'s, str>>, Broken> {
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
