//! Receipt logs outside a state: what `state export` writes and `state import` reads back.
//!
//! In NDJSON hashes are hex digits and instants RFC 3339, so that every reader takes them: a 64-bit hash is no number
//! that JSON readers agree on. A Parquet log that another tool has written anew (filtered, sorted) is read too, as long
//! as its columns can be cast to ours. Every row is checked: its hash must be that of its recipient.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::LogFormat;
use super::rows::{DecidingColumns, Receipt, SCHEMA};
use crate::error::{Error, IoContext, Kind, Result};
use crate::fence::fenced;
use crate::ids::{Digest, DispatchId, KeyHash};
use crate::pipeline::StoredOutcome;
use crate::triggers::{Micros, Recipient, RecipientKind, TimeReader, format_micros};

/// Columns that tell a log from a table of another kind.
const TELLING: [&str; 3] = ["key_hash", "recipient_kind", "recipient"];

/// A receipt as a line of JSON: the columns of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogLine {
    /// 32 hex digits.
    key_hash: String,
    campaign_id: String,
    recipient_kind: String,
    recipient: String,
    /// RFC 3339.
    received_at: String,
    outcome: String,
    variant: Option<String>,
    channels: Vec<String>,
    dispatch_ids: Vec<String>,
    /// 16 hex digits.
    trigger_hash: Option<String>,
    run_id: String,
}

impl LogLine {
    /// A row of a batch with the columns of the log.
    pub(super) fn of(batch: &RecordBatch, row: usize) -> LogLine {
        let columns = DecidingColumns::of(batch);
        let column = |name: &str| batch.column_by_name(name).expect("the columns of the log");
        let text = |name: &str| column(name).as_string::<i32>().value(row).to_owned();
        let texts = |name: &str| -> Vec<String> {
            let list = column(name).as_list::<i32>().value(row);
            list.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
        };
        LogLine {
            key_hash: format!("{:032x}", columns.sort.key(row).0),
            campaign_id: columns.sort.campaign(row).to_owned(),
            recipient_kind: text("recipient_kind"),
            recipient: text("recipient"),
            received_at: format_micros(columns.sort.at(row)),
            outcome: text("outcome"),
            variant: columns.variant(row).map(str::to_owned),
            channels: texts("channels"),
            dispatch_ids: texts("dispatch_ids"),
            trigger_hash: columns.trigger_hash(row).map(|hash| format!("{hash:016x}")),
            run_id: text("run_id"),
        }
    }

    /// The receipt, or what is wrong with it; never a recipient's value.
    fn check(self) -> Result<LoggedReceipt, String> {
        let kind = RecipientKind::from_code(&self.recipient_kind).ok_or("`recipient_kind` is none of ours")?;
        let key = Digest::parse(&self.key_hash).map(|digest| KeyHash(digest.0));
        let key = key.filter(|key| is_key_of(*key, kind, &self.recipient));
        let outcome = StoredOutcome::ALL.into_iter().find(|o| o.code() == self.outcome);
        let hash = self.trigger_hash.as_deref().map(|hex| u64::from_str_radix(hex, 16)).transpose();
        if self.channels.len() != self.dispatch_ids.len() {
            return Err("`channels` and `dispatch_ids` have different lengths".to_owned());
        }
        let ids = self.dispatch_ids.iter().map(|hex| Digest::parse(hex).map(|d| DispatchId(d.0)));
        let ids: Vec<_> = ids.collect::<Option<_>>().ok_or("a dispatch id is not 32 hex digits")?;
        Ok(LoggedReceipt {
            key: key.ok_or("`key_hash` is not the hash of the recipient")?,
            kind,
            received_at: TimeReader::default()
                .text(&self.received_at)
                .map_err(|e| format!("expected {}", e.expected))?,
            outcome: outcome.ok_or("`outcome` is not `sent`, `control` or `revoked`")?,
            channels: self.channels.into_iter().zip(ids).collect(),
            trigger_hash: hash.map_err(|_| "`trigger_hash` is not 16 hex digits")?,
            campaign_id: self.campaign_id,
            recipient: self.recipient,
            variant: self.variant,
            run_id: self.run_id,
        })
    }
}

