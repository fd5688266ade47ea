//! Tests of the state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::*;
use crate::error::{Error, Kind, Result};
use crate::ids::{BUCKETS, Digest, DispatchId};
use crate::pipeline::{ReceiptSource, StoredOutcome};
use crate::storage::testing::{FailingDisk, Step};
use crate::storage::{Disk, RealDisk};
use crate::triggers::{Recipient, RecipientKind};

const DAY: i64 = 86_400_000_000;

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn open(dir: &Path) -> Result<State> {
    State::open(disk(), dir)
}

fn init(dir: &Path) -> State {
    State::init(disk(), dir, 7).unwrap()
}

fn error_of<T>(result: Result<T>) -> Error {
    result.err().expect("expected an error")
}

/// Numbers that look random and are the same every time (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

/// A receipt whose other fields follow from its number, so that a mix-up of rows shows.
fn receipt(number: u64, campaign: &str, received_at: i64) -> Receipt {
    let recipient = Recipient::external(format!("u-{number}"));
    let control = number % 10 == 9;
    Receipt {
        key: recipient.key_hash(),
        campaign_id: campaign.into(),
        kind: RecipientKind::ExternalUserId,
        recipient: recipient.id.into_owned(),
        received_at,
        outcome: if control { StoredOutcome::Control } else { StoredOutcome::Sent },
        variant: (number % 3 == 0).then(|| "short".into()),
        channels: (0..if control { 0 } else { 1 + number % 2 })
            .map(|c| (["email", "push"][c as usize].into(), DispatchId(u128::from(number * 2 + c))))
            .collect(),
        trigger_hash: (number % 4 == 0).then_some(number),
    }
}

fn random_receipts(numbers: &mut Numbers, count: u64) -> Vec<Receipt> {
    let one = |_| {
        let (number, campaign) = (numbers.below(500), ["a", "b", "c"][numbers.below(3) as usize]);
        receipt(number, campaign, numbers.below(1000) as i64 * DAY)
    };
    (0..count).map(one).collect()
}

fn run_record(run_id: &str) -> RunRecord {
    let digest = Digest::of(run_id.as_bytes());
    RunRecord { run_id: run_id.into(), config_digest: digest, exit_code: 0, out: "/out".into(), inputs: vec![digest] }
}

fn windows(window: Window) -> BTreeMap<String, Window> {
    ["a", "b", "c"].map(|id| (id.to_owned(), window)).into()
}

fn commit(state: &mut State, run_id: &str, receipts: Vec<Receipt>) {
    let staged = state.stage(receipts, run_record(run_id), &windows(Window::Seconds(86_400))).unwrap();
    state.commit(staged, None).unwrap();
}

