//! Small files written with the `parquet` crate, read back row by row; damaged and foreign files.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeListBuilder, Int32Builder, Int64Builder, LargeListBuilder, ListBuilder, MapBuilder, MapFieldNames,
    StringBuilder,
};
use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::*;
use arrow_buffer::{NullBuffer, i256};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;

use super::*;
use crate::input::PropertiesFrom;
use crate::triggers::{EpochUnit, Properties, Rejection};

type Column = (&'static str, ArrayRef);

fn options() -> InputOptions {
    InputOptions { split_rows: 1 << 20, ..InputOptions::default() }
}

/// A file in a folder of its own, and how it is to be read.
struct Given {
    folder: TempDir,
    options: InputOptions,
}

impl Given {
    fn path(&self) -> PathBuf {
        self.folder.path().join("night.parquet")
    }

    fn columns(columns: Vec<Column>) -> Given {
        Given::written(columns, WriterProperties::new(), false)
    }

    fn written(columns: Vec<Column>, properties: WriterProperties, bare: bool) -> Given {
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let batch =
            RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|c| c.1).collect()).unwrap();
        let given = Given::empty();
        let file = File::create(given.path()).unwrap();
        let mut writer = {
            let set = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(bare);
            ArrowWriter::try_new_with_options(file, batch.schema(), set).unwrap()
        };
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        given
    }

    fn bytes(bytes: &[u8]) -> Given {
        let given = Given::empty();
        fs::write(given.path(), bytes).unwrap();
        given
    }

    fn empty() -> Given {
        Given { folder: tempfile::tempdir().unwrap(), options: options() }
    }

    fn with(mut self, change: impl FnOnce(&mut InputOptions)) -> Given {
        change(&mut self.options);
        self
    }

    fn open(&self) -> ParquetFile {
        self.try_open().unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn try_open(&self) -> Result<ParquetFile, Vec<Fault>> {
        ParquetFile::open(&self.path(), "night.parquet", &self.options)
    }

    /// The report of a file that does not open.
    fn faults(&self) -> String {
        let faults = self.try_open().err().expect("the file is bad");
        faults.iter().map(|fault| fault.to_string()).collect::<Vec<_>>().join("\n")
    }

    fn rows(&self, need: Need) -> Vec<Result<Seen, Rejection>> {
        self.try_rows(need).unwrap()
    }

    fn try_rows(&self, need: Need) -> Result<Vec<Result<Seen, Rejection>>> {
        let file = self.open();
        let mut rows = Vec::new();
        for split in file.splits() {
            let mut line = 0;
            let read = file.read(&split, need, &self.options, &mut |row| {
                assert_eq!(row.line, line);
                line += 1;
                rows.push(row.parsed.map(Seen::of));
                Ok(())
            })?;
            assert_eq!((read.lines, line), (split.rows, split.rows));
        }
        Ok(rows)
    }

    /// All rows, which must all be triggers.
    fn seen(&self) -> Vec<Seen> {
        self.rows(Need::Everything).into_iter().map(Result::unwrap).collect()
    }

    fn properties(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.properties).collect()
    }

    fn rejections(&self) -> Vec<String> {
        let everything = self.rows(Need::Everything);
        let codes = |rows: &[Result<Seen, Rejection>]| -> Vec<_> {
            rows.iter().map(|row| row.as_ref().err().cloned()).collect()
        };
        assert_eq!(codes(&everything), codes(&self.rows(Need::Keys)), "every pass rejects the same rows");
        everything
            .into_iter()
            .map(|row| {
                row.map_or_else(
                    |r| format!("{} {}: {}, not {}", r.reason.code(), r.field, r.found, r.expected),
                    |_| "ok".to_owned(),
                )
            })
            .collect()
    }
}

/// A trigger, detached from its batch.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    campaign: String,
    recipient: String,
    at: Option<i64>,
    id: Option<String>,
    send_id: Option<String>,
    properties: String,
    attributes: String,
    carried: Vec<Option<String>>,
}

