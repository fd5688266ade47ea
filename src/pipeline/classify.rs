//! The first half of the precedence: what can be said of a trigger alone, before its key is looked at.

use super::rules::Rules;
use crate::campaigns::{Campaign, Status};
use crate::eligibility::{Clock, KeyRule, Reeligibility};
use crate::triggers::{MICROS_PER_SECOND, Micros, Reason, Rejection, Trigger};

/// A trigger may lie this far after as-of.
const FUTURE_MICROS: Micros = 24 * 3_600 * MICROS_PER_SECOND;

/// Where a trigger stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not a trigger that can be decided; the campaign's number if it is known.
    Rejected(Option<u16>, Rejection),
    /// Decided without its key: suppressed or out of scope.
    Settled(Option<u16>, Reason),
    /// Its key decides.
    Open {
        /// The campaign's number.
        campaign: u16,
        /// `triggered_at`, or as-of where there is none.
        at: Micros,
    },
}

/// Applies `rejected` > `out_of_scope` > `duplicate_recipient` > `paused` > `excluded` > `too_late` > `history_expired`, and what
/// is left of erased recipients.
pub fn classify(rules: &Rules, trigger: &Trigger<'_>) -> Standing {
    let Some(number) = rules.numbers.get(trigger.campaign_id.as_ref()).copied() else {
        return without_campaign(rules, &trigger.campaign_id);
    };
    let at = match instant(rules, trigger) {
        Ok(at) => at,
        Err(rejection) => return Standing::Rejected(Some(number), rejection),
    };
    match settled(rules, number, trigger, at) {
        Some(reason) => Standing::Settled(Some(number), reason),
        None => Standing::Open { campaign: number, at },
    }
}

fn without_campaign(rules: &Rules, id: &str) -> Standing {
    if rules.campaigns.out_of_scope.iter().any(|known| known == id) {
        return Standing::Settled(None, Reason::OutOfScope);
    }
    let broken = rules.campaigns.broken.iter().any(|known| known == id);
    let (reason, found) = match broken {
        true => (Reason::CampaignBroken, "a campaign that did not load"),
        false => (Reason::UnknownCampaign, "another id"),
    };
    Standing::Rejected(None, Rejection::new(reason, "campaign_id", "the id of a loaded campaign", found))
}

fn instant(rules: &Rules, trigger: &Trigger<'_>) -> Result<Micros, Rejection> {
    let Some(at) = trigger.triggered_at else {
        if rules.clock == Clock::Run || rules.default_time_is_as_of {
            return Ok(rules.as_of);
        }
        let expected = "a time, which the event clock needs (or give `--default-triggered-at as-of`)";
        return Err(Rejection::new(Reason::MissingField, "triggered_at", expected, "nothing"));
    };
    if at > rules.as_of.saturating_add(FUTURE_MICROS) {
        let expected = "a time at most 24 h after as-of";
        return Err(Rejection::new(Reason::InFuture, "triggered_at", expected, "a later one"));
    }
    Ok(at)
}

fn settled(rules: &Rules, number: u16, trigger: &Trigger<'_>, at: Micros) -> Option<Reason> {
    let campaign = &rules.campaigns.loaded[usize::from(number)];
    if rules.since.is_some_and(|since| at < since) || rules.until.is_some_and(|until| at >= until) {
        Some(Reason::OutOfScope)
    } else if trigger.duplicate_recipient {
        Some(Reason::DuplicateRecipient)
    } else if campaign.status == Status::Paused {
        Some(Reason::Paused)
    } else if !rules.excluded.is_empty() && rules.excluded.contains(&trigger.recipient.key_hash()) {
        Some(Reason::Excluded)
    } else if is_too_late(rules, campaign, at) {
        Some(Reason::TooLate)
    } else if is_before_history(rules, number, trigger, at) {
        Some(Reason::HistoryExpired)
    } else if campaign.reeligibility == Reeligibility::Never
        && rules.erased.contain(&campaign.id, trigger.recipient.key_hash())
    {
        // Ahead of control, where nobody is who has received the campaign.
        Some(Reason::AlreadyReceived)
    } else {
        None
    }
}

/// The stricter of `--max-age` and the campaign's own `max_age`, measured back from as-of.
fn is_too_late(rules: &Rules, campaign: &Campaign, at: Micros) -> bool {
    let limits = [rules.max_age_micros, campaign.max_age_micros];
    limits.into_iter().flatten().min().is_some_and(|limit| at < rules.as_of.saturating_sub(limit))
}

/// Whether a receipt that would decide this trigger may have been dropped from the state: one inside the window, or that of
/// an earlier trigger with the same id, which was received at most [`FUTURE_MICROS`] before it was triggered.
fn is_before_history(rules: &Rules, number: u16, trigger: &Trigger<'_>, at: Micros) -> bool {
    let Some(floor) = rules.history_floors.get(usize::from(number)).copied().flatten() else { return false };
    needs_lost_receipts(&rules.key_rule(number), floor, trigger.trigger_id.is_some(), at)
}

/// Whether deciding a trigger needs receipts from before the floor: those inside its window, or with its id.
pub fn needs_lost_receipts(rule: &KeyRule, floor: Micros, has_id: bool, at: Micros) -> bool {
    has_id && at < floor.saturating_add(FUTURE_MICROS) || rule.rule.looks_back_to(rule.receipt_at(at)) < floor
}
