//! `revoke`: takes back the receipts of a committed run that no sender was handed.
//!
//! First `revoked.json` is put into the run's folder, durably: who looks there sends nothing of it any more. Then the state commits
//! the revocation. A crash between the two leaves a run that is marked and still counts: nobody is sent twice, and the same command
//! finishes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::commit;
use super::held::{Opened, open};
use crate::delivery::REVOKED;
use crate::error::{Error, IoContext, Kind, Result};
use crate::storage::{Disk, replace_atomically};
use crate::triggers::{Micros, format_micros};

/// What to take back.
#[derive(Debug, Clone)]
pub struct RevokeSettings {
    /// The published run.
    pub run_dir: PathBuf,
    /// Why: kept in the mark.
    pub reason: String,
    /// Where the state is, if it was moved since.
    pub state: Option<PathBuf>,
    /// How long to wait for a held lock.
    pub wait_lock: Duration,
    /// The instant of the command.
    pub now: Micros,
}

/// What was taken back.
pub struct Revoked {
    /// The run's id.
    pub run_id: String,
    /// Receipts that count no more.
    pub receipts: u64,
    /// The state's generation now.
    pub generation: u64,
    /// An earlier call had done it.
    pub already: bool,
}

/// Takes the receipts of a run back, so that its recipients are as if it had not been. What later runs decided stays decided.
///
/// # Errors
/// [`Kind::Busy`] for a lock or a held run; [`Kind::State`] where the state knows no such run or was rolled back;
/// [`Kind::Usage`] for a folder that is no published run.
pub fn revoke(disk: Arc<dyn Disk>, settings: &RevokeSettings) -> Result<Revoked> {
    let Opened { manifest, out, mut state } =
        open(disk.clone(), &settings.run_dir, settings.state.as_deref(), settings.wait_lock)?;
    let run_id = manifest.run_id;
    state.refuse_held()?;
    commit::check_fence(&state, &out)?;
    commit::roll_forward(&state, &out)?;
    commit::remember(&state, &out)?;
    if state.manifest().run(&run_id).is_none() {
        let summary = format!("the state `{}` knows no run `{run_id}`", state.dir().display());
        return Err(Error::new(Kind::State, summary).hint("only a committed run has receipts to take back"));
    }
    mark(&*disk, &out.published(&run_id), &run_id, settings)?;
    if let Some(before) = state.manifest().revocation(&run_id) {
        let (receipts, generation) = (before.added, state.manifest().generation);
        return Ok(Revoked { run_id, receipts, generation, already: true });
    }
    let staged = state.stage_revocation(&run_id)?;
    state.commit(staged, None)?;
    let receipts = state.manifest().revocation(&run_id).map_or(0, |change| change.added);
    let finished = commit::remember(&state, &out);
    finished.map_err(|error| error.hint("the run is revoked; give the same command again: it finishes the rest"))?;
    Ok(Revoked { run_id, receipts, generation: state.manifest().generation, already: false })
}

/// Says in the run's folder that nothing of it is to be sent. A mark that is there stays as it is.
fn mark(disk: &dyn Disk, run_dir: &Path, run_id: &str, settings: &RevokeSettings) -> Result<()> {
    let path = run_dir.join(REVOKED);
    if disk.exists(&path) {
        return disk.sync_dir(run_dir).at(Kind::Output, "sync", run_dir);
    }
    let mark = json!({"run_id": run_id, "reason": settings.reason, "revoked_at": format_micros(settings.now)});
    replace_atomically(disk, &path, format!("{mark:#}\n").as_bytes()).at(Kind::Output, "write", &path)
}