/// The receipts of a run among some rows of the log; enrolments are none. Errors: [`Kind::State`] for a row that no run wrote.
pub(super) fn receipts_of(batch: &RecordBatch, run_id: &str) -> Result<Vec<LoggedReceipt>> {
    let column = |name: &str| batch.column_by_name(name).expect("the columns of the log").as_string::<i32>();
    let (runs, outcomes) = (column("run_id"), column("outcome"));
    let is_meant = |row: &usize| runs.value(*row) == run_id && outcomes.value(*row) == StoredOutcome::Sent.code();
    let rows = (0..batch.num_rows()).filter(is_meant);
    let receipt = |row| LogLine::of(batch, row).check();
    rows.map(receipt)
        .collect::<Result<_, String>>()
        .map_err(|wrong| Error::new(Kind::State, format!("a receipt of the run `{run_id}` is damaged: {wrong}")))
}

/// Whether a key is that of a recipient as the log spells it; of an alias, `label:name` may be cut at any colon.
fn is_key_of(key: KeyHash, kind: RecipientKind, recipient: &str) -> bool {
    match kind {
        RecipientKind::ExternalUserId => Recipient::external(recipient).key_hash() == key,
        RecipientKind::BrazeId => Recipient::braze(recipient).key_hash() == key,
        RecipientKind::Email => Recipient::email(recipient).key_hash() == key,
        RecipientKind::UserAlias => recipient.match_indices(':').any(|(at, _)| {
            let (label, name) = (&recipient[..at], &recipient[at + 1..]);
            Recipient::alias(name, label).key_hash() == key
        }),
    }
}

/// A receipt of a log.
#[derive(Debug)]
pub struct LoggedReceipt {
    key: KeyHash,
    campaign_id: String,
    kind: RecipientKind,
    recipient: String,
    received_at: Micros,
    outcome: StoredOutcome,
    variant: Option<String>,
    channels: Vec<(String, DispatchId)>,
    trigger_hash: Option<u64>,
    pub(super) run_id: String,
}

impl LoggedReceipt {
    /// The row that takes it back.
    pub(super) fn taken_back(self) -> LoggedReceipt {
        LoggedReceipt { outcome: StoredOutcome::Revoked, ..self }
    }

    /// Hands it on in the form in which receipts are recorded.
    pub(super) fn with<T>(&self, take: impl FnOnce(&Receipt<'_>) -> T) -> T {
        let channels: Vec<_> = self.channels.iter().map(|(name, id)| (name.as_str(), *id)).collect();
        take(&Receipt {
            key: self.key,
            campaign_id: &self.campaign_id,
            kind: self.kind,
            recipient: &self.recipient,
            received_at: self.received_at,
            outcome: self.outcome,
            variant: self.variant.as_deref(),
            channels: &channels,
            trigger_hash: self.trigger_hash,
        })
    }
}

/// A file with the columns of the log.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    format: LogFormat,
}

impl LogFile {
    /// The log in a file, or `None` where the file is something else or cannot be looked at.
    pub fn recognise(path: &Path) -> Option<LogFile> {
        let mut start = [0; 4];
        File::open(path).ok()?.read_exact(&mut start).ok()?;
        let (format, is_log) = match &start {
            b"PAR1" => (LogFormat::Parquet, fenced(|| parquet_is_log(path)).ok()?),
            _ => (LogFormat::Ndjson, first_line_is_log(path)),
        };
        is_log?.then(|| LogFile { path: path.to_owned(), format })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// XXH3-128 of its content. Errors: it cannot be read (kind [`Kind::Input`]).
    pub fn digest(&self) -> Result<Digest> {
        let mut file = File::open(&self.path).at(Kind::Input, "open", &self.path)?;
        let (mut hash, mut buffer) = (Xxh3::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer).at(Kind::Input, "read", &self.path)? {
                0 => return Ok(Digest(hash.digest128())),
                read => hash.update(&buffer[..read]),
            }
        }
    }

    /// Visits every row, counted from 1: the receipt, or what is wrong with the row. Errors: those of `visit`, and kind
    /// [`Kind::Input`] where the file cannot be read on.
    pub fn read(&self, visit: &mut dyn FnMut(u64, Result<LoggedReceipt, String>) -> Result<()>) -> Result<()> {
        match self.format {
            LogFormat::Parquet => self.read_parquet(visit),
            LogFormat::Ndjson => self.read_ndjson(visit),
        }
    }

