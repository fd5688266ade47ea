//! Run folders on a real disk, on a disk that fails, and after somebody has damaged them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_select::concat::concat_batches;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression as Codec, Encoding};
use parquet::file::metadata::ParquetMetaData;
use tempfile::TempDir;

use super::*;
use crate::error::{Error, Kind};
use crate::ids::Digest;
use crate::pipeline::{DeliverySink, LinesFile, Table};
use crate::storage::{Disk, DiskFile, DiskLock, DiskMetadata, DiskRead, RealDisk};

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn message_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("dispatch_id", false),
        text("campaign_id", false),
        Field::new("triggered_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        text("trigger_id", true),
        text("body", true),
    ]))
}

/// Messages of these ordinals. Only the trigger ids of 100..200 are null, so most pieces have no null at all.
fn messages(ordinals: std::ops::Range<u64>) -> RecordBatch {
    let of = |f: &dyn Fn(u64) -> Option<String>| Arc::new(ordinals.clone().map(f).collect::<StringArray>()) as ArrayRef;
    let at = ordinals.clone().map(|i| 1_795_422_600_000_000 + i as i64).collect::<Vec<_>>();
    let columns = vec![
        of(&|i| Some(Digest::of(&i.to_le_bytes()).to_string())),
        of(&|i| Some(format!("campaign-{}", i % 3))),
        Arc::new(TimestampMicrosecondArray::from(at).with_timezone("UTC")),
        of(&|i| (!(100..200).contains(&i)).then(|| format!("order-{i}"))),
        of(&|i| Some(format!("<p>Hi ไลน์ \"{i}\"</p>"))),
    ];
    RecordBatch::try_new(message_schema(), columns).unwrap()
}

fn decision_schema() -> SchemaRef {
    let ids = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    Arc::new(Schema::new(vec![text("recipient", false), text("reason", true), Field::new("dispatch_ids", ids, true)]))
}

fn decisions(count: usize) -> RecordBatch {
    let mut ids = ListBuilder::new(StringBuilder::new());
    for i in 0..count {
        ids.values().append_value(Digest::of(&i.to_le_bytes()).to_string());
        ids.append(i % 2 == 0);
    }
    let recipients: StringArray = (0..count).map(|i| Some(format!("user-{i}"))).collect();
    let reasons: StringArray = (0..count).map(|i| (i % 4 == 0).then_some("within_window")).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(recipients), Arc::new(reasons), Arc::new(ids.finish())];
    RecordBatch::try_new(decision_schema(), columns).unwrap()
}

const PARQUET: DeliveryOptions =
    DeliveryOptions { format: Format::Parquet, compression: Compression::Zstd, batch_size: 40_000 };

fn ndjson(compression: Compression, batch_size: u64) -> DeliveryOptions {
    DeliveryOptions { format: Format::Ndjson, compression, batch_size }
}

fn channel(name: &str) -> ChannelSpec {
    ChannelSpec { name: name.into(), schema: message_schema() }
}

fn create_on(disk: Arc<dyn Disk>, dir: &Path, options: DeliveryOptions, channels: &[&str]) -> Result<RunFolder, Error> {
    let channels = channels.iter().map(|name| channel(name)).collect();
    RunFolder::create(disk, dir.to_owned(), options, channels, decision_schema(), decision_schema())
}

fn create(dir: &Path, options: DeliveryOptions, channels: &[&str]) -> Result<RunFolder, Error> {
    create_on(Arc::new(RealDisk), dir, options, channels)
}

