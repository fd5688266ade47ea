//! What `explain` says of a decision: the rule in words, and the draw behind a variant.

use serde::Serialize;

use crate::campaigns::{Campaign, hash_slice};
use crate::triggers::{Outcome, Reason};

/// The draw of a recipient: a slice of 100, and whose it is.
#[derive(Debug, Clone, Serialize)]
pub struct Assigned {
    /// SHA-256 of profile key and campaign id, modulo 100.
    pub slice: u8,
    /// The variant that this slice belongs to; none for control and without variants.
    pub variant: Option<String>,
    /// First and last slice of it.
    pub slices: (u8, u8),
    /// Whether it belongs to the control group.
    pub control: bool,
    /// Whether an earlier receipt or enrolment decided instead of this draw.
    pub overruled: bool,
}

/// The draw of a recipient in a campaign in which it matters.
pub fn assigned(campaign: &Campaign, profile_key: &str, outcome: &str, variant: Option<&str>) -> Option<Assigned> {
    if campaign.slices.is_trivial() {
        return None;
    }
    let slice = hash_slice(profile_key, &campaign.id);
    let drawn = campaign.slices.variant(slice);
    let alike = |other: &u8| campaign.slices.variant(*other) == drawn;
    let name = drawn.and_then(|number| campaign.variants[usize::from(number)].name.clone());
    let is_control = outcome == Outcome::Control.code();
    Some(Assigned {
        slice,
        slices: ((0..100).find(alike)?, (0..100).rfind(alike)?),
        control: drawn.is_none(),
        overruled: is_control != drawn.is_none() || !is_control && name.as_deref() != variant,
        variant: name,
    })
}

/// Why a decision is what it is.
pub fn rule(outcome: &str, reason: Option<Reason>, campaign: Option<&Campaign>) -> String {
    let window = campaign.map_or_else(|| "its window".to_owned(), window);
    let text = match reason {
        None if outcome == Outcome::Control.code() => "in the control group, who are sent nothing",
        None if outcome == Outcome::OutOfScope.code() => "outside --since, --until or --only: counted, not considered",
        None => "nothing stood against it",
        Some(Reason::DuplicateRecipient) => "the same recipient stood earlier in the same request",
        Some(Reason::Paused) => "the campaign was paused",
        Some(Reason::Excluded) => "the recipient was in the table of --exclude",
        Some(Reason::TooLate) => "it was older than `max_age` or --max-age allows",
        Some(Reason::HistoryExpired) => "the receipts that would decide it were no longer kept",
        Some(Reason::DuplicateTrigger) => {
            "a trigger with the same id was received before, by an earlier run or an earlier row"
        }
        Some(Reason::AlreadyReceived) => "the campaign is sent once ever, and the recipient has received it",
        Some(Reason::WithinWindow) => return format!("a receipt lay closer than {window}"),
        Some(Reason::Aborted) => "the template said so with `abort_message`",
        Some(Reason::MissingValue) => "a value that the template prints was absent, and `on_missing` is `fail`",
        Some(Reason::RenderError) => "the template could not be rendered",
        Some(Reason::InFuture) => "it lay more than 24 h after the run's instant",
        Some(Reason::UnknownCampaign) => "no campaign of this id was loaded",
        Some(Reason::CampaignBroken) => "the campaign did not load, and --skip-broken was given",
        Some(_) => "the row could not be understood; `rejected.ndjson` says where",
    };
    text.to_owned()
}

fn window(campaign: &Campaign) -> String {
    match campaign.reeligibility.window_seconds() {
        Some(seconds) if seconds % 86_400 == 0 => format!("the window of {} d", seconds / 86_400),
        Some(seconds) if seconds % 3_600 == 0 => format!("the window of {} h", seconds / 3_600),
        Some(seconds) => format!("the window of {seconds} s"),
        None => "ever".to_owned(),
    }
}
