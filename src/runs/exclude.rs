//! The `--exclude` table: recipients who get nothing. Parquet, NDJSON or CSV, read with polars.

use std::collections::HashSet;
use std::path::Path;

use crate::error::{Error, Fault, Kind, Result};
use crate::ids::{Digest, KeyHash};
use crate::triggers::Recipient;

/// The recipients of a table and the digest of its file.
pub fn read(path: &Path) -> Result<(HashSet<KeyHash>, Digest)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(Kind::Input, "read the exclude table", path, e))?;
    let digest = Digest::of(&bytes);
    let mut keys = HashSet::new();
    table::recipients(path, bytes, &mut |recipient| {
        keys.insert(recipient.key_hash());
    })?;
    Ok((keys, digest))
}

/// The recipients of a table, as they are named.
pub fn recipients(path: &Path) -> Result<Vec<Recipient<'static>>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(Kind::Input, "read the table of recipients", path, e))?;
    let mut recipients = Vec::new();
    table::recipients(path, bytes, &mut |recipient| recipients.push(recipient))?;
    Ok(recipients)
}

fn unusable(path: &Path, message: String) -> Error {
    let fault = Fault::new(path.display().to_string(), message).hint(
        "the table needs one or more of the columns `external_user_id`, `braze_id`, `email`, or both `alias_name` and `alias_label`",
    );
    Error::new(Kind::Input, "cannot use the table of recipients").with_faults(vec![fault])
}

#[cfg(not(feature = "tables"))]
mod table {
    use super::*;

    pub fn recipients(path: &Path, _: Vec<u8>, _: &mut dyn FnMut(Recipient<'static>)) -> Result<()> {
        Err(unusable(path, "this build has no table support; build with the feature `tables`".to_owned()))
    }
}

#[cfg(feature = "tables")]
mod table {
    use std::io::Cursor;

    use polars::prelude::*;

    use super::*;
    use crate::fence::fenced;

    pub fn recipients(path: &Path, bytes: Vec<u8>, visit: &mut dyn FnMut(Recipient<'static>)) -> Result<()> {
        let read = fenced(|| frame(path, bytes).and_then(|frame| rows(&frame, visit)));
        let broken = |message: String| unusable(path, message);
        match read {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(broken("no column names a recipient".to_owned())),
            Ok(Err(error)) => Err(broken(error.to_string())),
            Err(panic) => Err(broken(format!("the file cannot be read: {panic}"))),
        }
    }

    fn frame(path: &Path, bytes: Vec<u8>) -> PolarsResult<DataFrame> {
        let reader = Cursor::new(bytes);
        match path.extension().and_then(|e| e.to_str()) {
            Some("parquet") => ParquetReader::new(reader).finish(),
            Some("ndjson" | "jsonl" | "json") => {
                JsonReader::new(reader).with_json_format(JsonFormat::JsonLines).finish()
            }
            // Every column as text: an id such as `007` must not become a number.
            Some("csv") => CsvReadOptions::default()
                .with_infer_schema_length(Some(0))
                .into_reader_with_file_handle(reader)
                .finish(),
            _ => polars_bail!(ComputeError: "expected a file named `.parquet`, `.ndjson`, `.jsonl` or `.csv`"),
        }
    }

    /// The recipients of every row; false where no column names a recipient.
    fn rows(frame: &DataFrame, visit: &mut dyn FnMut(Recipient<'static>)) -> PolarsResult<bool> {
        let kinds: [(&str, fn(String) -> Recipient<'static>); 3] = [
            ("external_user_id", |id| Recipient::external(id)),
            ("braze_id", |id| Recipient::braze(id)),
            ("email", |id| Recipient::email(id)),
        ];
        let mut named = false;
        for (column, recipient) in kinds {
            let Some(values) = texts(frame, column)? else { continue };
            named = true;
            values.into_iter().flatten().for_each(|id| visit(recipient(id)));
        }
        if let (Some(names), Some(labels)) = (texts(frame, "alias_name")?, texts(frame, "alias_label")?) {
            named = true;
            let pairs = names.into_iter().zip(labels).filter_map(|(name, label)| Some((name?, label?)));
            pairs.for_each(|(name, label)| visit(Recipient::alias(name, label)));
        }
        Ok(named)
    }

    /// A column as text: strings and whole numbers are ids, anything else is not.
    fn texts(frame: &DataFrame, name: &str) -> PolarsResult<Option<Vec<Option<String>>>> {
        let Ok(column) = frame.column(name) else { return Ok(None) };
        let dtype = column.dtype();
        if !(dtype.is_integer() || matches!(dtype, DataType::String | DataType::Null)) {
            polars_bail!(ComputeError: "column `{}` holds {}, expected strings or whole numbers", name, dtype);
        }
        let strings = column.cast(&DataType::String)?;
        Ok(Some(strings.str()?.iter().map(|id| id.filter(|id| !id.is_empty()).map(str::to_owned)).collect()))
    }
}
