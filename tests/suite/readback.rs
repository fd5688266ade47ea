//! Every file of a run and of its state, read back by two readers that share no code, and counted again by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use retrigger::delivery::{Compression, DeliveryOptions, FileKind, Format};
use retrigger::input::InputOptions;
use retrigger::runs::{RunManifest, RunSettings, StateUse, run, verify};
use retrigger::storage::RealDisk;
use serde_json::Value;
use tempfile::TempDir;

const FORMS: [(Format, Compression); 7] = [
    (Format::Parquet, Compression::Zstd),
    (Format::Parquet, Compression::Snappy),
    (Format::Parquet, Compression::Gzip),
    (Format::Parquet, Compression::None),
    (Format::Ndjson, Compression::Zstd),
    (Format::Ndjson, Compression::Gzip),
    (Format::Ndjson, Compression::None),
];

/// The fixtures, run once against a new state.
struct Ran {
    folder: TempDir,
    dir: PathBuf,
    manifest: RunManifest,
    summary: Value,
}

impl Ran {
    fn new(format: Format, compression: Compression, batch_size: u64) -> Ran {
        let folder = tempfile::tempdir().unwrap();
        let delivery = DeliveryOptions { format, compression, batch_size };
        let finished = run(Arc::new(RealDisk), &settings(folder.path(), delivery), &()).unwrap();
        let dir = finished.published.unwrap();
        let manifest = verify(&dir).unwrap().manifest;
        let summary = serde_json::from_slice(&fs::read(dir.join("summary.json")).unwrap()).unwrap();
        Ran { folder, dir, manifest, summary }
    }

    /// Paths inside the run folder, of one kind.
    fn files(&self, is: impl Fn(&FileKind) -> bool) -> Vec<String> {
        self.manifest.files.iter().filter(|f| is(&f.kind)).map(|f| f.path.clone()).collect()
    }

    fn deliveries(&self) -> Vec<String> {
        self.files(|kind| matches!(kind, FileKind::Deliveries { .. }))
    }

    fn receipts(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("state")).unwrap().map(|e| e.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|e| e == "parquet")).collect()
    }

    /// All messages, a batch file after the other.
    fn messages(&self) -> Table {
        let tables = self.deliveries().into_iter().map(|path| match path.ends_with(".parquet") {
            true => by_parquet(&self.dir.join(path)),
            false => by_serde(&text_of(&self.dir.join(path))),
        });
        tables.fold(Table::default(), Table::and)
    }
}

fn settings(folder: &Path, delivery: DeliveryOptions) -> RunSettings {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    RunSettings {
        input: InputOptions {
            carry: vec!["email".into(), "attributes".into()],
            split_bytes: 64 << 10,
            split_rows: 1000,
            ..InputOptions::default()
        },
        state: StateUse::Folder { path: folder.join("state"), create: true },
        delivery,
        new_state_id: 1,
        ..RunSettings::new(
            fixtures.join("campaigns"),
            vec![fixtures.join("triggers").to_string_lossy().into_owned()],
            folder.join("out"),
            "2026-11-23T02:00:00Z".parse::<jiff::Timestamp>().unwrap().as_microsecond(),
        )
    }
}

/// A value as either reader gives it. Instants are microseconds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Null,
    Text(String),
    Instant(i64),
    Whole(u64),
    Bytes(Vec<u8>),
    List(Vec<Cell>),
}

impl Cell {
    fn text(&self) -> &str {
        if let Cell::Text(text) = self { text } else { panic!("{self:?} is no text") }
    }
}

/// Columns in their order.
#[derive(Debug, Default, PartialEq)]
struct Table {
    columns: Vec<(String, Vec<Cell>)>,
}

