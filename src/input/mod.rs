//! Trigger files: finding them, reading them, turning their rows into [`crate::triggers::Trigger`]s.

mod options;
pub mod parquet;

pub use options::{InputFormat, InputOptions, Mapping, PropertiesFrom};
