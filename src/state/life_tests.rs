//! What a state forgets, and what it keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use tempfile::TempDir;

use super::retention::kept_seconds;
use super::rows::{RowsBuilder, SortColumns};
use super::*;
use crate::ids::BUCKETS;
use crate::pipeline::{ReceiptSource, StoredOutcome};
use crate::storage::testing::FailingDisk;
use crate::storage::{Disk, RealDisk};
use crate::triggers::{Micros, Recipient, RecipientKind};

const DAY: Micros = 86_400_000_000;

/// (recipient, campaign, day, outcome)
type Fact = (&'static str, &'static str, i64, StoredOutcome);

const SENT: StoredOutcome = StoredOutcome::Sent;
const CONTROL: StoredOutcome = StoredOutcome::Control;

fn with_receipt<T>(fact: Fact, take: impl FnOnce(&Receipt<'_>) -> T) -> T {
    let (recipient, campaign_id, day, outcome) = fact;
    take(&Receipt {
        key: Recipient::external(recipient).key_hash(),
        campaign_id,
        kind: RecipientKind::ExternalUserId,
        recipient,
        received_at: day * DAY,
        outcome,
        variant: None,
        channels: &[],
        trigger_hash: None,
    })
}

fn rules(campaigns: &[(&str, Window, bool)], horizon: i64) -> Retention {
    let rule = |(id, window, assigns): &(&str, Window, bool)| {
        ((*id).to_owned(), CampaignRule { window: *window, assigns: *assigns })
    };
    Retention { campaigns: campaigns.iter().map(rule).collect(), horizon: Some(horizon * DAY) }
}

fn days(days: u64) -> Window {
    Window::Seconds(days * 86_400)
}

fn record(run_id: &str) -> RunRecord {
    let (config_digest, out) = (String::new(), String::new());
    RunRecord { run_id: run_id.to_owned(), config_digest, exit_code: 0, generation: 0, out, inputs: vec![] }
}

struct Place {
    _temp: TempDir,
    state: State,
}

impl Place {
    fn new() -> Place {
        let temp = TempDir::new().unwrap();
        let state = State::init(Arc::new(RealDisk), &temp.path().join("state"), 7).unwrap();
        Place { _temp: temp, state }
    }

    fn run(&mut self, facts: &[Fact], retention: &Retention) {
        let id = format!("run-{}", self.state.manifest().generation);
        let mut delta = self.state.delta(&id);
        facts.iter().for_each(|fact| with_receipt(*fact, |receipt| delta.push(receipt)).unwrap());
        let staged = self.state.stage(delta, record(&id), retention).unwrap();
        self.state.commit(staged, None).unwrap();
        self.state.verify().unwrap();
    }

    fn compact(&mut self, retention: &Retention) -> Option<u64> {
        let staged = self.state.stage_compaction(retention).unwrap()?;
        let removed = staged.removed();
        self.state.commit(staged, None).unwrap();
        self.state.verify().unwrap();
        Some(removed)
    }

    /// Days of the receipts of a campaign, in no order of recipients.
    fn days(&self, campaign: &str) -> Vec<i64> {
        let (receipts, mut days) = (self.state.receipts().unwrap(), Vec::new());
        for piece in 0..receipts.pieces() {
            let mut take = |r: crate::pipeline::StoredReceipt<'_>| {
                days.extend((r.campaign_id == campaign).then_some(r.received_at / DAY));
            };
            receipts.read(piece, &[true; BUCKETS], &mut take).unwrap();
        }
        days.sort_unstable();
        days
    }

    fn floor(&self, campaign: &str) -> Option<Micros> {
        self.state.manifest().campaigns[campaign].history_floor
    }
}

/// Rows in the order of the state, in batches of this many.
fn batches(facts: &[Fact], rows: usize) -> Vec<RecordBatch> {
    let mut builder = RowsBuilder::new();
    facts.iter().for_each(|fact| with_receipt(*fact, |receipt| builder.push(receipt, "r")).unwrap());
    let all = builder.take_sorted().unwrap();
    (0..all.num_rows()).step_by(rows).map(|at| all.slice(at, rows.min(all.num_rows() - at))).collect()
}

