//! Compares rows with those of a published run instead of writing them: the sink of `verify --input`.
//!
//! Rows come in source order and are compared with the run's files from front to back, column by column and by name, so that
//! nothing is held but what was decoded last. Where rows do not match, they are paired again by what names them (a decision by its
//! source, a message by its `dispatch_id`). Not compared: `batch_id`, which says where a row stands and is covered by its file's
//! checksum, and the `detail` of a dropped message, which names the template's file as it was called then. No text of a recipient or a message is ever shown.

use std::io::BufRead;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ListArray, RecordBatch};
use arrow_cast::display::array_value_to_string;
use arrow_schema::SchemaRef;

use super::recorded::{RecordedRows, open_lines};
use super::written::{FileKind, WrittenFile};
use crate::error::{Fault, IoContext, Kind, Result};
use crate::pipeline::{DeliverySink, LinesFile, Table};

/// Differences that are shown.
const SHOWN: usize = 20;

/// Columns whose values may be shown.
const SHOWABLE: [&str; 7] = ["outcome", "reason", "variant", "blocked_by", "eligible_at", "channel", "dispatch_ids"];

/// In what a run is not what it was compared with.
#[derive(Debug, Default)]
pub struct Differences {
    /// The first of them, each with the source of its row.
    pub first: Vec<Fault>,
    /// How many rows and lines differ.
    pub count: u64,
}

impl Differences {
    fn add(&mut self, place: &str, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(Fault::new(place, what()));
        }
    }
}

/// The sink: see the module.
pub struct Comparison(
    /// Never contended: decoders cannot be shared between threads, and a sink is.
    Mutex<Checks>,
);

struct Checks {
    /// Channels in their order, then decisions, then dropped messages.
    tables: Vec<TableCheck>,
    rejected: LinesCheck,
    remainder: LinesCheck,
    differences: Differences,
}

impl Comparison {
    /// Compares with the files of the run folder `dir`.
    ///
    /// # Errors
    /// Kind `Output`: a file cannot be opened.
    pub fn new(
        dir: &Path,
        files: &[WrittenFile],
        channels: &[(String, SchemaRef)],
        decisions: &SchemaRef,
        dropped: &SchemaRef,
    ) -> Result<Comparison> {
        let table = |name: String, key: &'static [&'static str], schema: &SchemaRef, kind: &FileKind| {
            let files = files.iter().filter(|file| file.kind == *kind);
            TableCheck { name, key, recorded: RecordedRows::new(dir, files, schema.clone()), waiting: None }
        };
        let of_channel = |(name, schema): &(String, SchemaRef)| {
            let kind = FileKind::Deliveries { channel: name.clone() };
            table(format!("the message for `{name}`"), &["dispatch_id"], schema, &kind)
        };
        let mut tables: Vec<TableCheck> = channels.iter().map(of_channel).collect();
        tables.push(table("the decision".to_owned(), &["source"], decisions, &FileKind::Decisions));
        tables.push(table("the dropped message".to_owned(), &["source", "channel"], dropped, &FileKind::Dropped));
        let lines = |kind: FileKind| LinesCheck::open(dir, files.iter().find(|file| file.kind == kind));
        let (rejected, remainder) = (lines(FileKind::Rejected)?, lines(FileKind::Remainder)?);
        Ok(Comparison(Mutex::new(Checks { tables, rejected, remainder, differences: Differences::default() })))
    }

    /// What differs, once every row has come.
    pub fn finish(mut self) -> Result<Differences> {
        let Checks { tables, rejected, remainder, differences } = self.checks();
        for table in tables {
            table.finish(differences)?;
        }
        rejected.finish(differences)?;
        remainder.finish(differences)?;
        Ok(std::mem::take(differences))
    }

    fn checks(&mut self) -> &mut Checks {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeliverySink for Comparison {
    type Piece = (Table, RecordBatch);
    type Encoded = (Table, RecordBatch);

    fn cut(&mut self, table: Table, rows: RecordBatch) -> Result<Vec<Self::Piece>> {
        Ok(vec![(table, rows)])
    }

    fn cut_rest(&mut self) -> Result<Vec<Self::Piece>> {
        Ok(Vec::new())
    }

    fn encode(&self, piece: Self::Piece) -> Result<Self::Encoded> {
        Ok(piece)
    }

    fn append(&mut self, (table, rows): Self::Encoded) -> Result<()> {
        let Checks { tables, differences, .. } = self.checks();
        let channels = tables.len() - 2;
        let slot = match table {
            Table::Messages(channel) => channel,
            Table::Decisions => channels,
            Table::Dropped => channels + 1,
        };
        tables[slot].compare(&rows, differences)
    }

    fn append_lines(&mut self, file: LinesFile, lines: &[u8]) -> Result<()> {
        let Checks { rejected, remainder, differences, .. } = self.checks();
        match file {
            LinesFile::Rejected => rejected.compare(lines, differences),
            LinesFile::Remainder => remainder.compare(lines, differences),
        }
    }
}

/// One table of the run while it is compared.
struct TableCheck {
    /// What a row of it is, for people.
    name: String,
    /// The columns that name a row.
    key: &'static [&'static str],
    recorded: RecordedRows,
    /// Rows of the run that are not compared yet; never none of them.
    waiting: Option<RecordBatch>,
}

