//! The columns of a receipt file, and receipts on their way into them.
//!
//! | Column | Parquet type | Notes |
//! |---|---|---|
//! | `key_hash` | FIXED_LEN_BYTE_ARRAY(16) | big-endian, the first byte is the bucket; plain, uncompressed |
//! | `campaign_id` | STRING | dictionary |
//! | `recipient_kind` | STRING | `external_user_id`, `user_alias`, `braze_id`, `email`; dictionary |
//! | `recipient` | STRING | the id or address; an alias is `label:name` |
//! | `received_at` | TIMESTAMP(MICROS, UTC) | |
//! | `outcome` | STRING | `sent` or `control`; dictionary |
//! | `variant` | STRING, nullable | null without variants; dictionary |
//! | `channels` | LIST of STRING | empty for `control` |
//! | `dispatch_ids` | LIST of STRING | 32 hex digits each, parallel to `channels` |
//! | `trigger_hash` | UINT_64, nullable | null where the trigger had no id; plain, uncompressed |
//! | `run_id` | STRING | dictionary |
//!
//! Rows are sorted by (`key_hash`, `campaign_id`, `received_at`); rows that are equal in all three stand in the order
//! in which they were recorded. Hashes do not compress, so they are not compressed; all else is zstd 1.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use arrow_array::builder::{
    FixedSizeBinaryBuilder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder, UInt64Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, UInt64Type};
use arrow_array::{
    Array, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::ids::{DispatchId, KeyHash};
use crate::pipeline::StoredOutcome;
use crate::triggers::{Micros, RecipientKind};

/// The columns that deciding reads; the others are for people and exports.
pub(super) const DECIDING: [&str; 6] = ["key_hash", "campaign_id", "received_at", "outcome", "variant", "trigger_hash"];

/// One receipt to be recorded.
#[derive(Debug, Clone, Copy)]
pub struct Receipt<'a> {
    /// The recipient.
    pub key: KeyHash,
    /// The campaign.
    pub campaign_id: &'a str,
    /// How the recipient is named.
    pub kind: RecipientKind,
    /// The id or address; an alias as `label:name`.
    pub recipient: &'a str,
    /// When.
    pub received_at: Micros,
    /// Received, or enrolled in control.
    pub outcome: StoredOutcome,
    /// The variant that was sent; `None` without variants.
    pub variant: Option<&'a str>,
    /// The channels that carried a message, each with the message's id; empty for control.
    pub channels: &'a [(&'a str, DispatchId)],
    /// Hash of the trigger id; `None` where the trigger had none.
    pub trigger_hash: Option<u64>,
}

/// The Arrow schema of every receipt file.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let texts = |name: &str| Field::new_list(name, element(), false);
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("key_hash", DataType::FixedSizeBinary(16), false),
        text("campaign_id"),
        text("recipient_kind"),
        text("recipient"),
        Field::new("received_at", instant, false),
        text("outcome"),
        Field::new("variant", DataType::Utf8, true),
        texts("channels"),
        texts("dispatch_ids"),
        Field::new("trigger_hash", DataType::UInt64, true),
        text("run_id"),
    ]))
});

fn element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Utf8, false))
}

/// Receipts being collected, column by column.
pub(super) struct RowsBuilder {
    key_hash: FixedSizeBinaryBuilder,
    campaign_id: StringBuilder,
    recipient_kind: StringBuilder,
    recipient: StringBuilder,
    received_at: TimestampMicrosecondBuilder,
    outcome: StringBuilder,
    variant: StringBuilder,
    channels: ListBuilder<StringBuilder>,
    dispatch_ids: ListBuilder<StringBuilder>,
    trigger_hash: UInt64Builder,
    run_id: StringBuilder,
    /// Rows so far.
    pub(super) rows: usize,
    /// Text of the rows so far, in bytes, roughly.
    pub(super) text_bytes: usize,
}

impl RowsBuilder {
    pub(super) fn new() -> RowsBuilder {
        let texts = || ListBuilder::new(StringBuilder::new()).with_field(element());
        RowsBuilder {
            key_hash: FixedSizeBinaryBuilder::new(16),
            campaign_id: StringBuilder::new(),
            recipient_kind: StringBuilder::new(),
            recipient: StringBuilder::new(),
            received_at: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            outcome: StringBuilder::new(),
            variant: StringBuilder::new(),
            channels: texts(),
            dispatch_ids: texts(),
            trigger_hash: UInt64Builder::new(),
            run_id: StringBuilder::new(),
            rows: 0,
            text_bytes: 0,
        }
    }

