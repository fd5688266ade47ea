//! Who may receive a campaign again: the rule, the index of receipts, and the decision. Pure: the clock is an argument.

mod decide;
mod index;
mod rule;
mod tombstones;

pub use decide::{Blocked, Candidate, Clock, History, KeyRule, Pick, Scratch, Verdict, decide_key};
pub use index::{EligibilityIndex, IndexKey, KeyFilter, KeyHistory, StoredAssignment};
pub use rule::{MAX_WINDOW_SECONDS, Reeligibility, parse_duration_seconds};
pub use tombstones::{Tombstones, tombstone};
