//! Protobuf wire format → Arrow columns, led by the message's descriptor, without building messages in between.
//!
//! | protobuf | column | null |
//! |---|---|---|
//! | `int32` `sint32` `sfixed32` | Int32 | never, unless the field tracks presence |
//! | `int64` `sint64` `sfixed64` `uint32` `fixed32` | Int64 | 〃 |
//! | `uint64` `fixed64` | Decimal(20, 0), since few warehouses read unsigned 64-bit integers | 〃 |
//! | `float` `double` `bool` `string` `bytes` | Float32, Float64, Boolean, Utf8, Binary | 〃 |
//! | enum | Utf8, the value's name; the number in digits when it has none | 〃 |
//! | message | Struct; Boolean `true` when the message has no fields, since Parquet has no empty groups | absent |
//! | `Timestamp` | Timestamp(µs, UTC) | absent |
//! | `Duration` | Int64, microseconds | absent |
//! | `StringValue` and the other wrappers | the wrapped type | absent |
//! | `repeated` | List of non-null elements | never |
//! | `map` | Map, the last value of a key | never |
//!
//! A column may hold less than the wire did: an unknown field or enum number, nanoseconds, a time outside the years 1
//! to 9999. [`Fidelity`] then says so, and the caller keeps the payload.

use std::{collections::HashMap, mem, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
        ListArray, MapArray, StringArray, StructArray, TimestampMicrosecondArray, UInt32Array,
    },
    buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    compute::take,
    datatypes::{DataType, Field, FieldRef, Fields, TimeUnit},
    error::ArrowError,
};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use crate::wire::{FIXED32, FIXED64, LEN, Reader, Tag, VARINT, WireError};

/// The type of every time: microseconds, UTC. Written as an offset, which needs no time zone database.
#[must_use]
pub fn utc_micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

/// Why a message type has no columns.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The message contains itself, so its columns would never end.
    #[error("message {message} contains itself ({path}); a recursive type has no columns")]
    Recursive {
        /// Full name of the message that comes back.
        message: String,
        /// The field where it does.
        path: String,
    },
    /// proto2 groups are not supported.
    #[error("field {0} is a group; use a message field")]
    Group(String),
    /// Arrow refuses the shape.
    #[error("field {field} has no column")]
    Arrow {
        /// Full name of the field.
        field: String,
        /// Arrow's reason.
        source: ArrowError,
    },
}

/// Why a record was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The payload is not a message of this type.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A column has reached 2 GiB, the reach of Arrow's offsets; the record belongs in the next batch.
    #[error("a column is full")]
    Full,
}

/// Whether the columns hold all that a payload said.
#[derive(Debug, Clone, Copy)]
pub struct Fidelity {
    /// Whether floats must be finite, as in JSON.
    finite_floats: bool,
    lossless: bool,
}

impl Fidelity {
    /// Nothing lost so far. `finite_floats`: the output cannot hold NaN and infinities.
    #[must_use]
    pub const fn new(finite_floats: bool) -> Self {
        Self { finite_floats, lossless: true }
    }

    /// Whether the columns hold everything.
    #[must_use]
    pub const fn is_lossless(self) -> bool {
        self.lossless
    }

    const fn lose(&mut self) {
        self.lossless = false;
    }
}

/// The columns of one message type, growing row by row. A clone of an empty one is the next batch's.
#[derive(Debug, Clone)]
pub struct MessageColumns {
    columns: Vec<Column>,
    /// Field number → column, for the numbers that share a byte with their wire type. `NO_COLUMN` where there is none.
    near: [u16; 16],
    /// The same for higher numbers, sorted.
    far: Vec<(u32, u16)>,
    /// The columns of each oneof.
    oneofs: Vec<Vec<usize>>,
    fields: Fields,
    rows: usize,
}

const NO_COLUMN: u16 = u16::MAX;

#[derive(Debug, Clone)]
struct Column {
    field: FieldRef,
    values: Values,
    presence: Presence,
    oneof: Option<usize>,
    /// A sub-message has begun in the current row.
    open: bool,
}

/// Which rows of a nullable column hold a value; empty for the others.
#[derive(Debug, Clone, Default)]
pub struct Presence(Vec<bool>);

