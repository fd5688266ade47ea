//! Rows of an input as text, and what must be true of any input's rows.

use std::path::Path;

use retrigger::error::{Kind, Result};
use retrigger::input::{InputFormat, InputOptions, Inputs, Mapping};
use retrigger::pipeline::{Need, Row, TriggerSource};
use retrigger::triggers::TimeReader;

/// How the file is read; a split size is still to be chosen.
pub fn options(spool: &Path) -> InputOptions {
    InputOptions {
        format: Some(InputFormat::Ndjson),
        mapping: Mapping::default(),
        body: None,
        times: TimeReader::default(),
        carry: Vec::new(),
        trigger_id_from: Vec::new(),
        split_bytes: 1 << 20,
        split_rows: 1 << 16,
        spool: spool.join("spool"),
        ..InputOptions::default()
    }
}

/// Reads the file whole and in splits of two sizes: the same rows. The pass for keys sees of each row what the pass for
/// everything sees, since what one decides the other renders.
pub fn check_same(file: &Path, options: &InputOptions) {
    let bytes = std::fs::metadata(file).unwrap().len();
    let whole = read(file, options, Need::Everything, everything);
    for split_bytes in [1 + bytes % 7, 1 + bytes / 3] {
        let split = InputOptions { split_bytes, ..options.clone() };
        assert_eq!(whole, read(file, &split, Need::Everything, everything), "splits of {split_bytes} bytes");
    }
    assert_eq!(read(file, options, Need::Keys, key), read(file, options, Need::Everything, key), "by pass");
}

/// All rows, the number of lines and that of unknown fields; nothing where the file is refused as a whole.
type Read<T> = Option<(Vec<T>, u64, u64)>;

fn read<T>(file: &Path, options: &InputOptions, need: Need, seen: fn(&Row<'_>) -> T) -> Read<T> {
    let opened = Inputs::open(&[file.display().to_string()], options.clone());
    let inputs = opened.inspect_err(|error| assert_eq!(error.kind, Kind::Input, "{error}")).ok()?;
    let (mut rows, mut lines, mut unknown) = (Vec::new(), 0, 0);
    for split in 0..inputs.splits() {
        let mut visit = |row: Row<'_>| -> Result<()> {
            rows.push(seen(&row));
            Ok(())
        };
        let counted = inputs.read(split, need, &mut visit).unwrap_or_else(|error| panic!("{error}"));
        lines += counted.lines;
        unknown += counted.unknown_fields;
    }
    Some((rows, lines, unknown))
}

/// All of a row but its line, which counts from the beginning of the split.
fn everything(row: &Row<'_>) -> (Option<u64>, Option<u32>, Option<Vec<u8>>, String) {
    (row.offset, row.recipient_index, row.raw.map(<[u8]>::to_vec), format!("{:?}", row.parsed))
}

/// What decides a row.
fn key(row: &Row<'_>) -> String {
    let parsed = row
        .parsed
        .as_ref()
        .map(|t| (&t.campaign_id, &t.recipient, t.triggered_at, &t.trigger_id, t.duplicate_recipient));
    format!("{:?} {:?} {parsed:?}", row.offset, row.recipient_index)
}
