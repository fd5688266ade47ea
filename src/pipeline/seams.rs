//! What the engine asks of the edges.

use arrow_array::RecordBatch;

use super::render::Receipt;
use crate::error::Result;
use crate::ids::KeyHash;
use crate::triggers::{Micros, Rejection, Trigger};

/// How much of a row a pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Campaign, recipient, time, trigger id, properties. The rest is checked but may be left out: attributes,
    /// `send_id`, carried columns.
    Keys,
    /// All of it.
    Everything,
}

/// One trigger of a split, or what stands in its place.
pub struct Row<'a> {
    /// Line or row inside the split, from 0. Several triggers of one request share a line.
    pub line: u64,
    /// Position of the recipient inside its request, for request rows.
    pub recipient_index: Option<u32>,
    /// Byte offset of the line in its file, for text files.
    pub offset: Option<u64>,
    /// The line as read, for text files. Of a line over the length limit, its beginning.
    pub raw: Option<&'a [u8]>,
    /// The trigger, or why there is none.
    pub parsed: Result<Trigger<'a>, Rejection>,
}

/// How much a split held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SplitLines {
    /// Lines or rows, blank ones included, so that line numbers of the next split can be computed.
    pub lines: u64,
    /// Unknown fields that were ignored (reference R1).
    pub unknown_fields: u64,
}

/// Where triggers come from: an ordered list of splits that can each be read, any number of times, by any thread.
pub trait TriggerSource: Sync {
    /// Number of splits; their order is the order of the input.
    fn splits(&self) -> usize;
    /// Bytes of a split, for progress.
    fn split_bytes(&self, split: usize) -> u64;
    /// The index of the file that a split is a piece of.
    fn file_of(&self, split: usize) -> usize;
    /// The name of a file, as it is shown in `source` columns.
    fn file_name(&self, file: usize) -> &str;
    /// Visits every row of a split in order, and always the same rows. An error of `visit` ends the reading.
    fn read(&self, split: usize, need: Need, visit: &mut dyn FnMut(Row<'_>) -> Result<()>) -> Result<SplitLines>;
}

/// What a receipt in a state records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredOutcome {
    /// The recipient received the campaign.
    Sent,
    /// The recipient was enrolled in the control group.
    Control,
    /// An earlier receipt of this instant and trigger id was taken back: the message never left.
    Revoked,
}

impl StoredOutcome {
    /// Every outcome.
    pub const ALL: [StoredOutcome; 3] = [StoredOutcome::Sent, StoredOutcome::Control, StoredOutcome::Revoked];

    /// The word in the state's files.
    pub fn code(self) -> &'static str {
        match self {
            StoredOutcome::Sent => "sent",
            StoredOutcome::Control => "control",
            StoredOutcome::Revoked => "revoked",
        }
    }
}

/// One row of the receipt log, without the strings that deciding does not need.
#[derive(Debug, Clone, Copy)]
pub struct StoredReceipt<'a> {
    /// The recipient.
    pub key: KeyHash,
    /// The campaign.
    pub campaign_id: &'a str,
    /// When.
    pub received_at: Micros,
    /// Received, or enrolled in control.
    pub outcome: StoredOutcome,
    /// The variant that was sent; `None` without variants.
    pub variant: Option<&'a str>,
    /// Hash of the trigger id; `None` where the trigger had none.
    pub trigger_hash: Option<u64>,
}

/// Receipts of earlier runs, in pieces that can be read in parallel.
pub trait ReceiptSource: Sync {
    /// Number of pieces.
    fn pieces(&self) -> usize;
    /// Visits the receipts of a piece. Pieces that hold no bucket of `buckets` (256 flags) may be skipped.
    fn read(&self, piece: usize, buckets: &[bool], visit: &mut dyn FnMut(StoredReceipt<'_>)) -> Result<()>;
}

/// Where a run's receipts go, as they come: in source order, on one thread.
pub trait ReceiptSink: Send {
    /// Takes receipts.
    fn take(&mut self, receipts: Vec<Receipt>) -> Result<()>;
}

impl ReceiptSink for Vec<Receipt> {
    fn take(&mut self, receipts: Vec<Receipt>) -> Result<()> {
        self.extend(receipts);
        Ok(())
    }
}

/// A Parquet table of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The messages of a channel, by its position in the plan.
    Messages(usize),
    /// `decisions.parquet`.
    Decisions,
    /// `dropped_messages.parquet`.
    Dropped,
}

/// A text file of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinesFile {
    /// `rejected.ndjson`.
    Rejected,
    /// `remainder.ndjson`.
    Remainder,
}

/// Where a run's rows go. Rows arrive in source order on one thread; pieces are encoded by any thread; appending is
/// in order again. Where pieces are cut depends on the rows alone (their ordinals and text), so the bytes never depend on
/// threads or splits.
pub trait DeliverySink: Send + Sync {
    /// Rows ready to be encoded.
    type Piece: Send;
    /// Encoded bytes ready to be appended.
    type Encoded: Send;
    /// Takes rows of a table and returns the pieces that are now full.
    fn cut(&mut self, table: Table, rows: RecordBatch) -> Result<Vec<Self::Piece>>;
    /// The last, partly filled pieces.
    fn cut_rest(&mut self) -> Result<Vec<Self::Piece>>;
    /// Encodes a piece.
    fn encode(&self, piece: Self::Piece) -> Result<Self::Encoded>;
    /// Appends an encoded piece, in the order in which the pieces were cut.
    fn append(&mut self, encoded: Self::Encoded) -> Result<()>;
    /// Appends whole lines to a text file.
    fn append_lines(&mut self, file: LinesFile, lines: &[u8]) -> Result<()>;
}
