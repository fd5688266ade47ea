//! The file seam: every write, sync, rename and removal of a run or a state goes through [`Disk`].
//!
//! One implementation writes real files; tests put a simulated disk behind the same calls. Reading input files is not
//! part of it: only what a crash could tear is. Files are created 0600 and folders 0700.

mod real;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use real::RealDisk;

/// A file being written. Dropping it without [`DiskFile::sync`] leaves its content to chance.
pub trait DiskFile: Write + Send {
    /// Makes the content durable. A failed sync must end the process's attempt: do not retry it.
    fn sync(&mut self) -> io::Result<()>;
}

/// A held lock; dropping it releases the lock. The file stays.
pub trait DiskLock: Send {}

impl DiskLock for fs::File {}

/// What a run and a state do to a disk.
pub trait Disk: Send + Sync {
    /// Creates a new, empty file for writing; an existing one is replaced.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Creates a folder and those above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or a folder within one device, replacing a file in the way.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names inside a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names inside a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Whether a file or folder is there.
    fn exists(&self, path: &Path) -> bool;
    /// Takes the lock of a permanent file, created if absent; `None` when another process holds it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;
}

/// Replaces a small file in one step: write beside it, sync, rename, sync the folder.
pub fn replace_atomically(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".next");
    let beside = PathBuf::from(beside);
    let mut file = disk.create(&beside)?;
    file.write_all(content)?;
    file.sync()?;
    drop(file);
    disk.rename(&beside, path)?;
    match path.parent() {
        Some(folder) => disk.sync_dir(folder),
        None => Ok(()),
    }
}
