//! Tests of the commit: what a crash or a restored copy leaves, and what the next start makes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::delivery::{Compression, DeliveryOptions, Format};
use crate::error::{Error, Kind, Result};
use crate::input::InputOptions;
use crate::pipeline::ReceiptSource;
use crate::state::State;
use crate::storage::testing::{FailingDisk, Step};
use crate::storage::{Disk, RealDisk};

/// A folder with a campaign, some days of triggers, a state and an output folder.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let campaign = folder.path().join("campaigns/welcome");
        fs::create_dir_all(&campaign).unwrap();
        let definition =
            r#"{"id": "welcome", "reeligibility": "never", "messages": {"push": {"title": "Hi {{recipient}}"}}}"#;
        fs::write(campaign.join("campaign.json"), definition).unwrap();
        let place = Place { folder };
        for day in 1..=3 {
            let line = |who: &str| format!("{{\"campaign_id\": \"welcome\", \"external_user_id\": \"{who}\"}}\n");
            let lines = [line("every day"), line(&format!("day {day}"))].concat();
            fs::write(place.path(&format!("day{day}.ndjson")), lines).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self, day: u8) -> RunSettings {
        RunSettings {
            input: InputOptions { split_rows: 1000, ..InputOptions::default() },
            state: StateUse::Folder { path: self.path("state"), create: true },
            delivery: DeliveryOptions { format: Format::Ndjson, compression: Compression::None, batch_size: 10 },
            run_id: Some(format!("day-{day}")),
            new_state_id: 5,
            ..RunSettings::new(
                self.path("campaigns"),
                vec![self.path(&format!("day{day}.ndjson")).to_string_lossy().into_owned()],
                self.path("out"),
                1_800_000_000_000_000 + i64::from(day),
            )
        }
    }

    fn stateless(&self, day: u8) -> RunSettings {
        RunSettings { state: StateUse::Stateless, run_id: Some(format!("stateless-{day}")), ..self.settings(day) }
    }

    fn run(&self, settings: &RunSettings) -> Result<Finished> {
        run(Arc::new(RealDisk), settings, &())
    }

    /// Runs on a disk on which `fails` picks the steps that fail.
    fn crash(&self, settings: &RunSettings, fails: impl Fn(Step, &Path) -> bool + Send + Sync + 'static) -> Error {
        run(Arc::new(FailingDisk::new(fails)), settings, &()).err().expect("expected an error")
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let Ok(paths) = RealDisk.list(&self.path(folder)) else { return Vec::new() };
        let names = paths.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned());
        names.filter(|name| name != ".retrigger").collect()
    }

    /// The titles of a published run that holds what its manifest says.
    fn titles(&self, run: &str) -> Vec<String> {
        verify(&self.path("out").join(run)).unwrap();
        let batch = self.path("out").join(run).join("deliveries/push/batch-00000.ndjson");
        let Ok(lines) = fs::read_to_string(batch) else { return Vec::new() };
        let title =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["title"].as_str().unwrap().to_owned();
        lines.lines().map(title).collect()
    }

    fn state(&self) -> State {
        State::open(Arc::new(RealDisk), &self.path("state")).unwrap()
    }

    fn generation(&self) -> u64 {
        self.state().manifest().generation
    }

    fn receipts(&self) -> usize {
        let state = self.state();
        let mut count = 0;
        for piece in 0..state.receipts().unwrap().pieces() {
            state.receipts().unwrap().read(piece, &[true; 256], &mut |_| count += 1).unwrap();
        }
        count
    }
}

fn is_repeat(finished: &Finished) -> bool {
    matches!(finished.outcome, RunOutcome::AlreadyCommitted { .. })
}

fn publishing(step: Step, path: &Path) -> bool {
    step == Step::Rename && path.file_name().is_some_and(|name| name == "day-1")
}

