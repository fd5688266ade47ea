//! The file seam: what a run writes, and all that a state writes and reads, goes through [`Disk`].
//!
//! One implementation has real files; tests put a simulated disk behind the same calls. Reading input files is not
//! part of it: only what a crash could tear is. Files are created 0600 and folders 0700.

mod real;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
pub(crate) mod testing;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use real::RealDisk;

/// A file being written. Dropping it without [`DiskFile::sync`] leaves its content to chance.
pub trait DiskFile: Write + Send {
    /// Makes the content durable. A failed sync must end the process's attempt: do not retry it.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file being read, by any number of threads at once.
pub trait DiskRead: Send + Sync {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads from this offset; how many bytes, 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills the buffer from this offset; an error of kind `UnexpectedEof` where the file ends before.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => (buffer, offset) = (&mut buffer[read..], offset + read as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What there is under a name; links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskMetadata {
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Length of a file in bytes.
    pub bytes: u64,
    /// The device it is on: a rename stays within one.
    pub device: u64,
}

/// A held lock; dropping it releases the lock. The file stays.
pub trait DiskLock: Send {}

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
    /// Opens a file for reading in places.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>>;
    /// What is under this name.
    fn metadata(&self, path: &Path) -> io::Result<DiskMetadata>;
    /// The absolute path without links of what is under this name.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;
    /// Whether a file or folder is there.
    fn exists(&self, path: &Path) -> bool;
    /// A file without a name, gone when it is closed or the process ends: for what need not outlive a run. It stands on the
    /// device of this folder.
    fn create_nameless(&self, folder: &Path) -> io::Result<fs::File> {
        tempfile::tempfile_in(folder)
    }
    /// Takes the lock of a permanent file, created if absent; `None` when another process holds it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;
}

/// Creates a folder and those above it, the name of each durable before the next is made. The lowest one that is there
/// already is made durable too: whoever made it may have been killed before he did that.
pub fn create_dir_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let named = path.ancestors().filter(|folder| folder.file_name().is_some());
    let mut folders: Vec<&Path> = Vec::new();
    for folder in named {
        folders.push(folder);
        if disk.exists(folder) {
            break;
        }
    }
    for folder in folders.into_iter().rev() {
        let is_new = !disk.exists(folder);
        disk.create_dir_all(folder)?;
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match disk.sync_dir(above) {
            // A folder of somebody else's, in which nothing was made.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_new => {}
            done => done?,
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::simulated::{Image, SimDisk};
    use super::testing::{FailingDisk, Step};
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_and_folders_are_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a").join("b");
        RealDisk.create_dir_all(&inner).unwrap();
        assert_eq!((mode(&folder.path().join("a")), mode(&inner)), (0o700, 0o700));
        RealDisk.create(&inner.join("file")).unwrap().write_all(b"x").unwrap();
        let _lock = RealDisk.try_lock(&inner.join("lock")).unwrap().unwrap();
        replace_atomically(&RealDisk, &inner.join("small"), b"y").unwrap();
        for name in ["file", "lock", "small"] {
            assert_eq!(mode(&inner.join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn a_small_file_is_replaced_whole_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        for content in ["long and old", "new"] {
            replace_atomically(&RealDisk, &path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(RealDisk.list(folder.path()).unwrap(), [path.clone()]);
        }
    }

    #[test]
    fn a_folder_is_durable_before_anything_is_made_in_it() {
        let home = Path::new("/home");
        let disk = SimDisk::new(Image::with_folder(home));
        let path = home.join("a/b");
        create_dir_durably(&disk, &path).unwrap();
        let steps = |disk: &SimDisk| -> Vec<String> {
            disk.take_operations().iter().map(|o| format!("{:?} {}", o.step, o.path.display())).collect()
        };
        let made = ["SyncFolder /", "Create /home/a", "SyncFolder /home", "Create /home/a/b", "SyncFolder /home/a"];
        assert_eq!(steps(&disk), made);
        create_dir_durably(&disk, &path).unwrap();
        assert_eq!(steps(&disk), ["SyncFolder /home/a"], "one that is there is made durable too");
        // The names of a path that starts where the process is.
        let folder = tempfile::tempdir().unwrap();
        create_dir_durably(&RealDisk, &folder.path().join("c/d")).unwrap();
        create_dir_durably(&RealDisk, Path::new("src")).unwrap();
        assert!(folder.path().join("c/d").is_dir());
    }

    #[test]
    fn the_old_content_stays_whatever_fails_before_the_rename() {
        for step in [Step::Create, Step::Write, Step::Sync, Step::Rename] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("manifest.json");
            fs::write(&path, "old").unwrap();
            let disk = FailingDisk::new(move |failing, _| failing == step);
            assert!(replace_atomically(&disk, &path, b"new").is_err(), "{step:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "old", "{step:?}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_synced_is_an_error_though_the_name_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.json");
        let disk = FailingDisk::new(|failing, _| failing == Step::SyncFolder);
        assert!(replace_atomically(&disk, &path, b"new").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_file_is_read_in_places_and_never_past_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        let (file, mut piece) = (RealDisk.open(&path).unwrap(), [0; 4]);
        file.read_exact_at(&mut piece, 6).unwrap();
        assert_eq!((&piece, file.size().unwrap()), (b"6789", 10));
        assert_eq!(file.read_exact_at(&mut piece, 7).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (of_file, of_folder) = (RealDisk.metadata(&path).unwrap(), RealDisk.metadata(folder.path()).unwrap());
        assert_eq!((of_file.is_dir, of_file.bytes, of_folder.is_dir), (false, 10, true));
        assert_eq!(of_file.device, of_folder.device);
    }

    #[test]
    fn a_lock_is_held_by_one_and_its_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = RealDisk.try_lock(&path).unwrap();
        assert!(held.is_some() && RealDisk.try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(path.exists() && RealDisk.try_lock(&path).unwrap().is_some());
    }
}
