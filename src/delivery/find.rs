//! Finds the rows of one recipient in a table of a run: that column first, the others of the rows that match alone.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};

use crate::error::{Error, IoContext, Kind, Result};
use crate::fence::fenced;

/// Rows decoded at once.
const DECODE_ROWS: usize = 16_384;

/// The rows of a Parquet table whose `recipient` is meant, in order, with all their columns. Row groups are read on `threads`
/// threads.
///
/// # Errors
/// Kind `Output`: the file cannot be read or decoded.
pub fn find_rows(path: &Path, threads: usize, is_meant: &(dyn Fn(&str) -> bool + Sync)) -> Result<Vec<RecordBatch>> {
    let file = File::open(path).at(Kind::Output, "open", path)?;
    let broken = |what: String| Error::new(Kind::Output, format!("cannot read `{}`: {what}", path.display()));
    let load = || ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| e.to_string());
    let metadata = fenced(load).unwrap_or_else(Err).map_err(broken)?;
    let groups = metadata.metadata().num_row_groups();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let work = || -> Result<(), String> {
        loop {
            let group = next.fetch_add(1, Ordering::Relaxed);
            if group >= groups {
                return Ok(());
            }
            let rows = fenced(|| find_in_group(path, &metadata, group, is_meant)).unwrap_or_else(Err)?;
            found.lock().map_err(|e| e.to_string())?.extend(rows.into_iter().map(|rows| (group, rows)));
        }
    };
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.clamp(1, groups.max(1))).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err("a thread ended".to_owned()))).collect()
    });
    results.into_iter().collect::<Result<(), String>>().map_err(broken)?;
    let mut found = found.into_inner().map_err(|e| broken(e.to_string()))?;
    found.sort_by_key(|(group, _)| *group);
    Ok(found.into_iter().map(|(_, rows)| rows).collect())
}

fn find_in_group(
    path: &Path,
    metadata: &ArrowReaderMetadata,
    group: usize,
    is_meant: &dyn Fn(&str) -> bool,
) -> Result<Vec<RecordBatch>, String> {
    let reader = |selected: Option<RowSelection>| -> Result<_, String> {
        // Opened for each: a cloned file would share its position with the other threads.
        let file = File::open(path).map_err(|e| e.to_string())?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
        let builder = builder.with_row_groups(vec![group]).with_batch_size(DECODE_ROWS);
        let builder = match selected {
            Some(rows) => builder.with_row_selection(rows),
            None => {
                let mask = ProjectionMask::columns(builder.parquet_schema(), ["recipient"]);
                builder.with_projection(mask)
            }
        };
        builder.build().map_err(|e| e.to_string())
    };
    let mut rows: Vec<usize> = Vec::new();
    let mut first = 0;
    for batch in reader(None)? {
        let batch = batch.map_err(|e| e.to_string())?;
        let recipients = batch.column(0).as_string_opt::<i32>().ok_or("`recipient` is no text")?;
        rows.extend(
            (0..recipients.len())
                .filter(|row| recipients.is_valid(*row) && is_meant(recipients.value(*row)))
                .map(|row| first + row),
        );
        first += batch.num_rows();
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    reader(Some(selection(&rows)))?.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())
}

/// These rows, ascending, and no others.
fn selection(rows: &[usize]) -> RowSelection {
    let mut selectors = Vec::with_capacity(rows.len() * 2);
    let mut next = 0;
    for row in rows {
        selectors.extend([RowSelector::skip(row - next), RowSelector::select(1)]);
        next = row + 1;
    }
    RowSelection::from(selectors)
}
