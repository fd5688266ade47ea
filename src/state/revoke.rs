//! Takes the receipts of a run back: for each one a row with the outcome `revoked` is added. No row is removed or rewritten.

use super::log::receipts_of;
use super::manifest::{Change, ChangeKind};
use super::retention::Sieve;
use super::{StagedGeneration, State};
use crate::error::Result;

impl State {
    /// Stages the revocation of a run. Enrolments in control stay: they were no messages. Errors: as of [`State::stage`].
    pub fn stage_revocation(&self, run_id: &str) -> Result<StagedGeneration> {
        let mut delta = self.delta(run_id);
        self.each_batch(|batch| {
            receipts_of(batch, run_id)?.into_iter().try_for_each(|receipt| delta.push_logged(&receipt.taken_back()))
        })?;
        let mut next = self.manifest.successor(&self.digest);
        let (kind, id, generation) = (ChangeKind::Revoke, run_id.to_owned(), next.generation);
        let added = delta.receipts();
        next.changes.push(Change { kind, id, generation, inputs: Vec::new(), added, removed: 0 });
        self.stage_next(next, delta, Sieve::default())
    }
}
