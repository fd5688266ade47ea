//! The output folder: its lock, its staging sibling, and what it remembers of states.
//!
//! `OUT/.retrigger/lock` is permanent. `OUT.staging/` stands beside OUT, on the same device, so that a rename publishes
//! and no glob over OUT sees unfinished files. `OUT/.retrigger/states.json` holds the newest generation seen of each
//! state: a state that does not know it was restored from an older copy.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::manifest::RunManifest;
use crate::delivery::path_segment;
use crate::error::{Error, IoContext, Kind, Result};
use crate::storage::{Disk, DiskLock, create_dir_durably, replace_atomically};

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
        let path = disk.canonicalize(out).unwrap_or_else(|_| out.to_owned());
        Ok(OutFolder { disk, staging: sibling(&path)?, path, lock: None })
    }

    /// Creates OUT where needed, locks it, and checks that staging stands on the same device. Waits for a held lock at
    /// most `wait`. The names of OUT and staging are durable from here on, and so is what was published before.
    pub fn open(disk: Arc<dyn Disk>, out: &Path, wait: Duration) -> Result<OutFolder> {
        let own = out.join(".retrigger");
        create_dir_durably(&*disk, &own).at(Kind::Output, "create the output folder", out)?;
        let path = disk.canonicalize(out).at(Kind::Output, "open the output folder", out)?;
        let lock_path = own.join("lock");
        let lock = wait_for(wait, || match disk.try_lock(&lock_path) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(busy(out)),
            Err(error) => Err(Error::io(Kind::Output, "lock", &lock_path, error)),
        })?;
        let staging = sibling(&path)?;
        disk.create_dir_all(&staging).at(Kind::Output, "create the staging folder", &staging)?;
        let parent = staging.parent().unwrap_or(&staging);
        disk.sync_dir(parent).at(Kind::Output, "sync", parent)?;
        let folder = OutFolder { disk, path, staging, lock: Some(lock) };
        folder.check_device()?;
        folder.settle_memory()?;
        Ok(folder)
    }

    /// What a killed process remembered here counts from now on; what it had only begun to write is removed.
    fn settle_memory(&self) -> Result<()> {
        let (own, begun) = (self.path.join(".retrigger"), self.path.join(".retrigger").join("states.json.next"));
        if self.disk.exists(&begun) {
            self.disk.remove_file(&begun).at(Kind::Output, "remove", &begun)?;
        }
        self.disk.sync_dir(&own).at(Kind::Output, "sync", &own)
    }

    fn check_device(&self) -> Result<()> {
        let device = |path: &Path| self.disk.metadata(path).map(|found| found.device);
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

    /// The folder beside OUT, on the same device.
    pub fn staging(&self) -> &Path {
        &self.staging
    }

    /// Where input is spooled.
    pub fn spool(&self) -> PathBuf {
        self.staging.join(".spool")
    }

    /// Removes what crashed runs left in staging. A complete run of another state stays: only that state knows whether it
    /// is committed, and publishes it when it is opened next.
    pub fn clear_staging(&self, state_id: Option<&str>) -> Result<()> {
        for path in self.disk.list(&self.staging).at(Kind::Output, "list", &self.staging)? {
            let owner = self.read_manifest(&path.join("manifest.json")).ok().flatten().and_then(|m| m.state_id);
            if owner.is_none() || owner.as_deref() == state_id {
                let removed = match self.disk.metadata(&path).is_ok_and(|found| found.is_dir) {
                    true => self.disk.remove_dir_all(&path),
                    false => self.disk.remove_file(&path),
                };
                removed.at(Kind::Output, "remove", &path)?;
            }
        }
        Ok(())
    }

    /// Removes a run that was staged and will not be committed.
    pub fn discard(&self, run_id: &str) {
        // What cannot be removed now is removed at the next start.
        let _ = self.disk.remove_dir_all(&self.staged(run_id));
    }

    /// Refuses a run that could be committed and then not published.
    pub fn check_free(&self, run_id: &str) -> Result<()> {
        let (staged, published) = (self.staged(run_id), self.published(run_id));
        if self.disk.exists(&staged) {
            let summary =
                format!("`{}` holds this run for another state, which may have committed it", staged.display());
            return Err(Error::new(Kind::Output, summary).hint(
                "run the command with that state again: it publishes what is committed; or use another `--out`",
            ));
        }
        if self.disk.exists(&published) {
            let summary = format!("`{}` is where the run belongs, and no run", published.display());
            return Err(Error::new(Kind::Output, summary).hint("move it away, or give another `--run-id` or `--out`"));
        }
        Ok(())
    }

    /// Renames a staged run into place. Idempotent: a run that is there already stays, and is made durable, since the
    /// process that renamed it may have ended before it did that.
    pub fn publish(&self, staged: &Path, published: &Path) -> Result<()> {
        if self.disk.exists(staged) {
            self.disk.rename(staged, published).at(Kind::Output, "publish the run as", published)?;
        }
        match published.parent().filter(|_| self.disk.exists(published)) {
            Some(out) => self.disk.sync_dir(out).at(Kind::Output, "sync", out),
            None => Ok(()),
        }
    }

    /// The manifest of a published run, if there is one.
    pub fn manifest(&self, run_id: &str) -> Result<Option<RunManifest>> {
        self.read_manifest(&self.published(run_id).join("manifest.json"))
    }

    /// Every published run: its folder and manifest.
    pub fn runs(&self) -> Result<Vec<(PathBuf, RunManifest)>> {
        let mut runs = Vec::new();
        for path in self.disk.list(&self.path).at(Kind::Output, "list", &self.path)? {
            runs.extend(self.read_manifest(&path.join("manifest.json"))?.map(|manifest| (path, manifest)));
        }
        Ok(runs)
    }

    fn read_manifest(&self, path: &Path) -> Result<Option<RunManifest>> {
        if !self.disk.exists(path) {
            return Ok(None);
        }
        let bytes = self.disk.read(path).at(Kind::Output, "read", path)?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::storage::RealDisk;

    fn open(out: &Path) -> Result<OutFolder> {
        OutFolder::open(Arc::new(RealDisk), out, Duration::ZERO)
    }

    #[test]
    fn a_second_run_into_the_same_folder_is_busy_until_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let first = open(&out).unwrap();
        let busy = open(&out).err().unwrap();
        assert_eq!((busy.kind, busy.hint.is_some()), (Kind::Busy, true));
        drop(first);
        open(&out).unwrap();
    }

    #[test]
    fn waiting_for_a_lock_repeats_what_is_busy_and_nothing_else() {
        let mut attempts = 0;
        let got = wait_for(Duration::from_secs(60), || {
            attempts += 1;
            if attempts < 3 { Err(busy(Path::new("out"))) } else { Ok(attempts) }
        });
        assert_eq!(got.unwrap(), 3);
        let mut attempts = 0;
        let failed: Result<()> = wait_for(Duration::from_secs(60), || {
            attempts += 1;
            Err(Error::new(Kind::Output, "no"))
        });
        assert_eq!((failed.unwrap_err().kind, attempts), (Kind::Output, 1));
    }

    #[test]
    fn staging_stands_beside_the_folder_and_only_while_something_is_staged() {
        let folder = tempfile::tempdir().unwrap();
        let out = open(&folder.path().join("out")).unwrap();
        let staged = out.staged("a/b");
        assert_eq!(staged, folder.path().canonicalize().unwrap().join("out.staging").join("a%2Fb"));
        assert_eq!(fs::metadata(staged.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(out);
        assert!(!folder.path().join("out.staging").exists());
    }

    #[test]
    fn clearing_removes_leftovers_but_no_complete_run_of_another_state() {
        let folder = tempfile::tempdir().unwrap();
        let out = open(&folder.path().join("out")).unwrap();
        let manifest = |state_id: &str| {
            serde_json::json!({
                "format": 1, "written_by": "", "run_id": "", "config_digest": format!("{:032x}", 1), "flags": {},
                "as_of": "", "inputs": [], "ledger": crate::pipeline::Ledger::default(), "files": [],
                "state_id": state_id, "generation": 1, "exit_code": 0,
            })
        };
        let (own, other) = (manifest("own").to_string(), manifest("other").to_string());
        for (name, text) in [("torn", &other[..20]), ("own", &own), ("other", &other)] {
            fs::create_dir(out.staged(name)).unwrap();
            fs::write(out.staged(name).join("manifest.json"), text).unwrap();
        }
        fs::create_dir(out.staged("empty")).unwrap();
        fs::write(out.staging.join("stray"), "").unwrap();
        out.clear_staging(Some("own")).unwrap();
        assert_eq!(RealDisk.list(&out.staging).unwrap(), [out.staged("other")]);
        out.clear_staging(Some("other")).unwrap();
        assert!(RealDisk.list(&out.staging).unwrap().is_empty());
    }

    #[test]
    fn publishing_twice_is_publishing_once() {
        let folder = tempfile::tempdir().unwrap();
        let out = open(&folder.path().join("out")).unwrap();
        let (staged, published) = (out.staged("run"), out.published("run"));
        out.publish(&staged, &published).unwrap();
        assert!(!published.exists(), "nothing was staged");
        fs::create_dir(&staged).unwrap();
        fs::write(staged.join("file"), "x").unwrap();
        for _ in 0..2 {
            out.publish(&staged, &published).unwrap();
            assert!(!staged.exists());
            assert_eq!(fs::read_to_string(published.join("file")).unwrap(), "x");
        }
    }

    #[test]
    fn the_newest_generation_of_every_state_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let seen = |generation: u64| SeenGeneration { generation, digest: format!("d{generation}") };
        let out = open(&path).unwrap();
        out.remember("one", seen(1)).unwrap();
        out.remember("two", seen(7)).unwrap();
        out.remember("one", seen(2)).unwrap();
        drop(out);
        let states = open(&path).unwrap().states().unwrap();
        assert_eq!(states, BTreeMap::from([("one".to_owned(), seen(2)), ("two".to_owned(), seen(7))]));
        fs::write(path.join(".retrigger/states.json"), "[").unwrap();
        assert!(open(&path).unwrap().states().unwrap_err().summary.contains("states.json"));
    }
}