/// One column's values. Every variant holds one value a row, but for the row that is being read.
#[derive(Debug, Clone)]
enum Values {
    Bool(Vec<bool>),
    Int32(Integer, Vec<i32>),
    Int64(Integer, Vec<i64>),
    Uint64(Integer, Vec<i128>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Text(Slices),
    Bytes(Slices),
    Enum(Arc<EnumNames>, Slices),
    Time(Time),
    Message(Box<MessageColumns>),
    Wrapper(Box<MessageColumns>),
    List(Offsets, Box<Values>),
    Map(Box<MapEntries>),
}

/// How an integer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Integer {
    Varint,
    /// Unsigned 32-bit varint.
    Varint32,
    ZigZag,
    Fixed32,
    SignedFixed32,
    Fixed64,
}

/// Variable-length values, end to end.
#[derive(Debug, Clone)]
struct Slices {
    offsets: Offsets,
    data: Vec<u8>,
}

/// Arrow offsets: row i is `[at(i), at(i + 1))`.
#[derive(Debug, Clone)]
struct Offsets(Vec<i32>);

/// `google.protobuf.Timestamp` or `Duration`, as microseconds.
#[derive(Debug, Clone)]
struct Time {
    duration: bool,
    micros: Vec<i64>,
    /// What the current row's message has said so far: a second occurrence of the field merges with the first.
    seconds: i64,
    nanos: i32,
}

#[derive(Debug, Clone)]
struct MapEntries {
    /// Over all entries, the replaced ones included.
    offsets: Offsets,
    entries: MessageColumns,
    /// Entries whose key came again later in the same row.
    replaced: Vec<usize>,
}

/// A key of a map, to find one that comes twice.
#[derive(PartialEq, Eq, Hash)]
enum MapKey<'a> {
    Integer(i128),
    Text(&'a [u8]),
}

#[derive(Debug)]
struct EnumNames {
    /// Number → name, sorted by number; the first name of a number counts.
    names: Vec<(i32, String)>,
}

impl MessageColumns {
    /// Empty columns for `message`.
    pub fn new(message: &MessageDescriptor) -> Result<Self, SchemaError> {
        Self::build(message, &mut Vec::new())
    }

    fn build(message: &MessageDescriptor, above: &mut Vec<String>) -> Result<Self, SchemaError> {
        above.push(message.full_name().to_owned());
        let mut described: Vec<FieldDescriptor> = message.fields().collect();
        described.sort_by_key(FieldDescriptor::number);
        let mut columns = Vec::with_capacity(described.len());
        let mut near = [NO_COLUMN; 16];
        let mut far = Vec::new();
        let mut oneofs = vec![Vec::new(); message.oneofs().len()];
        for field in &described {
            let index = columns.len();
            let id = u16::try_from(index).unwrap_or(NO_COLUMN);
            match usize::try_from(field.number()).ok().and_then(|number| near.get_mut(number)) {
                Some(slot) => *slot = id,
                None => far.push((field.number(), id)),
            }
            let oneof = field.containing_oneof().and_then(|oneof| message.oneofs().position(|other| other == oneof));
            if let Some(members) = oneof.and_then(|oneof| oneofs.get_mut(oneof)) {
                members.push(index);
            }
            columns.push(Column::new(field, oneof, message.is_map_entry(), above)?);
        }
        above.pop();
        let fields: Fields = columns.iter().map(|column: &Column| column.field.clone()).collect();
        Ok(Self { columns, near, far, oneofs, fields, rows: 0 })
    }

