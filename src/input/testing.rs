//! What the tests of this folder share: rows as plain values that can be compared, read in both passes.

use crate::error::Result;
use crate::input::line::{self, Rules};
use crate::input::{InputOptions, Inputs};
use crate::pipeline::{Need, Row, SplitLines, TriggerSource};
use crate::triggers::{Properties, Reason, Rejection, Trigger};

/// A trigger as plain values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub campaign: String,
    pub recipient: String,
    pub at: Option<i64>,
    pub id: Option<String>,
    pub send_id: Option<String>,
    pub properties: String,
    pub attributes: String,
    pub carried: Vec<Option<String>>,
    pub duplicate: bool,
}

/// A row as plain values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenRow {
    pub line: u64,
    pub index: Option<u32>,
    pub offset: Option<u64>,
    pub raw: Vec<u8>,
    pub parsed: Result<Seen, Rejection>,
}

impl SeenRow {
    pub(super) fn of(row: Row<'_>) -> SeenRow {
        SeenRow {
            line: row.line,
            index: row.recipient_index,
            offset: row.offset,
            raw: row.raw.unwrap_or_default().to_vec(),
            parsed: row.parsed.map(|trigger| seen(&trigger)),
        }
    }
}

pub(super) fn seen(trigger: &Trigger<'_>) -> Seen {
    let recipient = &trigger.recipient;
    let label = if recipient.label.is_empty() { String::new() } else { format!("{}:", recipient.label) };
    let text = |properties: &Properties<'_>| match properties {
        Properties::Empty => String::new(),
        some => some.text(),
    };
    Seen {
        campaign: trigger.campaign_id.to_string(),
        recipient: format!("{} {label}{}", recipient.kind.code(), recipient.id),
        at: trigger.triggered_at,
        id: trigger.trigger_id.as_deref().map(str::to_owned),
        send_id: trigger.send_id.as_deref().map(str::to_owned),
        properties: text(&trigger.properties),
        attributes: text(&trigger.attributes),
        carried: trigger.carried.iter().map(|c| c.as_deref().map(str::to_owned)).collect(),
        duplicate: trigger.duplicate_recipient,
    }
}

pub(super) fn options() -> InputOptions {
    InputOptions { split_rows: 1000, spool: std::env::temp_dir().join("never-used"), ..InputOptions::default() }
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What one line gives.
pub(super) fn read(line: impl AsRef<[u8]>, options: &InputOptions) -> Vec<Result<Seen, Rejection>> {
    read_counted(line, options).0
}

/// Also the number of unknown fields.
pub(super) fn read_counted(line: impl AsRef<[u8]>, options: &InputOptions) -> (Vec<Result<Seen, Rejection>>, u64) {
    let rules = Rules::new(options.clone());
    let mut rows = Vec::new();
    let unknown = line::read(&rules, line.as_ref(), &mut |_, parsed| {
        rows.push(parsed.map(|trigger| seen(&trigger)));
        Ok(())
    });
    (rows, unknown.unwrap())
}

/// The one trigger of a line.
pub(super) fn trigger(line: &str, options: &InputOptions) -> Seen {
    let rows = read(line, options);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone().unwrap_or_else(|rejection| panic!("{line}: {rejection:?}"))
}

/// Reason and field of every row of a line; `None` for triggers.
pub(super) fn faults(line: impl AsRef<[u8]>, options: &InputOptions) -> Vec<Option<(Reason, String)>> {
    read(line, options).into_iter().map(|row| row.err().map(|r| (r.reason, r.field))).collect()
}

/// All rows of an input, with line numbers counted through each file.
pub(super) fn all_rows(inputs: &Inputs) -> (Vec<(usize, SeenRow)>, SplitLines) {
    let mut rows = Vec::new();
    let mut total = SplitLines::default();
    let mut lines_before = vec![0; inputs.files().len()];
    for split in 0..inputs.splits() {
        let file = inputs.file_of(split);
        let before = lines_before[file];
        let counts = inputs.read(split, Need::Everything, &mut |row| {
            let mut row = SeenRow::of(row);
            row.line += before;
            rows.push((file, row));
            Ok(())
        });
        let counts = counts.unwrap();
        lines_before[file] += counts.lines;
        total.lines += counts.lines;
        total.unknown_fields += counts.unknown_fields;
    }
    (rows, total)
}
