//! Which receipts a state may forget, and the sieve that they fall through when files are merged.
//!
//! A receipt is dropped where no decision can need it any more:
//!
//! - it is a receipt of a campaign that the run or the compaction has loaded: what is not loaded never expires;
//! - the campaign was never `never`: its receipts are kept for ever;
//! - it is older than the horizon by more than the largest window that the campaign ever had, and by more than 90 days,
//!   for which trigger ids are remembered;
//! - it is not the newest of its recipient in a campaign that ever had variants or a control group, since that one says
//!   who gets which; and it is no enrolment in control.
//!
//! The horizon of a compaction is the earlier of as-of and the wall clock. Of a run it is, for each campaign, also not
//! later than the newest receipt that this run adds: history that is replayed in order is judged by its own time, and a
//! campaign to which nothing is added stays as it is.
//!
//! What was dropped raises the campaign's `history_floor` to just after the newest dropped receipt, and nothing else does.
//! A trigger for which a receipt before the floor would count is `history_expired`, never sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;

use super::manifest::{StateManifest, Window};
use super::rows::{DecidingColumns, SCHEMA};
use crate::error::{Error, Kind, Result};
use crate::ids::KeyHash;
use crate::pipeline::StoredOutcome;
use crate::triggers::{MICROS_PER_SECOND, Micros};

/// A receipt is kept at least so long: 90 days.
pub const LEAST_KEPT_SECONDS: u64 = 90 * 86_400;

/// What a run or a compaction knows of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CampaignRule {
    /// Its window.
    pub window: Window,
    /// Whether it has variants or a control group, so that the newest receipt of a recipient says more than when.
    pub assigns: bool,
}

/// The campaigns that are loaded, and the instant from which age is counted.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// By id.
    pub campaigns: BTreeMap<String, CampaignRule>,
    /// The earlier of as-of and the wall clock; `None` drops nothing.
    pub horizon: Option<Micros>,
}

/// For how long receipts of a campaign with this largest window are kept, in seconds; `None` is for ever.
pub fn kept_seconds(largest_window: Option<Window>) -> Option<u64> {
    match largest_window? {
        Window::Never => None,
        Window::Seconds(seconds) => Some(seconds.max(LEAST_KEPT_SECONDS)),
    }
}

impl Retention {
    /// Keeps the largest window of every campaign, and whether it ever had variants or control.
    pub(super) fn record(&self, next: &mut StateManifest) {
        for (id, rule) in &self.campaigns {
            let campaign = next.campaigns.entry(id.clone()).or_default();
            campaign.largest_window = campaign.largest_window.max(Some(rule.window));
            campaign.assigns |= rule.assigns;
        }
    }

    /// The sieve for what `next` says of the loaded campaigns. `latest` is the newest instant that counts for a campaign,
    /// where that is not the horizon alone; a campaign without one does not expire.
    pub(super) fn sieve(&self, next: &StateManifest, latest: impl Fn(&str) -> Option<Micros>) -> Sieve {
        let cutoff = |id: &String| {
            let kept = next.campaigns.get(id)?;
            let micros = i64::try_from(kept_seconds(kept.largest_window)?).ok()?.checked_mul(MICROS_PER_SECOND)?;
            let from = self.horizon?.min(latest(id)?);
            Some((id.clone(), Cutoff { before: from.saturating_sub(micros), keeps_newest: kept.assigns }))
        };
        Sieve { cutoffs: self.campaigns.keys().filter_map(cutoff).collect(), ..Sieve::default() }
    }
}

/// Which receipts of a campaign go.
#[derive(Debug, Clone, Copy)]
struct Cutoff {
    /// Those before this instant.
    before: Micros,
    /// But not the newest of a recipient.
    keeps_newest: bool,
}

/// What went of a campaign.
#[derive(Debug, Clone, Copy)]
struct Dropped {
    receipts: u64,
    newest: Micros,
}

/// Takes sorted receipts and gives back those that stay. Rows of one recipient and campaign are judged together, so the
/// last ones of a batch wait for the next.
#[derive(Default)]
pub(super) struct Sieve {
    cutoffs: HashMap<String, Cutoff>,
    erased: HashSet<KeyHash>,
    held: Vec<RecordBatch>,
    dropped: BTreeMap<String, Dropped>,
    /// Receipts of erased recipients by campaign: they raise no floor.
    gone: BTreeMap<String, u64>,
    /// Who of them had received what.
    met: BTreeSet<(String, KeyHash)>,
}

