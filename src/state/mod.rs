//! The durable eligibility state: who received which campaign when, over all runs, in one folder.
//!
//! ```text
//! STATE/lock                               permanent, empty; locked while a process has the state open
//!       manifest.json                      what the state consists of (`manifest.rs`)
//!       receipts-<generation>-<n>.parquet  sorted receipts (`rows.rs`, `write.rs`): a base and at most 8 deltas; of a
//!                                          fork, what it began with is `receipts-0-0.parquet`
//!       manifest.json.held                 the manifest of a run that is held (`held.rs`)
//!       manifest.json.next, scratch-*      only while a run is under way, or after a crash
//! ```
//!
//! # Order of operations
//!
//! Only what `manifest.json` names exists, and a file it names is never written again. A commit is:
//!
//! 1. [`State::stage`]: write the new receipt file, sync it; sync the folder (its name is durable).
//! 2. [`State::commit`]: write `manifest.json.next`, sync it.
//! 3. Rename it to `manifest.json`.
//! 4. Sync the folder. **Committed.**
//! 5. Remove the files that were merged into the new one. What a sieve kept out of it (`retention.rs`) is gone with them.
//!
//! A crash before 3 leaves the old manifest and files it does not name; the next [`State::open`] removes them. A
//! crash between 3 and 4 leaves the old manifest or the new one, whatever the disk kept, and both name only durable
//! files: those of the new one since 1, those of the old one because 5 has not begun. A crash after 4 leaves the new
//! manifest and perhaps old files, which the next open removes. An open syncs the folder before it removes anything
//! or hands out the manifest: after a killed commit the rename may be seen without being durable. A failure in 3 or 4
//! leaves open which manifest counts: this process may then neither stage nor commit again, and only the next open
//! tells.
//!
//! # Changes that no run makes
//!
//! An import, a compaction and an erasure go the same way, and there is no other: a new receipt file, the next manifest,
//! and only then are the files removed that it replaces. So they form the same chain, crash as a run does, and are known
//! to every output folder's fence. They differ in two things. The manifest lists them in `changes` instead of `runs`. And
//! they keep the publication of the newest run, since that run may not have been moved yet; only a run replaces it.
//!
//! A fork is the commit of another state: its one file is durable before its manifest, generation 0 of a chain of its own,
//! is renamed into place. What a crash before that leaves in the new folder counts as empty. The forked state is only read.
//!
//! # Publication
//!
//! The commit records in `publication` which staged run folder becomes which output folder. It is an instruction that
//! can be repeated, not a flag to be cleared, so finishing it writes nothing here. After a commit and after every
//! open, and before the next commit, the caller does: if `staged` exists and `published` does not, rename it and sync
//! the folders on both sides; else nothing. The next commit replaces the record, so the rename must be durable by
//! then.
//!
//! # Taking back
//!
//! Receipts are never removed to take them back: a revocation adds rows with the outcome `revoked` (`revoke.rs`). Deciding takes one
//! receipt of the same key, campaign, instant and trigger id back for each.
//!
//! # What this deliberately does not do
//!
//! It reads no clock and draws no random number (both are arguments), does not move run folders, and does not wait for the lock: [`State::open`] returns an error of kind [`Kind::Busy`]. Only names of
//! its own making are ever removed; a foreign file in the folder is left alone.

mod delta;
mod export;
mod fork;
mod held;
mod log;
mod manifest;
mod merge;
mod read;
mod retention;
mod revoke;
mod rewrite;
mod rows;
mod verify;
mod write;

#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use delta::Delta;
pub use export::LogFormat;
pub use log::{LogFile, LoggedReceipt};
pub use manifest::{
    Ancestor, CampaignRetention, Change, ChangeKind, ErasedRecipients, FORMAT, FileKind, Publication, ReceiptFile,
    RunRecord, StateManifest, Window,
};
pub use merge::MAX_DELTAS;
pub use read::Receipts;
pub use retention::{CampaignRule, LEAST_KEPT_SECONDS, Retention};
pub use rows::Receipt;
pub use verify::{CampaignSummary, Summary};

