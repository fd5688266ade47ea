//! `state compact`: all receipt files become one, and what has expired goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::open_state;
use crate::campaigns::{self, Campaigns, LoadOptions};
use crate::eligibility::Reeligibility;
use crate::error::Result;
use crate::state::{CampaignRule, Retention, Window};
use crate::storage::Disk;
use crate::triggers::Micros;

/// What to compact.
#[derive(Debug, Clone)]
pub struct CompactSettings {
    /// The state's folder.
    pub state: PathBuf,
    /// How long to wait for a held lock.
    pub wait_lock: Duration,
    /// The campaigns whose receipts may expire; none without it.
    pub campaigns: Option<PathBuf>,
    /// The earlier of as-of and the wall clock.
    pub horizon: Micros,
}

/// What a compaction did.
#[derive(Debug)]
pub struct Compacted {
    /// Receipts that are gone.
    pub removed: u64,
    /// Files before and after.
    pub files: (usize, usize),
    /// The state's generation now.
    pub generation: u64,
}

/// Compacts a state.
///
/// # Errors
/// `Busy` for a state in use, `Definition` for campaigns that do not load, `State` for a state that cannot be used.
pub fn compact(disk: &Arc<dyn Disk>, settings: &CompactSettings) -> Result<Compacted> {
    let loaded = settings.campaigns.as_ref().map(|dir| campaigns::load(dir, &LoadOptions::default())).transpose()?;
    let mut state = open_state(disk, &settings.state, settings.wait_lock)?;
    state.refuse_held()?;
    let retention =
        Retention { campaigns: loaded.as_ref().map(rules).unwrap_or_default(), horizon: Some(settings.horizon) };
    let before = state.manifest().files.len();
    let mut removed = 0;
    if let Some(staged) = state.stage_compaction(&retention)? {
        removed = staged.removed();
        state.commit(staged, None)?;
    }
    let manifest = state.manifest();
    Ok(Compacted { removed, files: (before, manifest.files.len()), generation: manifest.generation })
}

/// What the state is told of campaigns.
pub fn rules(campaigns: &Campaigns) -> std::collections::BTreeMap<String, CampaignRule> {
    let window = |rule: Reeligibility| rule.window_seconds().map_or(Window::Never, Window::Seconds);
    let rule =
        |c: &campaigns::Campaign| CampaignRule { window: window(c.reeligibility), assigns: !c.slices.is_trivial() };
    campaigns.loaded.iter().map(|c| (c.id.clone(), rule(c))).collect()
}
