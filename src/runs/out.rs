//! The output folder: its lock, its staging sibling, and what it remembers of states.
//!
//! `OUT/.retrigger/lock` is permanent. `OUT.staging/` stands beside OUT, on the same device, so that a rename publishes
//! and no glob over OUT sees unfinished files. `OUT/.retrigger/states.json` holds the newest generation seen of each
//! state: a state that does not know it was restored from an older copy.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::manifest::RunManifest;
use crate::delivery::path_segment;
use crate::error::{Error, IoContext, Kind, Result};
use crate::storage::{Disk, DiskLock, replace_atomically};

/// The newest generation of a state that published into this folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenGeneration {
    /// Its number.
    pub generation: u64,
    /// Digest of its manifest.
    pub digest: String,
}

/// A locked output folder.
pub struct OutFolder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    staging: PathBuf,
    /// None where the folder is only looked at.
    lock: Option<Box<dyn DiskLock>>,
}

impl OutFolder {
    /// A folder that is only looked at: nothing is created or locked, and it need not exist.
    pub fn look_at(disk: Arc<dyn Disk>, out: &Path) -> Result<OutFolder> {
        let path = out.canonicalize().unwrap_or_else(|_| out.to_owned());
        Ok(OutFolder { disk, staging: sibling(&path)?, path, lock: None })
    }

    /// Creates OUT where needed, locks it, and checks that staging stands on the same device. Waits for a held lock at
    /// most `wait`.
    pub fn open(disk: Arc<dyn Disk>, out: &Path, wait: Duration) -> Result<OutFolder> {
        let own = out.join(".retrigger");
        disk.create_dir_all(&own).at(Kind::Output, "create the output folder", out)?;
        let path = out.canonicalize().at(Kind::Output, "open the output folder", out)?;
        let lock_path = own.join("lock");
        let lock = wait_for(wait, || match disk.try_lock(&lock_path) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(busy(out)),
            Err(error) => Err(Error::io(Kind::Output, "lock", &lock_path, error)),
        })?;
        let staging = sibling(&path)?;
        disk.create_dir_all(&staging).at(Kind::Output, "create the staging folder", &staging)?;
        let folder = OutFolder { disk, path, staging, lock: Some(lock) };
        folder.check_device()?;
        Ok(folder)
    }

    fn check_device(&self) -> Result<()> {
        let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev());
        let own = device(&self.path).at(Kind::Output, "look at", &self.path)?;
        let staging = device(&self.staging).at(Kind::Output, "look at", &self.staging)?;
        if own == staging {
            return Ok(());
        }
        let summary = format!("`{}` is a mount point: its staging sibling is on another device", self.path.display());
        Err(Error::new(Kind::Output, summary).hint("use a folder inside the mounted one as `--out`"))
    }

    /// Where a run of this id is published.
    pub fn published(&self, run_id: &str) -> PathBuf {
        self.path.join(path_segment(run_id))
    }

    /// Where a run of this id is staged.
    pub fn staged(&self, run_id: &str) -> PathBuf {
        self.staging.join(path_segment(run_id))
    }

    /// Where input is spooled.
    pub fn spool(&self) -> PathBuf {
        self.staging.join(".spool")
    }

    /// Removes what crashed runs left in staging, but for `keep`.
    pub fn clear_staging(&self, keep: Option<&Path>) -> Result<()> {
        for path in self.disk.list(&self.staging).at(Kind::Output, "list", &self.staging)? {
            if Some(path.as_path()) != keep {
                let removed = if path.is_dir() { self.disk.remove_dir_all(&path) } else { self.disk.remove_file(&path) };
                removed.at(Kind::Output, "remove", &path)?;
            }
        }
        Ok(())
    }

    /// Renames a staged run into place. Idempotent: a run that is there already stays.
    pub fn publish(&self, staged: &Path, published: &Path) -> Result<()> {
        if self.disk.exists(staged) {
            self.disk.rename(staged, published).at(Kind::Output, "publish the run as", published)?;
            self.disk.sync_dir(&self.path).at(Kind::Output, "sync", &self.path)?;
        }
        Ok(())
    }

    /// The manifest of a published run, if there is one.
    pub fn manifest(&self, run_id: &str) -> Result<Option<RunManifest>> {
        let path = self.published(run_id).join("manifest.json");
        if !self.disk.exists(&path) {
            return Ok(None);
        }
        let bytes = self.disk.read(&path).at(Kind::Output, "read", &path)?;
        let broken = |e| Error::new(Kind::Output, format!("`{}` is damaged", path.display())).caused_by(e);
        serde_json::from_slice(&bytes).map(Some).map_err(broken)
    }

    fn states_path(&self) -> PathBuf {
        self.path.join(".retrigger").join("states.json")
    }

    /// The states that published here.
    pub fn states(&self) -> Result<BTreeMap<String, SeenGeneration>> {
        let path = self.states_path();
        if !self.disk.exists(&path) {
            return Ok(BTreeMap::new());
        }
        let bytes = self.disk.read(&path).at(Kind::Output, "read", &path)?;
        let broken = |e| Error::new(Kind::Output, format!("`{}` is damaged", path.display())).caused_by(e);
        serde_json::from_slice(&bytes).map_err(broken)
    }

    /// Remembers the newest generation of a state.
    pub fn remember(&self, state_id: &str, seen: SeenGeneration) -> Result<()> {
        let mut states = self.states()?;
        if states.get(state_id) == Some(&seen) {
            return Ok(());
        }
        states.insert(state_id.to_owned(), seen);
        let text = serde_json::to_vec_pretty(&states)
            .map_err(|e| Error::new(Kind::Internal, "cannot write what OUT remembers").caused_by(e))?;
        replace_atomically(&*self.disk, &self.states_path(), &text).at(Kind::Output, "write", self.states_path())
    }
}

impl Drop for OutFolder {
    /// Staging is only there while something is staged. A folder that is not empty stays for the next start.
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        let spool = self.spool();
        if self.disk.exists(&spool) {
            let _ = self.disk.remove_dir_all(&spool);
        }
        if self.disk.list(&self.staging).is_ok_and(|names| names.is_empty()) {
            let _ = self.disk.remove_dir_all(&self.staging);
        }
    }
}

fn busy(out: &Path) -> Error {
    let summary = format!("another run is writing to `{}`", out.display());
    Error::new(Kind::Busy, summary).hint("try again when it has ended, or give `--wait-lock 10m`")
}

fn sibling(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        let summary = format!("`{}` cannot be an output folder: it has no name", path.display());
        return Err(Error::new(Kind::Usage, summary).hint("give a folder below it"));
    };
    let mut staging = OsString::from(name);
    staging.push(".staging");
    Ok(path.with_file_name(staging))
}

/// Repeats an attempt that fails with [`Kind::Busy`] until `wait` is over.
pub fn wait_for<T>(wait: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + wait;
    loop {
        match attempt() {
            Err(error) if error.kind == Kind::Busy && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(100).min(end.saturating_duration_since(Instant::now())));
            }
            done => return done,
        }
    }
}