use crate::error::{Error, Fault, IoContext, Kind, Result};
use crate::storage::{Disk, DiskLock, create_dir_durably};
use held::Held;
use manifest::{MANIFEST, digest_of, is_receipt_file};
use merge::{MERGE_BATCH_ROWS, Merge, Source, merge_from};
use read::{Columns, ReceiptTable};
use retention::Sieve;
use write::{ReceiptWriter, Unnamed};

const LOCK: &str = "lock";
const NEXT_MANIFEST: &str = "manifest.json.next";
/// The receipts that a fork begins with.
const FORKED: &str = "receipts-0-0.parquet";

/// An open, locked state. Dropping it releases the lock.
pub struct State {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    manifest: StateManifest,
    digest: String,
    /// A commit failed where nobody can tell whether it counts.
    unsure: bool,
    /// The manifest that committing the held run would install.
    held: Option<Held>,
    _lock: Box<dyn DiskLock>,
}

/// The next generation, durable and complete, but named by no manifest. Dropping it removes its files.
pub struct StagedGeneration {
    manifest: StateManifest,
    unnamed: Unnamed,
    replaced: Vec<PathBuf>,
}

/// What becomes of files and new receipts: one file, of what the sieve lets stay.
struct Rewrite<'a> {
    merged: &'a [ReceiptFile],
    new: Vec<Source>,
    /// Receipts of both.
    rows: u64,
    sieve: Sieve,
}

impl StagedGeneration {
    /// The number of the generation that a commit makes.
    pub fn generation(&self) -> u64 {
        self.manifest.generation
    }
}

impl State {
    /// Makes a new, empty state (generation 0) in a folder that is absent or empty, and opens it. `state_id` is a
    /// random number of the caller's. Errors: [`Kind::State`] when the folder holds anything, or cannot be written.
    pub fn init(disk: Arc<dyn Disk>, dir: &Path, state_id: u128) -> Result<State> {
        create_dir_durably(&*disk, dir).at(Kind::State, "create", dir)?;
        refuse_occupied(&*disk, dir)?;
        let lock = take_lock(&*disk, dir)?;
        refuse_occupied(&*disk, dir)?;
        let manifest = StateManifest::first(state_id);
        let bytes = manifest.encode()?;
        write_next_manifest(&*disk, dir, &bytes)?;
        install_manifest(&*disk, dir, NEXT_MANIFEST, MANIFEST)?;
        let digest = digest_of(&bytes);
        Ok(State { disk, dir: dir.to_owned(), manifest, digest, unsure: false, held: None, _lock: lock })
    }

