//! Every crash point of a command, and what the same command makes of it when it is given again.
//!
//! A command runs on a simulated disk that keeps, for each operation, the image that a crash in the middle of it would
//! find. From each of these images, with each choice of what a crash leaves, the command is run again to its end; then
//! the disk must hold exactly what it holds where nothing crashed, down to the bytes of batches and receipts. The crash
//! points of these second runs are followed in the same way: crashes inside recovery. Images that no command can tell
//! apart are followed once.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::manifest::RunManifest;
use crate::delivery::REVOKED;
use crate::error::{Error, Kind, Result as Done};
use crate::ids::Digest;
use crate::storage::simulated::{Image, Lie, SimDisk, Survival, Trouble};

#[cfg(test)]
mod planted;
#[cfg(test)]
mod scenarios;

/// The folder that everything is in.
const HOME: &str = "/disk";

/// What a crash may leave.
const FIRST: [Survival; 6] =
    [Survival::Killed, Survival::Nothing, Survival::Names, Survival::Torn, Survival::Drawn(1), Survival::Drawn(2)];

/// What a crash inside a recovery may leave.
const SECOND: [Survival; 4] = [Survival::Killed, Survival::Nothing, Survival::Names, Survival::Drawn(3)];

/// A command, and the disk that it finds.
struct Scenario<'a> {
    before: Image,
    /// Repeatable: given again after a crash, it finishes what it began, and after that it does nothing.
    command: &'a dyn Fn(&SimDisk) -> Done<()>,
    /// Whether the command's work counts on a disk with these files.
    counts: &'a dyn Fn(&Picture) -> bool,
    /// How the disk misbehaves, if it does.
    lie: Option<Lie>,
}

/// What was examined.
#[derive(Debug, Default)]
struct Counted {
    /// Operations of the command where nothing crashes.
    operations: usize,
    /// Calls of the command where nothing crashes, reading included.
    calls: usize,
    /// Crashes: crash points, with each choice of what is left, by the number of crashes before.
    crashes: Vec<usize>,
    /// Images after these crashes that differ, each recovered from: by the number of crashes before.
    images: Vec<usize>,
    /// Failing calls and full disks.
    troubles: usize,
}

/// What is on a disk, without what depends on the clock: files by path.
type Picture = BTreeMap<String, String>;

