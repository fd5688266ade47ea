//! The values of one column of one batch, downcast once so that rows are read without asking for types again.
//!
//! Invariant: [`Cells::of`] knows exactly the types that [`super::schema`] lets through, in the normal form that
//! it asks the `parquet` crate for (strings as views, lists with 32-bit offsets, no dictionaries).

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, BinaryViewArray, BooleanArray, Decimal32Array, Decimal64Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float16Array, StringViewArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::triggers::{Micros, Reason, Rejection, TimeReader};

use crate::triggers::write_string;

/// One column of one batch.
pub(super) struct Cells<'a> {
    nulls: Option<&'a NullBuffer>,
    pub(super) kind: Kind<'a>,
}

/// What a column holds.
pub(super) enum Kind<'a> {
    Null,
    Bool(&'a BooleanArray),
    Int(Ints<'a>),
    F16(&'a Float16Array),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Decimal(Decimals<'a>),
    Text(&'a StringViewArray),
    Bytes(&'a BinaryViewArray),
    FixedBytes(&'a FixedSizeBinaryArray),
    Stamp { values: &'a [i64], unit: TimeUnit, zoned: bool },
    Days(&'a [i32]),
    DayMillis(&'a [i64]),
    Clock32 { values: &'a [i32], unit: TimeUnit },
    Clock64 { values: &'a [i64], unit: TimeUnit },
    List { offsets: &'a [i32], items: Box<Cells<'a>> },
    Map { offsets: &'a [i32], keys: Box<Cells<'a>>, values: Box<Cells<'a>> },
    Struct(Vec<Member<'a>>),
}

/// A member of a structure, or a column that stands for one.
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    /// The name as JSON with its colon, made once per batch.
    pub(super) key: String,
    pub(super) cells: Cells<'a>,
}

impl<'a> Member<'a> {
    pub(super) fn new(name: &'a str, cells: Cells<'a>) -> Member<'a> {
        let mut key = String::with_capacity(name.len() + 3);
        write_string(name, &mut key);
        key.push(':');
        Member { name, key, cells }
    }
}

/// Integers of any width.
pub(super) enum Ints<'a> {
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
}

impl Ints<'_> {
    /// The value; every width fits.
    pub(super) fn get(&self, row: usize) -> i128 {
        match self {
            Ints::I8(v) => v[row].into(),
            Ints::I16(v) => v[row].into(),
            Ints::I32(v) => v[row].into(),
            Ints::I64(v) => v[row].into(),
            Ints::U8(v) => v[row].into(),
            Ints::U16(v) => v[row].into(),
            Ints::U32(v) => v[row].into(),
            Ints::U64(v) => v[row].into(),
        }
    }
}

/// Decimals of any width.
pub(super) enum Decimals<'a> {
    D32(&'a Decimal32Array),
    D64(&'a Decimal64Array),
    D128(&'a Decimal128Array),
    D256(&'a Decimal256Array),
}

impl Decimals<'_> {
    /// The text with its scale.
    pub(super) fn text(&self, row: usize) -> String {
        match self {
            Decimals::D32(v) => v.value_as_string(row),
            Decimals::D64(v) => v.value_as_string(row),
            Decimals::D128(v) => v.value_as_string(row),
            Decimals::D256(v) => v.value_as_string(row),
        }
    }
}

/// Why a value cannot be used, with its path inside its column.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) reason: Reason,
    pub(super) path: String,
    pub(super) expected: &'static str,
    pub(super) found: String,
}

impl Broken {
    pub(super) fn new(reason: Reason, expected: &'static str, found: impl Into<String>) -> Broken {
        Broken { reason, path: String::new(), expected, found: found.into() }
    }

    /// The same, seen from the container around it; an index comes as `[3]`.
    #[must_use]
    pub(super) fn inside(mut self, step: &str) -> Broken {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }

    /// As the rejection of a row, seen from a field.
    pub(super) fn in_field(self, field: &str) -> Rejection {
        let broken = if field.is_empty() { self } else { self.inside(field) };
        Rejection::new(broken.reason, broken.path, broken.expected, broken.found)
    }
}

impl<'a> Cells<'a> {
    /// Downcasts a column. A type that the schema check should have refused is an internal error.
    pub(super) fn of(array: &'a dyn Array) -> Result<Cells<'a>> {
        let kind = match array.data_type() {
            DataType::Null => Kind::Null,
            DataType::Boolean => Kind::Bool(array.as_boolean()),
            DataType::Int8 => Kind::Int(Ints::I8(array.as_primitive::<Int8Type>().values())),
            DataType::Int16 => Kind::Int(Ints::I16(array.as_primitive::<Int16Type>().values())),
            DataType::Int32 => Kind::Int(Ints::I32(array.as_primitive::<Int32Type>().values())),
            DataType::Int64 => Kind::Int(Ints::I64(array.as_primitive::<Int64Type>().values())),
            DataType::UInt8 => Kind::Int(Ints::U8(array.as_primitive::<UInt8Type>().values())),
            DataType::UInt16 => Kind::Int(Ints::U16(array.as_primitive::<UInt16Type>().values())),
            DataType::UInt32 => Kind::Int(Ints::U32(array.as_primitive::<UInt32Type>().values())),
            DataType::UInt64 => Kind::Int(Ints::U64(array.as_primitive::<UInt64Type>().values())),
            DataType::Float16 => Kind::F16(array.as_primitive::<Float16Type>()),
            DataType::Float32 => Kind::F32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Kind::F64(array.as_primitive::<Float64Type>().values()),
            DataType::Decimal32(..) => Kind::Decimal(Decimals::D32(array.as_primitive::<Decimal32Type>())),
            DataType::Decimal64(..) => Kind::Decimal(Decimals::D64(array.as_primitive::<Decimal64Type>())),
            DataType::Decimal128(..) => Kind::Decimal(Decimals::D128(array.as_primitive::<Decimal128Type>())),
            DataType::Decimal256(..) => Kind::Decimal(Decimals::D256(array.as_primitive::<Decimal256Type>())),
            DataType::Utf8View => Kind::Text(array.as_string_view()),
            DataType::BinaryView => Kind::Bytes(array.as_binary_view()),
            DataType::FixedSizeBinary(_) => Kind::FixedBytes(array.as_fixed_size_binary()),
            DataType::Date32 => Kind::Days(array.as_primitive::<Date32Type>().values()),
            DataType::Date64 => Kind::DayMillis(array.as_primitive::<Date64Type>().values()),
            DataType::Timestamp(unit, zone) => stamps(array, *unit, zone.is_some()),
            DataType::Time32(unit) => Kind::Clock32 { values: clock32(array, *unit), unit: *unit },
            DataType::Time64(unit) => Kind::Clock64 { values: clock64(array, *unit), unit: *unit },
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let items = Box::new(Cells::of(list.values().as_ref())?);
                Kind::List { offsets: list.value_offsets(), items }
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let (keys, values) = (Cells::of(map.keys().as_ref())?, Cells::of(map.values().as_ref())?);
                Kind::Map { offsets: map.value_offsets(), keys: Box::new(keys), values: Box::new(values) }
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns();
                let members = fields.iter().zip(columns).map(|(field, column)| {
                    Cells::of(column.as_ref()).map(|cells| Member::new(field.name().as_str(), cells))
                });
                Kind::Struct(members.collect::<Result<_>>()?)
            }
            other => return Err(Error::new(ErrorKind::Internal, format!("a column of type {other} was let through"))),
        };
        Ok(Cells { nulls: array.nulls(), kind })
    }

    /// Whether the row holds no value.
    pub(super) fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// The value of a string, binary or integer column as text.
    pub(super) fn text(&self, row: usize) -> Result<Option<Cow<'a, str>>, Broken> {
        if self.is_null(row) {
            return Ok(None);
        }
        match &self.kind {
            Kind::Text(values) => Ok(Some(Cow::Borrowed(values.value(row)))),
            Kind::Bytes(values) => utf8(values.value(row)).map(|text| Some(Cow::Borrowed(text))),
            Kind::FixedBytes(values) => utf8(values.value(row)).map(|text| Some(Cow::Borrowed(text))),
            Kind::Int(values) => Ok(Some(Cow::Owned(values.get(row).to_string()))),
            _ => Err(Broken::new(Reason::WrongType, "a string", "another type")),
        }
    }

    /// The value of a time-like column as an instant. Zoneless times and dates stand in the reader's zone.
    pub(super) fn instant(&self, row: usize, times: &TimeReader) -> Result<Option<Micros>, Broken> {
        const RANGE: &str = "a time that fits into 64-bit microseconds";
        let bad = |expected, found: &str| Broken::new(Reason::BadTimestamp, expected, found);
        if self.is_null(row) {
            return Ok(None);
        }
        let zoneless = |micros: Option<i64>| micros.and_then(|m| times.zoneless_micros(m));
        match &self.kind {
            Kind::Stamp { values, unit, zoned } => {
                let micros = to_micros(values[row], *unit);
                (if *zoned { micros } else { zoneless(micros) }).map(Some).ok_or_else(|| bad(RANGE, "one out of range"))
            }
            Kind::Days(values) => zoneless(i64::from(values[row]).checked_mul(MICROS_PER_DAY))
                .map(Some)
                .ok_or_else(|| bad(RANGE, "a date out of range")),
            Kind::DayMillis(values) => {
                zoneless(values[row].checked_mul(1_000)).map(Some).ok_or_else(|| bad(RANGE, "a date out of range"))
            }
            Kind::Int(values) => {
                let value = i64::try_from(values.get(row)).map_err(|_| bad(RANGE, "an integer out of range"))?;
                times.epoch(value).map(Some).map_err(|e| bad(e.expected, "an integer"))
            }
            _ => {
                let text = self.text(row).map_err(|b| bad("an RFC 3339 time", &b.found))?.unwrap_or_default();
                times.text(&text).map(Some).map_err(|e| bad(e.expected, "a string"))
            }
        }
    }
}

/// Microseconds in a day.
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What is below a microsecond is cut off towards the past.
pub(super) fn to_micros(value: i64, unit: TimeUnit) -> Option<Micros> {
    match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond => Some(value.div_euclid(1_000)),
    }
}

/// Bytes as text.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Broken> {
    std::str::from_utf8(bytes)
        .map_err(|_| Broken::new(Reason::BadRow, "UTF-8 text", format!("{} bytes that are not UTF-8", bytes.len())))
}

fn stamps(array: &dyn Array, unit: TimeUnit, zoned: bool) -> Kind<'_> {
    let values: &[i64] = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    };
    Kind::Stamp { values, unit, zoned }
}

fn clock32(array: &dyn Array, unit: TimeUnit) -> &[i32] {
    match unit {
        TimeUnit::Second => array.as_primitive::<Time32SecondType>().values(),
        _ => array.as_primitive::<Time32MillisecondType>().values(),
    }
}

fn clock64(array: &dyn Array, unit: TimeUnit) -> &[i64] {
    match unit {
        TimeUnit::Nanosecond => array.as_primitive::<Time64NanosecondType>().values(),
        _ => array.as_primitive::<Time64MicrosecondType>().values(),
    }
}