#[test]
fn a_run_that_crashed_between_commit_and_publication_is_published_by_the_same_command() {
    let place = Place::new();
    let error = place.crash(&place.settings(1), publishing);
    assert_eq!(error.kind, Kind::Output);
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("same command again")), "{error}");
    assert_eq!((place.names("out"), place.names("out.staging")), (vec![], vec!["day-1".to_owned()]));

    for _ in 0..2 {
        let finished = place.run(&place.settings(1)).unwrap();
        assert!(is_repeat(&finished));
        assert_eq!(
            (finished.exit_code, finished.published.unwrap()),
            (0, place.path("out").canonicalize().unwrap().join("day-1"))
        );
        assert_eq!(place.titles("day-1"), ["Hi every day", "Hi day 1"]);
        assert!(!place.path("out.staging").exists());
    }
    assert_eq!((place.generation(), place.receipts()), (1, 2));
}

#[test]
fn the_next_run_of_other_input_publishes_the_crashed_one_first() {
    let place = Place::new();
    place.crash(&place.settings(1), publishing);
    place.run(&place.settings(2)).unwrap();
    assert_eq!(place.names("out"), ["day-1", "day-2"]);
    assert_eq!(place.titles("day-1"), ["Hi every day", "Hi day 1"]);
    assert_eq!(place.titles("day-2"), ["Hi day 2"]);
    assert_eq!(place.receipts(), 3);
}

#[test]
fn a_committed_run_is_published_into_its_own_folder_whatever_the_next_one_names() {
    let place = Place::new();
    place.crash(&place.settings(1), publishing);
    place.run(&RunSettings { out: place.path("elsewhere"), ..place.settings(2) }).unwrap();
    assert_eq!((place.names("out"), place.names("elsewhere")), (vec!["day-1".to_owned()], vec!["day-2".to_owned()]));
    assert_eq!(place.titles("day-1"), ["Hi every day", "Hi day 1"]);
}

#[test]
fn runs_that_do_not_know_the_state_leave_its_committed_run_where_it_is() {
    let place = Place::new();
    place.crash(&place.settings(1), publishing);
    place.run(&place.stateless(2)).unwrap();
    let other = StateUse::Folder { path: place.path("other"), create: true };
    place.run(&RunSettings { state: other, new_state_id: 6, ..place.settings(3) }).unwrap();
    assert_eq!(place.names("out.staging"), ["day-1"]);
    // A run of the same name cannot be staged beside it.
    let error = place.run(&RunSettings { run_id: Some("day-1".into()), ..place.stateless(1) }).err().unwrap();
    assert!(error.kind == Kind::Output && error.summary.contains("another state"), "{error}");
    assert!(is_repeat(&place.run(&place.settings(1)).unwrap()));
    assert_eq!(place.titles("day-1"), ["Hi every day", "Hi day 1"]);
}

#[test]
fn a_run_that_crashed_before_its_commit_never_happened() {
    let place = Place::new();
    let committing = |step: Step, path: &Path| step == Step::Rename && path.ends_with("state/manifest.json");
    place.run(&place.settings(1)).unwrap();
    let error = place.crash(&place.settings(2), committing);
    assert_eq!((error.kind, place.names("out")), (Kind::State, vec!["day-1".to_owned()]));
    assert_eq!((place.generation(), place.receipts()), (1, 2));
    let finished = place.run(&place.settings(2)).unwrap();
    assert!(!is_repeat(&finished));
    assert_eq!(place.titles("day-2"), ["Hi day 2"]);
}

#[test]
fn what_a_killed_run_had_sealed_and_not_committed_is_cleared() {
    let place = Place::new();
    // Killed: nobody was there to remove it.
    place.crash(&place.settings(1), |step, path| match step {
        Step::Rename => path.ends_with("state/manifest.json") && path.exists(),
        _ => step == Step::Remove,
    });
    assert_eq!(place.names("out.staging"), ["day-1"]);
    assert!(place.path("out.staging/day-1/manifest.json").exists());
    place.run(&place.settings(2)).unwrap();
    assert_eq!((place.names("out"), place.names("out.staging")), (vec!["day-2".to_owned()], vec![]));
    assert_eq!(place.receipts(), 2);
}

