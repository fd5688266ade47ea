//! Triggers made from a seed and a profile: inputs for load tests and for trying rules on.
//!
//! Row *i* of a profile is a function of the profile, its seed and *i* alone, so that any thread can make any row, and every
//! form (Parquet, NDJSON, request bodies) tells of the same triggers. Equal profiles give equal bytes, whatever the number of threads.

mod arrival;
mod lines;
mod parse;
mod profile;
mod rows;
mod shape;
mod table;
#[cfg(test)]
mod tests;
mod write;

pub use arrival::Arrival;
pub use profile::{MAX_SHARES, Profile, ProfileDraft, Share, WeightedCampaign};
pub use shape::{Property, Shape, Value};
pub use write::{Form, Generated, to_file, to_writer};
