//! Whole commands: what ties the edges and the engine together, and the only commit.

mod amendment;
mod check;
mod commit;
#[cfg(test)]
mod crashes;
mod exclude;
mod explain;
mod explain_words;
mod guards;
mod held;
mod manifest;
mod out;
mod plan;
mod rederive;
mod render;
mod revoke;
mod run;
mod settings;
mod simulate;
mod spill;
mod state_life;
#[cfg(test)]
mod tests;
mod verify;

pub use amendment::ErasedFromRun;
pub use check::{CheckSettings, Checked, CheckedCampaign, CheckedFile, check};
pub use explain::{
    ExplainSettings, Explained, ExplainedDrop, ExplainedReceipt, ExplainedRun, ExplainedTrigger, explain,
};
pub use explain_words::Assigned;
pub use guards::Guards;
pub use held::{Ended, commit_held, discard_held};
pub use manifest::{InputRecord, RunManifest, Summary};
pub use plan::Plan;
pub use rederive::{RederiveSettings, Rederived, rederive};
pub use render::{RenderSettings, RenderWhat, Rendered, render};
pub use revoke::{RevokeSettings, Revoked, revoke};
pub use run::{Finished, RunOutcome, run};
pub use settings::{MaxBad, RunSettings, StateUse};
pub use simulate::{SimulateSettings, simulate};
pub use state_life::{
    CompactSettings, Compacted, EraseSettings, ErasedFrom, ImportSettings, Imported, compact, erase, import, open_state,
};
pub use verify::{Verified, verify};
