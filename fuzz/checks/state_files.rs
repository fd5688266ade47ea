//! A state whose files were damaged is refused, or read as it was.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use retrigger::error::{Kind, Result};
use retrigger::ids::{BUCKETS, Digest, DispatchId};
use retrigger::pipeline::{ReceiptSource, StoredOutcome};
use retrigger::state::{CampaignRule, Receipt, Retention, RunRecord, State, Window};
use retrigger::storage::RealDisk;
use retrigger::triggers::{Recipient, RecipientKind};

use super::files::{self, Files};

const MANIFEST: &str = "manifest.json";

/// A state of two generations, a base and a delta; and its receipts as they read.
static STATE: LazyLock<(Files, Vec<String>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::init(Arc::new(RealDisk), folder.path(), 7).unwrap_or_else(|error| panic!("{error}"));
    commit(&mut state, "first", 0..40).unwrap_or_else(|error| panic!("{error}"));
    commit(&mut state, "second", 40..45).unwrap_or_else(|error| panic!("{error}"));
    state.verify().unwrap_or_else(|error| panic!("{error}"));
    let receipts = receipts(&state).unwrap_or_else(|error| panic!("{error}"));
    let mut files = files::read(folder.path());
    // Nobody reads it; an open makes it where it is missing.
    files.remove("lock");
    (files, receipts)
});

/// The first byte says whether the manifest gets a new checksum after the damage, so that what stands behind the
/// checksum is reached too. Then pieces of damage, see [`files::damage`].
pub fn check(input: &[u8]) {
    let Some((first, damage)) = input.split_first() else { return };
    let (original, expected) = &*STATE;
    let mut files = original.clone();
    files::damage(&mut files, damage);
    let sealed = first % 2 == 1;
    if sealed {
        seal(files.get_mut(MANIFEST).expect("files are cut, not removed"));
    }
    let folder = files::folder(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    match read(folder.path()) {
        // With a checksum that is right again, the manifest may say anything; then only a panic is wrong.
        _ if sealed && files[MANIFEST] != original[MANIFEST] => {}
        Ok((receipts, verified)) => {
            assert_eq!(&receipts, expected);
            assert_eq!(verified.is_ok(), files == *original, "{verified:?}");
        }
        Err(error) => {
            assert_eq!(error.kind, Kind::State, "{error}");
            assert!(files != *original, "{error}");
        }
    }
}

/// Puts the checksum of what stands before it into the last line of a manifest, which has a fixed length.
fn seal(manifest: &mut [u8]) {
    const DIGITS: usize = 32;
    let tail = ",\n  \"checksum\": \"".len() + DIGITS + "\"\n}\n".len();
    let Some(covered) = manifest.len().checked_sub(tail) else { return };
    let digest = Digest::of(&manifest[..covered]).to_string();
    let end = manifest.len() - "\"\n}\n".len();
    manifest[end - DIGITS..end].copy_from_slice(digest.as_bytes());
}

/// Everything that can be read: the receipts as a run reads them, and what a full check says.
fn read(folder: &Path) -> Result<(Vec<String>, Result<()>)> {
    let state = State::open(Arc::new(RealDisk), folder)?;
    let _ = state.summary();
    let verified = state.verify();
    Ok((receipts(&state)?, verified))
}

fn receipts(state: &State) -> Result<Vec<String>> {
    let receipts = state.receipts()?;
    let mut texts = Vec::new();
    for piece in 0..receipts.pieces() {
        receipts.read(piece, &[true; BUCKETS], &mut |receipt| texts.push(format!("{receipt:?}")))?;
    }
    Ok(texts)
}

/// Receipts of these numbers, of every kind: sent and control, with and without variant and trigger id.
fn commit(state: &mut State, run_id: &str, numbers: std::ops::Range<u64>) -> Result<()> {
    let mut delta = state.delta(run_id);
    for number in numbers {
        let recipient = format!("u-{number}");
        let sent = number % 4 != 0;
        let channels = [("sms", DispatchId(number.into()))];
        delta.push(&Receipt {
            key: Recipient::external(recipient.as_str()).key_hash(),
            campaign_id: if number % 3 == 0 { "stock" } else { "viewed" },
            kind: RecipientKind::ExternalUserId,
            recipient: &recipient,
            received_at: number as i64 * 1_000_000,
            outcome: if sent { StoredOutcome::Sent } else { StoredOutcome::Control },
            variant: (number % 2 == 0).then_some("short"),
            channels: if sent { &channels } else { &[] },
            trigger_hash: (number % 5 == 0).then_some(number),
        })?;
    }
    let rule = CampaignRule { window: Window::Seconds(86_400), assigns: true };
    let retention = Retention { campaigns: ["stock", "viewed"].map(|id| (id.to_owned(), rule)).into(), horizon: None };
    let staged = state.stage(delta, record(run_id), &retention)?;
    state.commit(staged, None)
}

fn record(run_id: &str) -> RunRecord {
    RunRecord {
        run_id: run_id.to_owned(),
        config_digest: Digest::of(run_id.as_bytes()).to_string(),
        exit_code: 0,
        generation: 0,
        out: "/out".to_owned(),
        inputs: vec![Digest::of(b"input").to_string()],
    }
}
