//! One run folder while it is written: the engine's sink for messages, decisions, dropped messages and lines, and the
//! owner's place for the summary and the campaigns as used.
//!
//! Files are created when their first rows come; those that always exist, at the latest when the folder is sealed. A
//! batch file is closed and synced as soon as it is full, so that the disk works while rows are rendered, and the number
//! of open files stays at one per channel and four. What fails leaves the folder to its owner, who removes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::files::OpenFile;
use super::options::{ChannelSpec, DeliveryOptions};
use super::pieces::Piece;
use super::tables::{Encoded, TableFiles};
use super::written::{FileKind, WrittenFile};
use crate::error::{Error, IoContext, Kind, Result};
use crate::pipeline::{DeliverySink, LinesFile, Table};
use crate::storage::{Disk, DiskFile};

/// A run folder that is being written: see the module.
pub struct RunFolder {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Channels in their order, then decisions, then dropped messages.
    tables: Vec<TableFiles>,
    lines: BTreeMap<LinesFile, OpenFile>,
    /// Every folder with a file in it, and those between it and the run folder.
    folders: BTreeSet<PathBuf>,
    /// Every path that was begun: none is begun twice.
    begun: BTreeSet<String>,
    written: Vec<WrittenFile>,
    sealed: bool,
}

impl RunFolder {
    /// Creates the folder `dir` and those above it. `decisions` and `dropped` are the schemas of those tables.
    ///
    /// Errors: `Usage` for options that do not go together, `Definition` for a channel whose name or columns cannot be
    /// written, `Output` where the folder cannot be created or is not empty, `Internal` for schemas of another shape.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: DeliveryOptions,
        channels: Vec<ChannelSpec>,
        decisions: SchemaRef,
        dropped: SchemaRef,
    ) -> Result<RunFolder> {
        options.check()?;
        let mut names = BTreeSet::new();
        let mut tables = Vec::with_capacity(channels.len() + 2);
        for (position, channel) in channels.into_iter().enumerate() {
            if !names.insert(channel.name.clone()) {
                return Err(Error::new(Kind::Internal, format!("the channel `{}` was planned twice", channel.name)));
            }
            tables.push(TableFiles::of_channel(position, channel, options)?);
        }
        tables.push(TableFiles::of_ledger(Table::Decisions, FileKind::Decisions, "decisions.parquet", decisions)?);
        tables.push(TableFiles::of_ledger(Table::Dropped, FileKind::Dropped, "dropped_messages.parquet", dropped)?);
        create_empty(disk.as_ref(), &dir)?;
        Ok(RunFolder {
            disk,
            folders: BTreeSet::from([dir.clone()]),
            dir,
            tables,
            lines: BTreeMap::new(),
            begun: BTreeSet::new(),
            written: Vec::new(),
            sealed: false,
        })
    }

    /// Writes a whole file at a path inside the folder (`summary.json`, `campaigns/welcome/campaign.json`) and syncs it.
    /// It is reported as [`FileKind::Other`]. Possible until the folder is closed.
    pub fn write_file(&mut self, relative: &Path, content: &[u8]) -> Result<()> {
        let path = inside(relative).ok_or_else(|| {
            Error::new(Kind::Internal, format!("`{}` is no path inside a run folder", relative.display()))
        })?;
        let (file, place) = self.create_file(&path)?;
        let mut file = OpenFile::bytes(file, place, path, FileKind::Other);
        file.append_bytes(content, 0)?;
        self.written.push(file.finish()?);
        Ok(())
    }

    /// Closes and syncs every file of rows, and reports what exists so far, in no particular order, so that a summary
    /// can count it. From here on rows are refused; [`RunFolder::write_file`] still works. Sealing twice is sealing once.
    pub fn seal(&mut self) -> Result<&[WrittenFile]> {
        if !self.sealed {
            self.sealed = true;
            for slot in 0..self.tables.len() {
                self.seal_table(slot)?;
            }
            for file in [LinesFile::Rejected, LinesFile::Remainder] {
                self.open_lines(file)?;
            }
            for file in std::mem::take(&mut self.lines).into_values() {
                self.written.push(file.finish()?);
            }
        }
        Ok(&self.written)
    }

    /// Seals, syncs every folder, deepest first, and reports every file, sorted by path. The name of the folder itself,
    /// the manifest and the commit are the owner's.
    pub fn close(mut self) -> Result<Vec<WrittenFile>> {
        self.seal()?;
        let mut folders: Vec<&PathBuf> = self.folders.iter().collect();
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
        for folder in folders {
            self.disk.sync_dir(folder).at(Kind::Output, "sync the folder", folder)?;
        }
        self.written.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.written)
    }

    /// Closes the last file of a table; a table that always exists gets its file now if no row came.
    fn seal_table(&mut self, slot: usize) -> Result<()> {
        let table = &self.tables[slot];
        let (pieces, waiting) = (table.cutter.pieces(), table.cutter.waiting());
        if waiting > 0 || table.appended != pieces {
            let what = format!(
                "`{}` was sealed with {waiting} rows not cut and {} of {pieces} pieces not appended",
                table.path(0),
                pieces - table.appended
            );
            return Err(Error::new(Kind::Internal, what));
        }
        if table.always_exists() && table.open.is_none() {
            self.open_table(slot, 0)?;
        }
        if let Some(file) = self.tables[slot].open.take() {
            self.written.push(file.finish()?);
        }
        Ok(())
    }

    /// Creates the file of a table.
    fn open_table(&mut self, slot: usize, batch: u64) -> Result<()> {
        let path = self.tables[slot].path(batch);
        let (file, place) = self.create_file(&path)?;
        self.tables[slot].open(file, place, path)
    }

    /// A text file, created if it is not yet.
    fn open_lines(&mut self, file: LinesFile) -> Result<&mut OpenFile> {
        let (path, kind) = match file {
            LinesFile::Rejected => ("rejected.ndjson", FileKind::Rejected),
            LinesFile::Remainder => ("remainder.ndjson", FileKind::Remainder),
        };
        if !self.lines.contains_key(&file) {
            let (created, place) = self.create_file(path)?;
            self.lines.insert(file, OpenFile::bytes(created, place, path.to_owned(), kind));
        }
        Ok(self.lines.get_mut(&file).expect("inserted above"))
    }

    /// Creates a file and the folders above it.
    fn create_file(&mut self, path: &str) -> Result<(Box<dyn DiskFile>, PathBuf)> {
        if !self.begun.insert(path.to_owned()) {
            return Err(Error::new(Kind::Internal, format!("`{path}` was written twice")));
        }
        let place = self.dir.join(path);
        for folder in place.ancestors().skip(1).take_while(|folder| **folder != self.dir) {
            if self.folders.insert(folder.to_owned()) {
                self.disk.create_dir_all(folder).at(Kind::Output, "create the folder", folder)?;
            }
        }
        let file = self.disk.create(&place).at(Kind::Output, "create", &place)?;
        Ok((file, place))
    }

    fn slot(&self, table: Table) -> Result<usize> {
        let channels = self.tables.len() - 2;
        match table {
            Table::Messages(channel) if channel < channels => Ok(channel),
            Table::Messages(channel) => {
                Err(Error::new(Kind::Internal, format!("messages of channel {channel} where {channels} were planned")))
            }
            Table::Decisions => Ok(channels),
            Table::Dropped => Ok(channels + 1),
        }
    }

    fn refuse_if_sealed(&self) -> Result<()> {
        match self.sealed {
            true => Err(Error::new(Kind::Internal, format!("rows for the sealed folder `{}`", self.dir.display()))),
            false => Ok(()),
        }
    }
}

