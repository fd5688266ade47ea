//! Runs of the library over temporary folders, for tests that are three lines and a sentence.
//!
//! [`Run`] is the short way: a few triggers of plain campaigns. [`Site`] is the long way: campaign folders, input files,
//! an output folder and a state, with every setting within reach. Every run that is read back has its ledger and its
//! dispatch ids checked here, so that each test checks them too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{StringBuilder, StructBuilder, TimestampMicrosecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use retrigger::eligibility::Clock;
use retrigger::error::Error;
use retrigger::input::InputOptions;
use retrigger::runs::{RunOutcome, RunSettings, StateUse, run, verify};
use retrigger::storage::{Disk, DiskFile, DiskLock, DiskMetadata, DiskRead, RealDisk};
use retrigger::triggers::{TimeReader, format_micros};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

pub const SECOND: i64 = 1_000_000;
pub const DAY: i64 = 86_400 * SECOND;

/// An instant in microseconds.
pub fn at(text: &str) -> i64 {
    TimeReader::default().text(text).unwrap()
}

/// One row of a Parquet table as text: times are microseconds, lists are joined by commas.
pub type Record = BTreeMap<String, Option<String>>;

/// The cells of a column as text.
pub fn texts(column: &ArrayRef) -> Vec<Option<String>> {
    match column.data_type() {
        DataType::Timestamp(..) => texts(&arrow_cast::cast(column, &DataType::Int64).unwrap()),
        DataType::List(_) => {
            let items = |list: ArrayRef| texts(&list).into_iter().flatten().collect::<Vec<_>>().join(",");
            column.as_list::<i32>().iter().map(|list| list.map(items)).collect()
        }
        DataType::FixedSizeBinary(_) => {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            column.as_fixed_size_binary().iter().map(|bytes| bytes.map(hex)).collect()
        }
        _ => {
            let strings = arrow_cast::cast(column, &DataType::Utf8).unwrap();
            strings.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
        }
    }
}

/// The rows of a batch.
pub fn records(batch: &RecordBatch) -> Vec<Record> {
    let mut records = vec![Record::new(); batch.num_rows()];
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let cells = records.iter_mut().zip(texts(column));
        cells.for_each(|(record, text)| drop(record.insert(field.name().clone(), text)));
    }
    records
}

/// The rows of a Parquet file.
pub fn read_parquet(path: &Path) -> Vec<Record> {
    let file = fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.flat_map(|batch| records(&batch.unwrap())).collect()
}

/// Runs with this many threads.
pub fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Every file below a folder, by relative path.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, files);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(root, root, &mut files);
    files
}

/// How a row names its recipient.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    External(String),
    Braze(String),
    Email(String),
    Alias { label: String, name: String },
}

impl Who {
    fn field(&self) -> (&'static str, Value) {
        match self {
            Who::External(id) => ("external_user_id", json!(id)),
            Who::Braze(id) => ("braze_id", json!(id)),
            Who::Email(id) => ("email", json!(id)),
            Who::Alias { label, name } => ("user_alias", json!({"alias_name": name, "alias_label": label})),
        }
    }
}

/// A row of a trigger file, in no format yet.
#[derive(Debug, Clone)]
pub struct Row {
    pub campaign: String,
    pub who: Who,
    pub at: Option<i64>,
    pub id: Option<String>,
    pub send_id: Option<String>,
    pub properties: Map<String, Value>,
}

impl Row {
    pub fn new(recipient: &str, campaign: &str, time: &str) -> Row {
        Row {
            campaign: campaign.to_owned(),
            who: Who::External(recipient.to_owned()),
            at: Some(at(time)),
            id: None,
            send_id: None,
            properties: Map::new(),
        }
    }

    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Row {
        self.properties.insert(key.to_owned(), value.into());
        self
    }

    pub fn id(mut self, id: &str) -> Row {
        self.id = Some(id.to_owned());
        self
    }
}

/// Rows as flat NDJSON.
pub fn ndjson(rows: &[Row]) -> String {
    rows.iter().map(|row| format!("{}\n", flat(row))).collect()
}

