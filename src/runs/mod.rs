//! Whole commands: what ties the edges and the engine together, and the only commit.

mod check;
mod commit;
#[cfg(test)]
mod crashes;
mod exclude;
mod manifest;
mod out;
mod plan;
mod render;
mod run;
mod settings;
mod spill;
#[cfg(test)]
mod tests;
mod verify;

pub use check::{CheckSettings, Checked, CheckedCampaign, CheckedFile, check};
pub use manifest::{InputRecord, RunManifest, Summary};
pub use plan::Plan;
pub use render::{RenderSettings, RenderWhat, Rendered, render};
pub use run::{Finished, RunOutcome, run};
pub use settings::{MaxBad, RunSettings, StateUse};
pub use verify::{Verified, verify};