impl Table {
    fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, cells)| cells.len())
    }

    fn column(&self, name: &str) -> &[Cell] {
        &self.columns.iter().find(|(column, _)| column == name).unwrap_or_else(|| panic!("no column {name}")).1
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        self.column(name).iter().map(Cell::text).collect()
    }

    /// Rows of another table below these; columns that one of them lacks are null there.
    fn and(mut self, other: Table) -> Table {
        let (rows, more) = (self.rows(), other.rows());
        for (name, cells) in other.columns {
            let column = match self.columns.iter_mut().find(|(column, _)| *column == name) {
                Some((_, column)) => column,
                None => {
                    self.columns.push((name, vec![Cell::Null; rows]));
                    &mut self.columns.last_mut().unwrap().1
                }
            };
            column.extend(cells);
        }
        self.columns.iter_mut().for_each(|(_, cells)| cells.resize(rows + more, Cell::Null));
        self
    }

    /// How often each row of these columns occurs; rows with a null are left out.
    fn counts(&self, names: &[&str]) -> BTreeMap<Vec<String>, u64> {
        let columns: Vec<&[Cell]> = names.iter().map(|name| self.column(name)).collect();
        let mut counts = BTreeMap::new();
        for row in 0..self.rows() {
            let texts = columns.iter().map(|cells| match &cells[row] {
                Cell::Text(text) => Some(text.clone()),
                _ => None,
            });
            if let Some(texts) = texts.collect::<Option<Vec<_>>>() {
                *counts.entry(texts).or_default() += 1;
            }
        }
        counts
    }
}

fn by_parquet(path: &Path) -> Table {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let names: Vec<String> = builder.schema().fields().iter().map(|f| f.name().clone()).collect();
    let mut columns: Vec<(String, Vec<Cell>)> = names.into_iter().map(|name| (name, Vec::new())).collect();
    for rows in builder.build().unwrap() {
        let rows = rows.unwrap();
        for ((_, cells), array) in columns.iter_mut().zip(rows.columns()) {
            cells.extend((0..array.len()).map(|row| arrow_cell(array, row)));
        }
    }
    Table { columns }
}

fn arrow_cell(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => {
            Cell::Instant(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::UInt64 => Cell::Whole(array.as_primitive::<UInt64Type>().value(row)),
        DataType::FixedSizeBinary(_) => Cell::Bytes(array.as_fixed_size_binary().value(row).to_vec()),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Cell::List((0..items.len()).map(|item| arrow_cell(&items, item)).collect())
        }
        other => panic!("a column of type {other} that nobody expects"),
    }
}

fn text_of(path: &Path) -> String {
    let file = File::open(path).unwrap();
    let mut text = String::new();
    match path.extension().and_then(|e| e.to_str()) {
        Some("zst") => zstd::stream::read::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap(),
        Some("gz") => flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap(),
        _ => fs::read_to_string(path).map(|whole| text.push_str(&whole)).map(|()| 0).unwrap(),
    };
    text
}

fn by_serde(text: &str) -> Table {
    assert!(text.ends_with('\n'));
    let mut columns: Vec<(String, Vec<Cell>)> = Vec::new();
    for (row, line) in text.lines().enumerate() {
        let Ok(Value::Object(object)) = serde_json::from_str(line) else { panic!("line {row} is no object: {line}") };
        if row == 0 {
            columns = object.keys().map(|key| (key.clone(), Vec::new())).collect();
        }
        assert!(object.keys().eq(columns.iter().map(|(name, _)| name)), "line {row} has other keys");
        for ((_, cells), value) in columns.iter_mut().zip(object.into_iter().map(|(_, value)| value)) {
            cells.push(match value {
                Value::Null => Cell::Null,
                Value::String(text) => Cell::Text(text),
                other => panic!("line {row} holds {other}"),
            });
        }
    }
    Table { columns }
}

#[cfg(feature = "tables")]
mod second_reader {
    use std::io::Cursor;

    use polars::prelude::*;

    use super::{Cell, File, Path, Table};

    pub fn by_polars(path: &Path) -> Table {
        table(ParquetReader::new(File::open(path).unwrap()).finish().unwrap())
    }