impl Sieve {
    /// A sieve through which everything of these recipients falls, and nothing else.
    pub(super) fn of_erased(recipients: HashSet<KeyHash>) -> Sieve {
        Sieve { erased: recipients, ..Sieve::default() }
    }

    /// Campaign and recipient of what erased recipients had received.
    pub(super) fn into_met(self) -> BTreeSet<(String, KeyHash)> {
        self.met
    }

    /// Whether it lets everything through that is not older than this.
    pub(super) fn is_open_from(&self, oldest: Micros) -> bool {
        self.cutoffs.values().all(|cutoff| cutoff.before <= oldest)
    }

    /// Takes rows; gives back rows that stay.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        if self.cutoffs.is_empty() && self.erased.is_empty() {
            return Ok(Some(batch));
        }
        let last = last_group(&batch);
        let goes_on = last == 0 && self.held.last().is_some_and(|held| same_group(held, &batch));
        if goes_on {
            self.held.push(batch);
            return Ok(None);
        }
        let mut whole = std::mem::take(&mut self.held);
        whole.push(batch.slice(0, last));
        self.held.push(batch.slice(last, batch.num_rows() - last));
        self.judge(&whole)
    }

    /// The last rows that stay.
    pub(super) fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let rest = std::mem::take(&mut self.held);
        self.judge(&rest)
    }

    /// Receipts that went.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.values().map(|dropped| dropped.receipts).chain(self.gone.values().copied()).sum()
    }

    /// Takes what went out of the counts, and raises the floors.
    pub(super) fn settle(&self, next: &mut StateManifest) {
        for (id, dropped) in &self.dropped {
            let campaign = next.campaigns.entry(id.clone()).or_default();
            campaign.receipts = campaign.receipts.saturating_sub(dropped.receipts);
            campaign.history_floor = campaign.history_floor.max(Some(dropped.newest.saturating_add(1)));
        }
        for (id, receipts) in &self.gone {
            let campaign = next.campaigns.entry(id.clone()).or_default();
            campaign.receipts = campaign.receipts.saturating_sub(*receipts);
        }
    }

    /// Everything of an erased recipient in a campaign goes.
    fn erase(&mut self, rows: &DecidingColumns<'_>, group: Range<usize>) {
        let campaign = rows.sort.campaign(group.start).to_owned();
        if group.clone().any(|row| rows.outcome(row) == Ok(StoredOutcome::Sent)) {
            self.met.insert((campaign.clone(), rows.sort.key(group.start)));
        }
        *self.gone.entry(campaign).or_insert(0) += group.len() as u64;
    }

    /// Whole groups: the rows that stay.
    fn judge(&mut self, batches: &[RecordBatch]) -> Result<Option<RecordBatch>> {
        let broken = |e| Error::new(Kind::Internal, "cannot sift receipts").caused_by(e);
        let batch = concat_batches(&SCHEMA, batches).map_err(broken)?;
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        let stays = self.stays(&batch);
        if stays.iter().all(|stays| *stays) {
            return Ok(Some(batch));
        }
        let kept = filter_record_batch(&batch, &BooleanArray::from(stays)).map_err(broken)?;
        Ok((kept.num_rows() > 0).then_some(kept))
    }

    fn stays(&mut self, batch: &RecordBatch) -> Vec<bool> {
        let rows = DecidingColumns::of(batch);
        let group = |row: usize| (rows.sort.key(row), rows.sort.campaign(row));
        // A revocation goes when its receipt goes: both are of one instant.
        let ages = |row: &usize| matches!(rows.outcome(*row), Ok(StoredOutcome::Sent | StoredOutcome::Revoked));
        let mut stays = vec![true; batch.num_rows()];
        let mut start = 0;
        while start < batch.num_rows() {
            let end = (start + 1..batch.num_rows()).find(|row| group(*row) != group(start)).unwrap_or(batch.num_rows());
            if self.erased.contains(&rows.sort.key(start)) {
                stays[start..end].fill(false);
                self.erase(&rows, start..end);
            } else if let Some(cutoff) = self.cutoffs.get(rows.sort.campaign(start)) {
                let newest = newest_receipt(&rows, start..end).filter(|_| cutoff.keeps_newest);
                for row in (start..end).filter(ages) {
                    let at = rows.sort.at(row);
                    stays[row] = at >= cutoff.before || newest == Some(at);
                    if !stays[row] {
                        let first = Dropped { receipts: 0, newest: at };
                        let dropped = self.dropped.entry(rows.sort.campaign(row).to_owned()).or_insert(first);
                        (dropped.receipts, dropped.newest) = (dropped.receipts + 1, dropped.newest.max(at));
                    }
                }
            }
            start = end;
        }
        stays
    }
}