/// What deciding gets to see of a receipt.
type Seen = ([u8; 16], String, i64, &'static str, Option<String>, Option<u64>);

fn seen(receipt: &Receipt) -> Seen {
    let variant = receipt.variant.as_deref().map(str::to_owned);
    let (key, campaign) = (receipt.key.to_bytes(), receipt.campaign_id.to_string());
    (key, campaign, receipt.received_at, receipt.outcome.code(), variant, receipt.trigger_hash)
}

fn sorted<T: Ord>(rows: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut rows: Vec<T> = rows.into_iter().collect();
    rows.sort();
    rows
}

/// Every receipt of these buckets as a run reads it.
fn read_buckets(receipts: &Receipts, buckets: &[bool]) -> Result<Vec<Seen>> {
    let mut rows = Vec::new();
    for piece in 0..receipts.pieces() {
        receipts.read(piece, buckets, &mut |r| {
            let variant = r.variant.map(str::to_owned);
            let (key, campaign) = (r.key.to_bytes(), r.campaign_id.to_owned());
            rows.push((key, campaign, r.received_at, r.outcome.code(), variant, r.trigger_hash));
        })?;
    }
    Ok(rows)
}

fn read(state: &State) -> Result<Vec<Seen>> {
    read_buckets(state.receipts(), &[true; BUCKETS]).map(sorted)
}

fn whole_file(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let (schema, batches) = (reader.schema().clone(), reader.build().unwrap());
    concat_batches(&schema, &batches.collect::<Result<Vec<_>, _>>().unwrap()).unwrap()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    RealDisk.list(dir).unwrap().into_iter().map(name).collect()
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for path in RealDisk.list(from).unwrap() {
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// A closed state of some generations, its folder and the receipts in it.
fn some_state() -> (TempDir, Vec<Seen>) {
    let folder = tempfile::tempdir().unwrap();
    let mut state = init(folder.path());
    let mut numbers = Numbers(3);
    let mut all = Vec::new();
    for (run, count) in [400, 120, 30].into_iter().enumerate() {
        let receipts = random_receipts(&mut numbers, count);
        all.extend(receipts.iter().map(seen));
        commit(&mut state, &format!("run-{run}"), receipts);
    }
    (folder, sorted(all))
}

#[test]
fn a_state_is_open_once_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = init(folder.path());
    let busy = error_of(open(folder.path()));
    assert_eq!((busy.kind, busy.hint.is_some()), (Kind::Busy, true));
    drop(first);
    let second = open(folder.path()).unwrap();
    assert_eq!(error_of(open(folder.path())).kind, Kind::Busy);
    drop(second);
    open(folder.path()).unwrap();
}

#[test]
fn a_missing_state_is_an_error_that_says_how_to_begin_one() {
    let folder = tempfile::tempdir().unwrap();
    let error = error_of(open(&folder.path().join("sate")));
    assert_eq!(error.kind, Kind::State);
    assert!(error.to_string().contains("state init"), "{error}");
    assert!(!folder.path().join("sate").exists());
}

#[test]
fn init_takes_a_missing_or_empty_folder_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    drop(init(&folder.path().join("deep").join("new")));
    let held = folder.path().join("deep").join("new");
    assert!(error_of(State::init(disk(), &held, 8)).summary.contains("holds a state already"));
    assert_eq!(open(&held).unwrap().manifest().state_id, format!("{:032x}", 7));

    for foreign in ["notes.txt", "receipts-00000001.parquet"] {
        let dir = folder.path().join(format!("with {foreign}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(foreign), "x").unwrap();
        assert!(error_of(State::init(disk(), &dir, 8)).summary.contains("is not empty"), "{foreign}");
        assert_eq!(names(&dir), BTreeSet::from([foreign.to_owned()]));
    }
}

#[test]
fn a_crashed_init_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let failing: Arc<dyn Disk> = Arc::new(FailingDisk::new(|step, _| step == Step::Rename));
    assert_eq!(error_of(State::init(failing, folder.path(), 1)).kind, Kind::State);
    assert_eq!(init(folder.path()).manifest().generation, 0);
}

#[test]
fn a_commit_is_there_with_every_column_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = init(folder.path());
    let mut receipts: Vec<Receipt> = (0..200).map(|n| receipt(n, "a", n as i64)).collect();
    commit(&mut state, "run-1", receipts.clone());
    let written = sorted(receipts.iter().map(seen));
    assert_eq!(read(&state).unwrap(), written);
    let manifest = state.manifest().clone();
    drop(state);
    let state = open(folder.path()).unwrap();
    assert_eq!(read(&state).unwrap(), written);
    assert_eq!(state.manifest(), &manifest);
    assert_eq!((manifest.generation, manifest.runs[0].run_id.as_str()), (1, "run-1"));
    assert_eq!((manifest.files[0].oldest, manifest.files[0].newest), (0, 199));

    super::receipts::sort(&mut receipts);
    let expected = super::receipts::batch(&receipts, "run-1").unwrap();
    let found = whole_file(&folder.path().join(&manifest.files[0].name));
    assert_eq!(found.columns(), expected.columns());
    let names = |rows: &RecordBatch| rows.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
}

#[test]
fn a_run_without_receipts_is_a_generation_without_a_new_file() {
    let (folder, all) = some_state();
    let mut state = open(folder.path()).unwrap();
    let files = state.manifest().files.clone();
    commit(&mut state, "empty", Vec::new());
    drop(state);
    let state = open(folder.path()).unwrap();
    assert_eq!((state.manifest().generation, &state.manifest().files), (4, &files));
    assert_eq!(read(&state).unwrap(), all);
}

#[test]
fn after_many_commits_there_are_few_files_in_order_and_no_receipt_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = init(folder.path());
    let mut numbers = Numbers(1);
    let (mut all, mut rewritten) = (Vec::new(), 0);
    for run in 0..60 {
        // Sizes over four orders of magnitude: small after large makes deltas, large after small makes merges.
        let most = 10u64.pow(numbers.below(4) as u32);
        let count = 1 + numbers.below(most);
        let receipts = random_receipts(&mut numbers, count);
        all.extend(receipts.iter().map(seen));
        commit(&mut state, &format!("run-{run}"), receipts);
        let files = &state.manifest().files;
        assert!(files.len() <= 9, "{} files after run {run}", files.len());
        rewritten += files.last().unwrap().rows;
    }
    assert!(rewritten < all.len() as u64 * 8, "{rewritten} rows were written for {}", all.len());
    let all = sorted(all);
    assert_eq!(read(&state).unwrap(), all);
    state.verify().unwrap();
    for record in &state.manifest().files {
        let file = Receipts::open(folder.path(), std::slice::from_ref(record)).unwrap();
        let rows = read_buckets(&file, &[true; BUCKETS]).unwrap();
        assert_eq!(rows.len() as u64, record.rows);
        assert!(rows.is_sorted_by_key(|r| (r.0, r.1.clone(), r.2)), "{}", record.name);
        let times = || rows.iter().map(|r| r.2);
        assert_eq!((times().min(), times().max()), (Some(record.oldest), Some(record.newest)), "{}", record.name);
    }
    let overview = state.overview().unwrap();
    assert_eq!((overview.receipts, overview.runs, overview.generation), (all.len() as u64, 60, 60));
    assert_eq!(overview.campaigns.values().map(|c| c.receipts).sum::<u64>(), all.len() as u64);
    let files = state.manifest().files.iter().map(|f| f.name.clone());
    let expected: BTreeSet<String> = files.chain(["lock".to_owned(), "manifest.json".to_owned()]).collect();
    drop(state);
    assert_eq!(names(folder.path()), expected);
    assert_eq!(read(&open(folder.path()).unwrap()).unwrap(), all);
}

