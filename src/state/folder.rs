//! An open state: locked, verified, and the only way to its next generation.
//!
//! A commit, in order: the new receipt file is written and synced, the folder is synced, the next manifest replaces the
//! old one (**the commit point**), files that are no longer named are removed. A crash before the replacement leaves
//! the old generation and a file that nothing names; opening removes it. A crash after it leaves the new generation and
//! old files; opening removes those.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::manifest::{
    CampaignRecord, ChainLink, FORMAT, FileRecord, Publication, RunRecord, StateManifest, Window,
};
use super::merge::{Source, merge};
use super::reader::{ReceiptFile, Receipts};
use super::receipts::{self, Receipt, ReceiptWriter};
use crate::error::{Error, Fault, IoContext, Kind, Result};
use crate::ids::Digest;
use crate::storage::{Disk, DiskLock, replace_atomically};
use crate::triggers::Micros;

const MANIFEST: &str = "manifest.json";

/// Most deltas beside the base.
const MOST_DELTAS: usize = 8;

/// An open, locked state.
pub struct State {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    manifest: StateManifest,
    digest: String,
    receipts: Receipts,
    _lock: Box<dyn DiskLock>,
}

/// The next generation, durable and not committed.
pub struct StagedGeneration {
    manifest: StateManifest,
}

