//! The commands whose crashes are examined: each is one function that says what the disk holds and what is done.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tempfile::TempDir;

use super::{Counted, HOME, Picture, Scenario};
use crate::delivery::{Compression, DeliveryOptions, Format};
use crate::error::{Kind, Result as Done};
use crate::input::InputOptions;
use crate::planted::{self, Bug};
use crate::runs::out::OutFolder;
use crate::runs::{Finished, RevokeSettings, RunSettings, StateUse, commit_held, discard_held, revoke, run};
use crate::state::State;
use crate::storage::Disk;
use crate::storage::simulated::{Image, Lie, SimDisk};

const CAMPAIGN: &str = r#"{"id": "welcome", "reeligibility": "never",
    "messages": {"push": {"title": "Hi {{api_trigger_properties.${name}}}"}}}"#;

pub(super) type Examined = Result<Counted, String>;
pub(super) type How = fn(&Scenario<'_>) -> Examined;

/// A trigger that is rejected.
const NOBODY: &str = r#"{"campaign_id": "welcome"}"#;

/// Campaigns and input on the real disk, and how commands are run against a simulated one: on one thread, so that calls
/// come in the same order every time.
pub(super) struct Site {
    folder: TempDir,
    threads: ThreadPool,
    /// Receipts spill after this many.
    spill_after: Option<usize>,
    bug: Option<Bug>,
    lie: Option<Lie>,
}

impl Site {
    /// Three days of triggers: five good ones, one, and three; each day also the recipients of the days before, one
    /// trigger without a name, and one without a recipient.
    pub(super) fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("campaigns/welcome")).unwrap();
        fs::write(folder.path().join("campaigns/welcome/campaign.json"), CAMPAIGN).unwrap();
        for (day, recipients) in [(1, 1..=5), (2, 1..=6), (3, 1..=9)] {
            let good = |n| {
                format!(
                    r#"{{"campaign_id": "welcome", "external_user_id": "u{n}", "trigger_properties": {{"name": "N{n}"}}}}"#
                )
            };
            let bad =
                format!(r#"{{"campaign_id": "welcome", "external_user_id": "nameless", "trigger_id": "t{day}"}}"#);
            let lines: Vec<String> = recipients.map(good).chain([bad, NOBODY.to_owned()]).collect();
            fs::write(folder.path().join(format!("day{day}.ndjson")), lines.join("\n") + "\n").unwrap();
        }
        let threads = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        Site { folder, threads, spill_after: None, bug: None, lie: None }
    }

    pub(super) fn spilling(self) -> Site {
        Site { spill_after: Some(2), ..self }
    }

    pub(super) fn with_bug(self, bug: Bug) -> Site {
        Site { bug: Some(bug), ..self }
    }

    pub(super) fn lying(self, lie: Lie) -> Site {
        Site { lie: Some(lie), ..self }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn settings(&self, day: u8) -> RunSettings {
        let home = Path::new(HOME);
        RunSettings {
            input: InputOptions { split_rows: 1000, ..InputOptions::default() },
            state: StateUse::Folder { path: home.join("state"), create: true },
            delivery: DeliveryOptions { format: Format::Ndjson, compression: Compression::None, batch_size: 3 },
            run_id: Some(format!("day-{day}")),
            new_state_id: 5,
            ..RunSettings::new(
                self.path("campaigns"),
                vec![self.path(&format!("day{day}.ndjson")).to_string_lossy().into_owned()],
                home.join("out"),
                1_800_000_000_000_000 + i64::from(day),
            )
        }
    }

    pub(super) fn run(&self, disk: &SimDisk, settings: &RunSettings) -> Done<Finished> {
        let work = || planted::with(self.bug, self.spill_after, || run(Arc::new(disk.clone()), settings, &()));
        self.threads.install(work)
    }

    /// The disk after these days, as the last command left it: not everything of it durable.
    pub(super) fn after(&self, days: impl IntoIterator<Item = u8>) -> Image {
        let disk = SimDisk::new(Image::with_folder(Path::new(HOME)));
        for day in days {
            self.run(&disk, &self.settings(day)).unwrap_or_else(|error| panic!("{error}"));
        }
        disk.image()
    }

    /// Examines a run.
    pub(super) fn examine(&self, before: Image, settings: &RunSettings, how: How) -> Examined {
        let command = |disk: &SimDisk| self.run(disk, settings).map(drop);
        let run_id = settings.run_id.clone().unwrap();
        let counts = |picture: &Picture| match &settings.state {
            StateUse::Folder { .. } => {
                let manifest = picture.get("/disk/state/manifest.json");
                manifest.is_some_and(|manifest| manifest.contains(&format!(r#""run_id":"{run_id}""#)))
            }
            StateUse::Stateless => picture.contains_key(&format!("/disk/out/{run_id}/")),
        };
        how(&Scenario { before, command: &command, counts: &counts, lie: self.lie.clone() })
    }
}

pub(super) fn first_run(site: &Site, how: How) -> Examined {
    site.examine(site.after([]), &site.settings(1), how)
}

/// Its receipts stand beside those of the first.
pub(super) fn later_run(site: &Site, how: How) -> Examined {
    site.examine(site.after([1]), &site.settings(2), how)
}

/// Its receipts and those of two earlier runs become one file.
pub(super) fn merging_run(site: &Site, how: How) -> Examined {
    site.examine(site.after([1, 2]), &site.settings(3), how)
}

fn stateless_run(site: &Site, how: How) -> Examined {
    let settings = RunSettings { state: StateUse::Stateless, ..site.settings(2) };
    let earlier = RunSettings { state: StateUse::Stateless, ..site.settings(1) };
    let disk = SimDisk::new(site.after([]));
    site.run(&disk, &earlier).unwrap();
    // Two stateless runs of one recipient would send twice: this one has others.
    fs::write(site.path("day2.ndjson"), fs::read_to_string(site.path("day2.ndjson")).unwrap().replace("u", "v"))
        .unwrap();
    site.examine(disk.image(), &settings, how)
}

/// Where the run of the second day is staged.
const STAGED: &str = "/disk/out.staging/day-2";

fn is_held(picture: &Picture) -> bool {
    picture.contains_key("/disk/state/manifest.json.held")
}

fn hold(site: &Site, disk: &SimDisk) -> Done<()> {
    let settings = RunSettings { hold: true, ..site.settings(2) };
    match site.run(disk, &settings) {
        // Given again, it finds itself held.
        Err(error) if error.kind == Kind::Busy => Ok(()),
        ended => ended.map(drop),
    }
}

fn after_holding(site: &Site) -> Image {
    let disk = SimDisk::new(site.after([1]));
    hold(site, &disk).unwrap();
    disk.image()
}

fn held_run(site: &Site, how: How) -> Examined {
    let command = |disk: &SimDisk| hold(site, disk);
    how(&Scenario { before: site.after([1]), command: &command, counts: &is_held, lie: site.lie.clone() })
}

fn committing(site: &Site, how: How) -> Examined {
    let command =
        |disk: &SimDisk| commit_held(Arc::new(disk.clone()), Path::new(STAGED), None, Duration::ZERO).map(drop);
    let counts = |picture: &Picture| !is_held(picture);
    how(&Scenario { before: after_holding(site), command: &command, counts: &counts, lie: site.lie.clone() })
}

fn next_start(disk: Arc<dyn Disk>) -> Done<()> {
    let state = State::open(disk.clone(), &Path::new(HOME).join("state"))?;
    let out = OutFolder::open(disk, &Path::new(HOME).join("out"), Duration::ZERO)?;
    out.clear_staging(Some(&state.manifest().state_id))
}

/// What a crash leaves of a discarded run is gone at the next start of state and output folder, which is part of the command.
fn discarding(site: &Site, how: How) -> Examined {
    let command = |disk: &SimDisk| {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        match discard_held(disk.clone(), Path::new(STAGED), None, Duration::ZERO) {
            // Given again, it finds no run.
            Err(error) if error.kind == Kind::Usage => {}
            ended => drop(ended?),
        }
        next_start(disk).map_err(|error| error.hint("the same command again"))
    };
    let counts = |picture: &Picture| !is_held(picture);
    how(&Scenario { before: after_holding(site), command: &command, counts: &counts, lie: site.lie.clone() })
}

fn revoking(site: &Site, how: How) -> Examined {
    let settings = RevokeSettings {
        run_dir: Path::new(HOME).join("out/day-2"),
        reason: "wrong template".to_owned(),
        state: None,
        wait_lock: Duration::ZERO,
        now: 1_800_000_000_000_000,
    };
    let command = |disk: &SimDisk| revoke(Arc::new(disk.clone()), &settings).map(drop);
    let counts = |picture: &Picture| {
        let manifest = picture.get("/disk/state/manifest.json");
        manifest.is_some_and(|manifest| manifest.contains(r#""kind":"revoke""#))
    };
    how(&Scenario { before: site.after([1, 2]), command: &command, counts: &counts, lie: site.lie.clone() })
}

/// Prints what was examined: `--nocapture` shows the counts that docs/crash-safety.md gives.
fn tell(name: &str, examined: Examined) {
    let counted = examined.unwrap_or_else(|fault| panic!("{name}: {fault}"));
    println!("{name}: {counted:?}");
    assert!(counted.operations == 0 || counted.operations > 5, "{name}: {counted:?}");
}

#[test]
fn revoking_survives_two_crashes_anywhere_and_fails_clean() {
    tell("revoke", revoking(&Site::new(), |scenario| scenario.explore(2)));
    tell("revoke", revoking(&Site::new(), |scenario| scenario.fail()));
}

#[test]
fn holding_survives_two_crashes_anywhere() {
    tell("held run", held_run(&Site::new(), |scenario| scenario.explore(2)));
}

#[test]
fn committing_and_discarding_what_is_held_survive_two_crashes_anywhere() {
    tell("commit", committing(&Site::new(), |scenario| scenario.explore(2)));
    tell("discard", discarding(&Site::new(), |scenario| scenario.explore(2)));
}

#[test]
fn holding_and_its_ends_fail_clean_on_a_failing_or_full_disk() {
    tell("held run", held_run(&Site::new(), |scenario| scenario.fail()));
    tell("commit", committing(&Site::new(), |scenario| scenario.fail()));
    tell("discard", discarding(&Site::new(), |scenario| scenario.fail()));
}

#[test]
fn a_first_run_survives_two_crashes_anywhere() {
    tell("first run", first_run(&Site::new(), |scenario| scenario.explore(2)));
}

#[test]
fn a_later_run_survives_two_crashes_anywhere() {
    tell("later run", later_run(&Site::new(), |scenario| scenario.explore(2)));
}

#[test]
fn a_run_that_spills_and_merges_survives_a_crash_anywhere() {
    tell("merging run", merging_run(&Site::new().spilling(), |scenario| scenario.explore(1)));
}

#[test]
fn a_stateless_run_survives_two_crashes_anywhere() {
    tell("stateless run", stateless_run(&Site::new(), |scenario| scenario.explore(2)));
}

#[test]
fn a_run_that_meets_a_failing_or_full_disk_fails_clean() {
    tell("first run", first_run(&Site::new(), |scenario| scenario.fail()));
    tell("later run", later_run(&Site::new(), |scenario| scenario.fail()));
    tell("merging run", merging_run(&Site::new().spilling(), |scenario| scenario.fail()));
    tell("stateless run", stateless_run(&Site::new(), |scenario| scenario.fail()));
}