    /// The type of the column that holds such messages: a Struct, or Boolean for a message without fields.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        if self.fields.is_empty() { DataType::Boolean } else { DataType::Struct(self.fields.clone()) }
    }

    /// Rows so far.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Appends one message. On an error the columns are as before.
    pub fn append(&mut self, payload: &[u8], fidelity: &mut Fidelity) -> Result<(), AppendError> {
        let merged = self.merge(Reader::new(payload), fidelity).and_then(|()| self.finish_row());
        if merged.is_err() {
            self.truncate(self.rows);
        }
        merged
    }

    /// Appends `rows` rows in which the message is absent.
    pub fn append_absent(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.append_absent(rows);
        }
        self.rows += rows;
    }

    /// The columns as one array, null where `nulls` says so.
    pub fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        if self.fields.is_empty() {
            return Ok(Arc::new(BooleanArray::new(BooleanBuffer::new_set(self.rows), nulls)));
        }
        let arrays = self.columns.into_iter().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(StructArray::try_new(self.fields, arrays, nulls)?))
    }

    #[inline]
    fn position(&self, field: u32) -> Option<usize> {
        let id = match usize::try_from(field).ok().and_then(|field| self.near.get(field)) {
            Some(id) => *id,
            None => {
                let at = self.far.binary_search_by_key(&field, |(number, _)| *number).ok()?;
                self.far.get(at)?.1
            }
        };
        (id != NO_COLUMN).then_some(usize::from(id))
    }

    /// Reads one occurrence of the message into the current row.
    fn merge(&mut self, mut reader: Reader<'_>, fidelity: &mut Fidelity) -> Result<(), AppendError> {
        while let Some(tag) = reader.tag()? {
            let row = self.rows;
            match self.position(tag.field).and_then(|index| Some((index, self.columns.get_mut(index)?))) {
                None => {
                    fidelity.lose();
                    reader.skip(tag)?;
                }
                Some((index, column)) => {
                    column.merge(row, tag, &mut reader, fidelity)?;
                    if let Some(oneof) = column.oneof {
                        self.clear_others(oneof, index);
                    }
                }
            }
        }
        Ok(())
    }

    /// Only the last member of a oneof counts.
    fn clear_others(&mut self, oneof: usize, set: usize) {
        let row = self.rows;
        for member in self.oneofs.get(oneof).into_iter().flatten().filter(|member| **member != set) {
            if let Some(column) = self.columns.get_mut(*member) {
                column.truncate(row);
            }
        }
    }

    fn finish_row(&mut self) -> Result<(), AppendError> {
        for column in &mut self.columns {
            column.finish_row(self.rows)?;
        }
        self.rows += 1;
        Ok(())
    }

    /// Forgets everything from `rows` on, the row that is being read included.
    fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
        self.rows = rows;
    }
}

impl Column {
    fn new(
        field: &FieldDescriptor,
        oneof: Option<usize>,
        in_map: bool,
        above: &mut Vec<String>,
    ) -> Result<Self, SchemaError> {
        let values = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { return Err(SchemaError::Group(field.full_name().into())) };
            let entries = MessageColumns::build(&entry, above)?;
            Values::Map(Box::new(MapEntries { offsets: Offsets::new(), entries, replaced: Vec::new() }))
        } else {
            let values = Values::new(field, above)?;
            if field.is_list() { Values::List(Offsets::new(), Box::new(values)) } else { values }
        };
        // The value of a map entry is always there: an absent one is the default.
        let nullable = field.cardinality() != Cardinality::Repeated && field.supports_presence() && !in_map;
        let data_type = values.data_type();
        let field = Arc::new(Field::new(field.name(), data_type, nullable));
        Ok(Self { field, values, presence: Presence::default(), oneof, open: false })
    }

    fn merge(
        &mut self,
        row: usize,
        tag: Tag,
        reader: &mut Reader<'_>,
        fidelity: &mut Fidelity,
    ) -> Result<(), AppendError> {
        match &mut self.values {
            Values::Message(message) | Values::Wrapper(message) => {
                tag.expect(LEN)?;
                self.open = true;
                message.merge(Reader::new(reader.len_delimited()?), fidelity)
            }
            Values::Time(time) => {
                tag.expect(LEN)?;
                if time.micros.len() == row {
                    time.begin();
                }
                time.micros.truncate(row);
                time.append(Reader::new(reader.len_delimited()?), fidelity)
            }
            Values::List(_, items) => items.append_items(tag, reader, fidelity),
            Values::Map(map) => {
                tag.expect(LEN)?;
                map.entries.append_entry(reader.len_delimited()?, fidelity)
            }
            scalar => {
                scalar.truncate(row);
                scalar.append(tag, reader, fidelity)
            }
        }
    }

    fn finish_row(&mut self, row: usize) -> Result<(), AppendError> {
        let present = match &mut self.values {
            Values::Message(message) | Values::Wrapper(message) => {
                if self.open || !self.field.is_nullable() {
                    message.finish_row()?;
                } else {
                    message.append_absent(1);
                }
                mem::take(&mut self.open)
            }
            Values::List(offsets, items) => {
                offsets.push(items.len())?;
                true
            }
            Values::Map(map) => {
                map.finish_row()?;
                true
            }
            scalar if scalar.len() == row => {
                match scalar {
                    Values::Enum(names, slices) if !self.field.is_nullable() => {
                        slices.push(names.get(0).unwrap_or("0").as_bytes())?;
                    }
                    scalar => scalar.append_absent(1),
                }
                false
            }
            _ => true,
        };
        if self.field.is_nullable() {
            self.presence.0.push(present);
        }
        Ok(())
    }

    fn append_absent(&mut self, rows: usize) {
        self.values.append_absent(rows);
        if self.field.is_nullable() {
            self.presence.append_absent(rows);
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.presence.0.truncate(rows);
        self.open = false;
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        self.values.finish(self.field.data_type(), self.presence.finish())
    }
}