    /// Opens and locks a state, verifies its manifest, checks that the files it names are there in full length, and
    /// removes what a crashed run left. Errors: [`Kind::Busy`] when it is locked; else [`Kind::State`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<State> {
        let path = dir.join(MANIFEST);
        if !disk.exists(dir) {
            let error = Error::new(Kind::State, format!("the state folder `{}` does not exist", dir.display()));
            return Err(error.hint(how_to_make(dir)));
        }
        if !disk.exists(&path) {
            let message = format!("`{}` is not a state: it has no `{MANIFEST}`", dir.display());
            return Err(Error::new(Kind::State, message).hint(how_to_make(dir)));
        }
        let lock = take_lock(&*disk, dir)?;
        let bytes = disk.read(&path).at(Kind::State, "read", &path)?;
        let manifest = StateManifest::decode(&path, &bytes)?;
        check_files(&*disk, dir, &manifest.files)?;
        // A killed commit may have renamed without syncing: what is acted on from here must survive a power cut.
        disk.sync_dir(dir).at(Kind::State, "sync", dir)?;
        let digest = digest_of(&bytes);
        let held = held::read_held(&*disk, dir, &digest)?;
        check_files(&*disk, dir, held.as_ref().map_or(&[], |held| &held.manifest.files))?;
        let state = State { disk, dir: dir.to_owned(), manifest, digest, unsure: false, held, _lock: lock };
        state.remove_leftovers()?;
        Ok(state)
    }

    /// What the state consists of.
    pub fn manifest(&self) -> &StateManifest {
        &self.manifest
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The digest of the current manifest: SHA-256 of its bytes, 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether this state is, or comes from, the generation with this digest. A state that does not know the newest
    /// digest an output folder remembers was rolled back.
    pub fn knows_digest(&self, generation: u64, digest: &str) -> bool {
        if generation == self.manifest.generation {
            return digest == self.digest;
        }
        let ancestor = usize::try_from(generation).ok().and_then(|g| self.manifest.chain.get(g));
        ancestor.is_some_and(|a| a.generation == generation && a.digest == digest)
    }

    /// The receipts, to be read in parallel. Opens every receipt file and verifies its footer.
    pub fn receipts(&self) -> Result<Receipts<'_>> {
        Receipts::open(&*self.disk, &self.dir, &self.manifest.files)
    }

    /// Begins to collect the receipts of a run.
    pub fn delta(&self, run_id: &str) -> Delta {
        let delta = Delta::new(Arc::clone(&self.disk), &self.dir, self.manifest.generation + 1, run_id);
        #[cfg(test)]
        if let Some(rows) = crate::planted::spill_after() {
            return delta.spill_after(rows);
        }
        delta
    }

    /// Writes the receipts, merged with those small files that tiering calls for, and makes them durable; expired ones of
    /// the merged files go. Nothing is visible yet. `retention` has every campaign of the run. Errors: [`Kind::State`]
    /// (disk, damaged files), [`Kind::Internal`] (a campaign without a rule, a delta of another run or generation). After
    /// a failed sync the process must end: the kernel may have dropped what could not be written.
    pub fn stage(&self, delta: Delta, run: RunRecord, retention: &Retention) -> Result<StagedGeneration> {
        if delta.run_id != run.run_id {
            return Err(Error::new(Kind::Internal, "the receipts to be staged belong to another run"));
        }
        let mut next = self.manifest.successor(&self.digest);
        next.publication = None;
        retention.record(&mut next);
        if let Some(id) = delta.by_campaign.keys().find(|id| !retention.campaigns.contains_key(*id)) {
            return Err(Error::new(Kind::Internal, format!("the campaign `{id}` has receipts, but no window")));
        }
        next.runs.push(RunRecord { generation: next.generation, ..run });
        let sieve = retention.sieve(&next, |id| delta.by_campaign.get(id).map(|added| added.newest));
        self.stage_next(next, delta, sieve)
    }

    /// [`State::stage`] for receipts that no run of this state has decided: campaigns may be unknown. The publication of
    /// the newest run stays recorded.
    pub fn stage_import(&self, delta: Delta, inputs: Vec<String>) -> Result<StagedGeneration> {
        let mut next = self.manifest.successor(&self.digest);
        let (id, added) = (delta.run_id.clone(), delta.receipts());
        let (kind, generation) = (ChangeKind::Import, next.generation);
        next.changes.push(Change { kind, id, generation, inputs, added, removed: 0 });
        self.stage_next(next, delta, Sieve::default())
    }

    /// Writes what a generation adds.
    fn stage_next(&self, mut next: StateManifest, delta: Delta, sieve: Sieve) -> Result<StagedGeneration> {
        self.refuse_unsure()?;
        self.refuse_held()?;
        if delta.generation != next.generation {
            return Err(Error::new(Kind::Internal, "the receipts to be staged belong to another generation"));
        }
        for (id, added) in &delta.by_campaign {
            next.campaigns.entry(id.clone()).or_default().receipts += added.receipts;
        }
        let mut unnamed = Unnamed::none(Arc::clone(&self.disk));
        let mut merged = Vec::new();
        if delta.receipts() > 0 {
            let rows: Vec<u64> = next.files.iter().map(|file| file.rows).chain([delta.receipts()]).collect();
            let first = merge_from(&rows);
            merged = next.files.split_off(first);
            let oldest =
                merged.iter().map(|file| file.oldest).chain(delta.by_campaign.values().map(|a| a.oldest)).min();
            let sieve = if oldest.is_some_and(|oldest| sieve.is_open_from(oldest)) { Sieve::default() } else { sieve };
            let (new, scratch) = delta.into_sources()?;
            let rewrite = Rewrite { merged: &merged, new, rows: rows[first..].iter().sum(), sieve };
            self.write_merged(rewrite, &mut next, &mut unnamed)?;
            drop(scratch);
        }
        self.finish_staging(next, unnamed, &merged)
    }

    /// Makes the names of new files durable.
    fn finish_staging(
        &self,
        manifest: StateManifest,
        unnamed: Unnamed,
        merged: &[ReceiptFile],
    ) -> Result<StagedGeneration> {
        self.disk.sync_dir(&self.dir).at(Kind::State, "sync", &self.dir)?;
        let replaced = merged.iter().map(|file| self.dir.join(&file.name)).collect();
        Ok(StagedGeneration { manifest, unnamed, replaced })
    }

    /// Makes a staged generation the current one: the only commit point. `publication` is the run folder to be moved
    /// when this has returned, of a run that has one. An error says in its hint whether the commit may count nevertheless.
    pub fn commit(&mut self, staged: StagedGeneration, publication: Option<Publication>) -> Result<()> {
        let StagedGeneration { mut manifest, unnamed, replaced } = self.next(staged)?;
        manifest.publication = publication.or(manifest.publication);
        let bytes = manifest.encode()?;
        write_next_manifest(&*self.disk, &self.dir, &bytes)?;
        // From the rename on the new files may be named: whatever happens, this process does not remove them.
        unnamed.keep();
        self.unsure = true;
        install_manifest(&*self.disk, &self.dir, NEXT_MANIFEST, MANIFEST)?;
        self.unsure = false;
        (self.manifest, self.digest) = (manifest, digest_of(&bytes));
        for path in replaced {
            // The commit stands; a file that cannot be removed now is a leftover of the next open.
            let _ = self.disk.remove_file(&path);
        }
        Ok(())
    }

    /// A staged generation, if it may come next.
    fn next(&self, staged: StagedGeneration) -> Result<StagedGeneration> {
        self.refuse_unsure()?;
        self.refuse_held()?;
        match staged.manifest.parent_digest.as_deref() == Some(&self.digest) {
            true => Ok(staged),
            false => Err(Error::new(Kind::Internal, "the staged generation does not follow the current one")),
        }
    }

    /// Removes the files of a staged generation. Dropping it does the same.
    pub fn discard(&self, staged: StagedGeneration) {
        drop(staged);
    }

    /// Writes receipts of files and new ones, as far as they stay, as the last file of `next`; returns what fell through.
    fn write_merged(&self, rewrite: Rewrite<'_>, next: &mut StateManifest, unnamed: &mut Unnamed) -> Result<Sieve> {
        let Rewrite { merged, new, rows, mut sieve } = rewrite;
        let path = self.dir.join(format!("receipts-{}-0.parquet", next.generation));
        unnamed.add(path.clone());
        let mut sources = merged.iter().map(|file| self.verified_source(file)).collect::<Result<Vec<_>>>()?;
        sources.extend(new);
        let mut writer = ReceiptWriter::create(&*self.disk, &path, rows)?;
        let mut merge = Merge::new(sources)?;
        while let Some(batch) = merge.next()? {
            sieve.push(batch)?.map_or(Ok(()), |kept| writer.write(&kept))?;
        }
        sieve.finish()?.map_or(Ok(()), |kept| writer.write(&kept))?;
        writer.expect_fewer(sieve.dropped());
        sieve.settle(next);
        if sieve.dropped() == rows {
            drop(writer);
            self.disk.remove_file(&path).at(Kind::State, "remove", &path)?;
            return Ok(sieve);
        }
        let oldest_generation = merged.first().map_or(next.generation, |file| file.first_generation);
        let kind = if next.files.is_empty() { FileKind::Base } else { FileKind::Delta };
        next.files.push(ReceiptFile { kind, ..writer.finish((oldest_generation, next.generation))? });
        Ok(sieve)
    }

    /// The rows of a file, after its whole content was verified: a merge must not give damage a new checksum.
    fn verified_source(&self, file: &ReceiptFile) -> Result<Source> {
        verify::check_content(&*self.disk, &self.dir, file)?;
        Ok(Source::File(ReceiptTable::open(&*self.disk, &self.dir, file)?.batches(
            Columns::All,
            None,
            MERGE_BATCH_ROWS,
        )?))
    }

    fn remove_leftovers(&self) -> Result<()> {
        let paths = self.disk.list(&self.dir).at(Kind::State, "list", &self.dir)?;
        for path in paths {
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
            let ours = is_receipt_file(name)
                || name == NEXT_MANIFEST
                || (name.starts_with("scratch-") && name.ends_with(".parquet"));
            let mut named = self.manifest.files.iter().chain(self.held.iter().flat_map(|held| &held.manifest.files));
            if ours && !named.any(|file| file.name == name) {
                self.disk.remove_file(&path).at(Kind::State, "remove", &path)?;
            }
        }
        Ok(())
    }

    fn refuse_unsure(&self) -> Result<()> {
        if !self.unsure {
            return Ok(());
        }
        Err(Error::new(Kind::State, "an earlier commit failed half-way").hint("run the same command again"))
    }
}

fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>> {
    let path = dir.join(LOCK);
    let lock = disk.try_lock(&path).at(Kind::State, "lock", &path)?;
    lock.ok_or_else(|| {
        Error::new(Kind::Busy, format!("the state `{}` is in use by another process", dir.display()))
            .hint("try again later, or wait for it with `--wait-lock 10m`")
    })
}

/// What a crash in the middle of [`State::init`] or [`State::fork`] leaves counts as empty.
fn refuse_occupied(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let paths = disk.list(dir).at(Kind::State, "list", dir)?;
    let foreign = paths.iter().find(|p| ![LOCK, NEXT_MANIFEST, FORKED].iter().any(|own| p.ends_with(own)));
    let Some(foreign) = foreign else { return Ok(()) };
    let (message, hint) = if foreign.ends_with(MANIFEST) || paths.iter().any(|p| p.ends_with(MANIFEST)) {
        ("is a state already", "use it as it is, or give the new state another folder")
    } else {
        ("is not empty", "give the new state a folder of its own")
    };
    Err(Error::new(Kind::State, format!("cannot make a state: `{}` {message}", dir.display())).hint(hint))
}

fn how_to_make(dir: &Path) -> String {
    format!("check the spelling, or make a new state with `retrigger state init {}` or `--create-state`", dir.display())
}

