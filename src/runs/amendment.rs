//! `amendment.json`: what an erasure changed in a published run.
//!
//! It stands beside `manifest.json`, which stays as it was written. A run is amended in this order: every file without the
//! erased rows is written beside its place as `<file>.amended` and synced; the amendment replaces the one before: from
//! here on the new files are the run; they are renamed into place. A crash leaves files that the amendment does not know,
//! which the next erasure removes, or that it knows, which the next erasure renames.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::{RUN_FORMAT, RunManifest};
use crate::delivery::{AMENDMENT, Erased, WrittenFile, amend};
use crate::error::{Error, IoContext, Kind, Result};
use crate::storage::{Disk, replace_atomically};

/// What an erasure changed in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amendment {
    /// Format version of the run folder.
    pub format: u32,
    /// The run.
    pub run_id: String,
    /// The changed files as they are now.
    pub files: Vec<AmendedFile>,
}

/// A file from which rows were erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmendedFile {
    /// The file as it is now.
    pub file: WrittenFile,
    /// Rows that are gone since the run.
    pub erased_rows: u64,
}

/// What was erased from one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErasedFromRun {
    /// Files that changed.
    pub files: u64,
    /// Rows that are gone.
    pub rows: u64,
}

impl Amendment {
    /// The amendment of a run folder, if there is one.
    ///
    /// # Errors
    /// Kind `Output`: it cannot be read, or is not of this run.
    pub fn read(run_dir: &Path, manifest: &RunManifest) -> Result<Option<Amendment>> {
        let path = run_dir.join(AMENDMENT);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).at(Kind::Output, "read", &path)?;
        let broken = |what: String| Error::new(Kind::Output, format!("`{}` is damaged: {what}", path.display()));
        let amendment: Amendment = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        if amendment.format > RUN_FORMAT {
            let summary =
                format!("`{}` has format {}; this version reads {RUN_FORMAT}", path.display(), amendment.format);
            return Err(Error::new(Kind::Output, summary).hint("use the version that wrote it, or a later one"));
        }
        let fits = |amended: &AmendedFile| {
            manifest.files.iter().any(|file| {
                let rows = amended.file.rows.checked_add(amended.erased_rows);
                (&file.path, &file.kind, Some(file.rows)) == (&amended.file.path, &amended.file.kind, rows)
            })
        };
        match amendment.files.iter().find(|amended| !fits(amended)) {
            _ if amendment.run_id != manifest.run_id => Err(broken("it is of another run".to_owned())),
            Some(other) => Err(broken(format!("`{}` is not what it was amended from", other.file.path))),
            None => Ok(Some(amendment)),
        }
    }

    /// The files of the run as they are now.
    pub fn files(&self, manifest: &RunManifest) -> Vec<WrittenFile> {
        let now = |file: &WrittenFile| self.files.iter().map(|a| &a.file).find(|a| a.path == file.path);
        manifest.files.iter().map(|file| now(file).unwrap_or(file).clone()).collect()
    }

    /// Rows that are gone since the run.
    pub fn erased_rows(&self) -> u64 {
        self.files.iter().map(|amended| amended.erased_rows).sum()
    }
}

/// Takes rows out of a published run. Finishes an erasure that a crash interrupted.
///
/// # Errors
/// Kind `Output`: the run cannot be read or written.
pub fn erase_from_run(
    disk: &dyn Disk,
    run_dir: &Path,
    manifest: &RunManifest,
    erased: &dyn Erased,
) -> Result<ErasedFromRun> {
    let none = || Amendment { format: RUN_FORMAT, run_id: manifest.run_id.clone(), files: Vec::new() };
    let mut amendment = Amendment::read(run_dir, manifest)?.unwrap_or_else(none);
    settle(disk, run_dir, manifest, &amendment)?;
    let mut count = ErasedFromRun::default();
    for file in amendment.files(manifest) {
        let Some(now) = amend(disk, run_dir, &file, &beside(run_dir, &file.path), erased)? else { continue };
        count = ErasedFromRun { files: count.files + 1, rows: count.rows + file.rows - now.rows };
        let rows_of_run = manifest.files.iter().find(|f| f.path == file.path).map_or(file.rows, |f| f.rows);
        amendment.files.retain(|amended| amended.file.path != file.path);
        amendment.files.push(AmendedFile { erased_rows: rows_of_run - now.rows, file: now });
    }
    if count.files > 0 {
        sync_folders(disk, run_dir, manifest)?;
        amendment.files.sort_by(|a, b| a.file.path.cmp(&b.file.path));
        let text = serde_json::to_vec_pretty(&amendment)
            .map_err(|e| Error::new(Kind::Internal, "cannot write an amendment").caused_by(e))?;
        let path = run_dir.join(AMENDMENT);
        replace_atomically(disk, &path, &text).at(Kind::Output, "write", &path)?;
        settle(disk, run_dir, manifest, &amendment)?;
    }
    Ok(count)
}

/// Where a file is written anew.
fn beside(run_dir: &Path, path: &str) -> PathBuf {
    run_dir.join(format!("{path}.amended"))
}

/// Renames the files that the amendment knows into place, and removes those that it does not know.
fn settle(disk: &dyn Disk, run_dir: &Path, manifest: &RunManifest, amendment: &Amendment) -> Result<()> {
    let mut changed = false;
    for file in &manifest.files {
        let new = beside(run_dir, &file.path);
        if !disk.exists(&new) {
            continue;
        }
        changed = true;
        let known = amendment.files.iter().find(|amended| amended.file.path == file.path);
        let bytes = disk.read(&new).at(Kind::Output, "read", &new)?;
        let place = run_dir.join(&file.path);
        match known.is_some_and(|amended| crate::ids::Digest::of(&bytes) == amended.file.checksum) {
            true => disk.rename(&new, &place).at(Kind::Output, "write", &place)?,
            false => disk.remove_file(&new).at(Kind::Output, "remove", &new)?,
        }
    }
    if changed { sync_folders(disk, run_dir, manifest) } else { Ok(()) }
}

/// Makes the names in every folder of the run durable.
fn sync_folders(disk: &dyn Disk, run_dir: &Path, manifest: &RunManifest) -> Result<()> {
    let folder = |file: &WrittenFile| run_dir.join(&file.path).parent().map(Path::to_owned);
    let folders: std::collections::BTreeSet<PathBuf> = manifest.files.iter().filter_map(folder).collect();
    folders.iter().try_for_each(|folder| disk.sync_dir(folder).at(Kind::Output, "sync", folder))
}
