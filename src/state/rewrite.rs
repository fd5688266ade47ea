//! Generations that no run makes and that write all receipts anew: one file takes the place of all.
//!
//! They go the way of a run's receipts: a new file, the next manifest, and only then are the old files removed. The
//! publication of the newest run stays recorded, since that run may still have to be moved.

use std::sync::Arc;

use super::manifest::{Change, ChangeKind, StateManifest};
use super::retention::{Retention, Sieve};
use super::write::Unnamed;
use super::{Rewrite, StagedGeneration, State};
use crate::error::Result;
use crate::triggers::Micros;

impl StagedGeneration {
    /// Receipts that go with the commit, where the generation is a change and not a run.
    pub fn removed(&self) -> u64 {
        let last = self.manifest.changes.last();
        last.filter(|change| change.generation == self.manifest.generation).map_or(0, |change| change.removed)
    }
}

impl State {
    /// Merges all files into one and drops what has expired of the loaded campaigns; `None` where there is nothing to do.
    /// Errors: as of [`State::stage`].
    pub fn stage_compaction(&self, retention: &Retention) -> Result<Option<StagedGeneration>> {
        let mut next = self.manifest.successor(&self.digest);
        retention.record(&mut next);
        let sieve = retention.sieve(&next, |_| Some(Micros::MAX));
        let is_one_file = self.manifest.files.len() <= 1;
        // A folder without files has none that is older than anything.
        if is_one_file && self.manifest.files.iter().all(|file| sieve.is_open_from(file.oldest)) {
            return Ok(None);
        }
        let staged = self.stage_rewrite(next, ChangeKind::Compact, sieve)?;
        Ok(Some(staged).filter(|staged| !is_one_file || staged.removed() > 0))
    }

    /// Writes all receipts anew, through a sieve.
    fn stage_rewrite(&self, mut next: StateManifest, kind: ChangeKind, sieve: Sieve) -> Result<StagedGeneration> {
        self.refuse_unsure()?;
        let mut unnamed = Unnamed::none(Arc::clone(&self.disk));
        let merged = std::mem::take(&mut next.files);
        let rows = merged.iter().map(|file| file.rows).sum();
        let rewrite = Rewrite { merged: &merged, new: Vec::new(), rows, sieve };
        let removed = self.write_merged(rewrite, &mut next, &mut unnamed)?.dropped();
        let (generation, id) = (next.generation, format!("{}-{}", kind.code(), next.generation));
        next.changes.push(Change { kind, id, generation, inputs: Vec::new(), added: 0, removed });
        self.finish_staging(next, unnamed, &merged)
    }
}
