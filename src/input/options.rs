//! How input is to be read, checked and without defaults left open.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::interrupt::Interrupt;
use crate::triggers::TimeReader;

/// What a file holds, where its name does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// Parquet.
    Parquet,
    /// One JSON object a line; plain, gzip or zstd by content.
    Ndjson,
}

/// Which columns or keys become the trigger properties.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PropertiesFrom {
    /// The `trigger_properties` field.
    #[default]
    Field,
    /// These top-level columns or keys, laid over the `trigger_properties` field if there is one.
    Columns(Vec<String>),
    /// Every top-level column or key that is not a field of its own, likewise.
    All,
}

/// Where the fields of a trigger stand in the input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Field name (`campaign_id`, `external_user_id`, `user_alias`, `braze_id`, `email`, `triggered_at`, `trigger_id`,
    /// `trigger_properties`, `send_id`, `attributes`) to the column or top-level key that holds it. Fields not named
    /// here stand under their own name.
    pub columns: BTreeMap<String, String>,
    /// The campaign of every row that names none.
    pub campaign_id: Option<String>,
    /// What makes up the properties.
    pub properties: PropertiesFrom,
}

impl Mapping {
    /// Every field that can be mapped.
    pub const FIELDS: [&'static str; 10] = [
        "campaign_id",
        "external_user_id",
        "user_alias",
        "braze_id",
        "email",
        "triggered_at",
        "trigger_id",
        "trigger_properties",
        "send_id",
        "attributes",
    ];

    /// The column or key of a field.
    pub fn column<'a>(&'a self, field: &'a str) -> &'a str {
        self.columns.get(field).map_or(field, String::as_str)
    }
}

/// How to read the input of one run.
#[derive(Debug, Clone)]
pub struct InputOptions {
    /// Overrides the file extension.
    pub format: Option<InputFormat>,
    /// Where fields stand.
    pub mapping: Mapping,
    /// JSON pointer to the request body inside each NDJSON line, where a log wraps it (as an object or as a string).
    pub body: Option<String>,
    /// How times are read.
    pub times: TimeReader,
    /// Columns or keys passed through to the message rows.
    pub carry: Vec<String>,
    /// Fields, columns or property names (`trigger_properties.order_id` or just `order_id`) from whose values a missing
    /// trigger id is derived.
    pub trigger_id_from: Vec<String>,
    /// Bytes of one NDJSON split.
    pub split_bytes: u64,
    /// Largest number of rows in one Parquet split; larger row groups are read in several.
    pub split_rows: usize,
    /// Whether to stop while input is unpacked, fingerprinted and read.
    pub interrupt: Interrupt,
    /// Folder for what must be spooled: standard input and compressed text. Created on first use, mode 0700.
    pub spool: PathBuf,
}

impl Default for InputOptions {
    /// Flat rows with fields under their own names; splits as the command line has them.
    fn default() -> InputOptions {
        InputOptions {
            format: None,
            mapping: Mapping::default(),
            body: None,
            times: TimeReader::default(),
            carry: Vec::new(),
            trigger_id_from: Vec::new(),
            split_bytes: 1 << 20,
            split_rows: 32_768,
            interrupt: Interrupt::default(),
            spool: PathBuf::new(),
        }
    }
}
