//! `STATE/manifest.json`: what a state consists of. Whatever it does not name does not exist.
//!
//! ```text
//! {                                        JSON, UTF-8, two blanks of indentation; this is the covered part
//!   "format": 1,                           a reader refuses a number above its own
//!   "state_id": "<32 hex>",                drawn at `state init`, the same for ever
//!   "generation": 2,                       0 at `state init`, one more with every commit
//!   "parent_digest": "<64 hex>" | null,    digest of the manifest before; null in generation 0
//!   "files": [ { "name": "receipts-1-0.parquet", "kind": "base" | "delta",
//!                "first_generation": 1, "last_generation": 1,     whose receipts it holds
//!                "rows": 1000, "bytes": 81234,
//!                "checksum": "<32 hex>",                          XXH3-128 of the whole file
//!                "footer_checksum": "<32 hex>",                   ... of the Parquet footer, its last 8 bytes included
//!                "row_groups": [ "<32 hex>", … ],                 ... of the column chunks that deciding reads, in
//!                                                                 file order, one for each row group
//!                "oldest": -1, "newest": 2 } ],                   received_at in microseconds since 1970, UTC
//!   "campaigns": { "<id>": { "largest_window": null | "never" | <seconds>, "assigns": true | false,
//!                            "history_floor": null | <micros>, "receipts": 1000 } },
//!   "chain": [ { "generation": 0, "digest": "<64 hex>" }, … ],    every earlier generation, from 0
//!   "runs": [ { "run_id", "config_digest", "exit_code", "generation", "out", "inputs": [ "<digest>" ] } ],
//!   "changes": [ { "kind": "import" | "compact" | "erase" | "fork", "id", "generation", "inputs": [ "<digest>" ], "added": 3, "removed": 0 } ],
//!   "erased": null | { "key": "<64 hex>", "tombstones": [ "<32 hex>", … ] },
//!   "publication": null | { "run_id", "staged", "published", "manifest": <the run's manifest, verbatim> }
//! ,                                        here the covered part has ended, before the comma
//!   "checksum": "<32 hex>"                 XXH3-128 of the covered part
//! }
//! ```
//!
//! The last 53 bytes are fixed but for the 32 lower-case digits: `,⏎  "checksum": "`, digits, `"⏎}⏎`. They are compared
//! byte for byte, so a manifest cut or flipped anywhere is refused. The tail is the same in every future format, so
//! damage and a newer version are told apart. The *digest* of a manifest is the SHA-256 of the exact bytes of the file.
//!
//! Unknown members are refused: a version that does not know a member would drop it at its next commit. New members
//! need a new format number. Checksums find accidents; they do not stop anyone who wants to forge a state.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result};
use crate::ids::Digest;
use crate::triggers::Micros;

/// The only format there is so far.
pub const FORMAT: u64 = 1;

/// The name of the manifest in its folder.
pub(super) const MANIFEST: &str = "manifest.json";

const TAIL_START: &str = ",\n  \"checksum\": \"";
const TAIL_END: &str = "\"\n}\n";
const TAIL_BYTES: usize = TAIL_START.len() + 32 + TAIL_END.len();

/// What a state consists of at one generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateManifest {
    /// Version of the format: [`FORMAT`].
    pub format: u64,
    /// 32 lower-case hex digits, drawn once.
    pub state_id: String,
    /// Number of commits since `state init`.
    pub generation: u64,
    /// Digest of the manifest before this one; `None` in generation 0.
    pub parent_digest: Option<String>,
    /// The receipt files, oldest receipts first: the base, then deltas.
    pub files: Vec<ReceiptFile>,
    /// What is kept of each campaign that this state has seen.
    pub campaigns: BTreeMap<String, CampaignRetention>,
    /// The digests of all earlier generations, from 0.
    pub chain: Vec<Ancestor>,
    /// The committed runs, oldest first.
    pub runs: Vec<RunRecord>,
    /// The generations that no run made, oldest first.
    pub changes: Vec<Change>,
    /// What is left of erased recipients; `None` while none ever was.
    pub erased: Option<ErasedRecipients>,
    /// The run folder that the newest run publishes. It stays recorded after the folder has been moved.
    pub publication: Option<Publication>,
}

/// The role of a receipt file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// The oldest and largest.
    Base,
    /// What later generations added.
    Delta,
}

/// One receipt file, with all that is needed to notice damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptFile {
    /// File name inside the state folder.
    pub name: String,
    /// Base or delta.
    pub kind: FileKind,
    /// The first generation whose receipts are in it.
    pub first_generation: u64,
    /// The last generation whose receipts are in it.
    pub last_generation: u64,
    /// Number of receipts, at least 1.
    pub rows: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Checksum of the whole file.
    pub checksum: Digest,
    /// Checksum of the Parquet footer: a run checks this instead of the whole file.
    pub footer_checksum: Digest,
    /// For each row group, the checksum of the column chunks that deciding reads.
    pub row_groups: Vec<Digest>,
    /// The oldest `received_at`.
    pub oldest: Micros,
    /// The newest `received_at`.
    pub newest: Micros,
}