fn flat(row: &Row) -> Value {
    let (field, who) = row.who.field();
    let mut line = json!({"campaign_id": row.campaign, field: who, "trigger_properties": row.properties});
    let optional =
        [("triggered_at", row.at.map(format_micros)), ("trigger_id", row.id.clone()), ("send_id", row.send_id.clone())];
    optional.into_iter().for_each(|(key, value)| value.into_iter().for_each(|value| line[key] = value.into()));
    line
}

/// Rows as request bodies: neighbours of one campaign and instant share a request, as long as no recipient repeats.
/// A first property that all of them share stands at the request's level.
pub fn requests(rows: &[Row]) -> String {
    let shares = |a: &Row, b: &Row| (&a.campaign, a.at, &a.send_id) == (&b.campaign, b.at, &b.send_id);
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match groups.last_mut() {
            Some(group)
                if group.len() < 50 && shares(group[0], row) && !group.iter().any(|other| other.who == row.who) =>
            {
                group.push(row);
            }
            _ => groups.push(vec![row]),
        }
    }
    groups.iter().map(|group| format!("{}\n", request(group))).collect()
}

fn request(group: &[&Row]) -> Value {
    let first = group[0].properties.iter().next();
    let shared = first.filter(|first| group.iter().all(|row| row.properties.iter().next() == Some(*first)));
    let recipient = |row: &&Row| {
        let (field, who) = row.who.field();
        let own: Map<String, Value> = row.properties.clone().into_iter().skip(usize::from(shared.is_some())).collect();
        let mut recipient = json!({field: who, "trigger_properties": own});
        if field == "email" {
            recipient["prioritization"] = json!(["unidentified"]);
        }
        row.id.iter().for_each(|id| recipient["trigger_id"] = json!(id));
        recipient
    };
    let recipients: Vec<Value> = group.iter().map(recipient).collect();
    let mut body = json!({"campaign_id": group[0].campaign, "recipients": recipients});
    if let Some((key, value)) = shared {
        body["trigger_properties"] = json!({key: value});
    }
    group[0].at.iter().for_each(|at| body["triggered_at"] = json!(format_micros(*at)));
    group[0].send_id.iter().for_each(|id| body["send_id"] = json!(id));
    body
}

/// How the properties stand in a Parquet file.
pub enum PropertiesAs<'a> {
    /// A column of JSON text.
    Json,
    /// A struct of these fields; each holds strings, integers or floats throughout.
    Struct(&'a [(&'a str, DataType)]),
}

/// Rows as flat Parquet.
pub fn parquet(rows: &[Row], properties: &PropertiesAs<'_>, group_rows: usize) -> Vec<u8> {
    let text = |cell: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(cell).collect::<StringArray>())
    };
    let identifier = |wanted: &'static str| {
        text(&move |row: &Row| {
            let (field, value) = row.who.field();
            (field == wanted).then(|| value.as_str().unwrap().to_owned())
        })
    };
    let mut times = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    rows.iter().for_each(|row| times.append_option(row.at));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("campaign_id", text(&|row| Some(row.campaign.clone()))),
        ("external_user_id", identifier("external_user_id")),
        ("braze_id", identifier("braze_id")),
        ("email", identifier("email")),
        ("user_alias", aliases(rows)),
        ("triggered_at", Arc::new(times.finish())),
        ("trigger_id", text(&|row| row.id.clone())),
        ("send_id", text(&|row| row.send_id.clone())),
        ("trigger_properties", property_column(rows, properties)),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, column)| column).collect()).unwrap();
    let options = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(options)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn aliases(rows: &[Row]) -> ArrayRef {
    let fields = ["alias_name", "alias_label"].map(|name| Field::new(name, DataType::Utf8, true));
    let mut builder = StructBuilder::from_fields(Fields::from(fields.to_vec()), rows.len());
    for row in rows {
        let parts = match &row.who {
            Who::Alias { label, name } => [Some(name), Some(label)],
            _ => [None, None],
        };
        for (index, part) in parts.iter().enumerate() {
            builder.field_builder::<StringBuilder>(index).unwrap().append_option(*part);
        }
        builder.append(parts[0].is_some());
    }
    Arc::new(builder.finish())
}