    pub fn lines_by_polars(text: &str) -> Table {
        let reader = JsonReader::new(Cursor::new(text.as_bytes())).with_json_format(JsonFormat::JsonLines);
        table(reader.infer_schema_len(None).finish().unwrap())
    }

    fn table(frame: DataFrame) -> Table {
        let columns = frame.columns().iter().map(|column| {
            let series = column.as_materialized_series();
            (column.name().to_string(), series.iter().map(cell).collect())
        });
        Table { columns: columns.collect() }
    }

    fn cell(value: AnyValue<'_>) -> Cell {
        match value {
            AnyValue::Null => Cell::Null,
            AnyValue::String(text) => Cell::Text(text.to_owned()),
            AnyValue::Datetime(at, TimeUnit::Microseconds, Some(zone)) if zone.as_str() == "UTC" => Cell::Instant(at),
            AnyValue::UInt64(whole) => Cell::Whole(whole),
            AnyValue::Binary(bytes) => Cell::Bytes(bytes.to_vec()),
            AnyValue::List(items) => Cell::List(items.iter().map(cell).collect()),
            other => panic!("a value {other:?} that nobody expects"),
        }
    }
}

/// Not `assert_eq`, which would print thousands of rows.
fn assert_same(left: &Table, right: &Table, what: &str) {
    let names = |table: &Table| table.columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(left), names(right), "{what}");
    assert_eq!(left.rows(), right.rows(), "{what}");
    for ((name, cells), (_, others)) in left.columns.iter().zip(&right.columns) {
        let different = cells.iter().zip(others).position(|(a, b)| a != b);
        assert!(different.is_none(), "{what}: row {different:?} of `{name}` differs between the readers");
    }
}

#[cfg(feature = "tables")]
#[test]
fn two_readers_agree_on_every_value_of_every_file() {
    for (format, compression) in FORMS {
        let ran = Ran::new(format, compression, 700);
        let mut tables: Vec<PathBuf> = ran.receipts();
        assert_eq!(tables.len(), 1);
        let in_run = ran.manifest.files.iter().filter(|f| f.path.ends_with(".parquet")).map(|f| ran.dir.join(&f.path));
        tables.extend(in_run);
        for path in tables {
            let what = format!("{compression:?} {}", path.display());
            let found = by_parquet(&path);
            assert!(found.rows() > 0, "{what} is empty: the fixtures no longer show anything");
            assert_same(&found, &second_reader::by_polars(&path), &what);
        }
        for path in ran.deliveries().iter().filter(|path| path.contains(".ndjson")) {
            let text = text_of(&ran.dir.join(path));
            assert_same(&by_serde(&text), &second_reader::lines_by_polars(&text), path);
        }
    }
}

#[test]
fn every_form_holds_the_same_messages() {
    let first = Ran::new(FORMS[0].0, FORMS[0].1, 700).messages();
    let texts = |table: &Table| -> Vec<(String, Vec<Cell>)> {
        // An instant is a number in one form and a text in the other.
        table.columns.iter().filter(|(name, _)| name != "triggered_at").cloned().collect()
    };
    for (format, compression) in &FORMS[1..] {
        let other = Ran::new(*format, *compression, 700).messages();
        assert!(texts(&first) == texts(&other), "{format:?} {compression:?}");
        let instants = first.column("triggered_at").iter().zip(other.column("triggered_at"));
        for (instant, other) in instants {
            let other = match other {
                Cell::Text(text) => Cell::Instant(text.parse::<jiff::Timestamp>().unwrap().as_microsecond()),
                other => other.clone(),
            };
            assert_eq!(*instant, other);
        }
    }
}

