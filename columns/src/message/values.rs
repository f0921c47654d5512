//! The values of one column of any type.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
        ListArray, TimestampMicrosecondArray,
    },
    buffer::{BooleanBuffer, NullBuffer},
    datatypes::{DataType, Field},
    error::ArrowError,
};
use prost_reflect::{FieldDescriptor, Kind, Syntax};

use super::{
    AppendError, Fidelity, MessageColumns,
    json::{self, Json},
    map::{MapEntries, MapKey},
    scalar::{EnumNames, Integer, OFFSET_BYTES, Offsets, Slices},
    time::Time,
    utc_micros,
};
use crate::wire::{FIXED32, FIXED64, LEN, Reader, Tag, VARINT, WireError, low_i32};

/// Memory of the levels of a value in a list: two numbers of 16 bits, and its index.
pub(super) const LEVEL_BYTES: usize = 2 * size_of::<i16>() + size_of::<usize>();

/// The values of one column. Every variant holds one value for each completed row.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Bool(Vec<bool>),
    Int32(Integer, Vec<i32>),
    Int64(Integer, Vec<i64>),
    Uint64(Integer, Vec<i128>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    /// Whether bytes that are not UTF-8 are an error, as in proto3.
    Text(bool, Slices),
    Bytes(Slices),
    Enum(Arc<EnumNames>, Slices),
    Time(Time),
    Message(Box<MessageColumns>),
    Wrapper(Box<MessageColumns>),
    List(Offsets, Box<Values>),
    Map(Box<MapEntries>),
    Json(Box<Json>),
}