fn property_column(rows: &[Row], properties: &PropertiesAs<'_>) -> ArrayRef {
    let PropertiesAs::Struct(fields) = properties else {
        return Arc::new(rows.iter().map(|row| Some(json!(row.properties).to_string())).collect::<StringArray>());
    };
    let column = |name: &str, data_type: &DataType| -> ArrayRef {
        let values = rows.iter().map(|row| row.properties.get(name));
        match data_type {
            DataType::Int64 => Arc::new(values.map(|v| v?.as_i64()).collect::<Int64Array>()),
            DataType::Float64 => Arc::new(values.map(|v| v?.as_f64()).collect::<Float64Array>()),
            _ => Arc::new(values.map(|v| v?.as_str()).collect::<StringArray>()),
        }
    };
    let columns = fields
        .iter()
        .map(|(name, data_type)| (Arc::new(Field::new(*name, data_type.clone(), true)), column(name, data_type)));
    Arc::new(StructArray::from(columns.collect::<Vec<_>>()))
}

/// A temporary folder with campaigns, input, runs and states.
pub struct Site {
    dir: TempDir,
}

impl Site {
    pub fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("campaigns")).unwrap();
        Site { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and returns its path as an argument.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    /// Writes the definition of a campaign, in place of an earlier one of its id.
    pub fn campaign(&self, definition: &Value) {
        let id = definition["id"].as_str().unwrap();
        self.write(&format!("campaigns/{id}/campaign.json"), definition.to_string());
    }

    /// A stateless run of these inputs on the run clock, at the end of a day after every time that tests use.
    pub fn settings(&self, inputs: &[String]) -> RunSettings {
        RunSettings {
            input: InputOptions { split_bytes: 1 << 20, split_rows: 1 << 16, ..InputOptions::default() },
            new_state_id: 7,
            ..RunSettings::new(self.path("campaigns"), inputs.to_vec(), self.path("out"), at("2026-12-01T00:00:00Z"))
        }
    }

    /// A state folder of this site, made where it is missing.
    pub fn state(&self, name: &str) -> StateUse {
        StateUse::Folder { path: self.path(name), create: true }
    }
}

/// The real disk without waiting for it: what a test reads back is there without a sync, and hundreds of runs are quick.
struct Unsynced;

struct UnsyncedFile(Box<dyn DiskFile>);

