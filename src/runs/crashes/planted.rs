//! Bugs that are planted to see that the tests find them: in the order of what is done to the disk, by a disk that lies;
//! in decisions, by a switch.

use std::path::Path;

use super::scenarios::{Examined, How, Site, first_run, later_run, merging_run};
use super::{HOME, picture, published, sound};
use crate::error::Kind;
use crate::planted::Bug;
use crate::runs::RunSettings;
use crate::storage::Disk;
use crate::storage::simulated::{Image, Lie, SimDisk};
use crate::storage::testing::Step;

type Examine = fn(&Site, How) -> Examined;

/// What the enumeration of single crashes says of a scenario on a disk that lies so.
fn explore(examine: Examine, lie: Lie) -> Examined {
    examine(&Site::new().lying(lie), |scenario| scenario.explore(1))
}

fn named(path: &Path, start: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
}

fn is_manifest(path: &Path) -> bool {
    path == Path::new(HOME).join("state/manifest.json")
}

fn is_state(path: &Path) -> bool {
    path == Path::new(HOME).join("state")
}

#[test]
fn every_sync_of_a_run_is_needed() {
    let site = Site::new();
    let disk = SimDisk::new(site.after([1]));
    disk.take_operations();
    site.run(&disk, &site.settings(2)).unwrap();
    let is_sync = |step: Step| matches!(step, Step::Sync | Step::SyncFolder);
    let mut synced: Vec<_> =
        disk.take_operations().into_iter().filter(|o| is_sync(o.step)).map(|o| (o.step, o.path)).collect();
    synced.sort_by_key(|(_, path)| path.clone());
    synced.dedup();
    let unnoticed = |(step, path): &(Step, std::path::PathBuf)| {
        let (step, path) = (*step, path.clone());
        explore(later_run, Lie::skip(move |done, at| done == step && at == path)).is_ok()
    };
    let unnoticed: Vec<String> = synced
        .iter()
        .filter(|sync| unnoticed(sync))
        .map(|(step, path)| format!("{step:?} {}", path.display()))
        .collect();
    assert_eq!(unnoticed, [String::new(); 0], "of {} syncs", synced.len());
}

#[test]
fn a_manifest_renamed_before_it_is_synced_is_found() {
    let lie = Lie::late(
        |step, path, _| step == Step::Sync && named(path, "manifest.json.next"),
        |step, path| step == Step::Rename && is_manifest(path),
    );
    explore(later_run, lie).unwrap_err();
}

#[test]
fn a_manifest_installed_before_the_run_is_durable_is_found() {
    let lie = Lie::late(
        |step, path, _| {
            let staging = Path::new(HOME).join("out.staging");
            matches!(step, Step::Sync | Step::SyncFolder) && path.starts_with(staging)
        },
        |step, path| step == Step::Rename && is_manifest(path),
    );
    explore(later_run, lie).unwrap_err();
}

#[test]
fn old_files_removed_before_the_commit_are_found() {
    let lie = Lie::late(
        |step, path, waiting| match step {
            Step::Rename => is_manifest(path),
            Step::SyncFolder => waiting && is_state(path),
            _ => false,
        },
        |step, path| step == Step::Remove && named(path, "receipts-"),
    );
    // Only a run that merges removes files of the state.
    let site = Site::new();
    let before = site.after([1, 2]);
    let site = site.lying(lie);
    site.examine(before, &site.settings(3), |scenario| scenario.explore(1)).unwrap_err();
}

#[test]
fn a_publication_that_is_not_rolled_forward_is_found() {
    let site = Site::new().with_bug(Bug::NotRolledForward);
    let fault = later_run(&site, |scenario| scenario.explore(1)).unwrap_err();
    assert!(fault.contains("`/disk/out/day-2/` is missing"), "{fault}");
    first_run(&site, |scenario| scenario.explore(1)).unwrap_err();
    merging_run(&site, |scenario| scenario.explore(1)).unwrap_err();
}

/// A trigger that failed is sent once it is mended.
fn mended_trigger_is_sent(site: &Site) -> Result<(), String> {
    let disk = SimDisk::new(site.after([1]));
    let mended = r#"{"campaign_id": "welcome", "external_user_id": "nameless", "trigger_id": "t1",
        "trigger_properties": {"name": "Ada"}}"#
        .replace('\n', "");
    std::fs::write(site.path("day2.ndjson"), mended + "\n").unwrap();
    site.run(&disk, &site.settings(2)).map_err(|error| error.to_string())?;
    let batch = disk.read(&Path::new(HOME).join("out/day-2/deliveries/push/batch-00000.ndjson"));
    batch.map(drop).map_err(|_| "the mended trigger was dropped".to_owned())
}

#[test]
fn recorded_hashes_of_failed_triggers_are_found() {
    mended_trigger_is_sent(&Site::new()).unwrap();
    mended_trigger_is_sent(&Site::new().with_bug(Bug::FailedTriggersRecorded)).unwrap_err();
}

/// Whatever bit of the receipts is flipped: a run is refused, or decides as if nothing had been.
fn flipped_receipts_change_nothing(site: &Site) -> Result<(), String> {
    let (before, settings) = (site.after([1]), site.settings(2));
    let run = |image: Image| {
        let disk = SimDisk::new(image);
        site.run(&disk, &settings).map(|_| picture(&disk.image()))
    };
    let expected = run(before.clone()).map_err(|error| error.to_string())?;
    let file = Path::new(HOME).join("state/receipts-1-0.parquet");
    let bits = SimDisk::new(before.clone()).read(&file).unwrap().len() * 8;
    for bit in (0..bits).step_by(29) {
        let mut flipped = before.clone();
        flipped.flip(&file, bit);
        match run(flipped) {
            Err(error) if error.kind == Kind::State && error.to_string().contains("receipts-1-0") => {}
            Err(error) => return Err(format!("bit {bit}: {error}")),
            Ok(found) if published(&found).eq(published(&expected)) => {}
            Ok(_) => return Err(format!("bit {bit} changed a decision")),
        }
    }
    Ok(())
}

#[test]
fn ignored_checksums_are_found() {
    flipped_receipts_change_nothing(&Site::new()).unwrap();
    let fault = flipped_receipts_change_nothing(&Site::new().with_bug(Bug::ChecksumIgnored)).unwrap_err();
    assert!(fault.contains("changed a decision"), "{fault}");
}

/// A state put back to an older copy sends nothing a second time.
fn older_copy_sends_nothing_twice(site: &Site) -> Result<(), String> {
    let (older, disk) = (SimDisk::new(site.after([1])), SimDisk::new(site.after([1, 2])));
    let state = Path::new(HOME).join("state");
    for path in disk.list(&state).unwrap() {
        disk.remove_file(&path).unwrap();
    }
    for path in older.list(&state).unwrap() {
        disk.create(&path).unwrap().write_all(&older.read(&path).unwrap()).unwrap();
    }
    let settings = RunSettings { run_id: Some("after".into()), ..site.settings(3) };
    match site.run(&disk, &settings) {
        Err(error) if error.kind == Kind::State => {}
        Err(error) => return Err(error.to_string()),
        Ok(_) => sound(&disk.image())?,
    }
    sound(&disk.image())
}

#[test]
fn a_skipped_fence_is_found() {
    older_copy_sends_nothing_twice(&Site::new()).unwrap();
    let fault = older_copy_sends_nothing_twice(&Site::new().with_bug(Bug::FenceSkipped)).unwrap_err();
    assert!(fault.contains("was sent twice"), "{fault}");
}
