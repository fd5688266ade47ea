//! Simulation: what other rules would have sent, decided by the code that decides runs. No files, no receipts, no messages: this
//! layer cannot reach any.
//!
//! ```text
//!  split ──keys──► records by bucket ──sort──► every rule decides each key in the same visit ──► counts
//!                                      ▲
//!                   receipts of the keys known before (index)
//! ```
//!
//! A [`Reading`] is one pass over the input, with the rules that can share it: they differ in windows alone. The first rule of the
//! first reading is what the others are compared with. Sums and the examples kept do not depend on threads.

mod decide;
mod engine;
mod people;
mod result;
mod tally;

pub use engine::{Reading, Timing, WindowRule, simulate};
pub use result::{
    Arm, CampaignOutcome, Compared, HourlySends, MessageCount, Outcomes, RecipientNumbers, SampleRatio, SendsAnHour,
    SimulatedRule, Simulation,
};