/// For how long a campaign's receipts matter. Windows compare by length; `Never` is the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// This many seconds; 0 for re-eligibility `always`.
    Seconds(u64),
    /// Once ever: a receipt matters for good.
    Never,
}

/// What a state keeps of a campaign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignRetention {
    /// The largest window that any run of this state used; `None` while no run has loaded the campaign.
    pub largest_window: Option<Window>,
    /// Whether it ever had variants or a control group.
    pub assigns: bool,
    /// Receipts before this instant may have been dropped; `None` while none ever was.
    pub history_floor: Option<Micros>,
    /// Receipts and control enrolments in the files.
    pub receipts: u64,
}

/// An earlier generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ancestor {
    /// Its number.
    pub generation: u64,
    /// The digest of its manifest.
    pub digest: String,
}

/// A committed run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The run's id.
    pub run_id: String,
    /// Digest of inputs, campaigns and semantic flags: the same id with another digest is a mistake.
    pub config_digest: String,
    /// The exit code of the run, which a no-op returns again.
    pub exit_code: u8,
    /// The generation that the run made; filled in by [`super::State::stage`].
    pub generation: u64,
    /// The output folder, as text.
    pub out: String,
    /// Content digests of the inputs that the run consumed.
    pub inputs: Vec<String>,
}

/// What is left of erased recipients: see [`crate::eligibility::Tombstones`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedRecipients {
    /// The key of the hashes, 64 hex digits: random, of this state and its forks alone.
    pub key: String,
    /// Keyed hashes, ascending.
    pub tombstones: Vec<Digest>,
}

impl ErasedRecipients {
    /// The key's 32 bytes.
    pub(super) fn key_bytes(&self) -> Vec<u8> {
        let pair = |at: usize| self.key.get(2 * at..2 * at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        (0..self.key.len() / 2).filter_map(pair).collect()
    }
}

/// What made a generation, where it was no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Receipts came from elsewhere.
    Import,
    /// All files became one.
    Compact,
    /// Receipts of erased recipients went.
    Erase,
    /// The receipts are those of another state; generation 0.
    Fork,
    /// The receipts of a run were taken back.
    Revoke,
}

impl ChangeKind {
    /// The word in files.
    pub fn code(self) -> &'static str {
        match self {
            ChangeKind::Import => "import",
            ChangeKind::Compact => "compact",
            ChangeKind::Erase => "erase",
            ChangeKind::Fork => "fork",
            ChangeKind::Revoke => "revoke",
        }
    }
}

/// A generation that no run made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What it was.
    pub kind: ChangeKind,
    /// Its name: of a revocation the run's id; of an import a digest of what was read and how, so that doing it again is found out.
    pub id: String,
    /// Its number.
    pub generation: u64,
    /// Content digests of imported files.
    pub inputs: Vec<String>,
    /// Receipts that came.
    pub added: u64,
    /// Receipts that went.
    pub removed: u64,
}

/// A run folder on its way from staging to the output folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// The run's id.
    pub run_id: String,
    /// The staged folder.
    pub staged: String,
    /// The folder it becomes.
    pub published: String,
    /// The run's manifest, byte for byte.
    pub manifest: Box<RawValue>,
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Window::Seconds(seconds) => serializer.serialize_u64(*seconds),
            Window::Never => serializer.serialize_str("never"),
        }
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Window, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        match (value.as_u64(), value.as_str()) {
            (Some(seconds), _) => Ok(Window::Seconds(seconds)),
            (_, Some("never")) => Ok(Window::Never),
            _ => Err(serde::de::Error::custom("expected `\"never\"` or a number of seconds")),
        }
    }
}

impl StateManifest {
    /// Generation 0: no receipts.
    pub(super) fn first(state_id: u128) -> StateManifest {
        StateManifest {
            format: FORMAT,
            state_id: format!("{state_id:032x}"),
            generation: 0,
            parent_digest: None,
            files: Vec::new(),
            campaigns: BTreeMap::new(),
            chain: Vec::new(),
            runs: Vec::new(),
            changes: Vec::new(),
            erased: None,
            publication: None,
        }
    }

    /// The next generation of this manifest, whose file has the given digest: the same receipts and runs, and the same
    /// publication, which the next run replaces.
    pub(super) fn successor(&self, digest: &str) -> StateManifest {
        let mut next = self.clone();
        next.chain.push(Ancestor { generation: self.generation, digest: digest.to_owned() });
        next.generation += 1;
        next.parent_digest = Some(digest.to_owned());
        next
    }