/// Encodes the pieces on two threads, last piece first, and appends them in order.
fn put(folder: &mut RunFolder, pieces: Vec<Piece>) -> Result<(), Error> {
    let shared = &*folder;
    let mut encoded = std::thread::scope(|scope| {
        let handles: Vec<_> = pieces.into_iter().rev().map(|p| scope.spawn(move || shared.encode(p))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect::<Result<Vec<_>, _>>()
    })?;
    encoded.reverse();
    encoded.into_iter().try_for_each(|piece| folder.append(piece))
}

fn cut(folder: &mut RunFolder, table: Table, rows: RecordBatch) -> Result<(), Error> {
    let pieces = folder.cut(table, rows)?;
    put(folder, pieces)
}

fn finish(mut folder: RunFolder) -> Result<Vec<WrittenFile>, Error> {
    let pieces = folder.cut_rest()?;
    put(&mut folder, pieces)?;
    folder.close()
}

/// A folder with these messages in channel 0 and one of each other file.
fn write(dir: &Path, options: DeliveryOptions, arrivals: impl IntoIterator<Item = RecordBatch>) -> Vec<WrittenFile> {
    let mut folder = create(dir, options, &["email", "sms"]).unwrap();
    for rows in arrivals {
        cut(&mut folder, Table::Messages(0), rows).unwrap();
    }
    cut(&mut folder, Table::Decisions, decisions(9)).unwrap();
    folder.append_lines(LinesFile::Rejected, b"{\"line\":1}\n{\"line\":2}\n").unwrap();
    folder.write_file(Path::new("campaigns/welcome/campaign.json"), b"{}").unwrap();
    finish(folder).unwrap()
}

fn paths(files: &[WrittenFile]) -> Vec<(&str, u64)> {
    files.iter().map(|file| (file.path.as_str(), file.rows)).collect()
}

fn open(path: &Path) -> (Arc<ParquetMetaData>, RecordBatch) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let (metadata, schema) = (builder.metadata().clone(), builder.schema().clone());
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    (metadata, concat_batches(&schema, &batches).unwrap())
}

#[test]
fn bytes_do_not_depend_on_how_rows_arrive() {
    const ROWS: u64 = 60_000;
    let options = [PARQUET, ndjson(Compression::Zstd, 40_000), ndjson(Compression::Gzip, 1 << 40)];
    for options in options {
        let whole = messages(0..ROWS);
        let home = TempDir::new().unwrap();
        let expected = write(&home.path().join("whole"), options, [whole.clone()]);
        for step in [7, 997, 24_999, 25_000, 50_001] {
            let starts = || (0..ROWS).step_by(step as usize);
            let slices = starts().map(|s| whole.slice(s as usize, step.min(ROWS - s) as usize));
            let fresh = starts().map(|s| messages(s..(s + step).min(ROWS)));
            assert_eq!(write(&home.path().join(format!("slices-{step}")), options, slices), expected, "{step}");
            assert_eq!(write(&home.path().join(format!("fresh-{step}")), options, fresh), expected, "{step}");
        }
    }
}

#[test]
fn batches_hold_exactly_their_messages_and_read_back_with_their_id_second() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("run");
    let written = write(&dir, PARQUET, [messages(0..80_001)]);
    let expected = [
        ("campaigns/welcome/campaign.json", 0),
        ("decisions.parquet", 9),
        ("deliveries/email/batch-00000.parquet", 40_000),
        ("deliveries/email/batch-00001.parquet", 40_000),
        ("deliveries/email/batch-00002.parquet", 1),
        ("dropped_messages.parquet", 0),
        ("rejected.ndjson", 2),
        ("remainder.ndjson", 0),
    ];
    assert_eq!(paths(&written), expected);
    assert_eq!(written[2].kind, FileKind::Deliveries { channel: "email".into() });
    for (batch, ordinals) in [0..40_000, 40_000..80_000, 80_000..80_001].into_iter().enumerate() {
        let (metadata, mut rows) = open(&dir.join(format!("deliveries/email/batch-0000{batch}.parquet")));
        let groups: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, if batch < 2 { vec![25_000, 15_000] } else { vec![1] });
        let id = rows.remove_column(1);
        assert!(id.as_string::<i32>().iter().all(|id| id == Some(&format!("email-0000{batch}"))));
        assert_eq!(rows, messages(ordinals));
    }
    assert_eq!(open(&dir.join("decisions.parquet")).1, decisions(9));
    assert_eq!(verify_files(&dir, &written), []);
}

