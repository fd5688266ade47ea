//! The engine: order and parallelism, no files. Splits are read, buckets are decided, splits are rendered.
//!
//! ```text
//!  split ──keys──► records by bucket ──decide──► verdicts by source position ──render──► rows for the sink
//!                                        ▲
//!                         receipts of the keys in this run (index)
//! ```
//!
//! The edges plug in through traits: [`TriggerSource`] (input), [`ReceiptSource`] and [`ReceiptSink`] (state), [`DeliverySink`] (delivery).
//! Everything that is decided or written is a function of the input, the rules and the receipts; threads only change
//! how long it takes.

mod classify;
mod decide;
mod execute;
mod keys;
mod ledger;
mod lines;
mod memory;
mod recorded;
mod render;
mod rows;
mod rules;
mod scope;
mod seams;
mod verdicts;
mod windows;

pub use classify::needs_lost_receipts;
pub use decide::{KeyTriggers, by_key, sorted_bucket};
pub use execute::{Executed, Execution, PhaseClock, Progress, execute};
pub use keys::{Placed, SplitKeys, id_hash};
pub use ledger::{ByWord, Counts, Ledger};
pub use memory::{Memory, Spill};
pub use recorded::{Adoption, RecordedDecision};
pub use render::Receipt;
pub use rows::{Schemas, channel_names};
pub use rules::{PROPERTIES_CHANNEL, Rules};
pub use scope::{Preview, preview};
pub use seams::{
    DeliverySink, LinesFile, Need, ReceiptSink, ReceiptSource, Row, SplitLines, StoredOutcome, StoredReceipt, Table,
    TriggerSource,
};
