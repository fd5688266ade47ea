//! Whole commands: what ties the edges and the engine together, and the only commit.

mod check;
mod commit;
mod exclude;
mod manifest;
mod out;
mod plan;
mod run;
mod settings;
mod verify;

pub use check::{Checked, check};
pub use manifest::{InputRecord, RunManifest, Summary};
pub use plan::Plan;
pub use run::{Finished, run};
pub use settings::{MaxBad, RunSettings, StateUse};
pub use verify::{Verified, verify};