#[test]
fn the_bytes_of_a_file_do_not_depend_on_the_order_of_receipts() {
    let bytes = |mut receipts: Vec<Receipt>, reversed: bool| {
        let folder = tempfile::tempdir().unwrap();
        let mut state = init(folder.path());
        if reversed {
            receipts.reverse();
        }
        commit(&mut state, "run", receipts);
        fs::read(folder.path().join(&state.manifest().files[0].name)).unwrap()
    };
    let mut receipts: Vec<Receipt> = (0..300).map(|n| receipt(n, "a", 5)).collect();
    // The same recipient, campaign and instant, told apart by the trigger alone.
    receipts.extend((0..300).map(|n| Receipt { trigger_hash: Some(1000 + n), ..receipt(1, "a", 5) }));
    assert_eq!(bytes(receipts.clone(), false), bytes(receipts, true));
}

#[test]
fn opening_removes_what_crashed_runs_left_and_nothing_else() {
    let (folder, all) = some_state();
    let before = names(folder.path());
    let leftovers = ["receipts-00000004.parquet", "receipts-00000000.parquet", "manifest.json.next"];
    let foreign = [
        "receipts-20250101.parquet",
        "receipts-4.parquet",
        "receipts-old.parquet",
        "manifest.json.bak",
        "notes",
        "sub",
    ];
    for name in leftovers.iter().chain(&foreign[..5]) {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    fs::create_dir(folder.path().join("sub")).unwrap();
    assert_eq!(read(&open(folder.path()).unwrap()).unwrap(), all);
    let expected: BTreeSet<String> = before.into_iter().chain(foreign.map(str::to_owned)).collect();
    assert_eq!(names(folder.path()), expected);
}

#[test]
fn a_manifest_cut_at_any_length_is_an_error_that_names_it() {
    let (folder, all) = some_state();
    let path = folder.path().join("manifest.json");
    let whole = fs::read(&path).unwrap();
    let manifest = open(folder.path()).unwrap().manifest().clone();
    for length in 0..whole.len() {
        match StateManifest::open(&path, &whole[..length]) {
            // All but the last line feed is all.
            Ok((found, _)) => assert_eq!((length, &found), (whole.len() - 1, &manifest)),
            Err(error) => assert!(error.kind == Kind::State && error.summary.contains("manifest.json"), "{error}"),
        }
    }
    let file = fs::File::options().write(true).open(&path).unwrap();
    for length in [whole.len() - 1, whole.len() / 2, 0] {
        file.set_len(length as u64).unwrap();
        match open(folder.path()) {
            Ok(state) => assert_eq!((length, read(&state).unwrap()), (whole.len() - 1, all.clone())),
            Err(error) => assert!(error.kind == Kind::State && error.summary.contains("manifest.json"), "{error}"),
        }
    }
}

#[test]
fn a_manifest_with_any_byte_flipped_is_an_error_that_names_it_or_the_same() {
    let (folder, _) = some_state();
    let path = folder.path().join("manifest.json");
    let whole = fs::read(&path).unwrap();
    let manifest = open(folder.path()).unwrap().manifest().clone();
    let mut opened = 0;
    for (place, bit) in (0..whole.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << bit;
        match StateManifest::open(&path, &bytes) {
            Ok((found, _)) => {
                assert_eq!(found, manifest, "byte {place}, bit {bit}");
                opened += 1;
            }
            Err(error) => assert!(error.kind == Kind::State && error.summary.contains("manifest.json"), "{error}"),
        }
    }
    // Hex digits of the checksum are the same in upper case.
    assert!(opened <= 32, "{opened} flips were not noticed");
}

/// Opens a damaged state and reads all of it: the error, or the receipts.
fn read_damaged(dir: &Path) -> Result<Vec<Seen>> {
    read(&open(dir)?)
}

#[test]
fn a_receipt_file_cut_anywhere_is_an_error_that_names_it() {
    let (folder, _) = some_state();
    let record = open(folder.path()).unwrap().manifest().files[0].clone();
    let path = folder.path().join(&record.name);
    let whole = fs::metadata(&path).unwrap().len() as usize;
    // In place: a file that is written anew is flushed by some file systems, which takes most of the test's time.
    let file = fs::File::options().write(true).open(&path).unwrap();
    for length in (0..whole).rev().step_by(whole / 200) {
        file.set_len(length as u64).unwrap();
        let error = error_of(read_damaged(folder.path()));
        assert!(error.kind == Kind::State && error.to_string().contains(&record.name), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = error_of(open(folder.path()));
    assert!(error.to_string().contains(&record.name), "{error}");
}

#[test]
fn a_flipped_bit_in_a_receipt_file_is_never_read_past() {
    let (folder, all) = some_state();
    let records = open(folder.path()).unwrap().manifest().files.clone();
    assert!(records.len() > 1);
    let mut numbers = Numbers(5);
    for record in &records {
        let path = folder.path().join(&record.name);
        let whole = fs::read(&path).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        // Every other byte of the footer, and many of the rest.
        let footer = (whole.len().saturating_sub(2_000)..whole.len()).step_by(2);
        let places: Vec<usize> = footer.chain((0..300).map(|_| numbers.below(whole.len() as u64) as usize)).collect();
        for place in places {
            let flipped = whole[place] ^ (1 << numbers.below(8));
            file.write_all_at(&[flipped], place as u64).unwrap();
            let named = |error: Error| {
                assert!(error.kind == Kind::State && error.to_string().contains(&record.name), "byte {place}: {error}");
            };
            match open(folder.path()) {
                Err(error) => named(error),
                Ok(state) => {
                    named(error_of(read(&state)));
                    if place % 8 == 0 {
                        named(error_of(state.verify()));
                    }
                }
            }
            file.write_all_at(&whole[place..=place], place as u64).unwrap();
        }
    }
    assert_eq!(read_damaged(folder.path()).unwrap(), all);
}

#[test]
fn damage_is_found_even_where_no_bucket_of_the_file_is_asked_for() {
    let (folder, _) = some_state();
    let record = open(folder.path()).unwrap().manifest().files[0].clone();
    let path = folder.path().join(&record.name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    let state = open(folder.path()).unwrap();
    // Statistics cannot be believed either: they could hide the bucket.
    let error = error_of(read_buckets(state.receipts(), &[false; BUCKETS]));
    assert!(error.summary.contains(&record.name), "{error}");
}

#[test]
fn a_damaged_file_is_not_merged_into_a_sound_one() {
    let (folder, _) = some_state();
    let record = open(folder.path()).unwrap().manifest().files.last().unwrap().clone();
    let path = folder.path().join(&record.name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, bytes).unwrap();
    let state = open(folder.path()).unwrap();
    let before = names(folder.path());
    let many = random_receipts(&mut Numbers(9), 5_000);
    let error = error_of(state.stage(many, run_record("next"), &windows(Window::Never)));
    assert!(error.summary.contains(&record.name), "{error}");
    assert_eq!(names(folder.path()), before, "the unfinished file is gone");
}

#[test]
fn verify_names_every_damaged_file_at_once_and_looks_at_the_disk_each_time() {
    let (folder, _) = some_state();
    let state = open(folder.path()).unwrap();
    state.verify().unwrap();
    let paths: Vec<PathBuf> = state.manifest().files.iter().map(|f| folder.path().join(&f.name)).collect();
    for path in &paths {
        let mut bytes = fs::read(path).unwrap();
        bytes[50] ^= 4;
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(error_of(state.verify()).faults.len(), paths.len());
}

#[test]
fn reading_one_bucket_skips_the_row_groups_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = init(folder.path());
    let receipts: Vec<Receipt> = (0..300_000).map(|n| receipt(n, "a", 0)).collect();
    let all: Vec<Seen> = receipts.iter().map(seen).collect();
    commit(&mut state, "run", receipts);
    let receipts = state.receipts();
    assert_eq!(receipts.pieces(), 5);
    for bucket in [0, 100, 255] {
        let mut buckets = [false; BUCKETS];
        buckets[bucket] = true;
        let pieces = (0..receipts.pieces()).filter(|piece| receipts.may_hold(*piece, &buckets)).count();
        assert!((1..=2).contains(&pieces), "bucket {bucket} in {pieces} of 5 row groups");
        let expected = sorted(all.iter().filter(|r| usize::from(r.0[0]) == bucket).cloned());
        assert_eq!(sorted(read_buckets(receipts, &buckets).unwrap()), expected);
    }
    let only = |bucket| std::array::from_fn::<bool, BUCKETS, _>(|i| i == bucket);
    let spanned = |piece| (0..BUCKETS).filter(|bucket| receipts.may_hold(piece, &only(*bucket))).count();
    assert!((0..5).all(|piece| spanned(piece) < 60), "each row group spans about a fifth of the buckets");
}

#[test]
fn row_groups_are_of_equal_size_also_after_a_merge() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = init(folder.path());
    let mut next = 0;
    for (count, groups) in [(1_000, 1), (70_000, 2), (65_000, 3)] {
        let receipts = (next..next + count).map(|n| receipt(n, "a", 0)).collect();
        next += count;
        commit(&mut state, &format!("run-{count}"), receipts);
        let [record] = &state.manifest().files[..] else { panic!("merged into one") };
        let file = fs::File::open(folder.path().join(&record.name)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let rows: Vec<i64> = reader.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
        assert_eq!((rows.len(), rows.iter().sum::<i64>()), (groups, next as i64));
        assert!(rows.iter().all(|r| *r >= 16_384.min(next as i64)), "{rows:?}");
    }
}

#[test]
fn a_state_knows_every_generation_it_descends_from_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = init(folder.path());
    let mut links = vec![(0, state.digest().to_owned())];
    for run in 1..=5u64 {
        commit(&mut state, &format!("run-{run}"), vec![receipt(run, "a", 0)]);
        links.push((run, state.digest().to_owned()));
    }
    drop(state);
    let old = copy(folder.path());
    let mut state = open(folder.path()).unwrap();
    assert!(links.iter().all(|(generation, digest)| state.knows_digest(*generation, digest)));
    assert!(!state.knows_digest(4, &links[5].1) && !state.knows_digest(6, &links[5].1));
    assert_eq!(links.iter().map(|(_, digest)| digest).collect::<BTreeSet<_>>().len(), 6);

    // Two copies that went on are strangers to each other from there on.
    let mut other = open(old.path()).unwrap();
    commit(&mut state, "here", vec![receipt(1, "a", DAY)]);
    commit(&mut other, "there", vec![receipt(2, "a", DAY)]);
    assert!(other.knows_digest(5, &links[5].1));
    assert!(!other.knows_digest(6, state.digest()) && !state.knows_digest(6, other.digest()));
}

#[test]
fn a_format_from_the_future_is_refused_by_its_number() {
    let (folder, _) = some_state();
    let manifest = open(folder.path()).unwrap().manifest().clone();
    let (bytes, _) = StateManifest { format: FORMAT + 1, ..manifest }.seal().unwrap();
    fs::write(folder.path().join("manifest.json"), bytes).unwrap();
    let before = names(folder.path());
    let error = error_of(open(folder.path()));
    assert!(error.kind == Kind::State && error.summary.contains(&format!("format {}", FORMAT + 1)), "{error}");
    assert_eq!(names(folder.path()), before);
}

#[test]
fn the_largest_window_ever_used_is_kept_and_never_is_the_largest() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = init(folder.path());
    let mut run = |id: &str, window: Window| {
        let run_id = format!("run-{}", state.manifest().generation);
        let windows = BTreeMap::from([(id.to_owned(), window)]);
        let staged = state.stage(Vec::new(), run_record(&run_id), &windows).unwrap();
        state.commit(staged, None).unwrap();
        state.manifest().campaigns.iter().map(|(id, c)| (id.clone(), c.largest_window)).collect::<Vec<_>>()
    };
    let (a, b) = ("a".to_owned(), "b".to_owned());
    assert_eq!(run("a", Window::Seconds(60)), [(a.clone(), Window::Seconds(60))]);
    assert_eq!(run("a", Window::Seconds(0)), [(a.clone(), Window::Seconds(60))]);
    assert_eq!(run("a", Window::Seconds(u64::MAX)), [(a.clone(), Window::Seconds(u64::MAX))]);
    assert_eq!(run("a", Window::Never), [(a.clone(), Window::Never)]);
    // A campaign that is not loaded keeps what it had.
    let both = [(a, Window::Never), (b, Window::Seconds(5))];
    assert_eq!(run("b", Window::Seconds(5)), both);
    assert_eq!(run("a", Window::Seconds(1)), both);
    let overview = state.overview().unwrap();
    let windows: Vec<Option<u64>> = overview.campaigns.values().map(|c| c.largest_window_seconds).collect();
    assert_eq!(windows, [None, Some(5)]);
    assert!(overview.campaigns.values().all(|c| c.history_floor.is_none()));
}

#[test]
fn a_commit_that_fails_before_its_rename_leaves_the_generation_before() {
    for failing in [Step::Create, Step::Write, Step::Sync, Step::Rename] {
        let (folder, all) = some_state();
        let disk = FailingDisk::new(move |step, path| step == failing && path.to_string_lossy().contains("manifest"));
        let mut state = State::open(Arc::new(disk), folder.path()).unwrap();
        let staged = state.stage(vec![receipt(1, "a", 0)], run_record("next"), &windows(Window::Never)).unwrap();
        assert_eq!(error_of(state.commit(staged, None)).kind, Kind::State);
        assert_eq!(state.manifest().generation, 3, "{failing:?}");
        drop(state);
        let state = open(folder.path()).unwrap();
        assert_eq!((state.manifest().generation, read(&state).unwrap()), (3, all), "{failing:?}");
        assert_eq!(names(folder.path()).len(), 2 + state.manifest().files.len(), "{failing:?}");
    }
}

#[test]
fn a_commit_whose_folder_cannot_be_synced_may_be_there_after_all() {
    let (folder, _) = some_state();
    let manifest = folder.path().join("manifest.json");
    let old = fs::read(&manifest).unwrap();
    let disk = FailingDisk::new(move |step, _| step == Step::SyncFolder && fs::read(&manifest).unwrap() != old);
    let mut state = State::open(Arc::new(disk), folder.path()).unwrap();
    let staged = state.stage(vec![receipt(1, "a", 0)], run_record("next"), &windows(Window::Never)).unwrap();
    assert_eq!(error_of(state.commit(staged, None)).kind, Kind::State);
    drop(state);
    assert_eq!(open(folder.path()).unwrap().manifest().generation, 4);
}

#[test]
fn opening_makes_the_manifest_durable_before_it_removes_a_file() {
    let (folder, _) = some_state();
    fs::write(folder.path().join("receipts-00000001.parquet.not"), "x").unwrap();
    fs::write(folder.path().join("receipts-00000000.parquet"), "an older generation may need it").unwrap();
    let disk = FailingDisk::new(|step, _| step == Step::SyncFolder);
    assert_eq!(error_of(State::open(Arc::new(disk), folder.path())).kind, Kind::State);
    assert!(folder.path().join("receipts-00000000.parquet").exists());
}

#[test]
fn a_receipt_file_that_cannot_be_finished_is_removed() {
    for failing in [Step::Write, Step::Sync, Step::SyncFolder] {
        let (folder, _) = some_state();
        let before = names(folder.path());
        let begun = folder.path().join("receipts-00000004.parquet");
        let disk = FailingDisk::new(move |step, _| step == failing && begun.exists());
        let state = State::open(Arc::new(disk), folder.path()).unwrap();
        let error = error_of(state.stage(vec![receipt(1, "a", 0)], run_record("next"), &windows(Window::Never)));
        assert_eq!(error.kind, Kind::State);
        assert_eq!(names(folder.path()), before, "{failing:?}");
    }
}
