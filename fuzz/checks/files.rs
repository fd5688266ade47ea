//! Folders of small files, kept in memory: every check begins with the same bytes on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// Files by their path inside a folder.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Every file below a folder.
pub fn read(root: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// The files in a folder of their own.
pub fn folder<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

/// Damages files as the input says, piece by piece.
pub fn damage(files: &mut Files, mut input: &[u8]) {
    while let Some(rest) = damage_once(files, input) {
        input = rest;
    }
}

/// One piece of damage; returns what is left of the input. A piece is a byte for the file, two for the place and one for
/// what is done there: 0 cuts the file off, anything else is the number of bytes that follow and stand there from now on.
fn damage_once<'i>(files: &mut Files, input: &'i [u8]) -> Option<&'i [u8]> {
    let (&[file, low, high, length], rest) = input.split_first_chunk()?;
    let index = usize::from(file) % files.len();
    let bytes = files.values_mut().nth(index)?;
    let at = usize::from(u16::from_le_bytes([low, high])) % (bytes.len() + 1);
    let (new, rest) = rest.split_at(usize::from(length).min(rest.len()));
    if length == 0 {
        bytes.truncate(at);
    } else {
        let end = bytes.len().min(at + new.len());
        bytes.splice(at..end, new.iter().copied());
    }
    Some(rest)
}