#[test]
fn receipts_are_kept_for_the_window_and_at_least_ninety_days() {
    assert_eq!(kept_seconds(Some(days(7))), Some(LEAST_KEPT_SECONDS));
    assert_eq!(kept_seconds(Some(days(200))), Some(200 * 86_400));
    assert_eq!((kept_seconds(Some(Window::Never)), kept_seconds(None)), (None, None));
    let mut place = Place::new();
    let facts = [("a", "week", 1, SENT), ("a", "week", 11, SENT), ("a", "week", 9, SENT), ("a", "long", 1, SENT)];
    let loaded = [("week", days(7), false), ("long", days(200), false)];
    place.run(&facts, &rules(&loaded, 20));
    assert_eq!(place.compact(&rules(&loaded, 100)), Some(2), "90 days before the horizon is day 10");
    assert_eq!((place.days("week"), place.days("long")), (vec![11], vec![1]));
    assert_eq!(place.floor("week"), Some(9 * DAY + 1), "just after the newest that was dropped");
    assert_eq!(place.floor("long"), None);
    assert_eq!(place.compact(&rules(&loaded, 100)), None, "nothing more to do");
}

#[test]
fn what_is_not_loaded_or_was_once_never_or_longer_does_not_expire() {
    let mut place = Place::new();
    let facts = [("a", "once", 1, SENT), ("a", "other", 1, SENT), ("a", "longer", 1, SENT)];
    place.run(
        &facts,
        &rules(&[("once", Window::Never, false), ("other", days(1), false), ("longer", days(500), false)], 1),
    );
    let now = rules(&[("once", days(1), false), ("longer", days(1), false)], 400);
    assert_eq!(place.compact(&now), None);
    assert_eq!(["once", "other", "longer"].map(|id| place.days(id)), [vec![1], vec![1], vec![1]]);
    assert_eq!(place.floor("once"), None);
}

#[test]
fn the_newest_receipt_of_variants_and_every_enrolment_stay() {
    let facts = [
        ("a", "split", 1, SENT),
        ("a", "split", 2, SENT),
        ("a", "split", 2, SENT),
        ("b", "split", 3, CONTROL),
        ("b", "split", 4, CONTROL),
        ("c", "plain", 5, CONTROL),
        ("c", "plain", 1, SENT),
    ];
    let mut place = Place::new();
    place.run(&facts, &rules(&[("split", days(1), true), ("plain", days(1), false)], 5));
    let edited = rules(&[("split", days(1), false), ("plain", days(1), false)], 1_000);
    assert_eq!(place.compact(&edited), Some(2), "that the campaign once had variants is remembered");
    assert_eq!(place.days("split"), [2, 2, 3, 4]);
    assert_eq!(place.days("plain"), [5]);
}

#[test]
fn a_sieve_judges_a_recipient_as_a_whole_wherever_batches_end() {
    let mut facts = Vec::new();
    for day in 0..40 {
        facts.extend([("a", "split", day, SENT), ("b", "split", day / 2, SENT), ("c", "other", day, SENT)]);
    }
    let expected = |facts: &[Fact]| {
        let newest = |who: &str| facts.iter().filter(|f| f.0 == who).map(|f| f.2).max().unwrap();
        let mut stay: Vec<i64> = facts.iter().filter(|f| f.1 == "other" || f.2 == newest(f.0)).map(|f| f.2).collect();
        stay.sort_unstable();
        stay
    };
    for rows in [1, 2, 3, 7, 64, 1_000] {
        let mut next = StateManifest::first(1);
        let retention = rules(&[("split", days(1), true)], 1_000);
        retention.record(&mut next);
        let mut sieve = retention.sieve(&next, |_| Some(Micros::MAX));
        let mut kept: Vec<RecordBatch> =
            batches(&facts, rows).into_iter().filter_map(|b| sieve.push(b).unwrap()).collect();
        kept.extend(sieve.finish().unwrap());
        let mut stayed: Vec<i64> =
            kept.iter().flat_map(|batch| SortColumns::of(batch).instants().to_vec()).map(|at| at / DAY).collect();
        stayed.sort_unstable();
        assert_eq!(stayed, expected(&facts), "{rows} rows a batch");
        assert_eq!(sieve.dropped() as usize, facts.len() - stayed.len());
    }
}

