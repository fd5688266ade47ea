//! The real disk, but for the steps that a test lets fail.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskFile, DiskLock, DiskMetadata, DiskRead, RealDisk};

/// What can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Creating a file.
    Create,
    /// Writing to a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Renaming; its path is the new name.
    Rename,
    /// Syncing a folder.
    SyncFolder,
    /// Removing a file or folder.
    Remove,
}

type Fails = Arc<dyn Fn(Step, &Path) -> bool + Send + Sync>;

/// See the module. A step that fails has no effect.
pub struct FailingDisk(Fails);

impl FailingDisk {
    /// A disk on which the steps fail that `fails` picks.
    pub fn new(fails: impl Fn(Step, &Path) -> bool + Send + Sync + 'static) -> FailingDisk {
        FailingDisk(Arc::new(fails))
    }
}

fn step(fails: &Fails, step: Step, path: &Path) -> io::Result<()> {
    if fails(step, path) { Err(io::Error::other(format!("{step:?} was made to fail"))) } else { Ok(()) }
}

struct FailingFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    fails: Fails,
}

impl Write for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        step(&self.fails, Step::Write, &self.path)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for FailingFile {
    fn sync(&mut self) -> io::Result<()> {
        step(&self.fails, Step::Sync, &self.path)?;
        self.file.sync()
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        step(&self.0, Step::Create, path)?;
        let file = RealDisk.create(path)?;
        Ok(Box::new(FailingFile { file, path: path.to_owned(), fails: self.0.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(&self.0, Step::Rename, to)?;
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        step(&self.0, Step::SyncFolder, path)?;
        RealDisk.sync_dir(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        step(&self.0, Step::Remove, path)?;
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        step(&self.0, Step::Remove, path)?;
        RealDisk.remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>> {
        RealDisk.open(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<DiskMetadata> {
        RealDisk.metadata(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        RealDisk.canonicalize(path)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        RealDisk.try_lock(path)
    }
}
