//! The receipt log as one file: Parquet with the columns of the state's own files, or NDJSON with the same names.
//!
//! The rows are those of all files in the order of the state. The file appears whole or not at all: it is written beside
//! its place, synced and renamed.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;

use super::State;
use super::log::LogLine;
use super::merge::Merge;
use super::write::ReceiptWriter;
use crate::error::{Error, IoContext, Kind, Result};
use crate::storage::{Disk, DiskFile};

/// The form of an exported log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One Parquet file.
    Parquet,
    /// One JSON object a line.
    Ndjson,
}

impl State {
    /// Writes every receipt to a file outside the state's folder, replacing one that is there; returns how many. Errors:
    /// [`Kind::State`] for damaged receipts, [`Kind::Output`] where the file cannot be written.
    pub fn export(&self, out: &Path, format: LogFormat) -> Result<u64> {
        self.refuse_own_folder(out)?;
        let mut beside = out.as_os_str().to_owned();
        beside.push(".next");
        let beside = PathBuf::from(beside);
        let written = match format {
            LogFormat::Parquet => self.export_parquet(&beside),
            LogFormat::Ndjson => self.export_ndjson(&beside),
        };
        let rows = written.inspect_err(|_| {
            let _ = self.disk.remove_file(&beside);
        })?;
        self.disk.rename(&beside, out).at(Kind::Output, "write", out)?;
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.disk.sync_dir(folder).at(Kind::Output, "sync", folder)?;
        Ok(rows)
    }

    fn refuse_own_folder(&self, out: &Path) -> Result<()> {
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_dir = |path: &Path| self.disk.metadata(path).is_ok_and(|found| found.is_dir);
        if is_dir(out) || !is_dir(folder) {
            let what = if is_dir(out) { "is a folder" } else { "lies in a folder that does not exist" };
            let error = Error::new(Kind::Output, format!("cannot export to `{}`: it {what}", out.display()));
            return Err(error.hint("give `--out` the name of a file in a folder that is there"));
        }
        match (self.disk.canonicalize(folder), self.disk.canonicalize(&self.dir)) {
            (Ok(folder), Ok(own)) if folder == own => {
                let summary = format!("cannot export to `{}`: that is the state's own folder", out.display());
                Err(Error::new(Kind::Output, summary).hint("give `--out` a file elsewhere"))
            }
            _ => Ok(()),
        }
    }

    fn export_parquet(&self, path: &Path) -> Result<u64> {
        let total = self.manifest.files.iter().map(|file| file.rows).sum();
        let mut writer = ReceiptWriter::create(&*self.disk, path, total)?;
        self.each_batch(|batch| writer.write(batch))?;
        writer.finish_export()?;
        Ok(total)
    }

    fn export_ndjson(&self, path: &Path) -> Result<u64> {
        let file = create(&*self.disk, path)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut rows = 0;
        self.each_batch(|batch| {
            rows += batch.num_rows() as u64;
            lines(batch, &mut out).at(Kind::Output, "write", path)
        })?;
        out.flush().and_then(|()| out.get_mut().sync()).at(Kind::Output, "write", path)?;
        Ok(rows)
    }

    /// Visits all receipts in order, after each file's whole content was verified.
    pub(super) fn each_batch(&self, mut visit: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
        let sources = self.manifest.files.iter().map(|file| self.verified_source(file)).collect::<Result<Vec<_>>>()?;
        let mut merge = Merge::new(sources)?;
        while let Some(batch) = merge.next()? {
            visit(&batch)?;
        }
        Ok(())
    }
}

fn create(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DiskFile>> {
    disk.create(path).at(Kind::Output, "create", path)
}

fn lines(batch: &RecordBatch, out: &mut impl Write) -> std::io::Result<()> {
    for row in 0..batch.num_rows() {
        serde_json::to_writer(&mut *out, &LogLine::of(batch, row))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