impl DeliverySink for RunFolder {
    type Piece = Piece;
    type Encoded = Encoded;

    fn cut(&mut self, table: Table, rows: RecordBatch) -> Result<Vec<Piece>> {
        self.refuse_if_sealed()?;
        let slot = self.slot(table)?;
        self.tables[slot].check_rows(&rows)?;
        Ok(self.tables[slot].cutter.push(&rows))
    }

    fn cut_rest(&mut self) -> Result<Vec<Piece>> {
        self.refuse_if_sealed()?;
        Ok(self.tables.iter_mut().filter_map(|table| table.cutter.rest()).collect())
    }

    fn encode(&self, piece: Piece) -> Result<Encoded> {
        self.tables[self.slot(piece.table)?].encode(piece)
    }

    fn append(&mut self, encoded: Encoded) -> Result<()> {
        self.refuse_if_sealed()?;
        let slot = self.slot(encoded.table)?;
        let table = &self.tables[slot];
        if encoded.sequence != table.appended {
            let what = format!("piece {} of `{}` came as number {}", encoded.sequence, table.path(0), table.appended);
            return Err(Error::new(Kind::Internal, what));
        }
        if table.open.is_none() {
            self.open_table(slot, encoded.batch)?;
        }
        let table = &mut self.tables[slot];
        table.appended += 1;
        if let Some(file) = &mut table.open {
            file.append(encoded.payload, encoded.rows)?;
        }
        if let Some(full) = table.open.take_if(|file| file.rows() == table.batch_rows) {
            self.written.push(full.finish()?);
        }
        Ok(())
    }

    fn append_lines(&mut self, file: LinesFile, lines: &[u8]) -> Result<()> {
        self.refuse_if_sealed()?;
        let open = self.open_lines(file)?;
        if lines.last().is_some_and(|last| *last != b'\n') {
            return Err(Error::new(Kind::Internal, "lines without a line feed at the end"));
        }
        let rows = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        open.append_bytes(lines, rows)
    }
}

fn create_empty(disk: &dyn Disk, dir: &Path) -> Result<()> {
    if disk.exists(dir) && !disk.list(dir).at(Kind::Output, "list", dir)?.is_empty() {
        let error = Error::new(Kind::Output, format!("the folder `{}` is not empty", dir.display()));
        return Err(error.hint("a run writes into a folder of its own; remove what an earlier attempt left"));
    }
    disk.create_dir_all(dir).at(Kind::Output, "create the folder", dir)
}

/// A relative path of plain names as `/`-separated text.
fn inside(relative: &Path) -> Option<String> {
    let names = relative.components().map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    names.collect::<Option<Vec<_>>>().filter(|names| !names.is_empty()).map(|names| names.join("/"))
}
