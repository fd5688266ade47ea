//! Rows as columns, and columns as the row groups of a Parquet file.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, ListArray, RecordBatch, StructArray, TimestampMicrosecondArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{SchemaDescriptor, TypePtr};

use super::profile::{Profile, Share};
use super::rows::{Row, Rows, push_recipient, push_trigger_id};
use super::shape::{Drawn, Property, Shape, Token, Value, Walk};

/// Encodes row groups of generated triggers, on any thread.
pub(super) struct Table<'r> {
    rows: &'r Rows<'r>,
    schema: SchemaRef,
    root: TypePtr,
    properties: WriterPropertiesPtr,
    writers: ArrowRowGroupWriterFactory,
}

impl<'r> Table<'r> {
    pub(super) fn new(rows: &'r Rows<'r>) -> Result<Table<'r>> {
        let schema = Arc::new(Schema::new(fields(rows.profile)));
        let descriptor = ArrowSchemaConverter::new().convert(&schema)?;
        let root = descriptor.root_schema_ptr();
        let properties = Arc::new(properties(&descriptor)?);
        let template = SerializedFileWriter::new(std::io::sink(), root.clone(), properties.clone())?;
        let writers = ArrowRowGroupWriterFactory::new(&template, schema.clone());
        Ok(Table { rows, schema, root, properties, writers })
    }

    /// Begins a file.
    pub(super) fn open<W: std::io::Write + Send>(&self, file: W) -> Result<SerializedFileWriter<W>> {
        SerializedFileWriter::new(file, self.root.clone(), self.properties.clone())
    }

    /// The rows of a range as one row group.
    pub(super) fn group(&self, range: Range<u64>) -> Result<Vec<ArrowColumnChunk>> {
        let batch = self.batch(range)?;
        let mut chunks = Vec::new();
        let mut writers = self.writers.create_column_writers(0)?.into_iter();
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, column)? {
                let writer = writers.next();
                let mut writer = writer.ok_or_else(|| ParquetError::General("more leaves than columns".into()))?;
                writer.write(&leaf)?;
                chunks.push(writer.close()?);
            }
        }
        Ok(chunks)
    }

    fn batch(&self, range: Range<u64>) -> Result<RecordBatch, ArrowError> {
        let profile = self.rows.profile;
        let (mut columns, mut drawn) = (Columns::default(), Drawn::default());
        let mut properties = Members::new(&profile.properties);
        for index in range {
            let row = self.rows.row(index, &mut drawn);
            columns.push(&row, &profile.campaigns[row.campaign].id, profile.seed);
            properties.push(&profile.properties, &mut drawn.walk());
        }
        let mut arrays = columns.finish();
        // Only bad rows have a second identifier.
        arrays.truncate(if profile.bad_rows > Share::NONE { 5 } else { 4 });
        if !profile.properties.is_empty() {
            arrays.push(properties.finish());
        }
        RecordBatch::try_new(self.schema.clone(), arrays)
    }
}

/// Page and column settings: few campaigns and choices have dictionaries, everything else is plain, and texts have no
/// statistics, as they would rule nothing out.
fn properties(descriptor: &SchemaDescriptor) -> Result<WriterProperties> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true);
    for leaf in descriptor.columns() {
        let path = leaf.path().clone();
        match path.parts()[0].as_str() {
            "campaign_id" => builder = builder.set_column_dictionary_enabled(path, true),
            "triggered_at" => builder = builder.set_column_statistics_enabled(path, EnabledStatistics::Chunk),
            _ => {}
        }
    }
    Ok(builder.build())
}

fn fields(profile: &Profile) -> Vec<Field> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("campaign_id", DataType::Utf8, true),
        Field::new("external_user_id", DataType::Utf8, true),
        Field::new("triggered_at", time, false),
        Field::new("trigger_id", DataType::Utf8, false),
    ];
    if profile.bad_rows > Share::NONE {
        fields.push(Field::new("braze_id", DataType::Utf8, true));
    }
    if !profile.properties.is_empty() {
        fields.push(Field::new("trigger_properties", DataType::Struct(members(&profile.properties)), false));
    }
    fields
}

fn members(properties: &[Property]) -> Fields {
    properties.iter().map(|property| Field::new(&property.name, data_type(&property.shape), true)).collect()
}

fn data_type(shape: &Shape) -> DataType {
    match &shape.value {
        Value::Words { .. } | Value::Choice(_) => DataType::Utf8,
        Value::Number { decimals: 0, .. } => DataType::Int64,
        Value::Number { .. } => DataType::Float64,
        Value::Boolean => DataType::Boolean,
        Value::Object(properties) => DataType::Struct(members(properties)),
        Value::Array { of, .. } => DataType::List(element(of)),
    }
}

fn element(of: &Shape) -> FieldRef {
    Arc::new(Field::new("element", data_type(of), true))
}

/// What is wrong with a bad row; a table has types, so that less can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    NoCampaign,
    NoRecipient,
    TwoRecipients,
}

const FAULTS: [Fault; 3] = [Fault::NoCampaign, Fault::NoRecipient, Fault::TwoRecipients];

/// The columns that every trigger has.
#[derive(Default)]
struct Columns {
    campaign_id: StringBuilder,
    external_user_id: StringBuilder,
    braze_id: StringBuilder,
    triggered_at: Vec<i64>,
    trigger_id: StringBuilder,
    text: String,
}