#[test]
fn random_ids_are_stored_plainly_and_repeating_words_once() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("run");
    write(&dir, PARQUET, [messages(0..1000)]);
    let (metadata, _) = open(&dir.join("deliveries/email/batch-00000.parquet"));
    let of = |metadata: &ParquetMetaData, column: &str| {
        let chunks = metadata.row_group(0).columns();
        let chunk = chunks.iter().find(|chunk| chunk.column_path().parts()[0] == column).unwrap();
        let dictionary = chunk.encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY);
        assert!(chunk.statistics().is_none() && chunk.offset_index_offset().is_none());
        (chunk.compression() == Codec::UNCOMPRESSED, dictionary)
    };
    assert_eq!(of(&metadata, "dispatch_id"), (true, false));
    assert_eq!(of(&metadata, "batch_id"), (false, true));
    assert_eq!(of(&metadata, "campaign_id"), (false, true));
    assert_eq!(of(&metadata, "body"), (false, false));
    let (metadata, _) = open(&dir.join("decisions.parquet"));
    assert_eq!(of(&metadata, "dispatch_ids"), (true, false));
    assert_eq!(of(&metadata, "reason"), (false, true));
    let kinds = metadata.row_group(0).columns().iter().map(|chunk| (chunk.column_type(), chunk.statistics().is_some()));
    assert!(kinds.clone().all(|(kind, statistics)| statistics == (kind != parquet::basic::Type::BYTE_ARRAY)));
}

#[test]
fn every_parquet_compression_reads_back() {
    let home = TempDir::new().unwrap();
    for compression in [Compression::Zstd, Compression::Snappy, Compression::Gzip, Compression::None] {
        let dir = home.path().join(format!("{compression:?}"));
        let written = write(&dir, DeliveryOptions { compression, ..PARQUET }, [messages(0..300)]);
        let (_, mut rows) = open(&dir.join("deliveries/email/batch-00000.parquet"));
        rows.remove_column(1);
        assert_eq!(rows, messages(0..300));
        assert_eq!(verify_files(&dir, &written), []);
    }
}

#[test]
fn lines_read_back_plain_and_as_concatenated_frames() {
    let unpack = |path: PathBuf| {
        let file = File::open(&path).unwrap();
        let mut text = String::new();
        match path.extension().and_then(|e| e.to_str()) {
            Some("zst") => zstd::Decoder::new(file).unwrap().read_to_string(&mut text),
            Some("gz") => flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text),
            _ => (&file).read_to_string(&mut text),
        }
        .unwrap();
        text
    };
    let home = TempDir::new().unwrap();
    for (compression, extension) in
        [(Compression::None, "ndjson"), (Compression::Zstd, "ndjson.zst"), (Compression::Gzip, "ndjson.gz")]
    {
        let dir = home.path().join(extension);
        let written = write(&dir, ndjson(compression, 30_000), [messages(0..30_001)]);
        let first = unpack(dir.join(format!("deliveries/email/batch-00000.{extension}")));
        assert_eq!(first.lines().count(), 30_000);
        let line: serde_json::Value = serde_json::from_str(first.lines().nth(150).unwrap()).unwrap();
        let expected = serde_json::json!({
            "dispatch_id": Digest::of(&150_u64.to_le_bytes()).to_string(), "batch_id": "email-00000",
            "campaign_id": "campaign-0", "triggered_at": "2026-11-23T08:30:00.00015Z", "trigger_id": null,
            "body": "<p>Hi ไลน์ \"150\"</p>",
        });
        assert_eq!(line.to_string(), expected.to_string(), "with the keys in column order");
        assert_eq!(unpack(dir.join(format!("deliveries/email/batch-00001.{extension}"))).lines().count(), 1);
        assert_eq!(verify_files(&dir, &written), []);
    }
}

#[test]
fn a_run_without_rows_has_every_table_and_no_channel() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("a/b/run");
    let mut folder = create(&dir, PARQUET, &["email"]).unwrap();
    cut(&mut folder, Table::Messages(0), messages(0..0)).unwrap();
    let written = finish(folder).unwrap();
    let expected =
        [("decisions.parquet", 0), ("dropped_messages.parquet", 0), ("rejected.ndjson", 0), ("remainder.ndjson", 0)];
    assert_eq!(paths(&written), expected);
    assert!(!dir.join("deliveries").exists());
    let (metadata, rows) = open(&dir.join("decisions.parquet"));
    assert_eq!((metadata.num_row_groups(), rows.schema().fields()), (0, decision_schema().fields()));
    assert_eq!(verify_files(&dir, &written), []);
}