#[test]
fn a_commit_that_may_be_durable_keeps_its_staged_run() {
    let place = Place::new();
    place.run(&place.settings(1)).unwrap();
    let manifest = place.path("state/manifest.json");
    let old = fs::read(&manifest).unwrap();
    let state = place.path("state");
    let error = place.crash(&place.settings(2), move |step, path| {
        step == Step::SyncFolder && path == state && fs::read(&manifest).unwrap() != old
    });
    assert_eq!(error.kind, Kind::State);
    assert!(is_repeat(&place.run(&place.settings(2)).unwrap()));
    assert_eq!(place.titles("day-2"), ["Hi day 2"]);
}

#[test]
fn a_state_restored_from_a_copy_is_refused_by_the_folder_that_saw_it_go_on() {
    let place = Place::new();
    place.run(&place.settings(1)).unwrap();
    let copy = place.path("copy");
    fs::create_dir(&copy).unwrap();
    for path in RealDisk.list(&place.path("state")).unwrap() {
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    place.run(&place.settings(2)).unwrap();
    fs::remove_dir_all(place.path("state")).unwrap();
    fs::rename(&copy, place.path("state")).unwrap();

    let before = fs::read(place.path("state/manifest.json")).unwrap();
    for day in [2, 3] {
        let error = place.run(&place.settings(day)).err().unwrap();
        assert_eq!(error.kind, Kind::State);
        assert!(error.summary.contains("it is at generation 1, and generation 2"), "{error}");
        let hint = error.hint.unwrap();
        assert!(hint.contains("restored from a copy") && hint.contains("--out"), "{hint}");
    }
    assert_eq!(fs::read(place.path("state/manifest.json")).unwrap(), before);
    assert_eq!(place.names("out"), ["day-1", "day-2"]);
    // Where nothing was published since, nothing can be sent twice.
    place.run(&RunSettings { out: place.path("elsewhere"), ..place.settings(3) }).unwrap();
}

#[test]
fn a_folder_in_the_way_is_found_before_the_commit() {
    let place = Place::new();
    fs::create_dir_all(place.path("out/day-1/mine")).unwrap();
    let error = place.run(&place.settings(1)).err().unwrap();
    assert!(error.kind == Kind::Output && error.summary.contains("day-1"), "{error}");
    assert_eq!(place.generation(), 0);
    assert!(place.path("out/day-1/mine").exists());
}

#[test]
fn the_same_id_with_other_content_and_consumed_input_are_refused() {
    let place = Place::new();
    place.run(&place.settings(1)).unwrap();
    let error = place.run(&RunSettings { run_id: Some("day-1".into()), ..place.settings(2) }).err().unwrap();
    assert!(error.kind == Kind::Output && error.summary.contains("committed already"), "{error}");
    let again = RunSettings { run_id: Some("again".into()), ..place.settings(1) };
    let error = place.run(&again).err().unwrap();
    assert!(error.kind == Kind::Input && error.to_string().contains("day1.ndjson"), "{error}");
    place.run(&RunSettings { allow_consumed: true, ..again }).unwrap();
    assert_eq!((place.titles("again"), place.receipts()), (vec![], 2));
}

#[test]
fn a_dry_run_commits_nothing_and_says_what_would_be() {
    let place = Place::new();
    let finished = place.run(&RunSettings { dry_run: true, ..place.settings(1) }).unwrap();
    let RunOutcome::Ran(summary) = finished.outcome else { panic!("ran") };
    assert_eq!((summary.committed, summary.ledger.total.sent, summary.generation), (false, 2, None));
    assert!(!place.path("out").exists() && !place.path("state").exists(), "neither OUT nor the state is made");
}