impl Seen {
    fn of(trigger: crate::triggers::Trigger<'_>) -> Seen {
        let own = |text: std::borrow::Cow<'_, str>| text.into_owned();
        let r = &trigger.recipient;
        let label = if r.label.is_empty() { String::new() } else { format!("{}:", r.label) };
        let text = |p: &Properties<'_>| if matches!(p, Properties::Empty) { String::new() } else { p.text() };
        Seen {
            campaign: trigger.campaign_id.to_string(),
            recipient: format!("{}={label}{}", r.kind.code(), r.id),
            at: trigger.triggered_at,
            properties: text(&trigger.properties),
            attributes: text(&trigger.attributes),
            id: trigger.trigger_id.map(own),
            send_id: trigger.send_id.map(own),
            carried: trigger.carried.into_iter().map(|c| c.map(own)).collect(),
        }
    }
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn maybe(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// A campaign and an external id for each of `rows` rows, and more columns.
fn base(rows: usize, more: Vec<Column>) -> Vec<Column> {
    let ids: Vec<String> = (0..rows).map(|row| format!("u{row}")).collect();
    let mut columns: Vec<Column> =
        vec![("campaign_id", strings(&vec!["welcome"; rows])), ("external_user_id", Arc::new(StringArray::from(ids)))];
    columns.extend(more);
    columns
}

fn structure(members: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let fields: Vec<Field> = members.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect();
    Arc::new(StructArray::new(fields.into(), members.into_iter().map(|m| m.1).collect(), None))
}

/// One property `v`.
fn property(array: ArrayRef) -> Given {
    Given::columns(base(array.len(), vec![("trigger_properties", structure(vec![("v", array)]))]))
}

fn times(array: ArrayRef) -> Given {
    Given::columns(base(array.len(), vec![("triggered_at", array)]))
}

const NOON: i64 = 1_795_435_200_000_000;

#[test]
fn every_kind_of_string_is_the_same_row() {
    let text = ["ada", "Inès", ""];
    let kinds: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(text.to_vec())),
        Arc::new(LargeStringArray::from(text.to_vec())),
        Arc::new(StringViewArray::from(text.to_vec())),
        Arc::new(text.into_iter().collect::<DictionaryArray<Int32Type>>()),
        Arc::new(text.into_iter().collect::<DictionaryArray<Int8Type>>()),
        Arc::new(BinaryArray::from(text.iter().map(|t| t.as_bytes()).collect::<Vec<_>>())),
        Arc::new(LargeBinaryArray::from(text.iter().map(|t| t.as_bytes()).collect::<Vec<_>>())),
        Arc::new(BinaryViewArray::from(text.iter().map(|t| t.as_bytes()).collect::<Vec<_>>())),
    ];
    for kind in kinds {
        let given = Given::columns(base(3, vec![("send_id", kind.clone()), ("shop", kind.clone())]))
            .with(|o| o.carry = vec!["shop".to_owned(), "absent".to_owned()]);
        let seen = given.seen();
        assert_eq!(seen.iter().map(|s| s.send_id.clone().unwrap()).collect::<Vec<_>>(), text, "{}", kind.data_type());
        assert_eq!(seen[1].carried, [Some("Inès".to_owned()), None]);
    }
}

#[test]
fn every_kind_of_time_is_one_instant() {
    let seconds = NOON / 1_000_000;
    let same: Vec<ArrayRef> = vec![
        Arc::new(TimestampSecondArray::from(vec![seconds])),
        Arc::new(TimestampMillisecondArray::from(vec![seconds * 1_000])),
        Arc::new(TimestampMicrosecondArray::from(vec![NOON])),
        Arc::new(TimestampNanosecondArray::from(vec![NOON * 1_000 + 999])),
        Arc::new(TimestampMillisecondArray::from(vec![seconds * 1_000]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![NOON]).with_timezone("+02:00")),
        Arc::new(TimestampNanosecondArray::from(vec![NOON * 1_000]).with_timezone("UTC")),
        Arc::new(Int64Array::from(vec![seconds])),
        Arc::new(UInt64Array::from(vec![NOON as u64])),
        Arc::new(UInt32Array::from(vec![seconds as u32])),
        Arc::new(StringArray::from(vec!["2026-11-23T12:00:00Z"])),
        Arc::new(StringArray::from(vec!["2026-11-23 14:00:00+02:00"])),
    ];
    for kind in same {
        let label = kind.data_type().to_string();
        assert_eq!(times(kind).seen()[0].at, Some(NOON), "{label}");
    }
    let midnight = NOON - 12 * 3_600_000_000;
    assert_eq!(times(Arc::new(Date32Array::from(vec![20_780]))).seen()[0].at, Some(midnight));
    assert_eq!(times(Arc::new(Date64Array::from(vec![20_780 * 86_400_000]))).seen()[0].at, Some(midnight));
    assert_eq!(times(Arc::new(Int64Array::from(vec![None]))).seen()[0].at, None);
    assert_eq!(times(new_null_array(&DataType::Null, 1)).seen()[0].at, None);
}

#[test]
fn zoneless_times_stand_in_the_given_zone_and_zoned_ones_do_not() {
    let paris = |o: &mut InputOptions| o.times.zone = jiff::tz::TimeZone::get("Europe/Paris").unwrap();
    let hour = 3_600_000_000;
    let zoneless = times(Arc::new(TimestampMicrosecondArray::from(vec![NOON]))).with(paris);
    assert_eq!(zoneless.seen()[0].at, Some(NOON - hour));
    let zoned = times(Arc::new(TimestampMicrosecondArray::from(vec![NOON]).with_timezone("UTC"))).with(paris);
    assert_eq!(zoned.seen()[0].at, Some(NOON));
    let date = times(Arc::new(Date32Array::from(vec![20_780]))).with(paris);
    assert_eq!(date.seen()[0].at, Some(NOON - 13 * hour));
    let epoch = times(Arc::new(Int32Array::from(vec![12]))).with(|o| o.times.epoch_unit = Some(EpochUnit::Seconds));
    assert_eq!(epoch.seen()[0].at, Some(12_000_000));
}