impl Columns {
    fn push(&mut self, row: &Row, campaign: &str, seed: u64) {
        let fault = row.fault.map(|number| FAULTS[number as usize % FAULTS.len()]);
        self.campaign_id.append_option((fault != Some(Fault::NoCampaign)).then_some(campaign));
        self.text.clear();
        push_recipient(&mut self.text, row.recipient);
        let recipient = Some(self.text.as_str());
        self.external_user_id.append_option(recipient.filter(|_| fault != Some(Fault::NoRecipient)));
        self.braze_id.append_option(recipient.filter(|_| fault == Some(Fault::TwoRecipients)));
        self.triggered_at.push(row.at);
        self.text.clear();
        push_trigger_id(&mut self.text, seed, row.origin);
        self.trigger_id.append_value(&self.text);
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.campaign_id.finish()),
            Arc::new(self.external_user_id.finish()),
            Arc::new(TimestampMicrosecondArray::from(self.triggered_at).with_timezone("UTC")),
            Arc::new(self.trigger_id.finish()),
            Arc::new(self.braze_id.finish()),
        ]
    }
}

/// A column of drawn values.
enum Column {
    Text(StringBuilder),
    Whole(Int64Builder),
    Number(Float64Builder),
    Flag(BooleanBuilder),
    Object(Members),
    Array(Items),
}

/// The columns of an object.
struct Members {
    fields: Fields,
    columns: Vec<Column>,
    there: NullBufferBuilder,
}

/// The column of an array's elements, and where each array ends.
struct Items {
    element: FieldRef,
    column: Box<Column>,
    offsets: Vec<i32>,
    there: NullBufferBuilder,
}

impl Column {
    fn new(shape: &Shape) -> Column {
        match &shape.value {
            Value::Words { .. } | Value::Choice(_) => Column::Text(StringBuilder::new()),
            Value::Number { decimals: 0, .. } => Column::Whole(Int64Builder::new()),
            Value::Number { .. } => Column::Number(Float64Builder::new()),
            Value::Boolean => Column::Flag(BooleanBuilder::new()),
            Value::Object(properties) => Column::Object(Members::new(properties)),
            Value::Array { of, .. } => Column::Array(Items {
                element: element(of),
                column: Box::new(Column::new(of)),
                offsets: vec![0],
                there: NullBufferBuilder::new(0),
            }),
        }
    }

    /// Takes the next value of the walk.
    fn push(&mut self, shape: &Shape, walk: &mut Walk<'_>) {
        let token = walk.step();
        match (self, token, &shape.value) {
            (Column::Text(column), Token::Text { start, end }, _) => column.append_value(walk.text(start, end)),
            (Column::Whole(column), Token::Whole(number), _) => column.append_value(number),
            (Column::Number(column), Token::Number(number), _) => column.append_value(number),
            (Column::Flag(column), Token::Flag(flag), _) => column.append_value(flag),
            (Column::Object(column), Token::Members, Value::Object(members)) => column.push(members, walk),
            (Column::Array(column), Token::Items(items), Value::Array { of, .. }) => {
                (0..items).for_each(|_| column.column.push(of, walk));
                column.end(true, items);
            }
            (column, ..) => column.push_null(),
        }
    }

    fn push_null(&mut self) {
        match self {
            Column::Text(column) => column.append_null(),
            Column::Whole(column) => column.append_null(),
            Column::Number(column) => column.append_null(),
            Column::Flag(column) => column.append_null(),
            Column::Object(column) => {
                column.columns.iter_mut().for_each(Column::push_null);
                column.there.append_null();
            }
            Column::Array(column) => column.end(false, 0),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Column::Text(mut column) => Arc::new(column.finish()),
            Column::Whole(mut column) => Arc::new(column.finish()),
            Column::Number(mut column) => Arc::new(column.finish()),
            Column::Flag(mut column) => Arc::new(column.finish()),
            Column::Object(column) => column.finish(),
            Column::Array(mut column) => {
                let offsets = OffsetBuffer::new(column.offsets.into());
                Arc::new(ListArray::new(column.element, offsets, column.column.finish(), column.there.finish()))
            }
        }
    }
}

impl Members {
    fn new(properties: &[Property]) -> Members {
        let columns = properties.iter().map(|property| Column::new(&property.shape)).collect();
        Members { fields: members(properties), columns, there: NullBufferBuilder::new(0) }
    }

    fn push(&mut self, members: &[Property], walk: &mut Walk<'_>) {
        self.columns.iter_mut().zip(members).for_each(|(column, member)| column.push(&member.shape, walk));
        self.there.append_non_null();
    }

    fn finish(mut self) -> ArrayRef {
        let columns = self.columns.into_iter().map(Column::finish).collect();
        Arc::new(StructArray::new(self.fields, columns, self.there.finish()))
    }
}

impl Items {
    /// Ends an array of this many elements.
    fn end(&mut self, there: bool, items: u32) {
        let begin = self.offsets.last().copied().unwrap_or_default();
        // A row group holds 100,000 arrays of at most 1,000 elements.
        self.offsets.push(begin + items as i32);
        self.there.append(there);
    }
}
