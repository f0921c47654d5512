//! Records → one Arrow record batch: the columns of the envelope, then one nullable column per event type.
//!
//! The schema depends only on the registry, so all files of a build have the same schema. A new event type appends a column.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, AsArray, BinaryArray, BinaryBuilder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder,
        TimestampMicrosecondArray,
    },
    buffer::{Buffer, OffsetBuffer},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use columns::{AppendError, Fidelity, Layout, MessageColumns, Presence, utc_micros};
use sha2::{Digest, Sha256};
use shared::{
    event::{ENVELOPE, EventType, Registry, UNREGISTERED},
    layout::{LayoutError, Segment},
};

use crate::{
    batch::{Batch, Record},
    envelope::others,
    error::RecordError,
};

/// What is known about the columns of every file: rows are sorted by `sent_at`, then `event_id`, then `message_id`.
pub const LAYOUT: Layout = Layout {
    sorted_by: &[4, 0, 1],
    distinct: &["event_id", "message_id", "sent_at", "payload_sha256", "_raw"],
    incompressible: &["payload_sha256"],
};

/// The position of `payload_sha256`.
const SHA256: usize = 5;
/// After this many records, the final size of the columns is estimated to reserve memory.
const SAMPLED_RECORDS: usize = 256;
/// The columns are measured after so many records, or so many bytes of payload.
const MEASURED_RECORDS: usize = 64;
const MEASURED_BYTES: usize = 64 << 10;
/// Memory for encoding a leaf column of a row group, besides its values.
const LEAF_BYTES: usize = 100 << 10;
/// Memory of a row of the envelope besides its texts: offsets, the time, the hash.
const ENVELOPE_BYTES: usize = 6 * 4 + 8 + 32;

/// The columns of the files.
#[derive(Debug)]
pub enum Tables {
    /// Every file has the columns of all types.
    Together(Table),
    /// Every file has the columns of one type, and the folder that is named after it.
    ByType {
        /// By the type's position in the registry.
        types: Vec<(Segment, Table)>,
        /// Of events whose type is not registered.
        unregistered: (Segment, Table),
    },
}

impl Tables {
    /// The tables of `registry`: one for each type, or one for all. See [`Table::new`].
    pub fn new(registry: &Registry, by_type: bool, finite_floats: bool) -> Result<Self, LayoutError> {
        if !by_type {
            return Ok(Self::Together(Table::new(registry.types(), 0, finite_floats)));
        }
        let mut types = Vec::with_capacity(registry.types().len());
        for (position, event) in (0..).zip(registry.types()) {
            types.push((event.column.parse()?, Table::new(std::slice::from_ref(event), position, finite_floats)));
        }
        Ok(Self::ByType { types, unregistered: (UNREGISTERED.parse()?, Table::new(&[], 0, finite_floats)) })
    }

    /// Whether a file has events of one type only.
    #[must_use]
    pub const fn are_by_type(&self) -> bool {
        matches!(self, Self::ByType { .. })
    }

    /// Memory for encoding a row group besides its columns: every leaf column has buffers of its own.
    #[must_use]
    pub fn encoding_bytes(&self) -> usize {
        let tables: Vec<&Table> = match self {
            Self::Together(table) => vec![table],
            Self::ByType { types, .. } => types.iter().map(|(_, table)| table).collect(),
        };
        let leaves = tables.into_iter().map(|table| table.schema.flattened_fields().len()).max();
        leaves.unwrap_or_default() * LEAF_BYTES
    }

    /// The table of events with a type's position in the registry, and the folder of its files if it has one of its own.
    #[must_use]
    pub fn of(&self, event_type: Option<u16>) -> (&Table, Option<&Segment>) {
        match self {
            Self::Together(table) => (table, None),
            Self::ByType { types, unregistered } => {
                let registered = event_type.and_then(|position| types.get(usize::from(position)));
                let (folder, table) = registered.unwrap_or(unregistered);
                (table, Some(folder))
            }
        }
    }
}

/// The columns of a file.
#[derive(Debug)]
pub struct Table {
    schema: SchemaRef,
    types: Vec<MessageColumns>,
    /// Position of the first type in the registry.
    first: u16,
    fingerprint: String,
    finite_floats: bool,
}

/// Some records of a batch, as columns.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// The rows, in the records' order.
    pub columns: RecordBatch,
    /// The records of the rows.
    pub rows: Vec<&'a Record>,
    /// The records whose payload is not a message of their type.
    pub refused: Vec<(&'a Record, RecordError)>,
    /// Number of rows with their payload in `_raw`.
    pub raw_kept: usize,
    /// Number of records that were read, rows and poison together.
    pub read: usize,
}