impl State {
    /// Makes a new state in a folder that is missing or empty.
    pub fn init(disk: Arc<dyn Disk>, dir: &Path, state_id: u128) -> Result<State> {
        if disk.exists(&dir.join(MANIFEST)) {
            let summary = format!("`{}` holds a state already", dir.display());
            return Err(Error::new(Kind::State, summary).hint("use it, or give another folder"));
        }
        disk.create_dir_all(dir).at(Kind::State, "create the state folder", dir)?;
        if !disk.list(dir).at(Kind::State, "list", dir)?.iter().all(|path| is_own_leftover(path)) {
            let summary = format!("`{}` is not empty", dir.display());
            return Err(Error::new(Kind::State, summary).hint("give a folder that is missing or empty"));
        }
        let lock = lock(&*disk, dir)?;
        let manifest = StateManifest {
            format: FORMAT,
            state_id: format!("{state_id:032x}"),
            generation: 0,
            files: Vec::new(),
            campaigns: BTreeMap::new(),
            chain: Vec::new(),
            runs: Vec::new(),
            pending: None,
        };
        let (bytes, digest) = manifest.seal()?;
        replace_atomically(&*disk, &dir.join(MANIFEST), &bytes).at(Kind::State, "write", dir.join(MANIFEST))?;
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            disk.sync_dir(parent).at(Kind::State, "sync", parent)?;
        }
        Ok(State { disk, dir: dir.to_owned(), manifest, digest, receipts: Receipts::open(&[])?, _lock: lock })
    }

    /// Opens, locks and verifies a state, and removes what crashed runs left.
    ///
    /// # Errors
    /// `Busy` where another process has it open; `State` where it is missing or damaged.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<State> {
        let path = dir.join(MANIFEST);
        if !disk.exists(&path) {
            let summary = format!("there is no state in `{}`", dir.display());
            let hint = format!(
                "check the path; to begin one, run `retrigger state init {}` or give `--create-state`",
                dir.display()
            );
            return Err(Error::new(Kind::State, summary).hint(hint));
        }
        let lock = lock(&*disk, dir)?;
        let bytes = disk.read(&path).at(Kind::State, "read", &path)?;
        let (manifest, digest) = StateManifest::open(&path, &bytes)?;
        check_files(dir, &manifest)?;
        let receipts = Receipts::open(&paths(dir, &manifest))?;
        let state = State { disk, dir: dir.to_owned(), manifest, digest, receipts, _lock: lock };
        state.remove_unnamed()?;
        Ok(state)
    }

    /// The current generation.
    pub fn manifest(&self) -> &StateManifest {
        &self.manifest
    }

    /// The digest of the current manifest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether this state is, or descends from, that generation.
    pub fn knows_digest(&self, generation: u64, digest: &str) -> bool {
        let current = self.manifest.generation == generation && self.digest == digest;
        current || self.manifest.chain.iter().any(|link| link.generation == generation && link.digest == digest)
    }

    /// The receipts.
    pub fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    /// Writes a run's receipts, merged with the newest deltas where those are small, and prepares the manifest.
    pub fn stage(
        &self,
        mut new: Vec<Receipt>,
        run: RunRecord,
        windows: &BTreeMap<String, Window>,
    ) -> Result<StagedGeneration> {
        receipts::sort(&mut new);
        let mut next = self.manifest.clone();
        next.generation += 1;
        next.chain.push(ChainLink { generation: self.manifest.generation, digest: self.digest.clone() });
        for (id, window) in windows {
            let fresh = CampaignRecord { largest_window: *window, history_floor: None, receipts: 0 };
            let record = next.campaigns.entry(id.clone()).or_insert(fresh);
            record.largest_window = record.largest_window.max(*window);
        }
        for receipt in &new {
            if let Some(record) = next.campaigns.get_mut(receipt.campaign_id.as_ref()) {
                record.receipts += 1;
            }
        }
        if !new.is_empty() {
            let absorbed = absorbed(&next.files, new.len() as u64);
            let merged: Vec<FileRecord> = next.files.split_off(next.files.len() - absorbed);
            let written = self.write(next.generation, &merged, &new, &run.run_id);
            // On a full disk half a file would stand in the way until the next start removes it.
            next.files.push(written.inspect_err(|_| drop(self.remove_unnamed()))?);
        }
        next.runs.push(run);
        Ok(StagedGeneration { manifest: next })
    }

    fn write(&self, generation: u64, merged: &[FileRecord], new: &[Receipt], run_id: &str) -> Result<FileRecord> {
        let path = self.dir.join(format!("receipts-{generation:08}.parquet"));
        let mut writer = ReceiptWriter::create(&*self.disk, &path)?;
        let files = merged.iter().map(|record| ReceiptFile::open(&self.dir.join(&record.name)));
        let files = files.collect::<Result<Vec<_>>>()?;
        let mut sources = files.iter().map(Source::file).collect::<Result<Vec<_>>>()?;
        sources.push(Source::Rows(Some(receipts::batch(new, run_id)?)));
        merge(sources, &mut writer)?;
        let record = writer.finish()?;
        let expected = merged.iter().map(|f| f.rows).sum::<u64>() + new.len() as u64;
        if record.rows != expected {
            let summary = format!("merging receipts gave {} rows instead of {expected}; nothing was committed", record.rows);
            return Err(Error::new(Kind::Internal, summary));
        }
        self.disk.sync_dir(&self.dir).at(Kind::State, "sync", &self.dir)?;
        Ok(record)
    }

    /// The commit point.
    pub fn commit(&mut self, staged: StagedGeneration, publication: Option<Publication>) -> Result<()> {
        let next = StateManifest { pending: publication, ..staged.manifest };
        let (bytes, digest) = next.seal()?;
        let path = self.dir.join(MANIFEST);
        replace_atomically(&*self.disk, &path, &bytes).at(Kind::State, "commit", &path)?;
        (self.manifest, self.digest) = (next, digest);
        self.receipts = Receipts::open(&paths(&self.dir, &self.manifest))?;
        self.remove_unnamed()
    }

    /// Removes receipt files that the manifest does not name, and unfinished manifests.
    fn remove_unnamed(&self) -> Result<()> {
        let named: BTreeSet<PathBuf> = paths(&self.dir, &self.manifest).into_iter().collect();
        for path in self.disk.list(&self.dir).at(Kind::State, "list", &self.dir)? {
            if is_own_leftover(&path) && !named.contains(&path) && path != self.dir.join("lock") {
                self.disk.remove_file(&path).at(Kind::State, "remove", &path)?;
            }
        }
        Ok(())
    }

    /// Re-hashes and re-reads every file.
    ///
    /// # Errors
    /// Every damaged file, in one error.
    pub fn verify(&self) -> Result<()> {
        let faults: Vec<Fault> = self.manifest.files.iter().filter_map(|record| self.fault_of(record)).collect();
        if faults.is_empty() {
            return Ok(());
        }
        let summary = format!("the state in `{}` is damaged", self.dir.display());
        Err(Error::new(Kind::State, summary).with_faults(faults).hint("restore the state's folder from a copy"))
    }

    fn fault_of(&self, record: &FileRecord) -> Option<Fault> {
        let path = self.dir.join(&record.name);
        let fault = |why: String| Some(Fault::new(record.name.clone(), why));
        match self.disk.read(&path) {
            Err(error) => return fault(format!("cannot be read: {error}")),
            Ok(bytes) if Digest::of(&bytes) != record.checksum => return fault("its checksum does not match".to_owned()),
            Ok(_) => {}
        }
        let count = || -> Result<u64> {
            let mut batches = ReceiptFile::open(&path)?.batches(None, &["key_hash"])?;
            let mut rows = 0;
            while let Some(batch) = batches.next()? {
                rows += batch.num_rows() as u64;
            }
            Ok(rows)
        };
        match count() {
            Ok(rows) if rows == record.rows => None,
            Ok(rows) => fault(format!("holds {rows} rows instead of {}", record.rows)),
            Err(error) => fault(error.to_string()),
        }
    }

    /// What the state holds.
    pub fn overview(&self) -> Result<Overview> {
        let manifest = &self.manifest;
        let campaigns = manifest.campaigns.iter().map(|(id, record)| {
            let largest_window_seconds = match record.largest_window {
                Window::Never => None,
                Window::Seconds(seconds) => Some(seconds),
            };
            let (receipts, history_floor) = (record.receipts, record.history_floor);
            (id.clone(), CampaignOverview { receipts, largest_window_seconds, history_floor })
        });
        Ok(Overview {
            state_id: manifest.state_id.clone(),
            generation: manifest.generation,
            receipts: manifest.files.iter().map(|f| f.rows).sum(),
            files: manifest.files.len(),
            bytes: manifest.files.iter().map(|f| f.bytes).sum(),
            oldest: manifest.files.iter().map(|f| f.oldest).min(),
            newest: manifest.files.iter().map(|f| f.newest).max(),
            runs: manifest.runs.len(),
            campaigns: campaigns.collect(),
        })
    }
}