#[test]
fn hostile_channel_names_stay_in_folders_of_their_own() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("run");
    let names = ["..", ".", "a/b", "/etc", "ไลน์", "a%2Fb", "-"];
    let mut folder = create(&dir, PARQUET, &names).unwrap();
    for i in 0..names.len() {
        cut(&mut folder, Table::Messages(i), messages(0..1)).unwrap();
    }
    let written = finish(folder).unwrap();
    let kinds = written.iter().filter_map(|file| match &file.kind {
        FileKind::Deliveries { channel } => Some((channel.as_str(), file.path.matches('/').count())),
        _ => None,
    });
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort_unstable();
    let mut expected: Vec<_> = names.iter().map(|name| (*name, 2)).collect();
    expected.sort_unstable();
    assert_eq!(kinds, expected);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing beside the run");
    assert_eq!(fs::read_dir(dir.join("deliveries")).unwrap().count(), names.len());
    assert_eq!(verify_files(&dir, &written), []);
}

#[test]
fn what_cannot_be_written_is_refused_before_anything_is_created() {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("run");
    let kind = |result: Result<RunFolder, Error>| result.err().map(|error| error.kind);
    assert_eq!(kind(create(&dir, ndjson(Compression::Snappy, 1), &[])), Some(Kind::Usage));
    assert_eq!(kind(create(&dir, DeliveryOptions { batch_size: 0, ..PARQUET }, &[])), Some(Kind::Usage));
    assert_eq!(kind(create(&dir, PARQUET, &[""])), Some(Kind::Definition));
    assert_eq!(kind(create(&dir, PARQUET, &[&"ไ".repeat(29)])), Some(Kind::Definition));
    assert_eq!(kind(create(&dir, PARQUET, &["email", "email"])), Some(Kind::Internal));
    let with = |fields: Vec<Field>, options| {
        let channels = vec![ChannelSpec { name: "email".into(), schema: Arc::new(Schema::new(fields)) }];
        let disk = Arc::new(RealDisk);
        kind(RunFolder::create(disk, dir.clone(), options, channels, decision_schema(), decision_schema()))
    };
    let id = || text("dispatch_id", false);
    assert_eq!(with(vec![text("body", false)], PARQUET), Some(Kind::Internal));
    assert_eq!(with(vec![id(), text("subject", false), text("subject", true)], PARQUET), Some(Kind::Definition));
    assert_eq!(with(vec![id(), text("batch_id", false)], PARQUET), Some(Kind::Definition));
    let float = Field::new("price", DataType::Float64, false);
    assert_eq!(with(vec![id(), float], ndjson(Compression::None, 1)), Some(Kind::Internal));
    assert!(!dir.exists());
    fs::create_dir(&dir).unwrap();
    assert_eq!(kind(create(&dir, PARQUET, &["email"])), None, "an empty folder will do");
    fs::write(dir.join("old"), "").unwrap();
    assert_eq!(kind(create(&dir, PARQUET, &["email"])), Some(Kind::Output));
}

#[test]
fn calls_out_of_order_are_errors_and_write_nothing_wrong() {
    let home = TempDir::new().unwrap();
    let internal = |result: Result<(), Error>| assert_eq!(result.unwrap_err().kind, Kind::Internal);
    let fresh =
        |name: &str| create(&home.path().join(name), DeliveryOptions { batch_size: 1, ..PARQUET }, &["email"]).unwrap();

    let mut folder = fresh("order");
    let mut pieces = folder.cut(Table::Messages(0), messages(0..2)).unwrap();
    let second = folder.encode(pieces.pop().unwrap()).unwrap();
    internal(folder.append(second));
    internal(folder.seal().map(drop));

    let mut folder = fresh("uncut");
    assert_eq!(folder.cut(Table::Decisions, decisions(3)).unwrap().len(), 0);
    internal(folder.close().map(drop));

    let mut folder = fresh("schema");
    internal(folder.cut(Table::Messages(0), decisions(1)).map(drop));
    internal(folder.cut(Table::Messages(1), messages(0..1)).map(drop));
    internal(folder.append_lines(LinesFile::Rejected, b"{}"));

    let mut folder = fresh("sealed");
    assert_eq!(folder.seal().unwrap().len(), 4);
    internal(cut(&mut folder, Table::Decisions, decisions(1)));
    internal(folder.append_lines(LinesFile::Remainder, b"{}\n"));
    folder.write_file(Path::new("summary.json"), b"{}").unwrap();
    internal(folder.write_file(Path::new("summary.json"), b"{}"));
    internal(folder.write_file(Path::new("rejected.ndjson"), b""));
    for outside in ["../x", "/x", "a/../../x", "", "."] {
        internal(folder.write_file(Path::new(outside), b""));
    }
    assert_eq!(folder.close().unwrap().len(), 5);
}