impl Scenario<'_> {
    fn disk(&self, image: Image) -> SimDisk {
        SimDisk::new(image).with_lie(self.lie.clone())
    }

    /// Follows `crashes` crashes one after the other, at every point.
    fn explore(&self, crashes: usize) -> Result<Counted, String> {
        let expected = self.uncrashed()?;
        let mut counted = Counted::default();
        let (mut known, mut cuts) = (HashSet::new(), HashSet::new());
        let mut level = vec![(self.before.clone(), "no crash".to_owned())];
        for depth in 0..=crashes {
            let mut next = Vec::new();
            for (image, history) in level {
                let disk = self.disk(image);
                self.finish(&disk, &expected, &mut cuts, &mut |disk| {
                    let operations = disk.take_operations();
                    if depth == 0 {
                        (counted.operations, counted.calls) = (operations.len(), disk.calls());
                    }
                    let last = disk.image();
                    let places = operations.iter().map(|o| (format!("{:?} {}", o.step, o.path.display()), &o.image));
                    let places = places.chain([("the end".to_owned(), &last)]).enumerate();
                    let survivals: &[Survival] = if depth == 0 { &FIRST } else { &SECOND };
                    for ((n, (place, image)), survival) in
                        places.flat_map(|p| survivals.iter().map(move |s| (p.clone(), s)))
                    {
                        let left = image.crash(*survival);
                        if known.insert(Digest::of(left.fingerprint().as_bytes())) {
                            next.push((left, format!("{history}; crash at {n}, {place}, {survival:?}")));
                        }
                        bump(&mut counted.crashes, depth);
                    }
                })
                .map_err(|fault| format!("{history}: {fault}"))?;
                if depth > 0 {
                    bump(&mut counted.images, depth - 1);
                }
            }
            level = next;
        }
        counted.crashes.truncate(crashes);
        Ok(counted)
    }

    /// Lets every call fail once, and fills the disk up at every call.
    fn fail(&self) -> Result<Counted, String> {
        let expected = self.uncrashed()?;
        let disk = self.disk(self.before.clone());
        (self.command)(&disk).map_err(|error| error.to_string())?;
        let mut counted = Counted { calls: disk.calls(), ..Counted::default() };
        let mut cuts = HashSet::new();
        for trouble in (0..counted.calls).flat_map(|n| [Trouble::FailsOnce(n), Trouble::FullFrom(n)]) {
            let disk = self.disk(self.before.clone()).with_trouble(trouble);
            let ended = (self.command)(&disk);
            self.judge(ended, &disk, &expected).map_err(|fault| format!("{trouble:?}: {fault}"))?;
            for survival in [Survival::Killed, Survival::Nothing] {
                let again = self.disk(disk.image().crash(survival));
                let finished = self.finish(&again, &expected, &mut cuts, &mut |_| {});
                finished.map_err(|fault| format!("{trouble:?}, then {survival:?}: {fault}"))?;
            }
            counted.troubles += 1;
        }
        Ok(counted)
    }

    /// A command that met trouble has done its work, or says that it has not, or that it may have.
    fn judge(&self, ended: Done<()>, disk: &SimDisk, expected: &Picture) -> Result<(), String> {
        let found = picture(&disk.image());
        let counts = (self.counts)(&found);
        match ended {
            Ok(()) if counts && published(&found).eq(published(expected)) => Ok(()),
            Ok(()) => Err("the command said that all is well, and it is not".to_owned()),
            Err(error) if error.kind == Kind::Internal => Err(format!("an internal error: {error}")),
            Err(error) if counts && !says_to_repeat(&error) => Err(format!("counts, and does not say so: {error}")),
            Err(_) => Ok(()),
        }
    }

    /// What the disk holds when nothing crashed.
    fn uncrashed(&self) -> Result<Picture, String> {
        let disk = self.disk(self.before.clone());
        (self.command)(&disk).map_err(|error| error.to_string())?;
        let expected = picture(&disk.image());
        sound(&disk.image())?;
        (self.counts)(&expected).then_some(expected).ok_or_else(|| "the work does not count".to_owned())
    }

    /// Runs the command to its end, and compares; then cuts the power: what was published must be there, and the command
    /// must find its work done. `cuts` knows what was found after power cuts before: that is examined once.
    fn finish(
        &self,
        disk: &SimDisk,
        expected: &Picture,
        cuts: &mut HashSet<Digest>,
        ended: &mut dyn FnMut(&SimDisk),
    ) -> Result<(), String> {
        (self.command)(disk).map_err(|error| format!("the command failed: {error}"))?;
        ended(disk);
        let image = disk.image();
        sound(&image)?;
        same(&picture(&image), expected)?;
        let cut = image.crash(Survival::Nothing);
        if !cuts.insert(Digest::of(cut.fingerprint().as_bytes())) {
            return Ok(());
        }
        if !published(&picture(&cut)).eq(published(expected)) {
            return Err("a power cut after the end loses what was published".to_owned());
        }
        let again = self.disk(cut);
        (self.command)(&again).map_err(|error| format!("given again after a power cut: {error}"))?;
        same(&picture(&again.image()), expected).map_err(|fault| format!("given again after a power cut: {fault}"))
    }
}

fn bump(counts: &mut Vec<usize>, place: usize) {
    counts.resize(counts.len().max(place + 1), 0);
    counts[place] += 1;
}

fn says_to_repeat(error: &Error) -> bool {
    error.hint.as_deref().is_some_and(|hint| hint.contains("same command again"))
}