impl Chunk<'_> {
    /// The SHA-256 hashes of the rows' payloads.
    pub fn hashes(&self) -> impl Iterator<Item = &[u8]> {
        self.columns
            .columns()
            .get(SHA256)
            .and_then(|column| column.as_binary_opt::<i32>())
            .into_iter()
            .flatten()
            .flatten()
    }
}

impl Table {
    /// The table of `types`, which are in the registry from position `first` on. With `finite_floats` the output format cannot represent NaN and infinities, so such payloads are
    /// kept in `_raw`.
    #[must_use]
    pub fn new(event_types: &[EventType], first: u16, finite_floats: bool) -> Self {
        let [event_id, message_id, source, type_name, sent_at, sha256, attributes, raw] = ENVELOPE;
        let mut fields = vec![
            Field::new(event_id, DataType::Utf8, false),
            Field::new(message_id, DataType::Utf8, false),
            Field::new(source, DataType::Utf8, true),
            Field::new(type_name, DataType::Utf8, false),
            Field::new(sent_at, utc_micros(), false),
            Field::new(sha256, DataType::Binary, false),
            Field::new(attributes, texts_by_name(), true),
            Field::new(raw, DataType::Binary, true),
        ];
        let mut types = Vec::with_capacity(event_types.len());
        for event in event_types {
            let columns = MessageColumns::new(&event.message);
            fields.push(Field::new(&event.column, columns.data_type(), true));
            types.push(columns);
        }
        let fingerprint = fingerprint(&fields);
        Self { schema: Arc::new(Schema::new(fields)), types, first, fingerprint, finite_floats }
    }

    /// The names and types of the columns.
    #[must_use]
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A hash of the schema in 16 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Decodes records until there are `max_rows` rows, or `max_bytes` of columns: of those that are in memory at the end, which
    /// include a value for every column of every type. The last record may exceed that.
    pub fn decode<'a>(
        &self,
        batch: &Batch,
        records: &'a [Record],
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Chunk<'a>, ArrowError> {
        let mut builder = Builder::new(self, records.len().min(max_rows));
        let mut rows = Vec::with_capacity(records.len().min(max_rows));
        let (mut refused, mut raw_kept, mut read, mut bytes, mut unmeasured) = (Vec::new(), 0, 0, 0, 0);
        for record in records {
            let payload = batch.payload(record);
            if read == SAMPLED_RECORDS {
                let all = records.iter().take(max_rows).map(|record| batch.payload(record).len()).sum::<usize>();
                let times = (records.len().min(max_rows) / read).min(all / bytes.max(1));
                builder.reserve(times.min(max_bytes / builder.bytes().max(1)));
            }
            if rows.len() == max_rows {
                break;
            }
            unmeasured += payload.len();
            if read % MEASURED_RECORDS == 0 || unmeasured > MEASURED_BYTES {
                if read > 0 && builder.bytes() >= max_bytes {
                    break;
                }
                unmeasured = 0;
            }
            match builder.append(batch, record, payload) {
                Ok(lossless) => {
                    rows.push(record);
                    raw_kept += usize::from(!lossless);
                }
                Err(AppendError::Wire(error)) => refused.push((record, RecordError::Protobuf(error))),
                Err(AppendError::Full | AppendError::TooLarge) => break,
            }
            bytes += payload.len();
            read += 1;
        }
        let columns = builder.finish(self.schema.clone())?;
        Ok(Chunk { columns, rows, refused, raw_kept, read })
    }
}

/// A map of texts that are not null.
fn texts_by_name() -> DataType {
    let entry = [Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)];
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry.into_iter().collect()), false)), false)
}

fn attributes() -> MapBuilder<StringBuilder, StringBuilder> {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new()).with_values_field(Field::new(
        "value",
        DataType::Utf8,
        false,
    ))
}

