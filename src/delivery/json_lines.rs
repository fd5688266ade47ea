//! How rows become NDJSON: an object a line, keys in column order, null where a value is absent, so that every line has
//! the same keys. Times are RFC 3339 in UTC. Each piece is a compressed frame of its own; frames concatenate.

use std::io::{self, Write};

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Schema, TimeUnit};

use super::options::Compression;
use crate::triggers::{format_micros, write_string};

/// Encodes the lines of one channel, on any thread.
pub(super) struct LineEncoder {
    compression: Compression,
    /// What stands before the value of each column: `{"a":`, `,"b":`.
    keys: Vec<String>,
}

/// Whether a column has a form in JSON.
pub(super) fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_supported(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean | DataType::Timestamp(..) => true,
        other => other.is_integer(),
    }
}

/// The cells of a column, in one of three forms.
enum Cells {
    Text(StringArray),
    /// Integers and booleans, already as JSON.
    Plain(StringArray),
    Times(TimestampMicrosecondArray),
}

impl LineEncoder {
    /// An encoder of rows of this schema, whose types are all [`is_supported`].
    pub(super) fn new(schema: &Schema, compression: Compression) -> LineEncoder {
        let key = |(i, name): (usize, &str)| {
            let mut key = String::from(if i == 0 { "{" } else { "," });
            write_string(name, &mut key);
            key.push(':');
            key
        };
        let keys = schema.fields().iter().map(|field| field.name().as_str()).enumerate().map(key).collect();
        LineEncoder { compression, keys }
    }

    /// The lines of some rows, compressed.
    pub(super) fn encode(&self, rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let columns = rows.columns().iter().map(cells).collect::<Result<Vec<_>, _>>()?;
        let mut lines = String::new();
        for row in 0..rows.num_rows() {
            for (key, column) in self.keys.iter().zip(&columns) {
                lines.push_str(key);
                column.write(row, &mut lines);
            }
            lines.push_str("}\n");
        }
        Ok(compress(lines.into_bytes(), self.compression)?)
    }
}

impl Cells {
    fn write(&self, row: usize, out: &mut String) {
        match self {
            Cells::Text(column) if column.is_valid(row) => write_string(column.value(row), out),
            Cells::Plain(column) if column.is_valid(row) => out.push_str(column.value(row)),
            Cells::Times(column) if column.is_valid(row) => write_string(&format_micros(column.value(row)), out),
            _ => out.push_str("null"),
        }
    }
}

fn cells(column: &ArrayRef) -> Result<Cells, ArrowError> {
    match column.data_type() {
        DataType::Timestamp(_, zone) => {
            let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            Ok(Cells::Times(micros.as_primitive::<TimestampMicrosecondType>().clone()))
        }
        plain if plain.is_integer() || *plain == DataType::Boolean => {
            Ok(Cells::Plain(cast(column, &DataType::Utf8)?.as_string().clone()))
        }
        _ => Ok(Cells::Text(cast(column, &DataType::Utf8)?.as_string().clone())),
    }
}

fn compress(lines: Vec<u8>, compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None | Compression::Snappy => Ok(lines),
        Compression::Zstd => zstd::bulk::compress(&lines, 1),
        Compression::Gzip => {
            // No name and no time in the header: the same lines are the same bytes.
            let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            member.write_all(&lines)?;
            member.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int32Type;
    use arrow_array::{BooleanArray, DictionaryArray, Int64Array, LargeStringArray};

    use super::*;

    #[test]
    fn every_line_has_the_same_keys_and_odd_text_is_escaped() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(StringArray::from(vec!["a", "b"]))),
            ("te\"xt", Arc::new(LargeStringArray::from(vec![Some("สวัสดี \u{2028}\n\"\\\u{1}"), None]))),
            ("kind", Arc::new(DictionaryArray::<Int32Type>::from_iter([None, Some("email")]))),
            ("count", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
            ("yes", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_795_422_600_250_000), None]))),
        ];
        let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        assert!(rows.schema().fields().iter().all(|field| is_supported(field.data_type())));
        let encoder = LineEncoder::new(&rows.schema(), Compression::None);
        let lines = String::from_utf8(encoder.encode(&rows).unwrap()).unwrap();
        let expected = concat!(
            r#"{"id":"a","te\"xt":"สวัสดี "#,
            "\u{2028}",
            r#"\n\"\\\u0001","kind":null,"count":-9223372036854775808,"yes":true,"at":"2026-11-23T08:30:00.25Z"}"#,
            "\n",
            r#"{"id":"b","te\"xt":null,"kind":"email","count":null,"yes":null,"at":null}"#,
            "\n"
        );
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_json_cannot_hold_is_known_beforehand() {
        assert!(!is_supported(&DataType::Float64), "NaN and infinity have no JSON");
        assert!(!is_supported(&DataType::Binary));
        assert!(!is_supported(&DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Binary))));
    }
}
