//! Counting: every trigger has exactly one outcome, and the sums must say so before anything is committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::triggers::{Outcome, Reason};

/// Counts by a word: a channel or a reason. Words that did not occur are absent.
pub type ByWord = BTreeMap<String, u64>;

/// The outcomes of a campaign, or of a whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All triggers.
    pub triggers: u64,
    /// Triggers with at least one message.
    pub sent: u64,
    /// Messages written, by channel.
    pub messages: ByWord,
    /// Messages not produced, by channel and reason.
    pub messages_dropped: BTreeMap<String, ByWord>,
    /// Triggers of control users.
    pub control: u64,
    /// Suppressed triggers by reason.
    pub suppressed: ByWord,
    /// Failed triggers by reason.
    pub failed: ByWord,
    /// Rejected triggers by reason.
    pub rejected: ByWord,
    /// Triggers outside `--since`, `--until` or `--only`.
    pub out_of_scope: u64,
}

impl Counts {
    /// Whether every trigger has exactly one outcome.
    pub fn balances(&self) -> bool {
        let sums = [&self.suppressed, &self.failed, &self.rejected]
            .map(|part| part.values().map(|n| u128::from(*n)).sum::<u128>());
        let single = [self.sent, self.control, self.out_of_scope].map(u128::from);
        u128::from(self.triggers) == single.iter().chain(&sums).sum::<u128>()
    }

    /// Bad triggers: rejected and failed.
    pub fn bad(&self) -> u64 {
        self.rejected.values().chain(self.failed.values()).sum()
    }
}

/// The counts of a run, in all and by campaign. Triggers whose campaign is unknown count in the total only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// In all.
    pub total: Counts,
    /// By campaign id.
    pub campaigns: BTreeMap<String, Counts>,
}

impl Ledger {
    /// Invariant 2: per campaign and in all.
    pub fn balances(&self) -> bool {
        self.total.balances() && self.campaigns.values().all(Counts::balances)
    }
}

/// Counters of one campaign while a split is rendered: arrays, since every row adds to them.
#[derive(Debug, Clone, Default)]
struct Counters {
    sent: u64,
    control: u64,
    reasons: [u64; REASONS],
    messages: Vec<u64>,
    dropped: Vec<[u64; REASONS]>,
}

const REASONS: usize = Reason::ALL.len();

/// Counters of all campaigns; the last entry counts triggers without one.
#[derive(Debug, Clone)]
pub struct Tally {
    campaigns: Vec<Counters>,
}

impl Tally {
    /// Zero for this many campaigns and channels.
    pub fn new(campaigns: usize, channels: usize) -> Tally {
        let zero =
            Counters { messages: vec![0; channels], dropped: vec![[0; REASONS]; channels], ..Counters::default() };
        Tally { campaigns: vec![zero; campaigns + 1] }
    }

    fn of(&mut self, campaign: Option<u16>) -> &mut Counters {
        let last = self.campaigns.len() - 1;
        &mut self.campaigns[campaign.map_or(last, usize::from)]
    }

    /// A sent trigger.
    pub fn sent(&mut self, campaign: u16) {
        self.of(Some(campaign)).sent += 1;
    }

    /// A trigger of a control user.
    pub fn control(&mut self, campaign: u16) {
        self.of(Some(campaign)).control += 1;
    }

    /// Any other trigger.
    pub fn reason(&mut self, campaign: Option<u16>, reason: Reason) {
        self.of(campaign).reasons[reason as usize] += 1;
    }

    /// A written message.
    pub fn message(&mut self, campaign: u16, channel: usize) {
        self.of(Some(campaign)).messages[channel] += 1;
    }

    /// A message that was not produced.
    pub fn dropped(&mut self, campaign: u16, channel: usize, reason: Reason) {
        self.of(Some(campaign)).dropped[channel][reason as usize] += 1;
    }

    /// Adds another split's counts.
    pub fn add(&mut self, other: &Tally) {
        for (mine, theirs) in self.campaigns.iter_mut().zip(&other.campaigns) {
            mine.sent += theirs.sent;
            mine.control += theirs.control;
            add_each(&mut mine.reasons, &theirs.reasons);
            add_each(&mut mine.messages, &theirs.messages);
            mine.dropped.iter_mut().zip(&theirs.dropped).for_each(|(a, b)| add_each(a, b));
        }
    }

    /// The counts under their names. `triggers` is what the readers saw, so that a trigger lost between reading and
    /// counting does not balance.
    pub fn ledger(&self, ids: &[&str], channels: &[&str], triggers: u64) -> Ledger {
        let mut sum = Tally::new(0, channels.len());
        self.campaigns.iter().for_each(|c| sum.add(&Tally { campaigns: vec![c.clone()] }));
        let campaigns = ids.iter().zip(&self.campaigns).map(|(id, c)| ((*id).to_owned(), c.counts(channels))).collect();
        Ledger { total: Counts { triggers, ..sum.campaigns[0].counts(channels) }, campaigns }
    }
}

fn add_each(mine: &mut [u64], theirs: &[u64]) {
    mine.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
}

impl Counters {
    fn counts(&self, channels: &[&str]) -> Counts {
        let named = |counts: &[u64], outcome: Outcome| -> ByWord {
            let reasons = Reason::ALL.iter().filter(|r| r.outcome() == outcome && counts[**r as usize] > 0);
            reasons.map(|r| (r.code().to_owned(), counts[*r as usize])).collect()
        };
        let any = |counts: &[u64]| -> ByWord {
            [Outcome::Suppressed, Outcome::Failed].into_iter().flat_map(|o| named(counts, o)).collect()
        };
        let used = |counts: &[u64]| counts.iter().any(|c| *c > 0);
        let messages = channels.iter().zip(&self.messages).filter(|(_, n)| **n > 0);
        let dropped = channels.iter().zip(&self.dropped).filter(|(_, counts)| used(*counts));
        Counts {
            triggers: self.sent + self.control + self.reasons.iter().sum::<u64>(),
            sent: self.sent,
            messages: messages.map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            messages_dropped: dropped.map(|(name, counts)| ((*name).to_owned(), any(counts))).collect(),
            control: self.control,
            suppressed: named(&self.reasons, Outcome::Suppressed),
            failed: named(&self.reasons, Outcome::Failed),
            rejected: named(&self.reasons, Outcome::Rejected),
            out_of_scope: self.reasons[Reason::OutOfScope as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_trigger_does_not_balance() {
        let mut tally = Tally::new(1, 1);
        tally.sent(0);
        tally.reason(None, Reason::BadJson);
        tally.dropped(0, 0, Reason::Aborted);
        assert!(tally.ledger(&["c"], &["email"], 2).balances());
        assert!(!tally.ledger(&["c"], &["email"], 3).balances());
    }
}