/// Every file is there in full length, or all that are not are named at once.
fn check_files(disk: &dyn Disk, dir: &Path, files: &[ReceiptFile]) -> Result<()> {
    let broken: Vec<Error> =
        files.iter().filter_map(|f| read::check_length(disk, &dir.join(&f.name), f.bytes).err()).collect();
    if broken.is_empty() {
        return Ok(());
    }
    let faults = broken.into_iter().map(|error| fault_of(dir, error)).collect();
    Err(Error::new(Kind::State, format!("the state `{}` is damaged", dir.display()))
        .with_faults(faults)
        .hint("restore the whole folder from a copy; nothing was changed"))
}

fn fault_of(dir: &Path, mut error: Error) -> Fault {
    error.hint = None;
    Fault::new(dir.display().to_string(), error.to_string())
}

/// Writes the manifest beside the current one and makes its content durable. Until it is renamed, it does not count; a
/// failure removes it.
fn write_next_manifest(disk: &dyn Disk, dir: &Path, bytes: &[u8]) -> Result<()> {
    let path = dir.join(NEXT_MANIFEST);
    let written = disk.create(&path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync()
    });
    written.map_err(|error| {
        let _ = disk.remove_file(&path);
        Error::io(Kind::State, "write", &path, error)
    })
}

/// Gives a manifest its name, then syncs the folder: the commit point, where that name is [`MANIFEST`].
fn install_manifest(disk: &dyn Disk, dir: &Path, from: &str, to: &str) -> Result<()> {
    let path = dir.join(to);
    let installed = disk.rename(&dir.join(from), &path).and_then(|()| disk.sync_dir(dir));
    installed.map_err(|error| {
        Error::io(Kind::State, "commit", &path, error)
            .hint("the commit may count or not; run the same command again: it finds out and never sends twice")
    })
}