    fn read_ndjson(&self, visit: &mut dyn FnMut(u64, Result<LoggedReceipt, String>) -> Result<()>) -> Result<()> {
        let file = File::open(&self.path).at(Kind::Input, "open", &self.path)?;
        let mut lines = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if lines.read_until(b'\n', &mut line).at(Kind::Input, "read", &self.path)? == 0 {
                break;
            }
            if !line.trim_ascii().is_empty() {
                let parsed = serde_json::from_slice::<LogLine>(&line);
                visit(number, parsed.map_err(|e| e.to_string()).and_then(LogLine::check))?;
            }
        }
        Ok(())
    }

    fn read_parquet(&self, visit: &mut dyn FnMut(u64, Result<LoggedReceipt, String>) -> Result<()>) -> Result<()> {
        let broken = |what: String| {
            let summary = format!("cannot read `{}` as a receipt log: {what}", self.path.display());
            Error::new(Kind::Input, summary).hint("export the state again with `retrigger state export`")
        };
        let decoded = |result: Result<Result<_, String>, String>| result.and_then(|r| r).map_err(broken);
        let file = File::open(&self.path).at(Kind::Input, "open", &self.path)?;
        let reader = fenced(|| {
            let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| e.to_string())?;
            builder.with_batch_size(4_096).build().map_err(|e| e.to_string())
        });
        let mut reader = reader.and_then(|r| r).map_err(broken)?;
        let mut number = 0;
        while let Some(batch) =
            decoded(fenced(|| reader.next().map(|b| as_log(&b.map_err(|e| e.to_string())?)).transpose()))?
        {
            for row in 0..batch.num_rows() {
                number += 1;
                visit(number, LogLine::of(&batch, row).check())?;
            }
        }
        Ok(())
    }
}

/// A batch with exactly the columns of the log.
fn as_log(batch: &RecordBatch) -> Result<RecordBatch, String> {
    let columns = SCHEMA.fields().iter().map(|field| {
        let column =
            batch.column_by_name(field.name()).ok_or_else(|| format!("it has no column `{}`", field.name()))?;
        let cast =
            arrow_cast::cast(column, field.data_type()).map_err(|e| format!("column `{}`: {e}", field.name()))?;
        match cast.null_count() > 0 && !field.is_nullable() {
            true => Err(format!("column `{}` has nulls", field.name())),
            false => Ok(cast),
        }
    });
    RecordBatch::try_new(SCHEMA.clone(), columns.collect::<Result<_, _>>()?).map_err(|e| e.to_string())
}

fn parquet_is_log(path: &Path) -> Option<bool> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).ok()?).ok()?;
    Some(TELLING.iter().all(|name| builder.schema().column_with_name(name).is_some()))
}

fn first_line_is_log(path: &Path) -> Option<bool> {
    let mut line = Vec::new();
    BufReader::new(File::open(path).ok()?.take(1 << 20)).read_until(b'\n', &mut line).ok()?;
    let first: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line).ok()?;
    Some(TELLING.iter().all(|name| first.contains_key(*name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(change: impl FnOnce(&mut LogLine)) -> LogLine {
        let mut line = LogLine {
            key_hash: format!("{:032x}", Recipient::alias("n:1", "crm:x").key_hash().0),
            campaign_id: "c".to_owned(),
            recipient_kind: "user_alias".to_owned(),
            recipient: "crm:x:n:1".to_owned(),
            received_at: "2026-11-23T08:30:00Z".to_owned(),
            outcome: "sent".to_owned(),
            variant: None,
            channels: vec!["email".to_owned()],
            dispatch_ids: vec!["0".repeat(32)],
            trigger_hash: Some("ffffffffffffffff".to_owned()),
            run_id: "r".to_owned(),
        };
        change(&mut line);
        line
    }

    #[test]
    fn a_line_is_a_receipt_if_everything_in_it_is_right() {
        let receipt = line(|_| ()).check().unwrap();
        assert_eq!((receipt.trigger_hash, receipt.received_at), (Some(u64::MAX), 1_795_422_600_000_000));
        let wrong = |change: fn(&mut LogLine)| line(change).check().unwrap_err();
        assert!(wrong(|l| l.recipient = "crm:x:n:2".to_owned()).contains("hash of the recipient"));
        assert!(wrong(|l| l.recipient_kind = "email".to_owned()).contains("hash of the recipient"));
        assert!(wrong(|l| l.recipient_kind = "phone".to_owned()).contains("recipient_kind"));
        assert!(wrong(|l| l.key_hash = "1".to_owned()).contains("key_hash"));
        assert!(wrong(|l| l.outcome = "bounced".to_owned()).contains("outcome"));
        assert!(wrong(|l| l.received_at = "soon".to_owned()).contains("RFC 3339"));
        assert!(wrong(|l| l.trigger_hash = Some("x".to_owned())).contains("trigger_hash"));
        assert!(wrong(|l| l.dispatch_ids = vec![]).contains("different lengths"));
        assert!(wrong(|l| l.dispatch_ids = vec!["y".to_owned()]).contains("dispatch id"));
    }
}
