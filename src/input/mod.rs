//! Trigger files: finding them, reading them, turning their rows into [`crate::triggers::Trigger`]s.
//!
//! [`Inputs`] is the door. Behind it: `files` finds, `spool` unpacks, `ndjson` cuts text into splits and lines, `line`
//! tells flat rows from request bodies, `flat` and `request` read them by the meaning of fields in `rules`.

mod files;
mod flat;
mod inputs;
mod json;
mod line;
mod ndjson;
mod options;
mod parquet;
mod request;
mod rules;
mod spool;
#[cfg(test)]
mod testing;

pub use files::{Compression, InputFile};
pub use inputs::Inputs;
pub use ndjson::MAX_LINE_BYTES;
pub use options::{InputFormat, InputOptions, Mapping, PropertiesFrom};
pub use parquet::ArrowBatches;
