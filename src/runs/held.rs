//! `commit` and `discard`: the end of a run that was held.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::commit;
use super::manifest::RunManifest;
use super::out::{OutFolder, wait_for};
use crate::error::{Error, IoContext, Kind, Result};
use crate::state::State;
use crate::storage::Disk;

/// A run, its output folder and its state, both locked.
pub(super) struct Opened {
    pub(super) manifest: RunManifest,
    pub(super) out: OutFolder,
    pub(super) state: State,
}

/// How a held run ended.
pub struct Ended {
    /// The run's id.
    pub run_id: String,
    /// The exit code of the run.
    pub exit_code: u8,
    /// Where it is published; none where it was discarded.
    pub published: Option<PathBuf>,
    /// An earlier call had done it.
    pub already: bool,
}

/// Commits a held run: its receipts count, and it is published. `state` says where the state is, if it was moved since.
///
/// # Errors
/// [`Kind::Busy`] for a lock or another held run, [`Kind::State`] where the run is not held or the state was rolled back.
pub fn commit_held(disk: Arc<dyn Disk>, run_dir: &Path, state: Option<&Path>, wait: Duration) -> Result<Ended> {
    let Opened { manifest, out, mut state } = open(disk, run_dir, state, wait)?;
    let run_id = manifest.run_id;
    let is_held = state.held().is_some_and(|held| held.run_id == run_id);
    if is_held {
        commit::check_fence(&state, &out)?;
        state.commit_held()?;
    } else if state.manifest().run(&run_id).is_none() {
        state.refuse_held()?;
        return Err(not_held(&run_id, &state).hint("it was discarded, or never held: run its command again"));
    }
    let finished = commit::roll_forward(&state, &out).and_then(|()| commit::remember(&state, &out));
    finished.map_err(|error| error.hint("the run is committed; give the same command again: it publishes it"))?;
    let published = Some(out.published(&run_id));
    Ok(Ended { run_id, exit_code: manifest.exit_code, published, already: !is_held })
}

/// Discards a held run: nobody has received anything of it, and what was staged is removed.
///
/// # Errors
/// As [`commit_held`]; [`Kind::State`] where the run is committed.
pub fn discard_held(disk: Arc<dyn Disk>, run_dir: &Path, state: Option<&Path>, wait: Duration) -> Result<Ended> {
    if let Some(out) = torn(&*disk, run_dir) {
        let _locked = OutFolder::open(disk.clone(), &out, wait)?;
        disk.remove_dir_all(run_dir).at(Kind::Output, "remove", run_dir)?;
        let run_id = run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(Ended { run_id, exit_code: 0, published: None, already: true });
    }
    let Opened { manifest, out, mut state } = open(disk, run_dir, state, wait)?;
    let run_id = manifest.run_id;
    if state.manifest().run(&run_id).is_some() {
        let summary = format!("the run `{run_id}` is committed: it can't be discarded");
        return Err(
            Error::new(Kind::State, summary).hint("if no sender was handed it, `retrigger revoke` takes it back")
        );
    }
    let is_held = state.held().is_some_and(|held| held.run_id == run_id);
    if is_held {
        state.discard_held()?;
    }
    out.discard(&run_id);
    Ok(Ended { run_id, exit_code: 0, published: None, already: !is_held })
}

/// `OUT` of a staged folder without a manifest: a crash cut its removal short. What is held always has its manifest, and what is
/// being staged is locked.
fn torn(disk: &dyn Disk, run_dir: &Path) -> Option<PathBuf> {
    let out = out_of(run_dir.parent()?).filter(|out| disk.exists(&out.join(".retrigger")))?;
    (disk.exists(run_dir) && !disk.exists(&run_dir.join("manifest.json"))).then_some(out)
}

fn not_held(run_id: &str, state: &State) -> Error {
    Error::new(Kind::State, format!("the run `{run_id}` is not held by the state `{}`", state.dir().display()))
}

/// Opens what a run belongs to.
pub(super) fn open(disk: Arc<dyn Disk>, run_dir: &Path, state: Option<&Path>, wait: Duration) -> Result<Opened> {
    let (out, manifest) = find(&*disk, run_dir)?;
    let place = state.map(Path::to_owned).or_else(|| manifest.state_path.clone().map(PathBuf::from));
    let place = place.filter(|_| manifest.state_id.is_some()).ok_or_else(|| {
        let summary = format!("the run `{}` was made without a state", manifest.run_id);
        Error::new(Kind::Usage, summary).hint("only a run with a state can be held or revoked")
    })?;
    let out = OutFolder::open(disk.clone(), &out, wait)?;
    let state = wait_for(wait, || State::open(disk.clone(), &place));
    let state = state.map_err(|error| match error.kind {
        Kind::State => error.hint("if the state was moved, say where it is now with `--state`"),
        _ => error,
    })?;
    if Some(&state.manifest().state_id) != manifest.state_id.as_ref() {
        let summary = format!("the run `{}` belongs to another state than `{}`", manifest.run_id, place.display());
        return Err(Error::new(Kind::State, summary).hint("give the state it was run with as `--state`"));
    }
    Ok(Opened { manifest, out, state })
}

/// The output folder and the manifest of a run, given by where it is staged or published. A run that was held is found where
/// it was published since.
fn find(disk: &dyn Disk, run_dir: &Path) -> Result<(PathBuf, RunManifest)> {
    let published = published_instead(run_dir).filter(|_| !disk.exists(run_dir));
    let run_dir = published.as_deref().unwrap_or(run_dir);
    let path = run_dir.join("manifest.json");
    if !disk.exists(&path) {
        let summary = format!("`{}` is no run: it has no `manifest.json`", run_dir.display());
        return Err(Error::new(Kind::Usage, summary)
            .hint("give the folder of a run: where `run` published it, or `run --hold` staged it"));
    }
    let bytes = disk.read(&path).at(Kind::Output, "read", &path)?;
    let broken = |e| Error::new(Kind::Output, format!("`{}` is damaged", path.display())).caused_by(e);
    let manifest = serde_json::from_slice(&bytes).map_err(broken)?;
    let run_dir = disk.canonicalize(run_dir).at(Kind::Output, "open", run_dir)?;
    let parent = run_dir.parent().unwrap_or(&run_dir);
    Ok((out_of(parent).unwrap_or_else(|| parent.to_owned()), manifest))
}

/// `OUT` of `OUT.staging`.
fn out_of(staging: &Path) -> Option<PathBuf> {
    let name = staging.file_name()?.to_str()?.strip_suffix(".staging")?;
    Some(staging.with_file_name(name))
}

/// `OUT/run` of `OUT.staging/run`.
fn published_instead(run_dir: &Path) -> Option<PathBuf> {
    Some(out_of(run_dir.parent()?)?.join(run_dir.file_name()?))
}