#[test]
fn a_run_drops_where_files_are_merged_and_counts_from_its_own_newest_receipt() {
    let loaded = [("week", days(7), false)];
    let mut place = Place::new();
    place.run(&[("a", "week", 1, SENT)], &rules(&loaded, 400));
    assert_eq!(place.days("week"), [1], "replayed history is judged by its own time");
    place.run(&[("b", "week", 80, SENT)], &rules(&loaded, 400));
    assert_eq!((place.days("week"), place.floor("week")), (vec![1, 80], None));
    place.run(&[("c", "week", 200, SENT)], &rules(&loaded, 150));
    assert_eq!((place.days("week"), place.floor("week")), (vec![80, 200], Some(DAY + 1)), "the horizon is day 150");
    let mut nothing_new = place.state.delta("idle");
    with_receipt(("d", "else", 300, SENT), |receipt| nothing_new.push(receipt)).unwrap();
    let both = rules(&[("week", days(7), false), ("else", days(7), false)], 1_000);
    let staged = place.state.stage(nothing_new, record("idle"), &both).unwrap();
    place.state.commit(staged, None).unwrap();
    assert_eq!(place.days("week"), [80, 200], "a campaign to which nothing is added stays");
}

#[test]
fn a_state_of_which_everything_expired_has_no_file_and_goes_on() {
    let loaded = [("week", days(7), false)];
    let mut place = Place::new();
    place.run(&[("a", "week", 1, SENT)], &rules(&loaded, 1));
    assert_eq!(place.compact(&rules(&loaded, 500)), Some(1));
    assert_eq!((place.state.manifest().files.len(), place.days("week")), (0, vec![]));
    assert_eq!(place.floor("week"), Some(DAY + 1));
    place.run(&[("a", "week", 600, SENT)], &rules(&loaded, 600));
    assert_eq!(place.days("week"), [600]);
}

#[test]
fn compaction_makes_one_file_of_many_and_loses_nothing_by_itself() {
    let mut place = Place::new();
    let loaded = [("week", days(7), false)];
    let many: Vec<Fact> = (0..64).map(|day| ("a", "week", day, SENT)).collect();
    for facts in [&many[..], &many[..20], &many[..4]] {
        place.run(facts, &rules(&loaded, 64));
    }
    assert_eq!(place.state.manifest().files.len(), 3);
    let before = place.days("week");
    assert_eq!(place.compact(&Retention::default()), Some(0));
    assert_eq!((place.state.manifest().files.len(), place.days("week")), (1, before));
    assert_eq!(place.state.manifest().changes[0].kind, ChangeKind::Compact);
}

/// A disk of which the steps from the n-th on fail, and whether it came to that.
fn failing_after(steps: usize) -> (Arc<dyn Disk>, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let disk = FailingDisk::new(move |_, _| counter.fetch_add(1, Ordering::SeqCst) >= steps);
    (Arc::new(disk), seen)
}

type Change = fn(&mut State) -> Result<()>;

fn compaction(state: &mut State) -> Result<()> {
    let staged = state.stage_compaction(&rules(&[("week", days(7), false)], 500))?.expect("something to do");
    state.commit(staged, None)
}

fn import(state: &mut State) -> Result<()> {
    let mut delta = state.delta("import");
    with_receipt(("z", "new", 3, SENT), |receipt| delta.push(receipt))?;
    let staged = state.stage_import(delta, vec!["digest".to_owned()])?;
    state.commit(staged, None)
}

fn erasure(state: &mut State) -> Result<()> {
    let recipients = [Recipient::external("a").key_hash()].into();
    let staged = state.stage_erasure(&recipients, [1, 2])?.expect("somebody to erase");
    state.commit(staged, None)
}