#[test]
fn times_that_cannot_be_read_reject_their_row_alone() {
    let text = times(strings(&["2026-11-23T12:00:00Z", "yesterday", ""]));
    assert_eq!(
        text.rejections(),
        [
            "ok",
            "bad_timestamp triggered_at: a string, not an RFC 3339 time such as `2026-11-23T08:30:00Z`",
            "bad_timestamp triggered_at: a string, not an RFC 3339 time such as `2026-11-23T08:30:00Z`",
        ]
    );
    let bad = |array: ArrayRef| times(array).rejections()[0].starts_with("bad_timestamp triggered_at");
    assert!(bad(Arc::new(Int64Array::from(vec![12]))));
    assert!(bad(Arc::new(UInt64Array::from(vec![u64::MAX]))));
    assert!(bad(Arc::new(TimestampSecondArray::from(vec![i64::MAX]))));
}

#[test]
fn int96_times_and_bare_binary_strings_of_old_writers_are_read() {
    let given = Given::empty();
    let schema =
        "message m { optional binary campaign_id; optional binary external_user_id; optional int96 triggered_at; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(given.path()).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts = [vec![ByteArray::from("welcome"); 2], vec![ByteArray::from("ada"), ByteArray::from(vec![0xff, 0xfe])]];
    for values in texts {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&[1, 1]), None).unwrap();
        column.close().unwrap();
    }
    // Julian day 2,440,588 is 1970-01-01; noon is 43,200 s into a day of 2026 and of the year 9999.
    let int96 = |day: i64| {
        let (day, nanos) = (day + 2_440_588, 43_200_000_000_000i64);
        let mut value = Int96::new();
        value.set_data(nanos as u32, (nanos >> 32) as u32, day as u32);
        value
    };
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&[int96(20_780), int96(2_932_896)], Some(&[1, 1]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    assert_eq!(given.rows(Need::Everything)[0].as_ref().unwrap().at, Some(NOON));
    assert_eq!(given.rejections()[1], "bad_row external_user_id: 2 bytes that are not UTF-8, not UTF-8 text");
    let late = Given { folder: given.folder, options: options() }
        .with(|o| drop(o.mapping.columns.insert("external_user_id".into(), "campaign_id".into())));
    assert_eq!(late.rows(Need::Keys)[1].as_ref().unwrap().at, Some((2_932_896 * 86_400 + 43_200) * 1_000_000));
}

