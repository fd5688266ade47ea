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

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::manifest::RunManifest;
use super::out::{OutFolder, SeenGeneration};
use super::plan::Plan;
use crate::eligibility::Reeligibility;
use crate::error::{Error, IoContext, Kind, Result};
use crate::pipeline::Receipt;
use crate::state::{self, Publication, RunRecord, StagedGeneration, State, Window};
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
    manifest: &RunManifest,
    receipts: Vec<Receipt>,
    out: &OutFolder,
) -> Result<StagedGeneration> {
    let record = RunRecord {
        run_id: plan.run_id.clone(),
        config_digest: plan.config_digest,
        exit_code: manifest.exit_code,
        out: out.published(&plan.run_id),
        inputs: plan.records.iter().map(|r| r.digest).collect(),
    };
    state.stage(stored(plan, receipts), record, &windows(plan))
}

/// Steps 3 to 5. An error may come before or after the commit point: only the manifest on disk knows.
pub fn commit(state: &mut State, generation: StagedGeneration, out: &OutFolder, run_id: &str) -> Result<()> {
    let (staged, published) = (out.staged(run_id), out.published(run_id));
    state.commit(generation, Some(Publication { run_id: run_id.to_owned(), staged, published }))?;
    roll_forward(state, out)?;
    remember(state, out)
}

/// Finishes what an earlier run of this state left undone: steps 4 and 5.
pub fn roll_forward(state: &State, out: &OutFolder) -> Result<()> {
    if let Some(publication) = &state.manifest().pending {
        out.publish(&publication.staged, &publication.published)?;
    }
    Ok(())
}

/// Tells OUT of the state's generation.
pub fn remember(state: &State, out: &OutFolder) -> Result<()> {
    let seen = SeenGeneration { generation: state.manifest().generation, digest: state.digest().to_owned() };
    out.remember(&state.manifest().state_id, seen)
}

/// Refuses a state that does not know the newest generation that published into OUT: it was restored from a copy.
pub fn check_fence(state: &State, out: &OutFolder) -> Result<()> {
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

fn stored(plan: &Plan, receipts: Vec<Receipt>) -> Vec<state::Receipt> {
    let campaigns: Vec<Arc<str>> = plan.rules.campaigns.loaded.iter().map(|c| c.id.as_str().into()).collect();
    let channels: Vec<Arc<str>> = plan.schemas.channels.iter().map(|(name, _)| name.as_str().into()).collect();
    let variants: Vec<Vec<Option<Arc<str>>>> = plan
        .rules
        .campaigns
        .loaded
        .iter()
        .map(|c| c.variants.iter().map(|v| v.name.as_deref().map(Arc::from)).collect())
        .collect();
    let store = |r: Receipt| {
        let campaign = usize::from(r.campaign);
        state::Receipt {
            key: r.key,
            campaign_id: campaigns[campaign].clone(),
            kind: r.kind,
            recipient: r.recipient,
            received_at: r.received_at,
            outcome: r.outcome,
            variant: r.variant.and_then(|variant| variants[campaign][usize::from(variant)].clone()),
            channels: r.messages.iter().map(|(channel, id)| (channels[usize::from(*channel)].clone(), *id)).collect(),
            trigger_hash: r.trigger_hash,
        }
    };
    receipts.into_iter().map(store).collect()
}

fn windows(plan: &Plan) -> BTreeMap<String, Window> {
    let window = |rule: Reeligibility| rule.window_seconds().map_or(Window::Never, Window::Seconds);
    plan.rules.campaigns.loaded.iter().map(|c| (c.id.clone(), window(c.reeligibility))).collect()
}