impl Presence {
    /// Rows so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends a row that holds a value.
    pub fn append_present(&mut self) {
        self.0.push(true);
    }

    /// Appends rows that hold none.
    pub fn append_absent(&mut self, rows: usize) {
        self.0.resize(self.0.len() + rows, false);
    }

    /// The null buffer, or `None` when every row holds a value.
    #[must_use]
    pub fn finish(self) -> Option<NullBuffer> {
        (!self.0.iter().all(|present| *present)).then(|| NullBuffer::from(self.0))
    }
}

impl Values {
    fn new(field: &FieldDescriptor, above: &mut Vec<String>) -> Result<Self, SchemaError> {
        Ok(match field.kind() {
            _ if field.is_group() => return Err(SchemaError::Group(field.full_name().to_owned())),
            Kind::Bool => Self::Bool(Vec::new()),
            Kind::Int32 => Self::Int32(Integer::Varint, Vec::new()),
            Kind::Sint32 => Self::Int32(Integer::ZigZag, Vec::new()),
            Kind::Sfixed32 => Self::Int32(Integer::SignedFixed32, Vec::new()),
            Kind::Int64 => Self::Int64(Integer::Varint, Vec::new()),
            Kind::Sint64 => Self::Int64(Integer::ZigZag, Vec::new()),
            Kind::Sfixed64 => Self::Int64(Integer::Fixed64, Vec::new()),
            Kind::Uint32 => Self::Int64(Integer::Varint32, Vec::new()),
            Kind::Fixed32 => Self::Int64(Integer::Fixed32, Vec::new()),
            Kind::Uint64 => Self::Uint64(Integer::Varint, Vec::new()),
            Kind::Fixed64 => Self::Uint64(Integer::Fixed64, Vec::new()),
            Kind::Float => Self::Float(Vec::new()),
            Kind::Double => Self::Double(Vec::new()),
            Kind::String => Self::Text(Slices::new()),
            Kind::Bytes => Self::Bytes(Slices::new()),
            Kind::Enum(described) => Self::Enum(Arc::new(EnumNames::new(&described)), Slices::new()),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Self::Time(Time::new(false)),
                "google.protobuf.Duration" => Self::Time(Time::new(true)),
                name if above.iter().any(|message| message == name) => {
                    let path = field.full_name().to_owned();
                    return Err(SchemaError::Recursive { message: name.to_owned(), path });
                }
                name => {
                    let wrapper = is_wrapper(name);
                    let columns = Box::new(MessageColumns::build(&message, above)?);
                    if wrapper { Self::Wrapper(columns) } else { Self::Message(columns) }
                }
            },
        })
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Bool(_) => DataType::Boolean,
            Self::Int32(..) => DataType::Int32,
            Self::Int64(..) => DataType::Int64,
            Self::Uint64(..) => DataType::Decimal128(20, 0),
            Self::Float(_) => DataType::Float32,
            Self::Double(_) => DataType::Float64,
            Self::Text(_) | Self::Enum(..) => DataType::Utf8,
            Self::Bytes(_) => DataType::Binary,
            Self::Time(time) if time.duration => DataType::Int64,
            Self::Time(_) => utc_micros(),
            Self::Message(message) => message.data_type(),
            Self::Wrapper(message) => {
                message.fields.first().map_or(DataType::Boolean, |value| value.data_type().clone())
            }
            Self::List(_, items) => DataType::List(Arc::new(Field::new("element", items.data_type(), false))),
            Self::Map(map) => DataType::Map(Arc::new(Field::new("key_value", map.entries.data_type(), false)), false),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int32(_, values) => values.len(),
            Self::Int64(_, values) => values.len(),
            Self::Uint64(_, values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Text(slices) | Self::Bytes(slices) | Self::Enum(_, slices) => slices.offsets.len(),
            Self::Time(time) => time.micros.len(),
            Self::Message(message) | Self::Wrapper(message) => message.rows,
            Self::List(offsets, _) => offsets.len(),
            Self::Map(map) => map.offsets.len(),
        }
    }

    /// Appends what one occurrence of the field says: one value, or many when a repeated field is packed.
    fn append_items(&mut self, tag: Tag, reader: &mut Reader<'_>, fidelity: &mut Fidelity) -> Result<(), AppendError> {
        match self.packed_as() {
            Some(wire_type) if tag.wire_type == LEN => {
                let mut packed = Reader::new(reader.len_delimited()?);
                while !packed.is_empty() {
                    self.append(Tag { field: tag.field, wire_type }, &mut packed, fidelity)?;
                }
                Ok(())
            }
            _ => self.append(tag, reader, fidelity),
        }
    }

    /// The wire type of one element when many are packed together; `None` for what is never packed.
    const fn packed_as(&self) -> Option<u8> {
        match self {
            Self::Bool(_) | Self::Enum(..) => Some(VARINT),
            Self::Int32(integer, _) | Self::Int64(integer, _) | Self::Uint64(integer, _) => Some(integer.wire_type()),
            Self::Float(_) => Some(FIXED32),
            Self::Double(_) => Some(FIXED64),
            _ => None,
        }
    }

    /// Appends one value.
    #[inline]
    fn append(&mut self, tag: Tag, reader: &mut Reader<'_>, fidelity: &mut Fidelity) -> Result<(), AppendError> {
        match self {
            Self::Text(slices) => {
                tag.expect(LEN)?;
                let text = reader.len_delimited()?;
                if std::str::from_utf8(text).is_err() {
                    return Err(WireError::Utf8 { field: tag.field }.into());
                }
                slices.push(text)?;
            }
            Self::Bytes(slices) => {
                tag.expect(LEN)?;
                slices.push(reader.len_delimited()?)?;
            }
            Self::Int32(integer, values) => values.push(integer.read_i32(tag, reader)?),
            Self::Int64(integer, values) => values.push(integer.read_i64(tag, reader)?),
            Self::Uint64(integer, values) => values.push(i128::from(integer.read_i64(tag, reader)?.cast_unsigned())),
            Self::Bool(values) => {
                tag.expect(VARINT)?;
                values.push(reader.varint()? != 0);
            }
            Self::Float(values) => {
                tag.expect(FIXED32)?;
                let value = f32::from_le_bytes(reader.fixed32()?);
                if fidelity.finite_floats && !value.is_finite() {
                    fidelity.lose();
                }
                values.push(value);
            }
            Self::Double(values) => {
                tag.expect(FIXED64)?;
                let value = f64::from_le_bytes(reader.fixed64()?);
                if fidelity.finite_floats && !value.is_finite() {
                    fidelity.lose();
                }
                values.push(value);
            }
            Self::Enum(names, slices) => {
                tag.expect(VARINT)?;
                let number = low_i32(reader.varint()?);
                match names.get(number) {
                    Some(name) => slices.push(name.as_bytes())?,
                    None => {
                        fidelity.lose();
                        slices.push(number.to_string().as_bytes())?;
                    }
                }
            }
            Self::Time(time) => {
                tag.expect(LEN)?;
                time.begin();
                time.append(Reader::new(reader.len_delimited()?), fidelity)?;
            }
            Self::Message(message) | Self::Wrapper(message) => {
                tag.expect(LEN)?;
                message.append_entry(reader.len_delimited()?, fidelity)?;
            }
            Self::List(..) | Self::Map(_) => unreachable!("lists and maps have no lists of themselves"),
        }
        Ok(())
    }

    fn append_absent(&mut self, rows: usize) {
        let len = self.len() + rows;
        match self {
            Self::Bool(values) => values.resize(len, false),
            Self::Int32(_, values) => values.resize(len, 0),
            Self::Int64(_, values) => values.resize(len, 0),
            Self::Uint64(_, values) => values.resize(len, 0),
            Self::Float(values) => values.resize(len, 0.0),
            Self::Double(values) => values.resize(len, 0.0),
            Self::Text(slices) | Self::Bytes(slices) | Self::Enum(_, slices) => slices.offsets.append_empty(rows),
            Self::Time(time) => time.micros.resize(len, 0),
            Self::Message(message) | Self::Wrapper(message) => message.append_absent(rows),
            Self::List(offsets, _) => offsets.append_empty(rows),
            Self::Map(map) => map.offsets.append_empty(rows),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Bool(values) => values.truncate(rows),
            Self::Int32(_, values) => values.truncate(rows),
            Self::Int64(_, values) => values.truncate(rows),
            Self::Uint64(_, values) => values.truncate(rows),
            Self::Float(values) => values.truncate(rows),
            Self::Double(values) => values.truncate(rows),
            Self::Text(slices) | Self::Bytes(slices) | Self::Enum(_, slices) => slices.truncate(rows),
            Self::Time(time) => time.micros.truncate(rows),
            Self::Message(message) | Self::Wrapper(message) => message.truncate(rows),
            Self::List(offsets, items) => {
                offsets.truncate(rows);
                items.truncate(offsets.end());
            }
            Self::Map(map) => {
                map.offsets.truncate(rows);
                let kept = map.offsets.end();
                map.entries.truncate(kept);
                map.replaced.retain(|entry| *entry < kept);
            }
        }
    }

    fn finish(self, data_type: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Self::Int32(_, values) => Arc::new(Int32Array::try_new(values.into(), nulls)?),
            Self::Int64(_, values) => Arc::new(Int64Array::try_new(values.into(), nulls)?),
            Self::Uint64(_, values) => {
                Arc::new(Decimal128Array::try_new(values.into(), nulls)?.with_data_type(data_type.clone()))
            }
            Self::Float(values) => Arc::new(Float32Array::try_new(values.into(), nulls)?),
            Self::Double(values) => Arc::new(Float64Array::try_new(values.into(), nulls)?),
            Self::Text(slices) | Self::Enum(_, slices) => {
                let (offsets, data) = slices.finish();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Self::Bytes(slices) => {
                let (offsets, data) = slices.finish();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Self::Time(time) if time.duration => Arc::new(Int64Array::try_new(time.micros.into(), nulls)?),
            Self::Time(time) => Arc::new(
                TimestampMicrosecondArray::try_new(time.micros.into(), nulls)?.with_data_type(data_type.clone()),
            ),
            Self::Message(message) => message.finish(nulls)?,
            Self::Wrapper(message) => match message.columns.into_iter().next() {
                Some(value) => value.values.finish(data_type, nulls)?,
                None => return Err(ArrowError::SchemaError("a wrapper wraps nothing".into())),
            },
            Self::List(offsets, items) => {
                let DataType::List(item) = data_type else {
                    return Err(ArrowError::SchemaError("a repeated field is no list".into()));
                };
                let items = items.finish(item.data_type(), None)?;
                Arc::new(ListArray::try_new(item.clone(), offsets.finish(), items, nulls)?)
            }
            Self::Map(map) => map.finish(data_type, nulls)?,
        })
    }
}