/// What `state show` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// The state's id.
    pub state_id: String,
    /// Its generation.
    pub generation: u64,
    /// Receipts and enrolments.
    pub receipts: u64,
    /// Receipt files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The earliest receipt, microseconds.
    pub oldest: Option<Micros>,
    /// The latest.
    pub newest: Option<Micros>,
    /// Committed runs.
    pub runs: usize,
    /// By campaign.
    pub campaigns: BTreeMap<String, CampaignOverview>,
}

/// One campaign in an [`Overview`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CampaignOverview {
    /// Receipts and enrolments.
    pub receipts: u64,
    /// The largest window ever used; none is `never`.
    pub largest_window_seconds: Option<u64>,
    /// Receipts before this may have been dropped.
    pub history_floor: Option<Micros>,
}

/// How many of the newest files a new delta absorbs: those that are not twice as large as what comes after them, so that
/// sizes fall geometrically and every receipt is rewritten a logarithmic number of times; and as many as keep the number
/// of deltas.
fn absorbed(files: &[FileRecord], new_rows: u64) -> usize {
    let mut rows = new_rows;
    let mut count = 0;
    for file in files.iter().rev() {
        if file.rows > rows.saturating_mul(2) {
            break;
        }
        rows += file.rows;
        count += 1;
    }
    count.max(files.len().saturating_sub(MOST_DELTAS))
}

fn paths(dir: &Path, manifest: &StateManifest) -> Vec<PathBuf> {
    manifest.files.iter().map(|file| dir.join(&file.name)).collect()
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>> {
    let path = dir.join("lock");
    disk.try_lock(&path).at(Kind::State, "lock", &path)?.ok_or_else(|| {
        Error::new(Kind::Busy, format!("the state in `{}` is in use by another run", dir.display()))
            .hint("try again when it has ended, or give `--wait-lock 10m`")
    })
}

/// A file of the state's own making: only those are ever removed.
fn is_own_leftover(path: &Path) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    name == "lock" || name == "manifest.json.next" || (name.starts_with("receipts-") && name.ends_with(".parquet"))
}

/// Every named file is there with its length; content is checked by whoever reads it.
fn check_files(dir: &Path, manifest: &StateManifest) -> Result<()> {
    let faults: Vec<Fault> = manifest
        .files
        .iter()
        .filter_map(|file| match std::fs::metadata(dir.join(&file.name)) {
            Ok(found) if found.len() == file.bytes => None,
            Ok(found) => {
                let message = format!("has {} bytes instead of {}", found.len(), file.bytes);
                Some(Fault::new(file.name.clone(), message))
            }
            Err(error) => Some(Fault::new(file.name.clone(), format!("cannot be found: {error}"))),
        })
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    let summary = format!("the state in `{}` is damaged", dir.display());
    Err(Error::new(Kind::State, summary).with_faults(faults).hint("restore the state's folder from a copy; nothing was changed"))
}
