//! The durable state: who received what, as a receipt log in Parquet under one manifest.
//!
//! ```text
//! STATE/lock                       permanent; held while the state is open
//! STATE/manifest.json              the only commit: what it names exists, nothing else does
//! STATE/receipts-<generation>.parquet   sorted by (key_hash, campaign_id, received_at); a base and at most 8 deltas
//! ```
//!
//! A commit writes one new receipt file and then replaces the manifest. It never touches a file that the current manifest
//! names; those that the new one no longer names are removed after it is durable.

mod folder;
mod manifest;
mod merge;
mod reader;
mod receipts;
#[cfg(test)]
mod tests;

pub use folder::{CampaignOverview, Overview, StagedGeneration, State};
pub use manifest::{CampaignRecord, ChainLink, FORMAT, FileRecord, Publication, RunRecord, StateManifest, Window};
pub use reader::Receipts;
pub use receipts::Receipt;