impl MessageColumns {
    /// Appends one element of a repeated message field, or one entry of a map. The caller truncates on an error.
    fn append_entry(&mut self, bytes: &[u8], fidelity: &mut Fidelity) -> Result<(), AppendError> {
        self.merge(Reader::new(bytes), fidelity)?;
        self.finish_row()
    }
}

impl Integer {
    const fn wire_type(self) -> u8 {
        match self {
            Self::Varint | Self::Varint32 | Self::ZigZag => VARINT,
            Self::Fixed32 | Self::SignedFixed32 => FIXED32,
            Self::Fixed64 => FIXED64,
        }
    }

    #[inline]
    fn read_i32(self, tag: Tag, reader: &mut Reader<'_>) -> Result<i32, WireError> {
        tag.expect(self.wire_type())?;
        Ok(match self {
            Self::SignedFixed32 | Self::Fixed32 => i32::from_le_bytes(reader.fixed32()?),
            Self::ZigZag => {
                let value = low_u32(reader.varint()?);
                (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
            }
            _ => low_i32(reader.varint()?),
        })
    }

    #[inline]
    fn read_i64(self, tag: Tag, reader: &mut Reader<'_>) -> Result<i64, WireError> {
        tag.expect(self.wire_type())?;
        Ok(match self {
            Self::Varint => reader.varint()?.cast_signed(),
            Self::Varint32 => i64::from(low_u32(reader.varint()?)),
            Self::ZigZag => {
                let value = reader.varint()?;
                (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
            }
            Self::Fixed32 => i64::from(u32::from_le_bytes(reader.fixed32()?)),
            Self::SignedFixed32 => i64::from(i32::from_le_bytes(reader.fixed32()?)),
            Self::Fixed64 => i64::from_le_bytes(reader.fixed64()?),
        })
    }
}

/// A varint of a 32-bit field: protobuf keeps the low 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "protobuf keeps the low 32 bits")]
const fn low_u32(varint: u64) -> u32 {
    varint as u32
}

const fn low_i32(varint: u64) -> i32 {
    low_u32(varint).cast_signed()
}

impl Offsets {
    fn new() -> Self {
        Self(vec![0])
    }

    fn len(&self) -> usize {
        self.0.len() - 1
    }

    fn last(&self) -> i32 {
        self.0.last().copied().unwrap_or(0)
    }

    fn end(&self) -> usize {
        usize::try_from(self.last()).unwrap_or(0)
    }

    fn push(&mut self, end: usize) -> Result<(), AppendError> {
        self.0.push(i32::try_from(end).map_err(|_| AppendError::Full)?);
        Ok(())
    }

    fn append_empty(&mut self, rows: usize) {
        self.0.resize(self.0.len() + rows, self.last());
    }

    fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows + 1);
    }