impl TableCheck {
    /// Compares the next rows.
    fn compare(&mut self, derived: &RecordBatch, differences: &mut Differences) -> Result<()> {
        let mut at = 0;
        while at < derived.num_rows() {
            if self.waiting.is_none() {
                self.waiting = self.recorded.next_rows()?;
            }
            let Some(recorded) = self.waiting.take() else {
                (at..derived.num_rows()).for_each(|row| self.missing(derived, row, differences));
                return Ok(());
            };
            let rows = recorded.num_rows().min(derived.num_rows() - at);
            let (ours, theirs) = (derived.slice(at, rows), recorded.slice(0, rows));
            let (taken, used) = match different_column(&ours, &theirs) {
                None => (rows, rows),
                Some(_) => self.compare_rows(&derived.slice(at, derived.num_rows() - at), &recorded, differences),
            };
            at += taken;
            let left = recorded.num_rows() - used;
            self.waiting = (left > 0).then(|| recorded.slice(used, left));
        }
        Ok(())
    }

    /// Compares row by row until either side ends; returns how many of each were used.
    fn compare_rows(&self, derived: &RecordBatch, recorded: &RecordBatch, into: &mut Differences) -> (usize, usize) {
        let (mut ours, mut theirs) = (0, 0);
        while ours < derived.num_rows() && theirs < recorded.num_rows() {
            let names_same = |row: usize| {
                let (a, b) = (derived.slice(ours, 1), recorded.slice(row, 1));
                self.key.iter().all(|name| same_column(&a, &b, name))
            };
            match (theirs..recorded.num_rows()).find(|row| names_same(*row)) {
                Some(row) => {
                    (theirs..row).for_each(|row| self.unfounded(recorded, row, into));
                    self.compare_row(&derived.slice(ours, 1), &recorded.slice(row, 1), into);
                    (ours, theirs) = (ours + 1, row + 1);
                }
                None => {
                    self.missing(derived, ours, into);
                    ours += 1;
                }
            }
        }
        (ours, theirs)
    }

    fn compare_row(&self, derived: &RecordBatch, recorded: &RecordBatch, differences: &mut Differences) {
        let Some(column) = different_column(derived, recorded) else { return };
        differences.add(&source(derived, 0), || match SHOWABLE.contains(&column.as_str()) {
            true => {
                let (is, should) = (shown(recorded, &column), shown(derived, &column));
                format!("{} has the `{column}` {is}; the input gives {should}", self.name)
            }
            false => format!("{} has another `{column}` than the input gives", self.name),
        });
    }

    fn missing(&self, derived: &RecordBatch, row: usize, differences: &mut Differences) {
        differences.add(&source(derived, row), || format!("{} that the input gives is not there", self.name));
    }