/// Where the rows of the last recipient and campaign begin.
fn last_group(batch: &RecordBatch) -> usize {
    let rows = DecidingColumns::of(batch).sort;
    let last = batch.num_rows() - 1;
    let other = |row: &usize| (rows.key(*row), rows.campaign(*row)) != (rows.key(last), rows.campaign(last));
    (0..last).rev().find(other).map_or(0, |row| row + 1)
}

fn same_group(a: &RecordBatch, b: &RecordBatch) -> bool {
    let (a, b) = (DecidingColumns::of(a).sort, DecidingColumns::of(b).sort);
    (a.key(0), a.campaign(0)) == (b.key(0), b.campaign(0))
}

/// The instant of the newest receipt of a group that was not taken back. Rows are in order of time.
fn newest_receipt(rows: &DecidingColumns<'_>, group: Range<usize>) -> Option<Micros> {
    let mut revoked: Vec<(Micros, Option<u64>)> = Vec::new();
    let place = |row: usize| (rows.sort.at(row), rows.trigger_hash(row));
    let is = |row: &usize, outcome| rows.outcome(*row) == Ok(outcome);
    revoked.extend(group.clone().filter(|row| is(row, StoredOutcome::Revoked)).map(place));
    let receipts = group.rev().filter(|row| is(row, StoredOutcome::Sent));
    let mut standing = receipts.filter(|row| match revoked.iter().position(|taken| *taken == place(*row)) {
        Some(taken) => {
            revoked.swap_remove(taken);
            false
        }
        None => true,
    });
    standing.next().map(|row| rows.sort.at(row))
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Receipt, RowsBuilder};
    use super::*;
    use crate::ids::KeyHash;
    use crate::triggers::RecipientKind;

    /// Rows of one recipient and campaign, sorted, as (instant, outcome, hash of a trigger id).
    fn rows(given: &[(Micros, StoredOutcome, Option<u64>)]) -> RecordBatch {
        let mut builder = RowsBuilder::new();
        for (received_at, outcome, trigger_hash) in given {
            let (campaign_id, recipient, kind) = ("c", "ada", RecipientKind::ExternalUserId);
            let (key, variant) = (KeyHash(7), Some("a"));
            let receipt = Receipt {
                key,
                campaign_id,
                kind,
                recipient,
                received_at: *received_at,
                outcome: *outcome,
                variant,
                channels: &[],
                trigger_hash: *trigger_hash,
            };
            builder.push(&receipt, "run").unwrap();
        }
        builder.take_sorted().unwrap()
    }

    #[test]
    fn the_newest_receipt_is_one_that_was_not_taken_back() {
        use StoredOutcome::{Control, Revoked, Sent};
        let newest = |given: &[_]| {
            let batch = rows(given);
            newest_receipt(&DecidingColumns::of(&batch), 0..batch.num_rows())
        };
        assert_eq!(newest(&[(1, Sent, None), (5, Sent, Some(3)), (9, Control, None)]), Some(5));
        assert_eq!(newest(&[(1, Sent, None), (5, Sent, Some(3)), (5, Revoked, Some(3))]), Some(1));
        assert_eq!(newest(&[(1, Sent, None), (5, Sent, Some(3)), (5, Sent, Some(4)), (5, Revoked, Some(3))]), Some(5));
        assert_eq!(newest(&[(5, Sent, None), (5, Revoked, None)]), None);
    }
}
