//! A state of its own with the receipts of another: same history, two futures.

use std::path::Path;
use std::sync::Arc;

use super::manifest::{Change, ChangeKind, FileKind, MANIFEST, ReceiptFile, StateManifest, digest_of};
use super::write::ReceiptWriter;
use super::{FORKED, NEXT_MANIFEST, State, install_manifest, refuse_occupied, take_lock, write_next_manifest};
use crate::error::{IoContext, Kind, Result};

impl State {
    /// Copies the receipts into a new state in a folder that is absent or empty, and opens it: generation 0 of another id,
    /// with one file. It remembers the runs and imports of this one, but publishes none of its runs. The commit point is
    /// that of [`State::init`]. Errors: as there, and damaged receipts.
    pub fn fork(&self, dir: &Path, state_id: u128) -> Result<State> {
        let disk = Arc::clone(&self.disk);
        disk.create_dir_all(dir).at(Kind::State, "create", dir)?;
        refuse_occupied(&*disk, dir)?;
        let lock = take_lock(&*disk, dir)?;
        refuse_occupied(&*disk, dir)?;
        let mut manifest = self.forked_manifest(state_id);
        manifest.files = self.copy_receipts(dir)?.into_iter().collect();
        disk.sync_dir(dir).at(Kind::State, "sync", dir)?;
        let bytes = manifest.encode()?;
        write_next_manifest(&*disk, dir, &bytes)?;
        install_manifest(&*disk, dir, NEXT_MANIFEST, MANIFEST)?;
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            disk.sync_dir(parent).at(Kind::State, "sync", parent)?;
        }
        Ok(State {
            disk,
            dir: dir.to_owned(),
            manifest,
            digest: digest_of(&bytes),
            unsure: false,
            held: None,
            _lock: lock,
        })
    }

    /// What the fork knows: everything but the publication, all of it from before its own first generation.
    fn forked_manifest(&self, state_id: u128) -> StateManifest {
        let mut manifest = StateManifest::first(state_id);
        let own = &self.manifest;
        manifest.campaigns = own.campaigns.clone();
        manifest.runs = own.runs.clone();
        manifest.changes = own.changes.clone();
        manifest.erased = own.erased.clone();
        manifest.runs.iter_mut().for_each(|run| run.generation = 0);
        manifest.changes.iter_mut().for_each(|change| change.generation = 0);
        let added = own.files.iter().map(|file| file.rows).sum();
        let id = format!("{} at generation {}", own.state_id, own.generation);
        manifest.changes.push(Change {
            kind: ChangeKind::Fork,
            id,
            generation: 0,
            inputs: Vec::new(),
            added,
            removed: 0,
        });
        manifest
    }

    /// All receipts as one durable file of another folder; `None` where there are none.
    fn copy_receipts(&self, dir: &Path) -> Result<Option<ReceiptFile>> {
        let rows = self.manifest.files.iter().map(|file| file.rows).sum();
        if rows == 0 {
            return Ok(None);
        }
        let path = dir.join(FORKED);
        let mut writer = ReceiptWriter::create(&*self.disk, &path, rows)?;
        self.each_batch(|batch| writer.write(batch))?;
        Ok(Some(ReceiptFile { kind: FileKind::Base, ..writer.finish((0, 0))? }))
    }
}