fn fingerprint(fields: &[Field]) -> String {
    let mut hash = Sha256::new();
    for field in fields {
        hash.update(format!("{} {} {}\n", field.name(), field.data_type(), field.is_nullable()));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

struct Builder {
    finite_floats: bool,
    first: u16,
    event_id: StringBuilder,
    message_id: StringBuilder,
    source: StringBuilder,
    type_name: StringBuilder,
    sent_at: Vec<i64>,
    sha256: Vec<u8>,
    attributes: MapBuilder<StringBuilder, StringBuilder>,
    attributes_bytes: usize,
    raw: BinaryBuilder,
    types: Vec<(MessageColumns, Presence)>,
}

impl Builder {
    fn new(table: &Table, rows: usize) -> Self {
        Self {
            finite_floats: table.finite_floats,
            first: table.first,
            event_id: StringBuilder::with_capacity(rows, rows * 36),
            message_id: StringBuilder::with_capacity(rows, rows * 36),
            source: StringBuilder::with_capacity(rows, rows * 8),
            type_name: StringBuilder::with_capacity(rows, rows * 12),
            sent_at: Vec::with_capacity(rows),
            sha256: Vec::with_capacity(rows * 32),
            attributes: attributes(),
            attributes_bytes: 0,
            raw: BinaryBuilder::with_capacity(rows, 0),
            types: table.types.iter().map(|columns| (columns.clone(), Presence::default())).collect(),
        }
    }

    /// Reserves memory for `times` as many rows as there are now.
    fn reserve(&mut self, times: usize) {
        for (columns, _) in &mut self.types {
            columns.reserve(times);
        }
    }

    /// Memory that the columns will need, in bytes.
    fn bytes(&self) -> usize {
        let rows = self.sent_at.len();
        let texts = [&self.event_id, &self.message_id, &self.source, &self.type_name];
        let texts: usize = texts.iter().map(|text| text.values_slice().len()).sum();
        let types = self
            .types
            .iter()
            .map(|(columns, _)| columns.bytes() + (rows - columns.rows()) * columns.absent_bytes() + rows);
        texts + self.raw.values_slice().len() + self.attributes_bytes + rows * ENVELOPE_BYTES + types.sum::<usize>()
    }

    /// Appends one row and returns whether the columns represent the payload completely. After an error no column has changed.
    fn append(&mut self, batch: &Batch, record: &Record, payload: &[u8]) -> Result<bool, AppendError> {
        let row = self.sent_at.len();
        let position = record.event_type.and_then(|event_type| event_type.checked_sub(self.first));
        let lossless = match position.and_then(|position| self.types.get_mut(usize::from(position))) {
            Some((columns, presence)) => {
                // The columns of a type are not touched by rows of other types; these are added as nulls now.
                if columns.rows() < row {
                    columns.append_absent(row - columns.rows());
                }
                let mut fidelity = Fidelity::new(self.finite_floats);
                match columns.append(payload, &mut fidelity) {
                    Ok(()) => {
                        presence.append_absent(row - presence.len());
                        presence.append_present();
                        fidelity.is_lossless()
                    }
                    // Its payload is kept, like that of a type that is not registered.
                    Err(AppendError::TooLarge) => false,
                    Err(error) => return Err(error),
                }
            }
            None => false,
        };
        self.event_id.append_value(batch.event_id(record));
        self.message_id.append_value(batch.message_id(record));
        self.source.append_option(batch.source(record));
        self.type_name.append_value(batch.type_name(record));
        self.sent_at.push(record.sent_at_us);
        self.sha256.extend_from_slice(&Sha256::digest(payload));
        let attributes = batch.attributes(record).map(others).unwrap_or_default();
        for (name, text) in &attributes {
            self.attributes.keys().append_value(name);
            self.attributes.values().append_value(text);
            self.attributes_bytes += name.len() + text.len() + 8;
        }
        self.attributes.append(!attributes.is_empty()).map_err(|_| AppendError::Full)?;
        self.raw.append_option((!lossless).then_some(payload));
        Ok(lossless)
    }

    fn finish(mut self, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
        let rows = self.sent_at.len();
        let sha256 = BinaryArray::try_new(
            OffsetBuffer::from_lengths(std::iter::repeat_n(32, rows)),
            Buffer::from_vec(self.sha256),
            None,
        )?;
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.event_id.finish()),
            Arc::new(self.message_id.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.type_name.finish()),
            Arc::new(TimestampMicrosecondArray::from(self.sent_at).with_data_type(utc_micros())),
            Arc::new(sha256),
            Arc::new(self.attributes.finish()),
            Arc::new(self.raw.finish()),
        ];
        for (mut columns, mut presence) in self.types {
            columns.append_absent(rows - columns.rows());
            presence.append_absent(rows - presence.len());
            arrays.push(columns.finish(presence.finish())?);
        }
        RecordBatch::try_new(schema, arrays)
    }
}