    fn finish(self) -> OffsetBuffer<i32> {
        OffsetBuffer::new(ScalarBuffer::from(self.0))
    }
}

impl Slices {
    fn new() -> Self {
        Self { offsets: Offsets::new(), data: Vec::new() }
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        self.offsets.push(self.data.len() + bytes.len())?;
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        if self.offsets.len() > rows {
            self.offsets.truncate(rows);
            self.data.truncate(self.offsets.end());
        }
    }

    fn finish(self) -> (OffsetBuffer<i32>, Buffer) {
        (self.offsets.finish(), Buffer::from_vec(self.data))
    }
}

impl EnumNames {
    fn new(described: &EnumDescriptor) -> Self {
        let mut names: Vec<(i32, String)> =
            described.values().map(|value| (value.number(), value.name().to_owned())).collect();
        names.sort_by_key(|(number, _)| *number);
        names.dedup_by_key(|(number, _)| *number);
        Self { names }
    }

    fn get(&self, number: i32) -> Option<&str> {
        let at = self.names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.names.get(at).map(|(_, name)| name.as_str())
    }
}

impl Time {
    const fn new(duration: bool) -> Self {
        Self { duration, micros: Vec::new(), seconds: 0, nanos: 0 }
    }

    const fn begin(&mut self) {
        self.seconds = 0;
        self.nanos = 0;
    }