impl Values {
    pub(super) fn new(field: &FieldDescriptor, above: &mut Vec<String>) -> Self {
        match field.kind() {
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
            Kind::String => Self::Text(field.parent_file().syntax() != Syntax::Proto2, Slices::new()),
            Kind::Bytes => Self::Bytes(Slices::new()),
            Kind::Enum(described) => Self::Enum(Arc::new(EnumNames::new(&described)), Slices::new()),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Self::Time(Time::new(false)),
                "google.protobuf.Duration" => Self::Time(Time::new(true)),
                name if field.is_group() || json::is_open(name) || above.iter().any(|message| message == name) => {
                    Self::Json(Box::new(Json::new(message, field.is_group())))
                }
                name => {
                    let wrapper = is_wrapper(name);
                    let columns = Box::new(MessageColumns::build(&message, above));
                    if wrapper { Self::Wrapper(columns) } else { Self::Message(columns) }
                }
            },
        }
    }

    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Bool(_) => DataType::Boolean,
            Self::Int32(..) => DataType::Int32,
            Self::Int64(..) => DataType::Int64,
            Self::Uint64(..) => DataType::Decimal128(20, 0),
            Self::Float(_) => DataType::Float32,
            Self::Double(_) => DataType::Float64,
            Self::Text(..) | Self::Enum(..) | Self::Json(_) => DataType::Utf8,
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

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int32(_, values) => values.len(),
            Self::Int64(_, values) => values.len(),
            Self::Uint64(_, values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Text(_, slices) | Self::Bytes(slices) | Self::Enum(_, slices) => slices.offsets.len(),
            Self::Json(json) => json.slices.offsets.len(),
            Self::Time(time) => time.micros.len(),
            Self::Message(message) | Self::Wrapper(message) => message.rows,
            Self::List(offsets, _) => offsets.len(),
            Self::Map(map) => map.offsets.len(),
        }
    }

    /// Appends one occurrence of the field: one value, or many if a repeated field is packed.
    pub(super) fn append_items(
        &mut self,
        tag: Tag,
        reader: &mut Reader<'_>,
        fidelity: &mut Fidelity,
    ) -> Result<(), AppendError> {
        let bytes = match &*self {
            Self::Message(message) | Self::Wrapper(message) => message.element_bytes(),
            other => other.absent_bytes() + LEVEL_BYTES,
        };
        match self.packed_as() {
            Some(wire_type) if tag.wire_type == LEN => {
                let mut packed = Reader::new(reader.len_delimited()?);
                while !packed.is_empty() {
                    fidelity.element(bytes)?;
                    self.append(Tag { field: tag.field, wire_type }, &mut packed, fidelity)?;
                }
                Ok(())
            }
            _ => {
                fidelity.element(bytes)?;
                self.append(tag, reader, fidelity)
            }
        }
    }

    /// The wire type of one value, or of one element.
    pub(super) fn wire_type(&self) -> u8 {
        match self {
            Self::Text(..) | Self::Bytes(_) | Self::Time(_) | Self::Message(_) | Self::Wrapper(_) | Self::Map(_) => LEN,
            Self::Json(json) => json.wire_type(),
            Self::List(_, items) => items.wire_type(),
            number => number.packed_as().unwrap_or(LEN),
        }
    }

    /// The wire type of an element in a packed field; `None` if the type is never packed.
    pub(super) const fn packed_as(&self) -> Option<u8> {
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
    pub(super) fn append(
        &mut self,
        tag: Tag,
        reader: &mut Reader<'_>,
        fidelity: &mut Fidelity,
    ) -> Result<(), AppendError> {
        match self {
            Self::Text(strict, slices) => {
                let text = reader.len_delimited()?;
                // Nearly all text is ASCII, which is recognised several times faster than UTF-8.
                if text.is_ascii() || std::str::from_utf8(text).is_ok() {
                    slices.push(text)?;
                } else if *strict {
                    return Err(WireError::Utf8 { field: tag.field }.into());
                } else {
                    fidelity.lose();
                    slices.push(String::from_utf8_lossy(text).as_bytes())?;
                }
            }
            Self::Bytes(slices) => slices.push(reader.len_delimited()?)?,
            Self::Int32(integer, values) => values.push(integer.read_i32(reader)?),
            Self::Int64(integer, values) => values.push(integer.read_i64(reader)?),
            Self::Uint64(integer, values) => values.push(i128::from(integer.read_i64(reader)?.cast_unsigned())),
            Self::Bool(values) => values.push(reader.varint()? != 0),
            Self::Float(values) => {
                let value = f32::from_le_bytes(reader.fixed32()?);
                if fidelity.finite_floats && !value.is_finite() {
                    fidelity.lose();
                }
                values.push(value);
            }
            Self::Double(values) => {
                let value = f64::from_le_bytes(reader.fixed64()?);
                if fidelity.finite_floats && !value.is_finite() {
                    fidelity.lose();
                }
                values.push(value);
            }
            Self::Enum(names, slices) => {
                let number = low_i32(reader.varint()?);
                match names.get(number) {
                    Some(name) => {
                        fidelity.element(name.len())?;
                        slices.push(name.as_bytes())?;
                    }
                    None => {
                        fidelity.lose();
                        slices.push(number.to_string().as_bytes())?;
                    }
                }
            }
            Self::Time(time) => {
                time.begin();
                time.append(reader.message()?, fidelity)?;
            }
            Self::Message(message) | Self::Wrapper(message) => {
                message.append_entry(reader.message()?, fidelity)?;
            }
            Self::Json(json) => {
                json.merge(tag, reader, fidelity)?;
                json.append(fidelity)?;
            }
            Self::List(..) | Self::Map(_) => unreachable!("lists and maps have no lists of themselves"),
        }
        Ok(())
    }

    pub(super) fn append_absent(&mut self, rows: usize) {
        let len = self.len() + rows;
        match self {
            Self::Bool(values) => values.resize(len, false),
            Self::Int32(_, values) => values.resize(len, 0),
            Self::Int64(_, values) => values.resize(len, 0),
            Self::Uint64(_, values) => values.resize(len, 0),
            Self::Float(values) => values.resize(len, 0.0),
            Self::Double(values) => values.resize(len, 0.0),
            Self::Text(_, slices) | Self::Bytes(slices) | Self::Enum(_, slices) => slices.offsets.append_empty(rows),
            Self::Json(json) => json.slices.offsets.append_empty(rows),
            Self::Time(time) => time.micros.resize(len, 0),
            Self::Message(message) | Self::Wrapper(message) => message.append_absent(rows),
            Self::List(offsets, _) => offsets.append_empty(rows),
            Self::Map(map) => map.offsets.append_empty(rows),
        }
    }

    /// See [`MessageColumns::bytes`].
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Message(message) | Self::Wrapper(message) => message.bytes(),
            Self::Text(_, slices) | Self::Bytes(slices) | Self::Enum(_, slices) => slices.bytes(),
            Self::Json(json) => json.slices.bytes(),
            Self::List(offsets, items) => {
                offsets.len() * OFFSET_BYTES + items.bytes() + items.len() * items.leaves() * LEVEL_BYTES
            }
            Self::Map(map) => {
                let entries = &map.entries;
                map.offsets.len() * OFFSET_BYTES + entries.bytes() + entries.rows() * entries.leaves() * LEVEL_BYTES
            }
            fixed => fixed.len() * fixed.absent_bytes(),
        }
    }

    /// Number of leaf columns.
    pub(super) fn leaves(&self) -> usize {
        match self {
            Self::Message(message) | Self::Wrapper(message) => message.leaves(),
            Self::List(_, items) => items.leaves(),
            Self::Map(map) => map.entries.leaves(),
            _ => 1,
        }
    }

    /// See [`MessageColumns::absent_bytes`].
    pub(super) const fn absent_bytes(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Int32(..) | Self::Float(_) => 4,
            Self::Int64(..) | Self::Double(_) | Self::Time(_) => 8,
            Self::Uint64(..) => 16,
            Self::Message(message) | Self::Wrapper(message) => message.absent_bytes(),
            Self::Text(..) | Self::Bytes(_) | Self::Enum(..) | Self::Json(_) | Self::List(..) | Self::Map(_) => {
                OFFSET_BYTES
            }
        }
    }

    /// See [`MessageColumns::reserve`].
    pub(super) fn reserve(&mut self, times: usize) {
        match self {
            Self::Bool(values) => reserve(values, times),
            Self::Int32(_, values) => reserve(values, times),
            Self::Int64(_, values) => reserve(values, times),
            Self::Uint64(_, values) => reserve(values, times),
            Self::Float(values) => reserve(values, times),
            Self::Double(values) => reserve(values, times),
            Self::Text(_, slices) | Self::Bytes(slices) | Self::Enum(_, slices) => slices.reserve(times),
            Self::Json(json) => json.slices.reserve(times),
            Self::Time(time) => reserve(&mut time.micros, times),
            Self::Message(message) | Self::Wrapper(message) => message.reserve(times),
            Self::List(offsets, items) => {
                reserve(&mut offsets.0, times);
                items.reserve(times);
            }
            Self::Map(map) => {
                reserve(&mut map.offsets.0, times);
                map.entries.reserve(times);
            }
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        match self {
            Self::Bool(values) => values.truncate(rows),
            Self::Int32(_, values) => values.truncate(rows),
            Self::Int64(_, values) => values.truncate(rows),
            Self::Uint64(_, values) => values.truncate(rows),
            Self::Float(values) => values.truncate(rows),
            Self::Double(values) => values.truncate(rows),
            Self::Text(_, slices) | Self::Bytes(slices) | Self::Enum(_, slices) => slices.truncate(rows),
            Self::Json(json) => json.truncate(rows),
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
                map.replaced.truncate(map.replaced.partition_point(|entry| *entry < kept));
            }
        }
    }

    pub(super) fn finish(self, data_type: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Self::Int32(_, values) => Arc::new(Int32Array::try_new(values.into(), nulls)?),
            Self::Int64(_, values) => Arc::new(Int64Array::try_new(values.into(), nulls)?),
            Self::Uint64(_, values) => {
                Arc::new(Decimal128Array::try_new(values.into(), nulls)?.with_data_type(data_type.clone()))
            }
            Self::Float(values) => Arc::new(Float32Array::try_new(values.into(), nulls)?),
            Self::Double(values) => Arc::new(Float64Array::try_new(values.into(), nulls)?),
            Self::Text(_, slices) | Self::Enum(_, slices) => slices.finish_text(nulls)?,
            Self::Json(json) => json.slices.finish_text(nulls)?,
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

/// Reserves memory for `times` as many values as there are now.
pub(super) fn reserve<T>(values: &mut Vec<T>, times: usize) {
    values.reserve(values.len().saturating_mul(times));
}

pub(super) fn is_wrapper(name: &str) -> bool {
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

impl Values {
    /// The value of a row as a key of a map.
    pub(super) fn map_key(&self, row: usize) -> Option<MapKey<'_>> {
        match self {
            Self::Bool(values) => values.get(row).map(|value| MapKey::Integer(i128::from(*value))),
            Self::Int32(_, values) => values.get(row).map(|value| MapKey::Integer(i128::from(*value))),
            Self::Int64(_, values) => values.get(row).map(|value| MapKey::Integer(i128::from(*value))),
            Self::Uint64(_, values) => values.get(row).map(|value| MapKey::Integer(*value)),
            Self::Text(_, slices) => {
                let start = usize::try_from(*slices.offsets.0.get(row)?).ok()?;
                let end = usize::try_from(*slices.offsets.0.get(row + 1)?).ok()?;
                slices.data.get(start..end).map(MapKey::Text)
            }
            _ => None,
        }
    }
}
