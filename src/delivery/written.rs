//! What a run folder reports about its files: the part of the manifest that says what exists.

use serde::{Deserialize, Serialize};

use crate::ids::Digest;

/// What a file of a run folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FileKind {
    /// A delivery batch.
    Deliveries {
        /// The channel, as campaigns spell it.
        channel: String,
    },
    /// `decisions.parquet`.
    Decisions,
    /// `dropped_messages.parquet`.
    Dropped,
    /// `rejected.ndjson`.
    Rejected,
    /// `remainder.ndjson`.
    Remainder,
    /// Anything else: the summary, the campaigns as used.
    Other,
}

/// A file that was written, closed and synced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Path inside the run folder, `/`-separated.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: FileKind,
    /// Rows or lines; 0 for [`FileKind::Other`], whose rows nobody counts.
    pub rows: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// XXH3-128 of the content.
    pub checksum: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_json_with_the_kind_beside_the_path() {
        let kind = FileKind::Deliveries { channel: "email".into() };
        let file = WrittenFile { path: "a".into(), kind, rows: u64::MAX, bytes: 7, checksum: Digest::of(b"x") };
        let text = serde_json::to_string(&file).unwrap();
        assert!(text.starts_with(r#"{"path":"a","kind":"deliveries","channel":"email","rows":18446744073709551615"#));
        assert_eq!(serde_json::from_str::<WrittenFile>(&text).unwrap(), file);
        let other = WrittenFile { kind: FileKind::Other, ..file };
        assert_eq!(serde_json::from_str::<WrittenFile>(&serde_json::to_string(&other).unwrap()).unwrap(), other);
        assert!(serde_json::from_str::<WrittenFile>(&text.replace("deliveries", "letters")).is_err());
    }
}
