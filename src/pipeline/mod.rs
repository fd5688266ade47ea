//! The engine: order and parallelism, no files. Splits are read, buckets are decided, splits are rendered.
//!
//! The edges plug in through traits: [`TriggerSource`] (input), [`ReceiptSource`] (state), [`DeliverySink`] (delivery).

mod seams;

pub use seams::{
    DeliverySink, LinesFile, Need, ReceiptSource, Row, SplitLines, StoredOutcome, StoredReceipt, Table, TriggerSource,
};