impl Write for UnsyncedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DiskFile for UnsyncedFile {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Unsynced {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.create(path).map(|file| Box::new(UnsyncedFile(file)) as Box<dyn DiskFile>)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>> {
        RealDisk.open(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<DiskMetadata> {
        RealDisk.metadata(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        RealDisk.canonicalize(path)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        RealDisk.try_lock(path)
    }
}

/// Runs, and reads back everything that was published.
pub fn attempt(settings: &RunSettings) -> Result<Ran, Error> {
    let finished = run(Arc::new(Unsynced), settings, &())?;
    let folder = finished.published.expect("no dry run");
    let again = matches!(finished.outcome, RunOutcome::AlreadyCommitted { .. });
    let ran = Ran::read(folder, finished.exit_code, again);
    ran.check();
    Ok(ran)
}

/// [`attempt`], where nothing may go wrong.
pub fn commit(settings: &RunSettings) -> Ran {
    attempt(settings).unwrap_or_else(|error| panic!("{error}"))
}

/// A published run, read back.
#[derive(Debug)]
pub struct Ran {
    pub folder: PathBuf,
    pub exit_code: u8,
    /// Nothing was done: the run was there before.
    pub again: bool,
    pub summary: Value,
    pub decisions: Vec<Record>,
    /// The messages of all channels, in order of channel name, batch and row.
    pub messages: Vec<Record>,
    pub dropped: Vec<Record>,
    pub rejected: Vec<Value>,
    pub remainder: Vec<Value>,
}

impl Ran {
    fn read(folder: PathBuf, exit_code: u8, again: bool) -> Ran {
        let lines = |name: &str| -> Vec<Value> {
            let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let table = |name: &str| match folder.join(name) {
            path if path.exists() => read_parquet(&path),
            _ => Vec::new(),
        };
        let mut messages = Vec::new();
        for channel in sorted(&folder.join("deliveries")) {
            for batch in sorted(&channel) {
                match batch.extension().and_then(|e| e.to_str()) {
                    Some("parquet") => messages.extend(read_parquet(&batch)),
                    _ => messages.extend(read_ndjson(&batch)),
                }
            }
        }
        Ran {
            exit_code,
            again,
            summary: serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap(),
            decisions: table("decisions.parquet"),
            messages,
            dropped: table("dropped_messages.parquet"),
            rejected: lines("rejected.ndjson"),
            remainder: lines("remainder.ndjson"),
            folder,
        }
    }

    /// What holds of every run: its files are as its manifest says, its ledger balances and says what its tables hold,
    /// and no two messages have one dispatch id.
    fn check(&self) {
        verify(&self.folder).unwrap_or_else(|error| panic!("{error}"));
        let campaigns = self.summary["campaigns"].as_object().unwrap();
        for (id, counts) in campaigns.iter().chain([(&"all".to_owned(), &self.summary)]) {
            check_balance(id, counts);
        }
        assert_eq!(self.summary["triggers"], self.decisions.len());
        for outcome in ["sent", "control", "suppressed", "failed", "rejected", "out_of_scope"] {
            let rows = self.decisions.iter().filter(|d| d["outcome"].as_deref() == Some(outcome)).count();
            assert_eq!(sum(&self.summary[outcome]), rows as u64, "{outcome}");
        }
        assert_eq!(sum(&self.summary["messages"]), self.messages.len() as u64);
        assert_eq!(sum(&self.summary["messages_dropped"]), self.dropped.len() as u64);
        assert_eq!(sum(&self.summary["rejected"]), self.rejected.len() as u64);
        let ids: BTreeSet<_> = self.messages.iter().map(|m| m["dispatch_id"].as_deref().unwrap()).collect();
        assert_eq!(ids.len(), self.messages.len(), "two messages have one dispatch id");
        if self.summary["messages"] != json!({}) {
            let decided = self.decisions.iter().filter_map(|d| d["dispatch_ids"].as_deref());
            let decided: BTreeSet<_> = decided.flat_map(|ids| ids.split(',')).filter(|id| !id.is_empty()).collect();
            assert_eq!(ids, decided, "decisions name other messages than those delivered");
        }
        let bad = sum(&self.summary["rejected"]) + sum(&self.summary["failed"]);
        assert!(self.exit_code == 0 || self.exit_code == 3 && bad > 0, "exit {} with {bad} bad", self.exit_code);
    }

    /// Recipients of sent triggers, in source order.
    pub fn sent(&self) -> Vec<&str> {
        let sent = self.decisions.iter().filter(|d| d["outcome"].as_deref() == Some("sent"));
        sent.map(|d| d["recipient"].as_deref().unwrap()).collect()
    }

    /// Outcome, or reason where there is one, of each trigger in source order.
    pub fn fates(&self) -> Vec<&str> {
        self.decisions.iter().map(|d| d["reason"].as_deref().or(d["outcome"].as_deref()).unwrap()).collect()
    }

    #[track_caller]
    pub fn assert_sent<const N: usize>(&self, recipients: [&str; N]) -> &Ran {
        assert_eq!(self.sent(), recipients);
        self
    }

    #[track_caller]
    pub fn assert_suppressed(&self, reason: &str, count: u64) -> &Ran {
        assert_eq!(sum(&self.summary["suppressed"][reason]), count, "{}", self.summary["suppressed"]);
        self
    }

    /// The messages without what may differ between files and batches.
    pub fn messages_anywhere(&self) -> Vec<Record> {
        without(&self.messages, &["source", "batch_id"])
    }

    /// The decisions without where they stood.
    pub fn decisions_anywhere(&self) -> Vec<Record> {
        without(&self.decisions, &["source"])
    }

    /// Every file but the two that tell the time, byte for byte.
    pub fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = tree(&self.folder);
        files.retain(|name, _| name != "summary.json" && name != "manifest.json");
        files
    }
}

/// Records without these columns.
pub fn without(records: &[Record], columns: &[&str]) -> Vec<Record> {
    let mut records = records.to_vec();
    records.iter_mut().for_each(|record| record.retain(|name, _| !columns.contains(&name.as_str())));
    records
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn read_ndjson(path: &Path) -> Vec<Record> {
    let text = fs::read_to_string(path).unwrap();
    let record = |line: &str| {
        let object: Map<String, Value> = serde_json::from_str(line).unwrap();
        let cell = |(key, value): (String, Value)| match (key.as_str(), value) {
            (_, Value::Null) => (key, None),
            ("triggered_at", Value::String(time)) => (key, Some(at(&time).to_string())),
            (_, Value::String(text)) => (key, Some(text)),
            (_, other) => (key, Some(other.to_string())),
        };
        object.into_iter().map(cell).collect()
    };
    text.lines().map(record).collect()
}

/// The sum of all numbers of a value.
pub fn sum(value: &Value) -> u64 {
    match value {
        Value::Number(number) => number.as_u64().unwrap(),
        Value::Object(map) => map.values().map(sum).sum(),
        _ => 0,
    }
}

fn check_balance(id: &str, counts: &Value) {
    let parts = ["sent", "control", "suppressed", "failed", "rejected", "out_of_scope"];
    let total: u64 = parts.iter().map(|part| sum(&counts[*part])).sum();
    assert_eq!(sum(&counts["triggers"]), total, "the ledger of {id} does not balance: {counts}");
}

/// A few triggers of plain campaigns: every campaign that a trigger names exists and greets its recipient by e-mail.
pub struct Run {
    rows: Vec<Row>,
    campaign: Map<String, Value>,
    clock: Clock,
}

impl Run {
    pub fn new() -> Run {
        let Value::Object(campaign) = json!({
            "reeligibility": "never",
            "messages": {"email": {"subject": "Hi {{recipient}}", "body": "{{campaign.name}} for {{recipient}}"}},
        }) else {
            unreachable!()
        };
        Run { rows: Vec::new(), campaign, clock: Clock::Run }
    }

    pub fn reeligibility(self, rule: &str) -> Run {
        self.define("reeligibility", rule)
    }

    /// Sets a field of every campaign.
    pub fn define(mut self, field: &str, value: impl Into<Value>) -> Run {
        self.campaign.insert(field.to_owned(), value.into());
        self
    }

    /// Takes a field out of every campaign.
    pub fn without(mut self, field: &str) -> Run {
        self.campaign.remove(field);
        self
    }

    pub fn event_clock(mut self) -> Run {
        self.clock = Clock::Event;
        self
    }

    pub fn trigger(self, recipient: &str, campaign: &str, time: &str) -> Run {
        self.row(Row::new(recipient, campaign, time))
    }

    pub fn row(mut self, row: Row) -> Run {
        self.rows.push(row);
        self
    }

    pub fn run(&self) -> Ran {
        let site = Site::new();
        for row in &self.rows {
            let mut definition = self.campaign.clone();
            definition.insert("id".to_owned(), row.campaign.clone().into());
            site.campaign(&definition.into());
        }
        let input = site.write("in/triggers.ndjson", ndjson(&self.rows));
        let settings = site.settings(&[input]);
        commit(&RunSettings { clock: self.clock, ..settings })
    }
}

#[test]
fn a_second_trigger_inside_the_window_is_suppressed() {
    Run::new()
        .reeligibility("7d")
        .trigger("ada", "welcome", "2025-01-01")
        .trigger("ada", "welcome", "2025-01-03")
        .run()
        .assert_sent(["ada"])
        .assert_suppressed("within_window", 1);
}

#[test]
fn on_the_event_clock_a_week_later_is_another_receipt() {
    Run::new()
        .reeligibility("7d")
        .event_clock()
        .trigger("ada", "welcome", "2025-01-01")
        .trigger("ada", "welcome", "2025-01-07T23:59:59Z")
        .trigger("ada", "welcome", "2025-01-08")
        .run()
        .assert_sent(["ada", "ada"])
        .assert_suppressed("within_window", 1);
}