#[test]
fn message_rows_have_the_documented_columns_then_the_carried_then_the_fields() {
    let ran = Ran::new(Format::Parquet, Compression::Zstd, 100_000);
    let fixed = "dispatch_id batch_id campaign_id send_id variant channel recipient_kind recipient triggered_at trigger_id \
                 source email attributes";
    for (channel, fields) in [("email", "subject body"), ("push", "title body"), ("webhook", "url body")] {
        let table = by_parquet(&ran.dir.join(format!("deliveries/{channel}/batch-00000.parquet")));
        let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.join(" "), format!("{fixed} {fields}"), "{channel}");
        assert!(table.texts("channel").iter().all(|c| *c == channel));
    }
    // What was carried is what the input had.
    let messages = ran.messages();
    for row in 0..messages.rows() {
        if messages.column("recipient_kind")[row].text() == "email" {
            let carried = messages.column("email")[row].text();
            assert_eq!(carried.trim().to_ascii_lowercase(), messages.column("recipient")[row].text());
        }
        if let Cell::Text(attributes) = &messages.column("attributes")[row] {
            assert!(serde_json::from_str::<Value>(attributes).unwrap().is_object(), "{attributes}");
        }
    }
    assert!(messages.column("attributes").iter().any(|a| *a != Cell::Null));
}

#[test]
fn every_batch_is_full_but_the_last_and_its_messages_bear_its_number() {
    for format in [Format::Parquet, Format::Ndjson] {
        let ran = Ran::new(format, Compression::None, 100);
        let mut batches: BTreeMap<String, Vec<Table>> = BTreeMap::new();
        let extension = format.code();
        for path in ran.deliveries() {
            let channel = path.split('/').nth(1).unwrap().to_owned();
            let of_channel = batches.entry(channel.clone()).or_default();
            let number = of_channel.len();
            assert_eq!(path, format!("deliveries/{channel}/batch-{number:05}.{extension}"));
            let place = ran.dir.join(&path);
            let table = if format == Format::Parquet { by_parquet(&place) } else { by_serde(&text_of(&place)) };
            let id = format!("{channel}-{number:05}");
            assert!(table.texts("batch_id").iter().all(|found| *found == id), "{path}");
            of_channel.push(table);
        }
        assert!(batches["email"].len() > 5);
        for (channel, tables) in &batches {
            let rows: Vec<usize> = tables.iter().map(Table::rows).collect();
            let (last, full) = rows.split_last().unwrap();
            assert!(full.iter().all(|r| *r == 100) && (1..=100).contains(last), "{channel}: {rows:?}");
            assert_eq!(ran.summary["messages"][channel], rows.iter().sum::<usize>());
        }
        assert_eq!(ran.summary["batches"], batches.values().map(Vec::len).sum::<usize>());
    }
}

/// The files below a folder, `/`-separated.
fn walk(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, root, found);
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

