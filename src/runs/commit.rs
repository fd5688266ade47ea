//! The commit of a run.
//!
//! With a state, in this order: (1) the staged run folder is durable, contents and names; (2) the state's new receipt
//! files are durable; (3) the state's next manifest replaces the old one: **committed**; (4) the staged folder is renamed
//! into OUT; (5) OUT remembers the generation.
//!
//! - Crash before 3: the state names nothing new. The next start removes what was staged; the run never happened.
//! - Crash after 3, before 4: the manifest holds the publication. The next start of the state or of OUT renames the
//!   staged folder. Nobody is decided twice, since the receipts are in.
//! - Crash after 4: the rename is found done, and is not repeated. OUT is told of the generation at the next start.
//!
//! Without a state the rename (4) commits. A failed sync ends the process's attempt; nothing is retried in place.

use std::path::Path;

use super::manifest::RunManifest;
use super::out::{OutFolder, SeenGeneration};
use super::plan::Plan;
use super::state_life;
use crate::error::{Error, IoContext, Kind, Result};
use crate::pipeline::{Receipt, ReceiptSink};
use crate::state::{self, Delta, Publication, Retention, RunRecord, StagedGeneration, State};
use crate::storage::Disk;

/// Writes the run's manifest into its staged folder and makes it durable: step 1.
pub fn seal(disk: &dyn Disk, staged: &Path, manifest: &RunManifest) -> Result<()> {
    let json = manifest.to_json().map_err(|e| Error::new(Kind::Internal, "cannot write the manifest").caused_by(e))?;
    let path = staged.join("manifest.json");
    let mut file = disk.create(&path).at(Kind::Output, "create", &path)?;
    file.write_all(&json).and_then(|()| file.sync()).at(Kind::Output, "write", &path)?;
    drop(file);
    disk.sync_dir(staged).at(Kind::Output, "sync", staged)?;
    match staged.parent() {
        Some(parent) => disk.sync_dir(parent).at(Kind::Output, "sync", parent),
        None => Ok(()),
    }
}

/// Step 2: the run's receipts, durable beside the state's own. Nothing names them yet.
pub fn stage_receipts(
    state: &State,
    plan: &Plan,
    exit_code: u8,
    delta: Delta,
    out: &OutFolder,
) -> Result<StagedGeneration> {
    let record = RunRecord {
        run_id: plan.run_id.clone(),
        config_digest: plan.config_digest.to_string(),
        exit_code,
        generation: 0,
        out: path_text(&out.published(&plan.run_id))?,
        inputs: plan.records.iter().map(|r| r.digest.to_string()).collect(),
    };
    let horizon = Some(plan.rules.as_of.min(plan.now));
    let retention = Retention { campaigns: state_life::rules(&plan.rules.campaigns), horizon };
    state.stage(delta, record, &retention)
}

/// Steps 3 to 5. An error may come before or after the commit point: only the manifest on disk knows.
pub fn commit(
    state: &mut State,
    generation: StagedGeneration,
    out: &OutFolder,
    run_id: &str,
    manifest: &RunManifest,
) -> Result<()> {
    state.commit(generation, Some(publication(out, run_id, manifest)?))?;
    publish(state, out)?;
    remember(state, out)
}

/// How a staged run becomes a published one.
pub fn publication(out: &OutFolder, run_id: &str, manifest: &RunManifest) -> Result<Publication> {
    let unwritable = |e| Error::new(Kind::Internal, "cannot write the run's manifest").caused_by(e);
    Ok(Publication {
        run_id: run_id.to_owned(),
        staged: path_text(&out.staged(run_id))?,
        published: path_text(&out.published(run_id))?,
        manifest: serde_json::value::to_raw_value(manifest).map_err(unwritable)?,
    })
}

/// The state remembers paths as text.
pub fn path_text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(Kind::Usage, format!("`{}` is not UTF-8", path.display())).hint("give the folder another name")
    })
}

/// Finishes what an earlier run of this state left undone: step 4.
pub fn roll_forward(state: &State, out: &OutFolder) -> Result<()> {
    #[cfg(test)]
    if crate::planted::is(crate::planted::Bug::NotRolledForward) {
        return Ok(());
    }
    publish(state, out)
}

/// Step 4. Repeatable: what is published already stays.
fn publish(state: &State, out: &OutFolder) -> Result<()> {
    match &state.manifest().publication {
        Some(publication) => out.publish(Path::new(&publication.staged), Path::new(&publication.published)),
        None => Ok(()),
    }
}

/// Tells OUT of the state's generation.
pub fn remember(state: &State, out: &OutFolder) -> Result<()> {
    let seen = SeenGeneration { generation: state.manifest().generation, digest: state.digest().to_owned() };
    out.remember(&state.manifest().state_id, seen)
}

/// Refuses a state that does not know the newest generation that published into OUT: it was restored from a copy.
pub fn check_fence(state: &State, out: &OutFolder) -> Result<()> {
    #[cfg(test)]
    if crate::planted::is(crate::planted::Bug::FenceSkipped) {
        return Ok(());
    }
    let manifest = state.manifest();
    let states = out.states()?;
    let Some(seen) = states.get(&manifest.state_id).filter(|seen| !state.knows_digest(seen.generation, &seen.digest))
    else {
        return Ok(());
    };
    let summary = format!(
        "the state is older than its runs: it is at generation {}, and generation {} of it has published into this folder",
        manifest.generation, seen.generation
    );
    Err(Error::new(Kind::State, summary).hint(
        "it was probably restored from a copy, and would send again what was sent since; restore the newest copy of the \
         state, or use another `--out` if you mean to start again from this one",
    ))
}

/// The receipts of a run on their way into its state.
pub struct Collected<'p> {
    /// What the state collects.
    pub delta: Delta,
    /// Whose campaigns and channels the receipts name by number.
    pub plan: &'p Plan,
}

impl ReceiptSink for Collected<'_> {
    fn take(&mut self, receipts: Vec<Receipt>) -> Result<()> {
        receipts.iter().try_for_each(|receipt| push(&mut self.delta, self.plan, receipt))
    }
}

fn push(delta: &mut Delta, plan: &Plan, receipt: &Receipt) -> Result<()> {
    let campaign = &plan.rules.campaigns.loaded[usize::from(receipt.campaign)];
    let variant = receipt.variant.and_then(|variant| campaign.variants[usize::from(variant)].name.as_deref());
    let channel = |(channel, id): &(u16, _)| (plan.schemas.channels[usize::from(*channel)].0.as_str(), *id);
    delta.push(&state::Receipt {
        key: receipt.key,
        campaign_id: &campaign.id,
        kind: receipt.kind,
        recipient: &receipt.recipient,
        received_at: receipt.received_at,
        outcome: receipt.outcome,
        variant,
        channels: &receipt.messages.iter().map(channel).collect::<Vec<_>>(),
        trigger_hash: receipt.trigger_hash,
    })
}