    fn unfounded(&self, recorded: &RecordBatch, row: usize, differences: &mut Differences) {
        differences.add(&source(recorded, row), || format!("{} is there, and the input does not give it", self.name));
    }

    fn finish(&mut self, differences: &mut Differences) -> Result<()> {
        while let Some(rows) = self.waiting.take().map_or_else(|| self.recorded.next_rows(), |rows| Ok(Some(rows)))? {
            (0..rows.num_rows()).for_each(|row| self.unfounded(&rows, row, differences));
        }
        Ok(())
    }
}

/// `file:line` of a row.
fn source(rows: &RecordBatch, row: usize) -> String {
    let column = rows.column_by_name("source").and_then(|column| column.as_string_opt::<i32>());
    column.filter(|column| column.is_valid(row)).map_or_else(|| "a row".to_owned(), |c| c.value(row).to_owned())
}

/// The cell of a column in the first row.
fn shown(rows: &RecordBatch, column: &str) -> String {
    let cell = rows.column_by_name(column).filter(|cells| cells.is_valid(0));
    cell.and_then(|cells| array_value_to_string(cells, 0).ok()).map_or("none".to_owned(), |text| format!("`{text}`"))
}

/// The first column of `derived` that `recorded` does not have alike.
fn different_column(derived: &RecordBatch, recorded: &RecordBatch) -> Option<String> {
    let schema = derived.schema();
    let mut names = schema.fields().iter().map(|field| field.name()).filter(|name| *name != "detail");
    names.find(|name| !same_column(derived, recorded, name)).cloned()
}

fn same_column(a: &RecordBatch, b: &RecordBatch, name: &str) -> bool {
    match (a.column_by_name(name), b.column_by_name(name)) {
        (Some(a), Some(b)) => same_cells(a, b),
        _ => false,
    }
}

/// Lists are compared without the names that readers give to their items.
fn same_cells(a: &ArrayRef, b: &ArrayRef) -> bool {
    let (Some(a), Some(b)) = (a.as_list_opt::<i32>(), b.as_list_opt::<i32>()) else { return a == b };
    let lengths = |list: &ListArray| list.offsets().lengths().collect::<Vec<_>>();
    let items = |list: &ListArray| {
        let (first, end) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
        list.values().slice(first, end - first)
    };
    lengths(a) == lengths(b) && items(a) == items(b)
}

/// A file of lines while it is compared.
struct LinesCheck {
    name: String,
    recorded: Option<Box<dyn BufRead + Send>>,
    line: u64,
    buffer: Vec<u8>,
}

impl LinesCheck {
    fn open(dir: &Path, file: Option<&WrittenFile>) -> Result<LinesCheck> {
        let recorded = file.map(|file| open_lines(&dir.join(&file.path))).transpose()?;
        Ok(LinesCheck { name: file.map(|f| f.path.clone()).unwrap_or_default(), recorded, line: 0, buffer: Vec::new() })
    }

    /// Reads the next line; none at the end.
    fn next(&mut self) -> Result<Option<&[u8]>> {
        self.line += 1;
        self.buffer.clear();
        let Some(recorded) = &mut self.recorded else { return Ok(None) };
        let read = recorded.read_until(b'\n', &mut self.buffer).at(Kind::Output, "read", Path::new(&self.name))?;
        Ok((read > 0).then_some(self.buffer.as_slice()))
    }

    fn compare(&mut self, lines: &[u8], differences: &mut Differences) -> Result<()> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.next()? != Some(line) {
                self.differs("is not the line that the input gives", differences);
            }
        }
        Ok(())
    }

    fn finish(&mut self, differences: &mut Differences) -> Result<()> {
        while self.next()?.is_some() {
            self.differs("is a line that the input does not give", differences);
        }
        Ok(())
    }

    fn differs(&self, what: &str, differences: &mut Differences) {
        differences.add(&format!("{}:{}", self.name, self.line), || what.to_owned());
    }
}
