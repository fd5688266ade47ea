//! Triggers that are in memory already, as Arrow record batches: for programs that embed the engine.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::cast;
use arrow_schema::{ArrowError, Schema};

use super::rows::Rows;
use super::schema::{self, Roles};
use crate::error::{Error, Kind, Result};
use crate::input::InputOptions;
use crate::pipeline::{Need, Row, SplitLines, TriggerSource};

/// Record batches of flat rows, one trigger a row, under the columns that a Parquet file would have. A batch is a split: the
/// unit of reading and rendering.
#[derive(Debug)]
pub struct ArrowBatches {
    name: String,
    batches: Vec<RecordBatch>,
    roles: Roles,
    options: InputOptions,
}

impl ArrowBatches {
    /// Takes batches of one schema. `name` stands in the `source` columns and in messages.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the schema, or batches of different schemas (kind [`Kind::Input`]).
    pub fn new(name: &str, batches: &[RecordBatch], options: InputOptions) -> Result<ArrowBatches> {
        let stored = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let normal = Arc::new(schema::normal(&stored, None));
        let roles = match batches {
            [] => Roles::default(),
            _ => schema::bind(&normal, name, &options).map_err(|faults| unusable(name).with_faults(faults))?,
        };
        let batches = batches.iter().map(|batch| normalised(batch, &normal)).collect::<Result<_, _>>();
        let batches = batches.map_err(|cause| unusable(name).caused_by(cause))?;
        Ok(ArrowBatches { name: name.to_owned(), batches, roles, options })
    }
}

fn unusable(name: &str) -> Error {
    Error::new(Kind::Input, format!("cannot use the record batches `{name}`"))
}

/// The batch in the few types that rows are read from.
fn normalised(batch: &RecordBatch, normal: &Arc<Schema>) -> Result<RecordBatch, ArrowError> {
    if batch.num_columns() != normal.fields().len() {
        return Err(ArrowError::SchemaError("the batches have different schemas".to_owned()));
    }
    let columns = batch.columns().iter().zip(normal.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(normal), columns)
}

impl TriggerSource for ArrowBatches {
    fn splits(&self) -> usize {
        self.batches.len()
    }

    fn split_bytes(&self, split: usize) -> u64 {
        self.batches[split].get_array_memory_size() as u64
    }

    fn file_of(&self, _: usize) -> usize {
        0
    }

    fn file_name(&self, _: usize) -> &str {
        &self.name
    }

    fn read(&self, split: usize, _: Need, visit: &mut dyn FnMut(Row<'_>) -> Result<()>) -> Result<SplitLines> {
        let columns = self.roles.columns();
        let batch = self.batches[split].project(&columns).map_err(|cause| unusable(&self.name).caused_by(cause))?;
        let rows = Rows::of(&batch, &columns, &self.roles, &self.options)?;
        let mut scratch = String::new();
        for row in 0..batch.num_rows() {
            let parsed = rows.trigger(row, &mut scratch);
            visit(Row { line: row as u64, recipient_index: None, offset: None, raw: None, parsed })?;
        }
        Ok(SplitLines { lines: batch.num_rows() as u64, unknown_fields: 0 })
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int32Array, LargeStringArray, StringArray, StructArray};

    use super::*;

    fn batch(ids: &[&str], counts: &[i32]) -> RecordBatch {
        let text: ArrayRef = Arc::new(LargeStringArray::from(ids.to_vec()));
        let count: ArrayRef = Arc::new(Int32Array::from(counts.to_vec()));
        let properties = StructArray::try_from(vec![("count", count)]).unwrap();
        let campaigns: ArrayRef = Arc::new(StringArray::from(vec!["c"; ids.len()]));
        let columns =
            [("campaign_id", campaigns), ("external_user_id", text), ("trigger_properties", Arc::new(properties) as _)];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn seen(source: &ArrowBatches) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        for split in 0..source.splits() {
            let mut visit = |row: Row<'_>| {
                let trigger = row.parsed.unwrap();
                rows.push((trigger.recipient.id.into_owned(), trigger.properties.text()));
                Ok(())
            };
            source.read(split, Need::Everything, &mut visit).unwrap();
        }
        rows
    }

    #[test]
    fn batches_of_any_string_type_are_rows() {
        let batches = [batch(&["ada", "bob"], &[1, 2]), batch(&["eve"], &[3])];
        let source = ArrowBatches::new("memory", &batches, InputOptions::default()).unwrap();
        let expected = [("ada", r#"{"count":1}"#), ("bob", r#"{"count":2}"#), ("eve", r#"{"count":3}"#)];
        assert_eq!(seen(&source), expected.map(|(id, text)| (id.to_owned(), text.to_owned())));
        assert_eq!(ArrowBatches::new("none", &[], InputOptions::default()).unwrap().splits(), 0);
    }

    #[test]
    fn what_cannot_be_rows_is_refused() {
        let no_recipient = batch(&["ada"], &[1]).project(&[0, 2]).unwrap();
        let error = ArrowBatches::new("memory", &[no_recipient.clone()], InputOptions::default()).unwrap_err();
        assert!(error.to_string().contains("cannot use the record batches `memory`"), "{error}");
        let error =
            ArrowBatches::new("memory", &[batch(&["ada"], &[1]), no_recipient], InputOptions::default()).unwrap_err();
        assert!(error.to_string().contains("different schemas"), "{error}");
    }
}
