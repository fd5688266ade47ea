//! A run that is decided and staged, but neither committed nor discarded: `manifest.json.held` is the manifest that its
//! commit would install, complete and durable.
//!
//! Holding stops one rename short of the commit. [`State::commit_held`] does that rename; [`State::discard_held`] removes the
//! file, and what it alone named is a leftover. Between the two the state takes no other generation.

use std::path::Path;

use super::manifest::{MANIFEST, damaged, digest_of};
use super::{
    NEXT_MANIFEST, Publication, StagedGeneration, State, StateManifest, install_manifest, write_next_manifest,
};
use crate::error::{Error, IoContext, Kind, Result};
use crate::storage::Disk;

/// The name of the manifest of a held run.
pub(super) const HELD_MANIFEST: &str = "manifest.json.held";

/// The manifest of a held run, and its digest.
pub(super) struct Held {
    pub(super) manifest: StateManifest,
    digest: String,
}

impl State {
    /// The publication of the run that is held, if one is.
    pub fn held(&self) -> Option<&Publication> {
        self.held.as_ref().and_then(|held| held.manifest.publication.as_ref())
    }

    /// Keeps a staged generation until it is committed or discarded, also by another process. Not visible to deciding. Errors:
    /// [`Kind::State`] (disk), [`Kind::Internal`] (not the next generation).
    pub fn hold(&mut self, staged: StagedGeneration, publication: Publication) -> Result<()> {
        let StagedGeneration { mut manifest, unnamed, .. } = self.next(staged)?;
        manifest.publication = Some(publication);
        let bytes = manifest.encode()?;
        write_next_manifest(&*self.disk, &self.dir, &bytes)?;
        // From the rename on the new files may be named: whatever happens, this process does not remove them.
        unnamed.keep();
        self.unsure = true;
        install_manifest(&*self.disk, &self.dir, NEXT_MANIFEST, HELD_MANIFEST)?;
        self.unsure = false;
        self.held = Some(Held { manifest, digest: digest_of(&bytes) });
        Ok(())
    }

    /// Makes the held generation the current one. Errors as [`State::commit`]; [`Kind::Internal`] where nothing is held.
    pub fn commit_held(&mut self) -> Result<()> {
        self.refuse_unsure()?;
        let held = self.held.take().ok_or_else(|| Error::new(Kind::Internal, "no run is held"))?;
        self.unsure = true;
        install_manifest(&*self.disk, &self.dir, HELD_MANIFEST, MANIFEST)?;
        self.unsure = false;
        (self.manifest, self.digest) = (held.manifest, held.digest);
        // The commit stands; a file that cannot be removed now is a leftover of the next open.
        let _ = self.remove_leftovers();
        Ok(())
    }

    /// Forgets the held generation and removes its files. Nothing held is nothing done.
    pub fn discard_held(&mut self) -> Result<()> {
        if self.held.take().is_some() {
            let path = self.dir.join(HELD_MANIFEST);
            // The removal must be durable before files that the held manifest names are gone.
            let removed = self.disk.remove_file(&path).and_then(|()| self.disk.sync_dir(&self.dir));
            let removed = removed.at(Kind::State, "remove", &path).and_then(|()| self.remove_leftovers());
            removed.map_err(|error| error.hint("give the same command again: it finishes what is left to do"))?;
        }
        Ok(())
    }

    /// Refuses anything else while a run is held. Errors: [`Kind::Busy`], with how it ends.
    pub fn refuse_held(&self) -> Result<()> {
        let Some(held) = self.held() else { return Ok(()) };
        let summary =
            format!("the state `{}` holds the run `{}`, which waits for a word", self.dir.display(), held.run_id);
        Err(Error::new(Kind::Busy, summary)
            .hint(format!("look at it, then `retrigger commit {0}` or `retrigger discard {0}`", held.staged)))
    }
}

/// The manifest of a held run, if there is one. It must follow the current manifest, whose digest is given.
pub(super) fn read_held(disk: &dyn Disk, dir: &Path, digest: &str) -> Result<Option<Held>> {
    let path = dir.join(HELD_MANIFEST);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let bytes = disk.read(&path).at(Kind::State, "read", &path)?;
    let manifest = StateManifest::decode(&path, &bytes)?;
    match manifest.parent_digest.as_deref() == Some(digest) && manifest.publication.is_some() {
        true => Ok(Some(Held { manifest, digest: digest_of(&bytes) })),
        false => Err(damaged(&path, "it does not follow the manifest beside it")),
    }
}
