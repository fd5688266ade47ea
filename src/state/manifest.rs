//! `manifest.json`: an object with two members, `manifest` and `checksum`; the checksum is the XXH3-128 of the exact bytes
//! of the first, so that any damage is found before it is believed. The digest that chains generations is the SHA-256 of
//! the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Digest as _;

use crate::error::{Error, Kind, Result};
use crate::ids::Digest;
use crate::triggers::Micros;

/// The version of the state's format.
pub const FORMAT: u32 = 1;

/// What a state is, at one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateManifest {
    /// Format version.
    pub format: u32,
    /// 32 hex digits, given at init and never changed.
    pub state_id: String,
    /// 0 at init; each commit adds one.
    pub generation: u64,
    /// The receipt files, the largest first.
    pub files: Vec<FileRecord>,
    /// What is kept for each campaign ever run.
    pub campaigns: BTreeMap<String, CampaignRecord>,
    /// The digests of all earlier generations.
    pub chain: Vec<ChainLink>,
    /// Every committed run, the oldest first.
    pub runs: Vec<RunRecord>,
    /// The newest run, to be published by whoever opens the state next, if it is not yet.
    pub pending: Option<Publication>,
}

/// One receipt file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Name inside the state's folder.
    pub name: String,
    /// Receipts in it.
    pub rows: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// XXH3-128 of its content.
    pub checksum: Digest,
    /// The earliest `received_at` in it, microseconds.
    pub oldest: Micros,
    /// The latest.
    pub newest: Micros,
}

/// A re-eligibility window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Seconds; 0 is `always`.
    Seconds(u64),
    /// Once ever: larger than any number of seconds.
    Never,
}

/// What the state keeps of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignRecord {
    /// The largest window it was ever run with: what retention goes by.
    pub largest_window: Window,
    /// Receipts before this may have been dropped; none have where it is null.
    pub history_floor: Option<Micros>,
    /// Receipts and enrolments recorded.
    pub receipts: u64,
}

/// The digest of an earlier generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// Its number.
    pub generation: u64,
    /// SHA-256 of its manifest, hex.
    pub digest: String,
}

/// A committed run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its id.
    pub run_id: String,
    /// Digest of inputs, campaigns and flags.
    pub config_digest: Digest,
    /// What it returned.
    pub exit_code: u8,
    /// Where it is published.
    pub out: PathBuf,
    /// Digests of the inputs it consumed.
    pub inputs: Vec<Digest>,
}

/// A committed run's way from staging into OUT. It stays recorded until the next commit: publishing is a rename that finds
/// itself done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The run.
    pub run_id: String,
    /// Where it was staged, absolute.
    pub staged: PathBuf,
    /// Where it belongs, absolute.
    pub published: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    manifest: &'a RawValue,
    checksum: Digest,
}

impl StateManifest {
    /// The file's bytes and the manifest's digest.
    pub fn seal(&self) -> Result<(Vec<u8>, String)> {
        let broken = |e| Error::new(Kind::Internal, "cannot write the state's manifest").caused_by(e);
        let inner = serde_json::value::to_raw_value(self).map_err(broken)?;
        let checksum = Digest::of(inner.get().as_bytes());
        let mut bytes = serde_json::to_vec(&Sealed { manifest: &inner, checksum }).map_err(broken)?;
        bytes.push(b'\n');
        Ok((bytes, sha256(inner.get().as_bytes())))
    }

    /// Reads a sealed manifest; returns it and its digest.
    pub fn open(path: &Path, bytes: &[u8]) -> Result<(StateManifest, String)> {
        let damaged = |why: &str| {
            let summary = format!("`{}` is damaged: {why}", path.display());
            Error::new(Kind::State, summary).hint("restore the state's folder from a copy; nothing was changed")
        };
        let sealed: Sealed<'_> = serde_json::from_slice(bytes).map_err(|e| damaged(&e.to_string()))?;
        let inner = sealed.manifest.get();
        if Digest::of(inner.as_bytes()) != sealed.checksum {
            return Err(damaged("its checksum does not match"));
        }
        #[derive(Deserialize)]
        struct OnlyFormat {
            format: u32,
        }
        let format = serde_json::from_str::<OnlyFormat>(inner).map_err(|e| damaged(&e.to_string()))?.format;
        if format > FORMAT {
            let summary = format!("`{}` has format {format}; this version reads up to {FORMAT}", path.display());
            return Err(Error::new(Kind::State, summary).hint("use the version that wrote it, or a later one"));
        }
        let manifest = serde_json::from_str(inner).map_err(|e| damaged(&e.to_string()))?;
        Ok((manifest, sha256(inner.as_bytes())))
    }
}

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
