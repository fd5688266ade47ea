//! Delivery: one run folder on disk (design section 7), and the check that a folder holds what its manifest says.
//!
//! ```text
//! cut (one thread, source order) ──Piece──► encode (any thread) ──Encoded──► append (one thread, order of cutting)
//! ```
//!
//! It does not decide, render or commit: rows come finished, the manifest and the renames are the owner's. Invariants:
//! the bytes of a file depend on its rows alone, never on how they arrived; every file is hashed as it is written; a
//! piece is one row group, of at most [`MESSAGE_GROUP_ROWS`] rows (decisions: [`LEDGER_GROUP_ROWS`]) and, save for a
//! single larger row, [`GROUP_TEXT_BYTES`] of text; no name of a channel or a run leaves its folder.

mod amend;
mod columns;
mod compare;
mod files;
mod find;
mod json_lines;
mod memory;
mod names;
mod options;
mod pieces;
mod recorded;
mod run_folder;
mod tables;
#[cfg(test)]
mod tests;
mod verify;
mod written;

pub use amend::{Erased, amend};
pub use compare::{Comparison, Differences};
pub use find::find_rows;
pub use memory::InMemory;
pub use names::{MAX_SEGMENT_BYTES, path_segment};
pub use options::{ChannelSpec, Compression, DeliveryOptions, Format};
pub use pieces::{GROUP_TEXT_BYTES, LEDGER_GROUP_ROWS, MESSAGE_GROUP_ROWS, Piece};
pub use recorded::RecordedRows;
pub use run_folder::RunFolder;
pub use tables::Encoded;
pub use verify::{AMENDMENT, REVOKED, verify_files};
pub use written::{FileKind, WrittenFile};
