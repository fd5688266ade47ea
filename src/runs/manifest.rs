//! What a run says of itself: `manifest.json` (what exists, and why it can be trusted) and `summary.json` (for people and
//! dashboards; its keys are stable).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::delivery::WrittenFile;
use crate::ids::Digest;
use crate::pipeline::Ledger;

/// The version of a run folder's format.
pub const RUN_FORMAT: u32 = 1;

/// One input file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// Its name as given.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// XXH3-128 of its content.
    pub digest: Digest,
}

/// `manifest.json`: only what it names exists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunManifest {
    /// Format version of the run folder.
    pub format: u32,
    /// Version of the program that wrote it.
    pub written_by: String,
    /// The run's id.
    pub run_id: String,
    /// Digest of input contents, campaigns, semantic flags and an explicit as-of.
    pub config_digest: Digest,
    /// The semantic flags as used.
    pub flags: Value,
    /// Digest of each campaign's definition and templates, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub campaigns: BTreeMap<String, Digest>,
    /// The run's instant, RFC 3339.
    pub as_of: String,
    /// The inputs, in order.
    pub inputs: Vec<InputRecord>,
    /// The counts; they balance.
    pub ledger: Ledger,
    /// Every file of the folder but this one.
    pub files: Vec<WrittenFile>,
    /// The state it was decided against; none for a stateless run.
    pub state_id: Option<String>,
    /// The generation that this run produced.
    pub generation: Option<u64>,
    /// Where the state was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_path: Option<String>,
    /// The exit code of the run.
    pub exit_code: u8,
}

impl RunManifest {
    /// As it is written.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// `summary.json`.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The run's id.
    pub run_id: String,
    /// Whether the run was committed (false for a dry run).
    pub committed: bool,
    /// `run` or `event`.
    pub clock: &'static str,
    /// RFC 3339.
    pub as_of: String,
    /// The state, if any.
    pub state_id: Option<String>,
    /// The generation produced.
    pub generation: Option<u64>,
    /// Counts.
    pub ledger: Ledger,
    /// Delivery batch files.
    pub batches: u64,
    /// Bytes of input files.
    pub bytes_read: u64,
    /// Bytes of the run's files but for `summary.json` and `manifest.json`.
    pub bytes_written: u64,
    /// Unknown fields that were ignored.
    pub unknown_fields_ignored: u64,
    /// Wall seconds by phase.
    pub seconds: Vec<(&'static str, f64)>,
    /// Bytes that found no room under the memory ceiling and went to a file.
    pub spilled_bytes: u64,
    /// Peak resident memory of the process, where the system tells.
    pub peak_rss_bytes: Option<u64>,
}

impl Summary {
    /// The JSON object of `summary.json` and `--json`.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| {
            object.insert(key.to_owned(), value);
        };
        put("run_id", self.run_id.as_str().into());
        put("committed", self.committed.into());
        put("clock", self.clock.into());
        put("as_of", self.as_of.as_str().into());
        put("state_id", self.state_id.clone().into());
        put("generation", self.generation.into());
        if let Ok(Value::Object(counts)) = serde_json::to_value(&self.ledger.total) {
            counts.into_iter().for_each(|(key, value)| put(&key, value));
        }
        put("campaigns", serde_json::to_value(&self.ledger.campaigns).unwrap_or_default());
        put("batches", self.batches.into());
        put("bytes_read", self.bytes_read.into());
        put("bytes_written", self.bytes_written.into());
        put("unknown_fields_ignored", self.unknown_fields_ignored.into());
        let rounded = |seconds: &f64| Value::from((seconds * 1000.0).round() / 1000.0);
        put("seconds", Value::Object(self.seconds.iter().map(|(k, s)| ((*k).to_owned(), rounded(s))).collect()));
        put("peak_rss_bytes", self.peak_rss_bytes.into());
        Value::Object(object)
    }
}

/// Peak resident memory of this process in bytes.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