#[test]
fn properties_print_one_text_for_each_value() {
    let cases: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(Int8Array::from(vec![-8])), "-8"),
        (Arc::new(UInt16Array::from(vec![u16::MAX])), "65535"),
        (Arc::new(Int64Array::from(vec![i64::MIN])), "-9223372036854775808"),
        (Arc::new(UInt64Array::from(vec![u64::MAX])), "18446744073709551615"),
        (Arc::new(Float32Array::from(vec![0.1])), "0.1"),
        (Arc::new(Float64Array::from(vec![20.0])), "20.0"),
        (Arc::new(Float64Array::from(vec![37.85])), "37.85"),
        (Arc::new(BooleanArray::from(vec![true])), "true"),
        (strings(&["say \"hi\"\n\u{1} é"]), r#""say \"hi\"\n\u0001 é""#),
        (Arc::new(BinaryArray::from(vec!["é".as_bytes()])), r#""é""#),
        (Arc::new(Decimal128Array::from(vec![2000]).with_precision_and_scale(9, 2).unwrap()), "20.00"),
        (Arc::new(Decimal128Array::from(vec![-5]).with_precision_and_scale(30, 2).unwrap()), "-0.05"),
        (Arc::new(Decimal32Array::from(vec![2000]).with_precision_and_scale(9, 2).unwrap()), "20.00"),
        (Arc::new(Decimal64Array::from(vec![7]).with_precision_and_scale(18, 3).unwrap()), "0.007"),
        (
            Arc::new(Decimal256Array::from(vec![i256::from_i128(1234)]).with_precision_and_scale(76, 1).unwrap()),
            "123.4",
        ),
        (Arc::new(Date32Array::from(vec![20_780])), r#""2026-11-23""#),
        (Arc::new(Date64Array::from(vec![20_780 * 86_400_000])), r#""2026-11-23""#),
        (Arc::new(TimestampMicrosecondArray::from(vec![NOON])), r#""2026-11-23T12:00:00Z""#),
        (
            Arc::new(TimestampMillisecondArray::from(vec![NOON / 1_000 + 250]).with_timezone("+02:00")),
            r#""2026-11-23T12:00:00.25Z""#,
        ),
        (Arc::new(TimestampNanosecondArray::from(vec![NOON * 1_000 + 1])), r#""2026-11-23T12:00:00.000000001Z""#),
        (Arc::new(Time32MillisecondArray::from(vec![30_600_250])), r#""08:30:00.25""#),
        (Arc::new(Time32SecondArray::from(vec![30_600])), r#""08:30:00""#),
        (Arc::new(Time64MicrosecondArray::from(vec![30_600_000_000])), r#""08:30:00""#),
        (Arc::new(Time64NanosecondArray::from(vec![1])), r#""00:00:00.000000001""#),
        (structure(vec![("b", strings(&["x"])), ("a", Arc::new(Int32Array::from(vec![1])))]), r#"{"b":"x","a":1}"#),
        (structure(vec![("b", maybe(&[None]))]), "{}"),
    ];
    for (array, expected) in cases {
        let label = array.data_type().to_string();
        assert_eq!(property(array).properties(), [format!("{{\"v\":{expected}}}")], "{label}");
    }
}

#[test]
fn half_floats_dictionaries_and_lists_print_too() {
    let half = arrow_cast_f16(&[0.1, 20.0]);
    assert_eq!(property(half).properties(), [r#"{"v":0.099975586}"#, r#"{"v":20.0}"#]);
    let words: DictionaryArray<Int32Type> = vec![Some("red"), None].into_iter().collect();
    assert_eq!(property(Arc::new(words)).properties(), [r#"{"v":"red"}"#, ""]);
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value([Some("a"), None]);
    list.append_value([None::<&str>; 0]);
    list.append_null();
    assert_eq!(property(Arc::new(list.finish())).properties(), [r#"{"v":["a",null]}"#, r#"{"v":[]}"#, ""]);
    let mut large = LargeListBuilder::new(Int64Builder::new());
    large.append_value([Some(1), Some(2)]);
    assert_eq!(property(Arc::new(large.finish())).properties(), [r#"{"v":[1,2]}"#]);
    let mut fixed = FixedSizeListBuilder::new(Int32Builder::new(), 2);
    for value in [Some(1), Some(2), Some(3), None] {
        fixed.values().append_option(value);
    }
    fixed.append(true);
    fixed.append(true);
    assert_eq!(property(Arc::new(fixed.finish())).properties(), [r#"{"v":[1,2]}"#, r#"{"v":[3,null]}"#]);
}

fn arrow_cast_f16(values: &[f32]) -> ArrayRef {
    let floats: ArrayRef = Arc::new(Float32Array::from(values.to_vec()));
    arrow_cast::cast(&floats, &DataType::Float16).unwrap()
}

fn map(rows: &[&[(&str, Option<f64>)]]) -> ArrayRef {
    let names = MapFieldNames { entry: "entries".into(), key: "keys".into(), value: "values".into() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), Float64Array::builder(4));
    for row in rows {
        for (key, value) in *row {
            builder.keys().append_value(key);
            builder.values().append_option(*value);
        }
        builder.append(true).unwrap();
    }
    Arc::new(builder.finish())
}

#[test]
fn maps_and_json_text_are_properties_as_structs_are() {
    let given = Given::columns(base(2, vec![("trigger_properties", map(&[&[("p", Some(1.5)), ("q", None)], &[]]))]));
    assert_eq!(given.properties(), [r#"{"p":1.5}"#, ""]);
    let json = maybe(&[Some(r#"{"p": 1.50, "n": null}"#), Some(""), Some(" null "), None]);
    let given = Given::columns(base(4, vec![("trigger_properties", json.clone()), ("attributes", json)]));
    assert_eq!(given.properties(), [r#"{"p":1.5,"n":null}"#, "", "", ""]);
    assert_eq!(given.seen()[0].attributes, r#"{"p":1.5,"n":null}"#);
}

#[test]
fn broken_json_text_rejects_its_row_by_what_is_wrong() {
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    let json = [r#"{"a":1"#, r#"{"a":NaN}"#, "[1]", "\"x\"", "7", r#"{"a":"\ud800"}"#, &deep, "{}"];
    let given = Given::columns(base(json.len(), vec![("trigger_properties", strings(&json))]));
    let rejections = given.rejections();
    let codes: Vec<&str> = rejections.iter().map(|r| r.split(':').next().unwrap()).collect();
    let field = "trigger_properties";
    let expected = ["bad_json", "bad_json", "wrong_type", "wrong_type", "wrong_type", "bad_json", "too_deep"];
    let mut expected: Vec<String> = expected.iter().map(|code| format!("{code} {field}")).collect();
    expected.push("ok".to_owned());
    assert_eq!(codes, expected);
    assert_eq!(rejections[2], "wrong_type trigger_properties: an array, not a JSON object");
    let attributes = Given::columns(base(2, vec![("attributes", strings(&["{}", "{"]))]));
    assert!(attributes.rejections()[1].starts_with("bad_json attributes"));
}

#[test]
fn values_without_a_json_form_reject_their_row_with_the_path() {
    let nan: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, f64::INFINITY]));
    assert_eq!(
        property(nan.clone()).rejections(),
        [
            "ok",
            "bad_row trigger_properties.v: NaN or infinity, not a finite number",
            "bad_row trigger_properties.v: NaN or infinity, not a finite number",
        ]
    );
    let mut list = ListBuilder::new(Float64Array::builder(2));
    list.append_value([Some(1.0), Some(f64::NAN)]);
    assert!(property(Arc::new(list.finish())).rejections()[0].starts_with("bad_row trigger_properties.v[1]: "));
    let carried = Given::columns(base(3, vec![("score", nan)])).with(|o| o.carry = vec!["score".into()]);
    assert!(carried.rejections()[1].starts_with("bad_row score: "));
    let binary = property(Arc::new(BinaryArray::from(vec![&[0xff_u8][..]])));
    assert!(binary.rejections()[0].starts_with("bad_row trigger_properties.v: 1 bytes that are not UTF-8"));
    assert!(property(Arc::new(Date32Array::from(vec![i32::MAX]))).rejections()[0].starts_with("bad_row"));
}

#[test]
fn the_size_limit_holds_at_its_edge_for_structs_and_text() {
    let fits = "x".repeat(51_200 - r#"{"v":""}"#.len());
    let given = property(strings(&[&fits, &format!("{fits}y")]));
    let over = "properties_too_large trigger_properties: 51201 bytes, not at most 51200 bytes of JSON text";
    assert_eq!(given.rejections(), ["ok", over]);
    let text = [format!(r#"{{"v" : "{fits}"}}"#), format!(r#"{{"v":"{fits}y"}}"#)];
    let given = Given::columns(base(2, vec![("trigger_properties", strings(&[&text[0], &text[1]]))]));
    assert_eq!(given.rejections(), ["ok", over]);
}

#[test]
fn structs_deeper_than_the_limit_reject_the_rows_that_go_there() {
    let mut array: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    for level in 0..64 {
        let field = Field::new("d", array.data_type().clone(), true);
        // The outermost member is null in the first row: nothing is nested there.
        let nulls = (level == 63).then(|| NullBuffer::from(vec![false, true]));
        array = Arc::new(StructArray::new(vec![field].into(), vec![array], nulls));
    }
    // The Arrow schema that this writer embeds cannot nest so deep; other writers embed none.
    let columns = base(2, vec![("trigger_properties", structure(vec![("v", array)]))]);
    let rejections = Given::written(columns, WriterProperties::new(), true).rejections();
    assert_eq!(rejections[0], "ok");
    assert!(rejections[1].starts_with("too_deep trigger_properties.v.d.d"), "{}", rejections[1]);
}

#[test]
fn exactly_one_identifier_says_who() {
    let alias = structure(vec![
        ("alias_name", maybe(&[None, Some("crm-1"), None, None, Some("x"), None, None])),
        ("alias_label", maybe(&[None, Some("crm"), None, None, None, None, None])),
    ]);
    let given = Given::columns(vec![
        ("campaign_id", strings(&["c"; 7])),
        ("external_user_id", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, None, None, None, None, Some(1)]))),
        ("user_alias", alias),
        ("braze_id", maybe(&[None, None, Some(""), None, None, None, None])),
        ("email", maybe(&[None, None, None, Some(" Ada@Example.ORG "), None, None, Some("a@b.c")])),
    ]);
    let rows = given.rows(Need::Keys);
    let recipients: Vec<&str> = rows.iter().flatten().map(|seen| seen.recipient.as_str()).collect();
    let expected = ["external_user_id=18446744073709551615", "user_alias=crm:crm-1", "email=ada@example.org"];
    assert_eq!(recipients, expected);
    assert_eq!(
        given.rejections(),
        [
            "ok",
            "ok",
            "wrong_type braze_id: an empty string, not a non-empty string",
            "ok",
            "missing_field user_alias.alias_label: null, not a non-empty string",
            "no_recipient : none, not exactly one identifier",
            "several_identifiers : external_user_id, email, not exactly one identifier",
        ]
    );
}

#[test]
fn a_campaign_is_the_rows_own_or_the_given_one() {
    let columns =
        || vec![("campaign_id", maybe(&[Some("a"), None, Some("")])), ("external_user_id", strings(&["u", "v", "w"]))];
    let alone = Given::columns(columns());
    assert_eq!(
        alone.rejections()[1..],
        [
            "missing_field campaign_id: null, not a string",
            "wrong_type campaign_id: an empty string, not a non-empty string"
        ]
    );
    let given = Given::columns(columns()).with(|o| o.mapping.campaign_id = Some("b".into()));
    assert_eq!(given.rows(Need::Keys)[1].as_ref().unwrap().campaign, "b");
    let absent =
        Given::columns(vec![("email", strings(&["a@b.c"]))]).with(|o| o.mapping.campaign_id = Some("b".into()));
    assert_eq!(absent.seen()[0].campaign, "b");
}

#[test]
fn top_level_columns_are_laid_over_the_properties() {
    let columns = || {
        base(
            2,
            vec![
                ("trigger_properties", strings(&[r#"{"price":1.50,"size":2}"#, ""])),
                (
                    "price",
                    Arc::new(Decimal128Array::from(vec![Some(2000), None]).with_precision_and_scale(9, 2).unwrap()),
                ),
                ("colour", maybe(&[Some("red"), None])),
            ],
        )
    };
    let listed =
        Given::columns(columns()).with(|o| o.mapping.properties = PropertiesFrom::Columns(vec!["price".into()]));
    assert_eq!(listed.properties(), [r#"{"price":20.00,"size":2}"#, ""]);
    let all = Given::columns(columns()).with(|o| o.mapping.properties = PropertiesFrom::All);
    assert_eq!(all.properties(), [r#"{"price":20.00,"size":2,"colour":"red"}"#, ""]);
    let typo = Given::columns(columns())
        .with(|o| o.mapping.properties = PropertiesFrom::Columns(vec!["color".into(), "zzz".into()]));
    assert_eq!(
        typo.faults(),
        "  night.parquet: no column `color`, which `--properties` names\n  hint: did you mean `colour`?\n  \
         night.parquet: no column `zzz`, which `--properties` names\n  hint: the file has `campaign_id`, \
         `external_user_id`, `trigger_properties`, `price`, `colour`"
    );
}

#[test]
fn a_missing_trigger_id_is_derived_from_columns_and_properties() {
    let price: ArrayRef =
        Arc::new(Decimal128Array::from(vec![Some(2000), None]).with_precision_and_scale(9, 2).unwrap());
    let with = |properties: ArrayRef, id: [Option<&str>; 2]| {
        let more = vec![
            ("trigger_properties", properties),
            ("order", maybe(&[Some("o\"1"), None])),
            ("trigger_id", maybe(&id)),
        ];
        let given = Given::columns(base(2, more)).with(|o| {
            o.trigger_id_from = vec!["order".into(), "trigger_properties.price".into(), "order_no".into()];
        });
        let rows = given.rows(Need::Keys);
        let ids: Vec<_> = rows.into_iter().map(|row| row.unwrap().id).collect();
        assert_eq!(ids, given.seen().into_iter().map(|s| s.id).collect::<Vec<_>>());
        ids
    };
    let derived = Some(r#"["o\"1",20.0,null]"#.to_owned());
    assert_eq!(with(structure(vec![("price", price)]), [None, None]), [derived.clone(), None]);
    let json = strings(&[r#"{"price":20.00}"#, "{}"]);
    assert_eq!(with(json.clone(), [None, Some("")]), [derived, None], "an empty id is none");
    assert_eq!(with(json, [Some("t1"), Some("t2")]), [Some("t1".to_owned()), Some("t2".to_owned())]);
}

#[test]
fn a_pass_over_the_keys_reads_neither_labels_nor_carried_columns() {
    let given = Given::columns(base(1, vec![("send_id", strings(&["s"])), ("shop", strings(&["x"]))]))
        .with(|o| o.carry = vec!["shop".into()]);
    let keys = given.rows(Need::Keys).remove(0).unwrap();
    assert_eq!((keys.send_id, keys.carried), (None, vec![None]));
    let seen = given.seen().remove(0);
    assert_eq!((seen.send_id, seen.carried), (Some("s".to_owned()), vec![Some("x".to_owned())]));
}

/// Many rows with nulls, nested values and repeated strings, in row groups of 1,000.
fn many(compression: Compression) -> Given {
    let rows = 3_300;
    let words: Vec<Option<String>> = (0..rows).map(|r| (r % 7 != 0).then(|| format!("w{}", r % 11))).collect();
    let mut list = ListBuilder::new(Int64Builder::new());
    for row in 0..rows as i64 {
        (0..row % 4).for_each(|i| list.values().append_value(row + i));
        list.append(row % 5 != 0);
    }
    let properties = structure(vec![("w", Arc::new(StringArray::from(words))), ("l", Arc::new(list.finish()))]);
    let times = TimestampMicrosecondArray::from_iter_values((0..rows as i64).map(|r| NOON + r));
    let set = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(1_000))
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50)
        .build();
    let more = vec![("trigger_properties", properties), ("triggered_at", Arc::new(times) as ArrayRef)];
    Given::written(base(rows, more), set, false)
}

#[test]
fn splits_of_any_size_hold_the_same_rows() {
    let given = many(Compression::UNCOMPRESSED);
    let whole = given.seen();
    assert_eq!((whole.len(), given.open().splits().len()), (3_300, 4));
    let mut given = given;
    for split_rows in [150, 333, 1_000] {
        given.options.split_rows = split_rows;
        let splits = given.open().splits();
        assert!(splits.iter().all(|s| s.rows <= split_rows as u64 && s.bytes > 0));
        assert_eq!(splits.iter().map(|s| s.rows).sum::<u64>(), 3_300);
        assert_eq!(given.seen(), whole, "{split_rows}");
    }
}

/// Decoders go on where a split ended; whoever comes out of turn, again, in another pass or on another thread gets the
/// same rows.
#[test]
fn splits_are_the_same_rows_in_any_order() {
    let given = many(Compression::SNAPPY).with(|o| o.split_rows = 70);
    let file = given.open();
    let splits = file.splits();
    let read = |split: &ParquetSplit, need| {
        let mut ids = Vec::new();
        let mut visit = |row: Row<'_>| {
            let trigger = row.parsed.unwrap();
            ids.push((row.line, trigger.recipient.id.into_owned(), trigger.properties.text()));
            Ok(())
        };
        file.read(split, need, &given.options, &mut visit).unwrap();
        ids
    };
    let in_order: Vec<_> = splits.iter().map(|split| read(split, Need::Everything)).collect();
    assert_eq!(file.parked.kept(), 0, "every row group was read to its end");
    let whole = many(Compression::SNAPPY);
    assert_eq!(in_order.concat().len(), whole.seen().len());
    let steps = (0..splits.len() * 7).map(|n| n * 5 % splits.len());
    for (turn, split) in steps.enumerate() {
        let need = if turn % 3 == 0 { Need::Keys } else { Need::Everything };
        assert_eq!(read(&splits[split], need), in_order[split], "split {split} in turn {turn}");
    }
    // Every second split from back to front leaves a decoder behind; the next time forward gives them up.
    (0..splits.len()).rev().step_by(2).for_each(|split| drop(read(&splits[split], Need::Keys)));
    assert!(file.parked.kept() > 4);
    splits.iter().for_each(|split| drop(read(split, Need::Everything)));
    assert!(file.parked.kept() <= 8, "{}", file.parked.kept());
    std::thread::scope(|scope| {
        for offset in 0..4 {
            let (splits, in_order, read) = (&splits, &in_order, &read);
            scope.spawn(move || {
                for split in (offset..splits.len()).step_by(2) {
                    assert_eq!(read(&splits[split], Need::Everything), in_order[split]);
                }
            });
        }
    });
}

#[test]
fn every_codec_is_read() {
    let plain = many(Compression::UNCOMPRESSED).seen();
    let codecs = [
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        assert!(many(codec).seen() == plain, "{codec:?}");
    }
}

#[test]
fn an_error_of_the_visitor_ends_the_reading() {
    let given = Given::columns(base(3, vec![]));
    let file = given.open();
    let mut visited = 0;
    let result = file.read(&file.splits()[0], Need::Keys, &given.options, &mut |_| {
        visited += 1;
        Err(Error::new(Kind::Output, "full"))
    });
    assert_eq!((result.unwrap_err().kind, visited), (Kind::Output, 1));
}

#[test]
fn all_faults_of_a_schema_are_reported_at_once() {
    let given = Given::columns(vec![
        ("campain_id", strings(&["c"])),
        ("email", Arc::new(Int64Array::from(vec![1]))),
        ("triggered_at", Arc::new(Float64Array::from(vec![1.0]))),
        ("trigger_properties", structure(vec![("gap", Arc::new(DurationSecondArray::from(vec![1])))])),
    ]);
    assert_eq!(
        given.faults(),
        "  night.parquet: column `email` is int64; expected a string\n  \
         hint: if `email` stands in another column, say so with `--map email=COLUMN`\n  \
         night.parquet: column `triggered_at` is float64; expected a timestamp, a date, an epoch integer or \
         a string\n  \
         hint: if `triggered_at` stands in another column, say so with `--map triggered_at=COLUMN`\n  \
         night.parquet: column `trigger_properties.gap` is duration(s), which has no JSON form\n  \
         hint: write it as a string or a number, or leave the column out\n  \
         night.parquet: no column `campaign_id`; expected a string\n  \
         hint: did you mean `campain_id`? Say so with `--map campaign_id=campain_id`, or name the campaign of all rows \
         with `--campaign-id ID`"
    );
}

#[test]
fn a_file_that_says_nobody_is_refused() {
    let given = Given::columns(vec![("campaign_id", strings(&["c"])), ("externaluser_id", strings(&["u"]))]);
    assert_eq!(
        given.faults(),
        "  night.parquet: no column says who: expected one of `external_user_id`, `user_alias`, `braze_id`, `email`\n  \
         hint: did you mean `externaluser_id`? Say so with `--map external_user_id=externaluser_id`"
    );
    let alias = Given::columns(vec![
        ("campaign_id", strings(&["c"])),
        ("user_alias", structure(vec![("alias_name", strings(&["a"]))])),
    ]);
    assert!(alias.faults().contains("column `user_alias` is struct<alias_name: string>; expected a struct of"));
}

#[test]
fn foreign_and_truncated_files_are_named_as_what_they_are() {
    let whole = fs::read(many(Compression::SNAPPY).path()).unwrap();
    let report = |bytes: &[u8]| Given::bytes(bytes).faults();
    let again = "\n  hint: the file may still have been written or copied; write or copy it again";
    assert_eq!(report(b""), format!("  night.parquet: not a Parquet file: only 0 bytes long{again}"));
    assert_eq!(
        report(&whole[..whole.len() / 2]),
        format!("  night.parquet: the Parquet file is truncated: its footer is missing{again}")
    );
    assert!(report(b"{\"campaign_id\":\"welcome\"}").contains("does not begin with `PAR1`"));
    assert!(report(&[b"PAR1", &[0xff; 4][..], b"PAR1"].concat()).contains("longer than the file"));
    assert!(report(&[b"PAR1", &[0xff; 30][..], &[30, 0, 0, 0], b"PAR1"].concat()).contains("footer cannot be read"));
    assert!(report(&[b"PARE", &[0; 12][..], b"PARE"].concat()).contains("encrypted"));
    // The middle is missing, the footer is there: columns lie outside the file.
    let cut = [&whole[..100], &whole[whole.len() / 2..]].concat();
    assert!(report(&cut).contains("lies outside the file"), "{}", report(&cut));
    let gone = Given::empty();
    assert!(gone.faults().contains("cannot be read: No such file"));
}

#[test]
fn a_damaged_page_names_file_row_group_and_column() {
    let given = many(Compression::ZSTD(ZstdLevel::default()));
    let file = given.open();
    let chunk = file.metadata.metadata().row_group(1).column(1);
    let (start, length) = pages::range(chunk).unwrap();
    let mut bytes = fs::read(given.path()).unwrap();
    // Past the first page's header, inside the packed dictionary.
    bytes[start as usize + 30..start as usize + 200].fill(0xa5);
    assert!(length > 200);
    fs::write(given.path(), bytes).unwrap();
    let mut lines = 0;
    let splits = file.splits();
    let mut read = |split: &ParquetSplit| {
        file.read(split, Need::Keys, &given.options, &mut |_| {
            lines += 1;
            Ok(())
        })
    };
    assert!(read(&splits[0]).is_ok());
    let error = read(&splits[1]).unwrap_err();
    assert_eq!(error.kind, Kind::Input);
    let report = error.to_string();
    assert!(
        report.starts_with("cannot read `night.parquet`\n  night.parquet: row group 1, column `external_user_id`: "),
        "{report}"
    );
}

/// Any damage is an error or other rows, never a panic that gets out, never an abort.
#[test]
fn flipped_bytes_never_end_the_process() {
    for codec in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
        let small = Given::written(
            base(
                6,
                vec![
                    ("triggered_at", Arc::new(TimestampMicrosecondArray::from(vec![NOON; 6]))),
                    (
                        "trigger_properties",
                        structure(vec![
                            ("w", maybe(&[Some("a"), None, Some("b"), Some("b"), None, Some("c")])),
                            ("f", Arc::new(Float64Array::from(vec![1.5; 6]))),
                        ]),
                    ),
                ],
            ),
            WriterProperties::builder().set_compression(codec).build(),
            false,
        );
        let whole = fs::read(small.path()).unwrap();
        let mut outcomes = [0; 3];
        for at in 0..whole.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= mask;
                let given = Given { folder: tempfile::tempdir().unwrap(), options: options() };
                fs::write(given.path(), bytes).unwrap();
                outcomes[match given.try_open() {
                    Err(_) => 0,
                    Ok(_) if given.try_rows(Need::Everything).is_err() => 1,
                    Ok(_) => 2,
                }] += 1;
            }
        }
        assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
    }
}

#[test]
fn files_cut_anywhere_are_refused() {
    let whole = fs::read(Given::columns(base(3, vec![])).path()).unwrap();
    for length in (0..whole.len()).step_by(7) {
        assert!(Given::bytes(&whole[..length]).try_open().is_err(), "{length}");
    }
}

#[test]
fn threads_read_one_file_without_disturbing_each_other() {
    let given = many(Compression::SNAPPY).with(|o| o.split_rows = 300);
    let (file, whole) = (given.open(), given.seen());
    let splits = file.splits();
    let read = |split: &ParquetSplit| {
        let mut rows = Vec::new();
        let visit = &mut |row: Row<'_>| {
            rows.push(Seen::of(row.parsed.unwrap()));
            Ok(())
        };
        file.read(split, Need::Everything, &given.options, visit).unwrap();
        rows
    };
    let read = &read;
    let rows: Vec<Seen> = std::thread::scope(|scope| {
        let threads: Vec<_> = splits.iter().map(|split| scope.spawn(move || read(split))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(rows == whole);
}

#[test]
fn a_footer_that_counts_wrongly_is_refused() {
    let file = many(Compression::SNAPPY).open();
    let length = 1 << 30;
    let claims = |rows: i64| {
        let mut builder = file.metadata.metadata().as_ref().clone().into_builder();
        let mut groups = builder.take_row_groups();
        let last = groups.pop().unwrap().into_builder().set_num_rows(rows).build().unwrap();
        groups.push(last);
        footer::check_claims(&builder.set_row_groups(groups).build(), length)
    };
    assert_eq!(claims(300), Ok(()));
    assert!(claims(299).unwrap_err().0.contains("claims 299 rows, its column `campaign_id` 300 values"));
    assert!(claims(i64::MAX).unwrap_err().0.contains("at most"));
    assert!(claims(-1).unwrap_err().0.contains("claims -1 rows"));
}
