//! `verify`: a published run against its manifest.

use std::path::{Path, PathBuf};

use super::amendment::Amendment;
use super::manifest::{RUN_FORMAT, RunManifest};
use crate::delivery::{FileKind, REVOKED, WrittenFile, verify_files};
use crate::error::{Error, Fault, IoContext, Kind, Result};

/// A run that holds what its manifest says.
#[derive(Debug)]
pub struct Verified {
    /// The run's folder.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: RunManifest,
    /// Its files as they are: those of the manifest, but for what an erasure amended.
    pub files: Vec<WrittenFile>,
    /// Rows that were erased since.
    pub erased_rows: u64,
    /// It was revoked: nothing of it is to be sent.
    pub revoked: bool,
}

/// Re-reads every file of a run: lengths, checksums, rows; and the ledger against the rows as the run wrote them.
///
/// # Errors
/// Every difference, in one error of kind `Output`.
pub fn verify(run_dir: &Path) -> Result<Verified> {
    let manifest = RunManifest::read(run_dir)?;
    let amendment = Amendment::read(run_dir, &manifest)?;
    let files = amendment.as_ref().map_or_else(|| manifest.files.clone(), |amendment| amendment.files(&manifest));
    let mut faults = verify_files(run_dir, &files);
    faults.extend(check_ledger(&manifest));
    if faults.is_empty() {
        let erased_rows = amendment.map_or(0, |amendment| amendment.erased_rows());
        let revoked = run_dir.join(REVOKED).exists();
        return Ok(Verified { path: run_dir.to_owned(), manifest, files, erased_rows, revoked });
    }
    if manifest.files.iter().any(|file| run_dir.join(format!("{}.amended", file.path)).exists()) {
        let summary = format!("an erasure from `{}` was interrupted", run_dir.display());
        let hint = "run the same `retrigger state erase … --out …` again: it finishes what was begun";
        return Err(Error::new(Kind::Output, summary).with_faults(faults).hint(hint));
    }
    let summary = format!("`{}` is not what its manifest says", run_dir.display());
    Err(Error::new(Kind::Output, summary)
        .with_faults(faults)
        .hint("do not hand it to a sender; restore it from a copy, or compare it with its state by `dispatch_id`"))
}

impl RunManifest {
    /// The manifest of a run folder.
    ///
    /// # Errors
    /// Kind `Output`: it cannot be read, or is of a later format.
    pub fn read(run_dir: &Path) -> Result<RunManifest> {
        let path = run_dir.join("manifest.json");
        let text = std::fs::read_to_string(&path).at(Kind::Output, "read", &path)?;
        parse(&path, &text)
    }
}

fn parse(path: &Path, text: &str) -> Result<RunManifest> {
    let broken = |e| Error::new(Kind::Output, format!("`{}` is damaged", path.display())).caused_by(e);
    let format =
        serde_json::from_str::<serde_json::Value>(text).map_err(broken)?.get("format").and_then(|f| f.as_u64());
    if let Some(newer) = format.filter(|f| *f > u64::from(RUN_FORMAT)) {
        let summary = format!("`{}` has format {newer}; this version reads up to {RUN_FORMAT}", path.display());
        return Err(Error::new(Kind::Output, summary).hint("use the version that wrote it, or a later one"));
    }
    serde_json::from_str(text).map_err(broken)
}

/// The counts against the rows that the manifest lists.
fn check_ledger(manifest: &RunManifest) -> Vec<Fault> {
    let total = &manifest.ledger.total;
    let rows = |is: fn(&FileKind) -> bool| {
        manifest.files.iter().filter(|f| is(&f.kind)).map(|f| u128::from(f.rows)).sum::<u128>()
    };
    let counts = |words: &mut dyn Iterator<Item = &u64>| words.map(|n| u128::from(*n)).sum::<u128>();
    let compared = [
        ("decisions", rows(|k| matches!(k, FileKind::Decisions)), u128::from(total.triggers)),
        ("messages", rows(|k| matches!(k, FileKind::Deliveries { .. })), counts(&mut total.messages.values())),
        ("rejected rows", rows(|k| matches!(k, FileKind::Rejected)), counts(&mut total.rejected.values())),
        (
            "dropped messages",
            rows(|k| matches!(k, FileKind::Dropped)),
            counts(&mut total.messages_dropped.values().flat_map(|r| r.values())),
        ),
    ];
    let different = compared.into_iter().filter(|(_, found, counted)| found != counted);
    let mut faults: Vec<Fault> = different
        .map(|(what, found, counted)| {
            Fault::new("manifest.json", format!("counts {counted} {what}, its files hold {found}"))
        })
        .collect();
    if !manifest.ledger.balances() {
        faults.push(Fault::new("manifest.json", "the ledger does not balance"));
    }
    faults
}