    /// Merges one occurrence with what the row has said so far and appends the sum.
    fn append(&mut self, mut reader: Reader<'_>, fidelity: &mut Fidelity) -> Result<(), AppendError> {
        while let Some(tag) = reader.tag()? {
            match tag.field {
                1 => self.seconds = Integer::Varint.read_i64(tag, &mut reader)?,
                2 => self.nanos = Integer::Varint.read_i32(tag, &mut reader)?,
                _ => {
                    fidelity.lose();
                    reader.skip(tag)?;
                }
            }
        }
        let micros = i128::from(self.seconds) * 1_000_000 + i128::from(self.nanos.div_euclid(1_000));
        let limits = if self.duration { &DURATION_MICROS } else { &TIMESTAMP_MICROS };
        let nearest = micros.clamp(i128::from(*limits.start()), i128::from(*limits.end()));
        if nearest != micros || !self.is_exact() {
            fidelity.lose();
        }
        self.micros.push(i64::try_from(nearest).unwrap_or_default());
        Ok(())
    }

    /// Whether seconds and nanoseconds can be told from the microseconds again.
    const fn is_exact(&self) -> bool {
        let whole_micros = self.nanos % 1_000 == 0;
        let canonical = if self.duration {
            self.nanos.abs() < 1_000_000_000
                && (self.seconds == 0 || self.nanos == 0 || (self.seconds < 0) == (self.nanos < 0))
        } else {
            0 <= self.nanos && self.nanos < 1_000_000_000
        };
        whole_micros && canonical
    }
}