/// A disk on which the operation after `left` others fails, and every one after it.
struct FailingDisk {
    left: Arc<AtomicUsize>,
}

fn spend(left: &AtomicUsize) -> io::Result<()> {
    match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) {
        Ok(_) => Ok(()),
        Err(_) => Err(io::ErrorKind::StorageFull.into()),
    }
}

struct FailingFile {
    file: Box<dyn DiskFile>,
    left: Arc<AtomicUsize>,
}

impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        spend(&self.left)?;
        self.file.write(&bytes[..bytes.len().min(500)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for FailingFile {
    fn sync(&mut self) -> io::Result<()> {
        spend(&self.left)?;
        self.file.sync()
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        spend(&self.left)?;
        Ok(Box::new(FailingFile { file: RealDisk.create(path)?, left: self.left.clone() }))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        spend(&self.left)?;
        RealDisk.create_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        spend(&self.left)?;
        RealDisk.sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
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

fn write_on(disk: Arc<dyn Disk>, dir: &Path, options: DeliveryOptions) -> Result<Vec<WrittenFile>, Error> {
    let mut folder = create_on(disk, dir, options, &["email"])?;
    cut(&mut folder, Table::Messages(0), messages(0..7))?;
    cut(&mut folder, Table::Decisions, decisions(9))?;
    folder.append_lines(LinesFile::Rejected, b"{}\n")?;
    folder.write_file(Path::new("campaigns/a/campaign.json"), b"{}")?;
    finish(folder)
}

#[test]
fn a_disk_that_fills_at_any_moment_gives_an_error_that_names_the_file() {
    for options in [DeliveryOptions { batch_size: 4, ..PARQUET }, ndjson(Compression::None, 4)] {
        let home = TempDir::new().unwrap();
        let expected = write_on(Arc::new(RealDisk), &home.path().join("whole"), options).unwrap();
        let mut failures = 0;
        let written = loop {
            let dir = home.path().join(failures.to_string());
            let disk = FailingDisk { left: Arc::new(AtomicUsize::new(failures)) };
            match write_on(Arc::new(disk), &dir, options) {
                Ok(written) => break written,
                Err(error) => {
                    assert_eq!(error.kind, Kind::Output);
                    assert!(error.summary.contains(&format!("`{}", dir.display())), "{error}");
                    assert!(error.hint.is_some_and(|hint| hint.contains("disk is full")));
                    failures += 1;
                }
            }
        };
        assert!(failures > 30, "only {failures} places to fail");
        assert_eq!(written, expected, "short writes change nothing");
    }
}

/// A small written folder, and what is wrong with it after `damage`.
fn faults_after(damage: impl FnOnce(&Path, &mut Vec<WrittenFile>)) -> Vec<String> {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("run");
    let mut written = write(&dir, DeliveryOptions { batch_size: 5, ..PARQUET }, [messages(0..7)]);
    damage(&dir, &mut written);
    let prefix = format!("{}/", dir.display());
    let faults = verify_files(&dir, &written).into_iter();
    faults.map(|fault| format!("{} {}", fault.file.strip_prefix(&prefix).unwrap(), fault.message)).collect()
}

fn relist(dir: &Path, file: &mut WrittenFile) {
    let content = fs::read(dir.join(&file.path)).unwrap();
    (file.bytes, file.checksum) = (content.len() as u64, Digest::of(&content));
}

const BATCH: &str = "deliveries/email/batch-00001.parquet";

fn batch(written: &mut [WrittenFile]) -> &mut WrittenFile {
    written.iter_mut().find(|file| file.path == BATCH).unwrap()
}

#[test]
fn an_untouched_folder_has_no_faults_and_its_manifest_is_none() {
    assert_eq!(faults_after(|dir, _| fs::write(dir.join("manifest.json"), "{}").unwrap()), Vec::<String>::new());
}

#[test]
fn truncated_flipped_missing_and_additional_files_are_named() {
    let truncated = faults_after(|dir, _| {
        let file = File::options().write(true).open(dir.join(BATCH)).unwrap();
        file.set_len(100).unwrap();
    });
    assert!(matches!(&truncated[..], [f] if f.starts_with(&format!("{BATCH} has 100 bytes; "))), "{truncated:?}");
    let flipped = faults_after(|dir, _| {
        let mut content = fs::read(dir.join(BATCH)).unwrap();
        content[50] ^= 1;
        fs::write(dir.join(BATCH), content).unwrap();
    });
    assert!(matches!(&flipped[..], [f] if f.starts_with(&format!("{BATCH} has the checksum "))), "{flipped:?}");
    let missing = faults_after(|dir, _| fs::remove_file(dir.join(BATCH)).unwrap());
    assert_eq!(missing, [format!("{BATCH} is listed, but is not there")]);
    let additional = faults_after(|dir, _| {
        fs::write(dir.join("deliveries/email/batch-00002.parquet"), "").unwrap();
        fs::write(dir.join("campaigns/manifest.json"), "").unwrap();
    });
    let expected = [
        "campaigns/manifest.json is not listed: no run wrote it",
        "deliveries/email/batch-00002.parquet is not listed: no run wrote it",
    ];
    assert_eq!(additional, expected);
}

#[test]
fn a_list_that_lies_is_found_out() {
    let rows = faults_after(|_, written| batch(written).rows = 3);
    assert_eq!(rows, [format!("{BATCH} has 2 rows; 3 were written")]);
    let twice = faults_after(|_, written| {
        let again = batch(written).clone();
        written.push(again);
    });
    assert_eq!(twice, [format!("{BATCH} is listed twice")]);
    let foreign = faults_after(|_, written| batch(written).path = "../run/rejected.ndjson".into());
    assert_eq!(foreign.len(), 2, "{foreign:?}");
    assert!(foreign[0].ends_with("lies outside the run folder"));
    let folder = faults_after(|_, written| batch(written).path = "deliveries".into());
    assert!(folder[0].ends_with("is not a regular file"), "{folder:?}");
    let open_end = faults_after(|dir, written| {
        fs::write(dir.join("rejected.ndjson"), "{}\n{}").unwrap();
        relist(dir, written.iter_mut().find(|file| file.path == "rejected.ndjson").unwrap());
    });
    assert_eq!(open_end, ["rejected.ndjson cannot be decoded: the last line has no end"]);
}

#[test]
fn damage_under_a_matching_checksum_is_a_fault_or_harmless_but_never_a_panic() {
    let mut found = 0;
    faults_after(|dir, written| {
        let mut listed = batch(written).clone();
        let content = fs::read(dir.join(BATCH)).unwrap();
        for position in 0..content.len() {
            let mut damaged = content.clone();
            damaged[position] ^= 0x55;
            fs::write(dir.join(BATCH), damaged).unwrap();
            relist(dir, &mut listed);
            found += verify_files(dir, std::slice::from_ref(&listed)).iter().any(|f| f.file.ends_with(BATCH)) as usize;
        }
    });
    assert!(found > 100, "only {found}");
}

#[test]
fn a_cut_off_frame_is_a_fault_even_where_the_list_agrees() {
    let home = TempDir::new().unwrap();
    for compression in [Compression::Zstd, Compression::Gzip] {
        let dir = home.path().join(format!("{compression:?}"));
        let mut written = write(&dir, ndjson(compression, 100), [messages(0..50)]);
        let position = written.iter().position(|file| file.path.starts_with("deliveries/")).unwrap();
        let place = dir.join(&written[position].path);
        let content = fs::read(&place).unwrap();
        fs::write(&place, &content[..content.len() - 5]).unwrap();
        relist(&dir, &mut written[position]);
        let faults = verify_files(&dir, &written);
        assert!(matches!(&faults[..], [f] if f.message.starts_with("cannot be decoded")), "{faults:?}");
    }
}