    /// The run of this id, if it was committed.
    pub fn run(&self, run_id: &str) -> Option<&RunRecord> {
        self.runs.iter().rev().find(|run| run.run_id == run_id)
    }

    /// The latest run that consumed an input with this content digest, and was not revoked since.
    pub fn consumer_of(&self, input_digest: &str) -> Option<&RunRecord> {
        let consumed = |run: &&RunRecord| run.inputs.iter().any(|input| input == input_digest);
        self.runs.iter().rev().find(|run| consumed(run) && self.revocation(&run.run_id).is_none())
    }

    /// What took the receipts of a run back.
    pub fn revocation(&self, run_id: &str) -> Option<&Change> {
        self.changes.iter().find(|change| change.kind == ChangeKind::Revoke && change.id == run_id)
    }

    /// The change of this id, if it was committed.
    pub fn change(&self, id: &str) -> Option<&Change> {
        self.changes.iter().rev().find(|change| change.id == id)
    }

    /// The change that imported a file with this content digest.
    pub fn import_of(&self, input_digest: &str) -> Option<&Change> {
        self.changes.iter().find(|change| change.inputs.iter().any(|input| input == input_digest))
    }

    /// The bytes of the file.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::new(Kind::Internal, "cannot write the state manifest as JSON").caused_by(e))?;
        bytes.truncate(bytes.len() - "\n}".len());
        let tail = tail_of(&bytes);
        bytes.extend_from_slice(tail.as_bytes());
        Ok(bytes)
    }

    /// Reads the bytes of the file at `path`. Any change to them is an error of kind [`Kind::State`] that names it.
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<StateManifest> {
        let covered = bytes.len().checked_sub(TAIL_BYTES).map(|end| bytes.split_at(end));
        let Some((covered, _)) = covered.filter(|(covered, tail)| tail_of(covered).as_bytes() == *tail) else {
            return Err(damaged(path, "its checksum does not match its content"));
        };
        let json = [covered, b"\n}"].concat();
        refuse_future(path, &json)?;
        let manifest: StateManifest = serde_json::from_slice(&json).map_err(|e| damaged(path, e))?;
        manifest.check().map_err(|fault| damaged(path, fault))?;
        Ok(manifest)
    }

    /// What no state written by this crate breaks.
    fn check(&self) -> Result<(), String> {
        if Digest::parse(&self.state_id).is_none() {
            return Err("`state_id` is not 32 hex digits".to_owned());
        }
        let numbers = self.chain.iter().map(|a| a.generation).chain([self.generation]);
        if !numbers.eq(0..=self.chain.len() as u64) {
            return Err("`chain` does not lead from generation 0 to this one".to_owned());
        }
        if self.parent_digest.as_ref() != self.chain.last().map(|a| &a.digest) {
            return Err("`parent_digest` is not the last one of `chain`".to_owned());
        }
        if self.erased.as_ref().is_some_and(|erased| erased.key.len() != 64 || erased.key_bytes().len() != 32) {
            return Err("`erased.key` is not 64 hex digits".to_owned());
        }
        match self.files.iter().find(|file| !is_receipt_file(&file.name)) {
            Some(file) => Err(format!("`{}` is not the name of a receipt file", file.name)),
            None => Ok(()),
        }
    }
}