/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z, as timestamp.proto limits it.
const TIMESTAMP_MICROS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;
/// About 10,000 years either way, as duration.proto limits it.
const DURATION_MICROS: std::ops::RangeInclusive<i64> = -315_576_000_000_999_999..=315_576_000_000_999_999;

fn is_wrapper(name: &str) -> bool {
    matches!(
        name.strip_prefix("google.protobuf."),
        Some(
            "DoubleValue"
                | "FloatValue"
                | "Int64Value"
                | "UInt64Value"
                | "Int32Value"
                | "UInt32Value"
                | "BoolValue"
                | "StringValue"
                | "BytesValue"
        )
    )
}

impl MapEntries {
    /// Closes a row. The last entry of a key counts; the others are dropped when the map is finished.
    fn finish_row(&mut self) -> Result<(), AppendError> {
        let (start, end) = (self.offsets.end(), self.entries.rows);
        if end - start > 1 {
            let mut last: HashMap<MapKey<'_>, usize> = HashMap::with_capacity(end - start);
            for entry in start..end {
                if let Some(key) = self.entries.columns.first().and_then(|key| key.values.map_key(entry)) {
                    self.replaced.extend(last.insert(key, entry));
                }
            }
        }
        self.offsets.push(end)
    }

    fn finish(mut self, data_type: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let DataType::Map(entry, _) = data_type else {
            return Err(ArrowError::SchemaError("a map field is no map".into()));
        };
        let rows = self.entries.rows;
        let mut entries = self.entries.finish(None)?;
        if !self.replaced.is_empty() {
            self.replaced.sort_unstable();
            let mut replaced = self.replaced.iter().copied().peekable();
            let mut kept: Vec<u32> = Vec::with_capacity(rows);
            for row in 0..rows {
                if replaced.next_if_eq(&row).is_none() {
                    kept.push(u32::try_from(row).map_err(|_| ArrowError::OffsetOverflowError(row))?);
                }
            }
            entries = take(&entries, &UInt32Array::from(kept), None)?;
            for end in &mut self.offsets.0 {
                let before = self.replaced.partition_point(|entry| usize::try_from(*end).is_ok_and(|end| *entry < end));
                *end -= i32::try_from(before).unwrap_or_default();
            }
        }
        let Some(entries) = entries.as_any().downcast_ref::<StructArray>() else {
            return Err(ArrowError::SchemaError("map entries are no struct".into()));
        };
        Ok(Arc::new(MapArray::try_new(entry.clone(), self.offsets.finish(), entries.clone(), nulls, false)?))
    }
}

impl Values {
    /// The value of a row, as a map's key.
    fn map_key(&self, row: usize) -> Option<MapKey<'_>> {
        match self {
            Self::Bool(values) => values.get(row).map(|value| MapKey::Integer(i128::from(*value))),
            Self::Int32(_, values) => values.get(row).map(|value| MapKey::Integer(i128::from(*value))),
            Self::Int64(_, values) => values.get(row).map(|value| MapKey::Integer(i128::from(*value))),
            Self::Uint64(_, values) => values.get(row).map(|value| MapKey::Integer(*value)),
            Self::Text(slices) => {
                let start = usize::try_from(*slices.offsets.0.get(row)?).ok()?;
                let end = usize::try_from(*slices.offsets.0.get(row + 1)?).ok()?;
                slices.data.get(start..end).map(MapKey::Text)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