    pub(super) fn push(&mut self, receipt: &Receipt<'_>, run_id: &str) -> Result<(), ArrowError> {
        self.key_hash.append_value(receipt.key.to_bytes())?;
        self.campaign_id.append_value(receipt.campaign_id);
        self.recipient_kind.append_value(receipt.kind.code());
        self.recipient.append_value(receipt.recipient);
        self.received_at.append_value(receipt.received_at);
        self.outcome.append_value(receipt.outcome.code());
        self.variant.append_option(receipt.variant);
        for (channel, dispatch_id) in receipt.channels {
            self.channels.values().append_value(channel);
            self.dispatch_ids.values().append_value(dispatch_id.to_string());
            self.text_bytes += channel.len() + 32;
        }
        self.channels.append(true);
        self.dispatch_ids.append(true);
        self.trigger_hash.append_option(receipt.trigger_hash);
        self.run_id.append_value(run_id);
        self.rows += 1;
        self.text_bytes += receipt.campaign_id.len() + receipt.recipient.len() + run_id.len();
        self.text_bytes += receipt.variant.map_or(0, str::len);
        Ok(())
    }

    /// The collected rows, sorted; the builder is empty again.
    pub(super) fn take_sorted(&mut self) -> Result<RecordBatch, ArrowError> {
        let batch = RecordBatch::try_new(
            SCHEMA.clone(),
            vec![
                Arc::new(self.key_hash.finish()),
                Arc::new(self.campaign_id.finish()),
                Arc::new(self.recipient_kind.finish()),
                Arc::new(self.recipient.finish()),
                Arc::new(self.received_at.finish()),
                Arc::new(self.outcome.finish()),
                Arc::new(self.variant.finish()),
                Arc::new(self.channels.finish()),
                Arc::new(self.dispatch_ids.finish()),
                Arc::new(self.trigger_hash.finish()),
                Arc::new(self.run_id.finish()),
            ],
        )?;
        (self.rows, self.text_bytes) = (0, 0);
        sorted(&batch)
    }
}

fn sorted(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let rows = SortColumns::of(batch);
    // The key stands beside the row number: nearly every comparison is decided without a look at the columns.
    let mut order: Vec<(KeyHash, u32)> = (0..batch.num_rows()).map(|row| (rows.key(row), row as u32)).collect();
    order.sort_by(|(key_a, a), (key_b, b)| key_a.cmp(key_b).then_with(|| rows.compare(*a as usize, *b as usize)));
    let order: UInt32Array = order.into_iter().map(|(_, row)| row).collect::<Vec<u32>>().into();
    arrow_select::take::take_record_batch(batch, &order)
}

/// The columns that a receipt file is sorted by, shared with a batch whose columns have the types of [`SCHEMA`].
pub(super) struct SortColumns {
    keys: FixedSizeBinaryArray,
    campaigns: StringArray,
    instants: TimestampMicrosecondArray,
}

impl SortColumns {
    pub(super) fn of(batch: &RecordBatch) -> SortColumns {
        SortColumns {
            keys: column(batch, "key_hash").as_fixed_size_binary().clone(),
            campaigns: column(batch, "campaign_id").as_string().clone(),
            instants: column(batch, "received_at").as_primitive::<TimestampMicrosecondType>().clone(),
        }
    }

    pub(super) fn key(&self, row: usize) -> KeyHash {
        KeyHash::from_bytes(self.keys.value(row).try_into().expect("the schema says 16 bytes"))
    }

    pub(super) fn campaign(&self, row: usize) -> &str {
        self.campaigns.value(row)
    }

    pub(super) fn at(&self, row: usize) -> Micros {
        self.instants.value(row)
    }

    /// All instants.
    pub(super) fn instants(&self) -> &[Micros] {
        self.instants.values()
    }

    /// The order of two rows.
    pub(super) fn compare(&self, a: usize, b: usize) -> Ordering {
        let hashes = self.keys.value(a).cmp(self.keys.value(b));
        hashes.then_with(|| self.campaign(a).cmp(self.campaign(b))).then_with(|| self.at(a).cmp(&self.at(b)))
    }
}

/// The columns that deciding reads besides those of [`SortColumns`].
pub(super) struct DecidingColumns<'a> {
    pub(super) sort: SortColumns,
    outcomes: &'a StringArray,
    variants: &'a StringArray,
    trigger_hashes: &'a UInt64Array,
}

impl<'a> DecidingColumns<'a> {
    pub(super) fn of(batch: &'a RecordBatch) -> DecidingColumns<'a> {
        DecidingColumns {
            sort: SortColumns::of(batch),
            outcomes: column(batch, "outcome").as_string(),
            variants: column(batch, "variant").as_string(),
            trigger_hashes: column(batch, "trigger_hash").as_primitive::<UInt64Type>(),
        }
    }

    /// The outcome, or the word that is none.
    pub(super) fn outcome(&self, row: usize) -> Result<StoredOutcome, &'a str> {
        match self.outcomes.value(row) {
            "sent" => Ok(StoredOutcome::Sent),
            "control" => Ok(StoredOutcome::Control),
            "revoked" => Ok(StoredOutcome::Revoked),
            other => Err(other),
        }
    }

    pub(super) fn variant(&self, row: usize) -> Option<&'a str> {
        self.variants.is_valid(row).then(|| self.variants.value(row))
    }

    pub(super) fn trigger_hash(&self, row: usize) -> Option<u64> {
        self.trigger_hashes.is_valid(row).then(|| self.trigger_hashes.value(row))
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a dyn Array {
    batch.column_by_name(name).expect("the file's schema was compared with ours when it was opened").as_ref()
}