/// The digest of a manifest: SHA-256 of the bytes of its file, as 64 hex digits.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a name is `receipts-<generation>-<n>.parquet`: a path never gets through.
pub(super) fn is_receipt_file(name: &str) -> bool {
    let numbers = name.strip_prefix("receipts-").and_then(|rest| rest.strip_suffix(".parquet"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers.and_then(|rest| rest.split_once('-')).is_some_and(|(generation, n)| digits(generation) && digits(n))
}

/// An error about a file of the state that cannot be trusted.
pub(super) fn damaged(path: &Path, what: impl std::fmt::Display) -> Error {
    let folder = path.parent().unwrap_or(path).display();
    Error::new(Kind::State, format!("the state file `{}` is damaged: {what}", path.display())).hint(format!(
        "restore the whole folder `{folder}` from a copy; nothing was changed. Without a copy, the output folder still \
         holds what was sent"
    ))
}

fn tail_of(covered: &[u8]) -> String {
    format!("{TAIL_START}{}{TAIL_END}", Digest::of(covered))
}

fn refuse_future(path: &Path, json: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct FormatOnly {
        format: u64,
    }
    let FormatOnly { format } = serde_json::from_slice(json).map_err(|e| damaged(path, e))?;
    match format {
        FORMAT => Ok(()),
        0 => Err(damaged(path, "format 0 does not exist")),
        _ => Err(Error::new(
            Kind::State,
            format!("`{}` has format {format}; this version reads format {FORMAT}", path.display()),
        )
        .hint("use the newer version of `retrigger` that wrote this state; nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> StateManifest {
        let mut manifest = StateManifest::first(7).successor(&"0".repeat(64));
        manifest.campaigns.insert(
            "a".to_owned(),
            CampaignRetention {
                largest_window: Some(Window::Seconds(86_400)),
                assigns: false,
                history_floor: None,
                receipts: 3,
            },
        );
        manifest.campaigns.insert(
            "b \"quoted\"".to_owned(),
            CampaignRetention {
                largest_window: Some(Window::Never),
                assigns: true,
                history_floor: Some(-5),
                receipts: 0,
            },
        );
        manifest.runs.push(RunRecord {
            run_id: "r1".to_owned(),
            config_digest: "c".to_owned(),
            exit_code: 3,
            generation: 1,
            out: "out/é".to_owned(),
            inputs: vec!["i1".to_owned(), "i2".to_owned()],
        });
        manifest.publication = Some(Publication {
            run_id: "r1".to_owned(),
            staged: "out.staging/r1".to_owned(),
            published: "out/r1".to_owned(),
            manifest: RawValue::from_string("{\"b\": 1.50,\n\"a\": [ ]}".to_owned()).unwrap(),
        });
        manifest
    }

    fn decode(bytes: &[u8]) -> Result<StateManifest> {
        StateManifest::decode(Path::new("s/manifest.json"), bytes)
    }

    #[test]
    fn a_manifest_reads_back_and_is_one_json_document() {
        let bytes = sample().encode().unwrap();
        let back = decode(&bytes).unwrap();
        assert_eq!(back.encode().unwrap(), bytes);
        assert_eq!(back.publication.unwrap().manifest.get(), "{\"b\": 1.50,\n\"a\": [ ]}", "verbatim");
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["campaigns"]["a"]["largest_window"], 86_400);
        assert_eq!(json["campaigns"]["b \"quoted\""]["largest_window"], "never");
        assert_eq!(json["checksum"].as_str().map(str::len), Some(32));
    }

    #[test]
    fn a_manifest_cut_anywhere_is_refused_by_name() {
        let bytes = sample().encode().unwrap();
        for length in 0..bytes.len() {
            let error = decode(&bytes[..length]).unwrap_err();
            assert_eq!(error.kind, Kind::State);
            assert!(error.to_string().contains("s/manifest.json"), "{error}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_manifest_is_refused() {
        let bytes = sample().encode().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        assert!(decode(&[bytes.as_slice(), b"\n"].concat()).is_err(), "longer");
    }

    #[test]
    fn a_format_from_the_future_is_told_apart_from_damage() {
        let mut future = sample();
        future.format = 2;
        let error = decode(&future.encode().unwrap()).unwrap_err().to_string();
        assert!(error.contains("has format 2; this version reads format 1"), "{error}");
    }

    #[test]
    fn a_checksummed_manifest_that_contradicts_itself_is_refused() {
        let broken = |change: fn(&mut StateManifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            decode(&manifest.encode().unwrap()).unwrap_err().to_string()
        };
        assert!(broken(|m| m.generation = 5).contains("`chain`"));
        assert!(broken(|m| m.parent_digest = None).contains("`parent_digest`"));
        assert!(broken(|m| m.state_id = "x".to_owned()).contains("`state_id`"));
        assert!(
            broken(|m| m.files.push(ReceiptFile {
                name: "../receipts-1-0.parquet".to_owned(),
                kind: FileKind::Base,
                first_generation: 1,
                last_generation: 1,
                rows: 1,
                bytes: 1,
                checksum: Digest(1),
                footer_checksum: Digest(2),
                row_groups: vec![],
                oldest: 0,
                newest: 0,
            }))
            .contains("../receipts-1-0.parquet")
        );
    }

    #[test]
    fn unknown_members_are_refused_because_the_next_commit_would_drop_them() {
        let bytes = sample().encode().unwrap();
        let text = String::from_utf8(bytes[..bytes.len() - TAIL_BYTES].to_vec()).unwrap();
        let covered = text.replacen("\"format\": 1", "\"format\": 1, \"holds\": []", 1);
        let bytes = format!("{covered}{}", tail_of(covered.as_bytes()));
        assert!(decode(bytes.as_bytes()).unwrap_err().to_string().contains("holds"));
    }

    #[test]
    fn windows_compare_by_length() {
        assert!(Window::Never > Window::Seconds(u64::MAX) && Window::Seconds(1) > Window::Seconds(0));
    }

    #[test]
    fn only_plain_names_are_receipt_files() {
        assert!(is_receipt_file("receipts-12-0.parquet"));
        for name in
            ["receipts-12.parquet", "receipts--0.parquet", "receipts-1-0.parquet.next", "receipts-a-0.parquet", "x"]
        {
            assert!(!is_receipt_file(name), "{name}");
        }
    }
}