#[test]
fn the_manifest_lists_every_file_and_verify_finds_what_changed() {
    let ran = Ran::new(Format::Parquet, Compression::Zstd, 700);
    let mut found = BTreeSet::new();
    walk(&ran.dir, &ran.dir, &mut found);
    let listed = ran.manifest.files.iter().map(|f| f.path.clone()).chain(["manifest.json".to_owned()]);
    assert_eq!(found, listed.collect());
    for name in ["decisions.parquet", "dropped_messages.parquet", "rejected.ndjson", "remainder.ndjson", "summary.json"]
    {
        assert!(found.contains(name), "{name}");
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/campaigns");
    let mut campaigns = BTreeSet::new();
    walk(&fixtures, &fixtures, &mut campaigns);
    for name in campaigns {
        let used = fs::read(ran.dir.join("campaigns").join(&name)).unwrap();
        assert_eq!(used, fs::read(fixtures.join(&name)).unwrap(), "{name}");
    }
    for file in &ran.manifest.files {
        let path = ran.dir.join(&file.path);
        let whole = fs::read(&path).unwrap();
        if whole.is_empty() {
            continue;
        }
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        fs::write(&path, changed).unwrap();
        let error = verify(&ran.dir).unwrap_err().to_string();
        assert!(error.contains(&file.path), "{error}");
        fs::write(&path, whole).unwrap();
    }
    fs::write(ran.dir.join("stray"), "").unwrap();
    assert!(verify(&ran.dir).unwrap_err().to_string().contains("stray"));
}

const COUNTS: [&str; 9] =
    ["triggers", "sent", "messages", "messages_dropped", "control", "suppressed", "failed", "rejected", "out_of_scope"];

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_summary_has_its_documented_keys_and_no_other() {
    let ran = Ran::new(Format::Parquet, Compression::Zstd, 700);
    let run = ["run_id", "committed", "clock", "as_of", "state_id", "generation"];
    let rest =
        ["campaigns", "batches", "bytes_read", "bytes_written", "unknown_fields_ignored", "seconds", "peak_rss_bytes"];
    assert_eq!(keys(&ran.summary), run.into_iter().chain(COUNTS).chain(rest).collect());
    let ids = BTreeSet::from(["back-in-stock", "order-shipped", "recently-viewed"]);
    assert_eq!(keys(&ran.summary["campaigns"]), ids);
    for id in ids {
        assert_eq!(keys(&ran.summary["campaigns"][id]), COUNTS.into());
    }
    assert_eq!(keys(&ran.summary["seconds"]), BTreeSet::from(["keys", "index", "decide", "render"]));
    let found = |key: &str| ran.summary[key].clone();
    assert_eq!((found("committed"), found("clock"), found("generation")), (true.into(), "run".into(), 1.into()));
    assert_eq!((found("run_id"), found("as_of")), (ran.manifest.run_id.as_str().into(), "2026-11-23T02:00:00Z".into()));
    assert_eq!(found("state_id"), format!("{:032x}", 1));
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/triggers");
    let read = fs::read_dir(inputs).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>();
    assert_eq!(found("bytes_read"), read);
}

/// The number under some keys; absent is 0.
fn number(value: &Value, keys: &[&str]) -> u64 {
    keys.iter().try_fold(value, |value, key| value.get(key)).map_or(0, |n| n.as_u64().unwrap())
}

fn sum(map: &Value) -> u64 {
    map.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
}

#[test]
fn the_ledger_balances_and_is_what_the_files_hold() {
    let ran = Ran::new(Format::Parquet, Compression::Zstd, 700);
    let all = ["back-in-stock", "order-shipped", "recently-viewed"].map(|id| &ran.summary["campaigns"][id]);
    for counts in all.into_iter().chain([&ran.summary]) {
        let parts = ["suppressed", "failed", "rejected"].map(|part| sum(&counts[part])).iter().sum::<u64>();
        let rest = ["sent", "control", "out_of_scope"].map(|part| number(counts, &[part])).iter().sum::<u64>();
        assert_eq!(number(counts, &["triggers"]), parts + rest);
    }
    let decisions = by_parquet(&ran.dir.join("decisions.parquet"));
    assert_eq!(number(&ran.summary, &["triggers"]), decisions.rows() as u64);
    let outcomes = decisions.counts(&["outcome"]);
    for outcome in ["sent", "control"] {
        assert_eq!(number(&ran.summary, &[outcome]), outcomes[&vec![outcome.to_owned()]], "{outcome}");
    }
    let mut reasons = 0;
    for (words, count) in decisions.counts(&["outcome", "reason"]) {
        assert_eq!(number(&ran.summary, &[&words[0], &words[1]]), count, "{words:?}");
        reasons += 1;
    }
    let listed = ["suppressed", "failed", "rejected"].map(|o| ran.summary[o].as_object().unwrap().len());
    assert_eq!((listed.iter().sum::<usize>(), listed.iter().all(|n| *n > 0)), (reasons, true), "{listed:?}");
    for (words, count) in decisions.counts(&["campaign_id", "outcome"]) {
        if let (Some(counts), "sent" | "control") = (ran.summary["campaigns"].get(&words[0]), words[1].as_str()) {
            assert_eq!(number(counts, &[&words[1]]), count, "{words:?}");
        }
    }
    let dropped = by_parquet(&ran.dir.join("dropped_messages.parquet")).counts(&["channel", "reason"]);
    for (words, count) in &dropped {
        assert_eq!(number(&ran.summary, &["messages_dropped", &words[0], &words[1]]), *count, "{words:?}");
    }
    let by_channel = ran.summary["messages_dropped"].as_object().unwrap().values().map(sum).sum::<u64>();
    assert_eq!((by_channel, by_channel > 0), (dropped.values().sum(), true));
    let rejected = fs::read_to_string(ran.dir.join("rejected.ndjson")).unwrap();
    assert!(rejected.lines().all(|line| serde_json::from_str::<Value>(line).unwrap().is_object()));
    assert_eq!(rejected.lines().count() as u64, sum(&ran.summary["rejected"]));
}

#[test]
fn messages_decisions_and_receipts_name_the_same_dispatches() {
    let ran = Ran::new(Format::Parquet, Compression::Zstd, 700);
    let messages = ran.messages();
    let ids = |cells: &[Cell]| -> Vec<String> {
        let lists = cells.iter().flat_map(|cell| match cell {
            Cell::List(items) => items.clone(),
            Cell::Null => Vec::new(),
            other => vec![other.clone()],
        });
        lists.map(|cell| cell.text().to_owned()).collect()
    };
    let sent = ids(messages.column("dispatch_id"));
    let distinct: BTreeSet<&String> = sent.iter().collect();
    assert_eq!(distinct.len(), sent.len(), "no dispatch id is used twice");
    assert!(sent.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));

    let decisions = by_parquet(&ran.dir.join("decisions.parquet"));
    let decided = ids(decisions.column("dispatch_ids"));
    assert_eq!(decided.iter().collect::<BTreeSet<_>>(), distinct);
    assert_eq!(decided.len(), sent.len());

    let receipts = ran.receipts().iter().map(|path| by_parquet(path)).fold(Table::default(), Table::and);
    let received = ids(receipts.column("dispatch_ids"));
    assert_eq!((received.iter().collect::<BTreeSet<_>>(), received.len()), (distinct, sent.len()));
    let outcomes = receipts.counts(&["outcome"]);
    assert_eq!(number(&ran.summary, &["sent"]), outcomes[&vec!["sent".to_owned()]]);
    assert!(receipts.column("run_id").iter().all(|id| id.text() == ran.manifest.run_id));

    // Who received what, seen from both sides.
    let from_receipts = (0..receipts.rows()).flat_map(|row| {
        let channels = ids(&receipts.column("channels")[row..=row]);
        let cell = |name: &str| receipts.column(name)[row].clone();
        let who = [cell("campaign_id"), cell("recipient_kind"), cell("recipient"), cell("variant")];
        let ids = ids(&receipts.column("dispatch_ids")[row..=row]);
        assert_eq!(ids.len(), channels.len());
        ids.into_iter().zip(channels).map(|(id, channel)| (id, channel, who.clone())).collect::<Vec<_>>()
    });
    let from_messages = (0..messages.rows()).map(|row| {
        let cell = |name: &str| messages.column(name)[row].clone();
        let who = [cell("campaign_id"), cell("recipient_kind"), cell("recipient"), cell("variant")];
        (cell("dispatch_id").text().to_owned(), cell("channel").text().to_owned(), who)
    });
    assert!(from_receipts.collect::<BTreeSet<_>>() == from_messages.collect::<BTreeSet<_>>());
    // The state's order: key, campaign, instant.
    let columns = ["key_hash", "campaign_id", "received_at"].map(|name| receipts.column(name));
    assert!((1..receipts.rows()).all(|row| columns.map(|c| &c[row - 1]) <= columns.map(|c| &c[row])));
}
