//! What the owner of a run chooses about its delivery files. Checked when the run folder is created.

use arrow_schema::SchemaRef;

use crate::error::{Error, Kind, Result};

/// The format of delivery batches. Decisions and dropped messages are always Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Parquet.
    Parquet,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// The word in flags and manifests.
    pub fn code(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Ndjson => "ndjson",
        }
    }
}

/// How delivery batches are compressed. Decisions and dropped messages are always zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard, level 1.
    Zstd,
    /// Snappy; Parquet only.
    Snappy,
    /// Gzip, level 1.
    Gzip,
    /// As it is.
    None,
}

impl Compression {
    /// The word in flags and manifests.
    pub fn code(self) -> &'static str {
        match self {
            Compression::Zstd => "zstd",
            Compression::Snappy => "snappy",
            Compression::Gzip => "gzip",
            Compression::None => "none",
        }
    }
}

/// How delivery batches are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// Format of a batch file.
    pub format: Format,
    /// Compression of a batch file.
    pub compression: Compression,
    /// Messages in a batch file, at least 1.
    pub batch_size: u64,
}

impl Default for DeliveryOptions {
    /// Parquet, zstd, 100,000 messages a file.
    fn default() -> DeliveryOptions {
        DeliveryOptions { format: Format::Parquet, compression: Compression::Zstd, batch_size: 100_000 }
    }
}

impl DeliveryOptions {
    /// Refuses what does not go together (kind `Usage`).
    pub fn check(&self) -> Result<()> {
        if self.batch_size == 0 {
            let error = Error::new(Kind::Usage, "a batch of 0 messages cannot be written");
            return Err(error.hint("give `--batch-size` a number of at least 1"));
        }
        if (self.format, self.compression) == (Format::Ndjson, Compression::Snappy) {
            let error = Error::new(Kind::Usage, "`--compression snappy` does not go with `--format ndjson`");
            return Err(error.hint("use `zstd`, `gzip` or `none`, or `--format parquet`"));
        }
        Ok(())
    }

    /// The file extension of a batch, without the first dot.
    pub(super) fn extension(&self) -> &'static str {
        match (self.format, self.compression) {
            (Format::Parquet, _) => "parquet",
            (Format::Ndjson, Compression::Zstd) => "ndjson.zst",
            (Format::Ndjson, Compression::Gzip) => "ndjson.gz",
            (Format::Ndjson, Compression::None | Compression::Snappy) => "ndjson",
        }
    }
}

/// A channel of the run, with the rows it will get.
#[derive(Debug, Clone)]
pub struct ChannelSpec {
    /// The name as campaigns spell it; any text but the empty one.
    pub name: String,
    /// The schema of its message rows as the engine hands them over: `dispatch_id` first, without `batch_id`.
    pub schema: SchemaRef,
}
