//! The life of a state outside of runs.
//!
//! Whatever changes a state here goes the way of a run: staged beside what is there, committed by the next manifest.

mod compact;
mod erase;
mod import;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use compact::{CompactSettings, Compacted, compact, rules};
pub use erase::{EraseSettings, ErasedFrom, erase};
pub use import::{ImportSettings, Imported, import};

use super::out::wait_for;
use crate::error::Result;
use crate::state::State;
use crate::storage::Disk;

/// Opens a state; waits for a held lock at most `wait`.
pub fn open_state(disk: &Arc<dyn Disk>, dir: &Path, wait: Duration) -> Result<State> {
    wait_for(wait, || State::open(Arc::clone(disk), dir))
}