/// Published runs, and what OUT remembers of states.
fn published(picture: &Picture) -> impl Iterator<Item = (&String, &String)> {
    picture.iter().filter(|(path, _)| path.starts_with("/disk/out/") && *path != "/disk/out/.retrigger/lock")
}

fn same(found: &Picture, expected: &Picture) -> Result<(), String> {
    let mut differences = Vec::new();
    for path in found.keys().chain(expected.keys()).collect::<BTreeSet<_>>() {
        match (found.get(path), expected.get(path)) {
            (Some(_), None) => differences.push(format!("`{path}` is there")),
            (None, Some(_)) => differences.push(format!("`{path}` is missing")),
            (found, expected) if found != expected => {
                differences.push(format!("`{path}` is {found:?} instead of {expected:?}"));
            }
            _ => {}
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join(", ")) }
}

fn picture(image: &Image) -> Picture {
    let text = |bytes: Vec<u8>| match serde_json::from_slice::<Value>(&bytes) {
        Ok(json) if json.is_object() => timeless(json).to_string(),
        _ => format!("{} bytes, {}", bytes.len(), Digest::of(&bytes)),
    };
    image.tree().into_iter().map(|(path, bytes)| (path, text(bytes))).collect()
}

/// JSON without what the time and memory of a run have a part in.
fn timeless(json: Value) -> Value {
    match json {
        Value::Object(mut map) => {
            let of_summary = map.get("path").is_some_and(|path| path == "summary.json");
            let of_state = map.contains_key("chain");
            let digests = ["seconds", "peak_rss_bytes", "digest", "parent_digest"];
            let sums: &[&str] = if of_summary || of_state { &["checksum", "bytes"] } else { &[] };
            map.retain(|name, _| !digests.contains(&name.as_str()) && !sums.contains(&name.as_str()));
            Value::Object(map.into_iter().map(|(name, value)| (name, timeless(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(timeless).collect()),
        other => other,
    }
}

/// What holds of every disk on which a command has ended: each published run is as its manifest says, its ledger
/// balances, and no two messages of all of them have one dispatch id, or one recipient: the campaign is sent once ever.
fn sound(image: &Image) -> Result<(), String> {
    let tree = image.tree();
    let runs = tree.keys().filter_map(|path| path.strip_prefix("/disk/out/")?.strip_suffix("/manifest.json"));
    let mut sent = BTreeSet::new();
    for run in runs {
        let home = format!("{HOME}/out/{run}/");
        let manifest: RunManifest = serde_json::from_slice(&tree[&format!("{home}manifest.json")])
            .map_err(|error| format!("{home}: {error}"))?;
        if !manifest.ledger.balances() {
            return Err(format!("the ledger of `{run}` does not balance"));
        }
        for file in &manifest.files {
            let bytes = tree.get(&format!("{home}{}", file.path)).ok_or_else(|| format!("{run} lost {}", file.path))?;
            if Digest::of(bytes) != file.checksum {
                return Err(format!("`{}` of `{run}` is not as it was written", file.path));
            }
        }
        let is_its_own = |path: &&String| path.starts_with(&home) && !path.ends_with('/') && !path.ends_with(REVOKED);
        let files = tree.keys().filter(is_its_own).count();
        if files != manifest.files.len() + 1 {
            return Err(format!("`{run}` has files that its manifest does not name"));
        }
        for (path, bytes) in tree.iter().filter(|(path, _)| path.starts_with(&format!("{home}deliveries/"))) {
            for line in String::from_utf8_lossy(bytes).lines() {
                let message: Value = serde_json::from_str(line).map_err(|error| format!("{path}: {error}"))?;
                for twice in ["dispatch_id", "recipient"].map(|name| &message[name]) {
                    if !sent.insert(twice.to_string()) {
                        return Err(format!("{twice} was sent twice"));
                    }
                }
            }
        }
    }
    Ok(())
}