#[test]
fn every_change_that_fails_at_any_step_is_all_or_nothing_and_keeps_the_publication() {
    for (change, before, after) in [(compaction as Change, 8, 3), (import as Change, 8, 9), (erasure as Change, 8, 5)] {
        let mut committed = 0;
        for steps in 0.. {
            let temp = TempDir::new().unwrap();
            let path = temp.path().join("state");
            let mut place = Place { state: State::init(Arc::new(RealDisk), &path, 7).unwrap(), _temp: temp };
            let loaded = [("week", days(7), false), ("once", Window::Never, false)];
            let old = [("a", "week", 1, SENT), ("b", "week", 2, SENT), ("c", "week", 3, SENT), ("a", "once", 1, SENT)];
            place.run(&old, &rules(&loaded, 4));
            place.run(&old[..2], &rules(&loaded, 4));
            let mut delta = place.state.delta("last");
            [("b", "once", 9, SENT), ("c", "once", 9, SENT)]
                .iter()
                .for_each(|fact| with_receipt(*fact, |receipt| delta.push(receipt)).unwrap());
            let staged = place.state.stage(delta, record("last"), &rules(&loaded, 4)).unwrap();
            let text = |text: &str| text.to_owned();
            let publication = Publication {
                run_id: text("last"),
                staged: text("s"),
                published: text("p"),
                manifest: serde_json::value::RawValue::from_string(text("{}")).unwrap(),
            };
            place.state.commit(staged, Some(publication)).unwrap();
            let Place { state, _temp } = place;
            drop(state);
            let (disk, seen) = failing_after(steps + 1);
            let result = State::open(disk, &path).and_then(|mut state| change(&mut state));
            let state = State::open(Arc::new(RealDisk), &path).unwrap();
            state.verify().unwrap();
            let receipts = state.summary().receipts;
            assert!(receipts == before || receipts == after, "{steps} steps: {receipts}");
            assert!(result.is_err() || receipts == after, "{steps} steps");
            assert_eq!(state.manifest().publication.as_ref().unwrap().run_id, "last");
            let names = std::fs::read_dir(&path).unwrap().count();
            assert_eq!(names, state.manifest().files.len() + 2, "nothing is left over");
            committed += usize::from(receipts == after);
            if seen.load(Ordering::SeqCst) <= steps + 1 {
                break;
            }
        }
        assert!(committed > 1, "also where only the removal of old files fails");
    }
}

#[test]
fn a_fork_that_fails_at_any_step_leaves_what_the_next_one_takes_over() {
    for steps in 1.. {
        let mut place = Place::new();
        place.run(&[("a", "week", 1, SENT)], &rules(&[("week", days(7), false)], 4));
        let (from, to) = (place.state.dir().to_owned(), place._temp.path().join("fork"));
        let Place { state, _temp } = place;
        drop(state);
        let (disk, seen) = failing_after(steps);
        let forked = State::open(disk, &from).and_then(|state| state.fork(&to, 9).map(drop));
        let is_there = State::open(Arc::new(RealDisk), &to).is_ok();
        assert!(forked.is_err() || is_there);
        let original = State::open(Arc::new(RealDisk), &from).unwrap();
        if !is_there {
            drop(original.fork(&to, 9).unwrap());
        }
        let fork = State::open(Arc::new(RealDisk), &to).unwrap();
        fork.verify().unwrap();
        assert_eq!((fork.summary().receipts, fork.manifest().generation), (1, 0));
        assert_eq!(fork.manifest().state_id, format!("{:032x}", 9));
        if seen.load(Ordering::SeqCst) <= steps {
            break;
        }
    }
}

#[test]
fn an_erased_recipient_leaves_a_tombstone_where_a_campaign_is_sent_once_or_nobody_knows() {
    let mut place = Place::new();
    let loaded = [("week", days(7), false), ("once", Window::Never, false)];
    let facts = [("a", "week", 1, SENT), ("a", "once", 1, SENT), ("b", "once", 1, SENT), ("c", "once", 1, CONTROL)];
    place.run(&facts, &rules(&loaded, 4));
    import(&mut place.state).unwrap();
    let key = |who: &'static str| Recipient::external(who).key_hash();
    let staged = place.state.stage_erasure(&["a", "c", "z", "nobody"].map(key).into(), [1, 2]).unwrap().unwrap();
    assert_eq!(staged.removed(), 4);
    place.state.commit(staged, None).unwrap();
    place.state.verify().unwrap();
    let stones = place.state.tombstones();
    let left: Vec<_> = ["a", "b", "c", "z"]
        .into_iter()
        .flat_map(|who| ["week", "once", "new"].map(|campaign| (who, campaign)))
        .filter(|(who, campaign)| stones.contain(campaign, key(who)))
        .collect();
    assert_eq!(left, [("a", "once"), ("z", "new")], "an enrolment in control is no receipt");
    let secret = place.state.manifest().erased.clone().unwrap().key;
    assert!(place.state.stage_erasure(&[key("a")].into(), [3, 4]).unwrap().is_none(), "nothing more to do");
    let staged = place.state.stage_erasure(&[key("b")].into(), [3, 4]).unwrap().unwrap();
    place.state.commit(staged, None).unwrap();
    let erased = place.state.manifest().erased.clone().unwrap();
    assert_eq!((erased.key, erased.tombstones.len()), (secret, 3), "the key stays, and so do earlier tombstones");
    assert!(place.state.tombstones().contain("once", key("a")));
    assert_eq!(place.floor("week"), None, "an erasure raises no floor");
}
