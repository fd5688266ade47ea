//! Generations that no run makes and that write all receipts anew: one file takes the place of all.
//!
//! They go the way of a run's receipts: a new file, the next manifest, and only then are the old files removed. The
//! publication of the newest run stays recorded, since that run may still have to be moved.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::manifest::{Change, ChangeKind, ErasedRecipients, StateManifest, Window};
use super::retention::{Retention, Sieve};
use super::write::Unnamed;
use super::{Rewrite, StagedGeneration, State};
use crate::eligibility::{Tombstones, tombstone};
use crate::error::Result;
use crate::ids::KeyHash;
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
        let (staged, _) = self.stage_rewrite(next, ChangeKind::Compact, sieve)?;
        Ok(Some(staged).filter(|staged| !is_one_file || staged.removed() > 0))
    }

    /// Drops every receipt of these recipients from all files; `None` where there is none. What is left are tombstones for
    /// campaigns that are sent once ever, or that no run has told of. `new_key` is random and is used where this state
    /// has none yet. Errors: as of [`State::stage`].
    pub fn stage_erasure(&self, recipients: &HashSet<KeyHash>, new_key: [u128; 2]) -> Result<Option<StagedGeneration>> {
        let mut next = self.manifest.successor(&self.digest);
        let (staged, met) =
            self.stage_rewrite(next.clone(), ChangeKind::Erase, Sieve::of_erased(recipients.clone()))?;
        if staged.removed() == 0 {
            return Ok(None);
        }
        let once_ever = |id: &str| {
            let window = next.campaigns.get(id).and_then(|campaign| campaign.largest_window);
            window.is_none_or(|window| window == Window::Never)
        };
        let met: Vec<_> = met.into_iter().filter(|(campaign, _)| once_ever(campaign)).collect();
        if met.is_empty() {
            return Ok(Some(staged));
        }
        let [high, low] = new_key;
        let first = || ErasedRecipients { key: format!("{high:032x}{low:032x}"), tombstones: Vec::new() };
        let mut erased = next.erased.take().unwrap_or_else(first);
        let key = erased.key_bytes();
        erased.tombstones.extend(met.iter().map(|(campaign, recipient)| tombstone(&key, campaign, *recipient)));
        erased.tombstones.sort_unstable();
        erased.tombstones.dedup();
        let manifest = StateManifest { erased: Some(erased), ..staged.manifest };
        Ok(Some(StagedGeneration { manifest, ..staged }))
    }

    /// What is left of erased recipients.
    pub fn tombstones(&self) -> Tombstones {
        let erased = self.manifest.erased.as_ref();
        erased.map_or_else(Tombstones::default, |e| Tombstones::new(&e.key_bytes(), e.tombstones.iter().copied()))
    }

    /// Writes all receipts anew, through a sieve; also whose receipts were erased.
    fn stage_rewrite(
        &self,
        mut next: StateManifest,
        kind: ChangeKind,
        sieve: Sieve,
    ) -> Result<(StagedGeneration, BTreeSet<(String, KeyHash)>)> {
        self.refuse_unsure()?;
        let mut unnamed = Unnamed::none(Arc::clone(&self.disk));
        let merged = std::mem::take(&mut next.files);
        let rows = merged.iter().map(|file| file.rows).sum();
        let rewrite = Rewrite { merged: &merged, new: Vec::new(), rows, sieve };
        let sieve = self.write_merged(rewrite, &mut next, &mut unnamed)?;
        let removed = sieve.dropped();
        let (generation, id) = (next.generation, format!("{}-{}", kind.code(), next.generation));
        next.changes.push(Change { kind, id, generation, inputs: Vec::new(), added: 0, removed });
        Ok((self.finish_staging(next, unnamed, &merged)?, sieve.into_met()))
    }
}
