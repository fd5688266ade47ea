//! The file that holds what the memory ceiling has no room for. It has no name, so that no crash can leave it behind.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::pipeline::Spill;
use crate::storage::Disk;

/// A file in a folder, made when the first bytes come.
pub struct SpillFile {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The file, and where it ends.
    file: Mutex<Option<(Arc<File>, u64)>>,
}

impl SpillFile {
    /// No file yet. The folder must be there, on a disk and not in memory.
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> SpillFile {
        SpillFile { disk, folder, file: Mutex::new(None) }
    }

    /// The file and a place of this many bytes at its end.
    fn reserve(&self, bytes: u64) -> Result<(Arc<File>, u64)> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, end) = match file.take() {
            Some(open) => open,
            None => (Arc::new(self.disk.create_nameless(&self.folder).map_err(|e| self.failed("create", e))?), 0),
        };
        *file = Some((Arc::clone(&open), end + bytes));
        Ok((open, end))
    }

    fn failed(&self, what: &str, error: std::io::Error) -> Error {
        let error = Error::io(Kind::Output, &format!("{what} a file to spill into, in"), &self.folder, error);
        error.hint("make room there, or allow more memory with `--memory`; nothing was committed")
    }
}

impl Spill for SpillFile {
    fn append(&self, bytes: &[u8]) -> Result<u64> {
        let (file, at) = self.reserve(bytes.len() as u64)?;
        file.write_all_at(bytes, at).map_err(|e| self.failed("write", e))?;
        Ok(at)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let (file, _) = self.reserve(0)?;
        file.read_exact_at(into, at).map_err(|e| self.failed("read", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::RealDisk;

    #[test]
    fn what_was_appended_is_read_back_and_no_name_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let spill = SpillFile::new(Arc::new(RealDisk), folder.path().to_owned());
        let places: Vec<u64> = ["one", "", "three"].iter().map(|text| spill.append(text.as_bytes()).unwrap()).collect();
        assert_eq!(places, [0, 3, 3]);
        let mut read = [0; 5];
        spill.read(places[2], &mut read).unwrap();
        assert_eq!(&read, b"three");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(spill.read(4, &mut read).is_err(), "beyond the end");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
        let spill = SpillFile::new(Arc::new(RealDisk), PathBuf::from("/nonexistent/folder"));
        let error = spill.append(b"x").unwrap_err();
        assert!(error.summary.contains("/nonexistent/folder") && error.hint.is_some());
    }
}
