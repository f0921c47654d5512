//! Decodes the protobuf wire format directly into Arrow columns according to the message's descriptor, without building a
//! message first.
//!
//! The README has the table of types. Columns cannot represent everything; [`Fidelity`] records that, and the caller keeps the
//! payload.

mod json;
mod map;
mod scalar;
#[cfg(test)]
mod tests;
mod time;
mod values;

use std::{collections::HashMap, mem, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, StructArray},
    buffer::NullBuffer,
    datatypes::{DataType, Field, FieldRef, Fields, TimeUnit},
    error::ArrowError,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use self::{map::MapEntries, scalar::Offsets, values::Values};
use crate::wire::{LEN, Reader, Tag, WireError};

/// The only field of a struct for a message without fields. Boolean, always null.
pub const EMPTY: &str = "_empty";

/// The type of all times: microseconds in UTC. The time zone is an offset, which needs no time zone database.
#[must_use]
pub fn utc_micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))
}

/// Why a record was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The payload is not a message of this type.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The elements of the payload's lists and maps need too much memory, since each has a value for every field of its message. The
    /// payload can only be kept as it is.
    #[error("the elements of lists and maps need more than {} MiB", MAX_ELEMENTS_BYTES >> 20)]
    TooLarge,
    /// A column would exceed 2 GiB, the limit of Arrow's offsets. The record has to go into the next record batch.
    #[error("a column is full")]
    Full,
}

/// Whether the columns represent a payload completely.
#[derive(Debug, Clone, Copy)]
pub struct Fidelity {
    /// Whether floats must be finite, as in JSON.
    finite_floats: bool,
    lossless: bool,
    /// Memory that the elements of lists and maps may still need.
    elements_bytes: usize,
}

/// Memory that the elements of a payload's lists and maps may need. A message of 1 MiB is in memory as 64 MiB at most.
const MAX_ELEMENTS_BYTES: usize = 64 << 20;

impl Fidelity {
    /// Nothing is lost yet. With `finite_floats`, the output format cannot represent NaN and infinities.
    #[must_use]
    pub const fn new(finite_floats: bool) -> Self {
        Self { finite_floats, lossless: true, elements_bytes: MAX_ELEMENTS_BYTES }
    }

    /// Whether nothing was lost.
    #[must_use]
    pub const fn is_lossless(self) -> bool {
        self.lossless
    }

    /// Counts the memory of an element.
    fn element(&mut self, bytes: usize) -> Result<(), AppendError> {
        self.elements_bytes = self.elements_bytes.checked_sub(bytes).ok_or(AppendError::TooLarge)?;
        Ok(())
    }

    const fn lose(&mut self) {
        self.lossless = false;
    }
}

/// The columns of one message type, to which rows are appended.
#[derive(Debug, Clone)]
pub struct MessageColumns {
    columns: Vec<Column>,
    /// Field number → column for small numbers, whose tag fits into one byte. `NO_COLUMN` for unknown numbers.
    near: [u16; 16],
    /// Field number → column for all other numbers, sorted.
    far: Vec<(u32, u16)>,
    /// The column of each oneof that has a value in the current row.
    oneofs: Vec<Option<usize>>,
    fields: Fields,
    rows: usize,
    absent_bytes: usize,
    element_bytes: usize,
}

const NO_COLUMN: u16 = u16::MAX;

#[derive(Debug, Clone)]
struct Column {
    field: FieldRef,
    values: Values,
    presence: Presence,
    /// The value may be null in a row in which the message is present.
    optional: bool,
    oneof: Option<usize>,
    wire_type: u8,
    /// A repeated field whose values may also be packed.
    may_be_packed: bool,
    /// The current row already has a value.
    open: bool,
}

/// Which rows of an optional column have a value. Empty for other columns.
#[derive(Debug, Clone, Default)]
pub struct Presence(Vec<bool>);

impl MessageColumns {
    /// Creates empty columns for `message`.
    #[must_use]
    pub fn new(message: &MessageDescriptor) -> Self {
        Self::build(message, &mut Vec::new())
    }

    fn build(message: &MessageDescriptor, above: &mut Vec<String>) -> Self {
        above.push(message.full_name().to_owned());
        let mut described: Vec<FieldDescriptor> = message.fields().collect();
        described.sort_by_key(FieldDescriptor::number);
        let mut columns = Vec::with_capacity(described.len());
        let mut near = [NO_COLUMN; 16];
        let mut far = Vec::new();
        let oneofs = vec![None; message.oneofs().len()];
        for field in &described {
            let index = columns.len();
            let id = u16::try_from(index).unwrap_or(NO_COLUMN);
            match usize::try_from(field.number()).ok().and_then(|number| near.get_mut(number)) {
                Some(slot) => *slot = id,
                None => far.push((field.number(), id)),
            }
            // An `optional` field is the only member of a synthetic oneof, so there are no other members to clear.
            let oneof = field.containing_oneof().filter(|oneof| oneof.fields().len() > 1);
            let oneof = oneof.and_then(|oneof| message.oneofs().position(|other| other == oneof));
            columns.push(Column::new(field, oneof, message.is_map_entry(), above));
        }
        above.pop();
        let mut fields: Vec<FieldRef> = columns.iter().map(|column: &Column| column.field.clone()).collect();
        if fields.is_empty() {
            fields.push(Arc::new(Field::new(EMPTY, DataType::Boolean, true)));
        }
        let absent_bytes = columns.iter().map(Column::absent_bytes).sum();
        let mut columns =
            Self { columns, near, far, oneofs, fields: fields.into(), rows: 0, absent_bytes, element_bytes: 0 };
        columns.element_bytes = absent_bytes + columns.leaves() * values::LEVEL_BYTES;
        columns
    }

    /// The type of the column for such messages, a struct. Fields carry their protobuf numbers as Parquet field ids.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        DataType::Struct(self.fields.clone())
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Memory that the rows need, in bytes, with the levels that Parquet has for values in lists.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.values.bytes() + column.presence.0.len()).sum()
    }

    /// Memory of a row in a list: all its columns, and their levels.
    const fn element_bytes(&self) -> usize {
        self.element_bytes
    }

    fn leaves(&self) -> usize {
        self.columns.iter().map(|column| column.values.leaves()).sum::<usize>().max(1)
    }

    /// Memory that a row needs in which the message is absent, in bytes.
    #[must_use]
    pub const fn absent_bytes(&self) -> usize {
        self.absent_bytes
    }

    /// Appends one message. After an error the columns are as they were before.
    pub fn append(&mut self, payload: &[u8], fidelity: &mut Fidelity) -> Result<(), AppendError> {
        let merged = self.merge(Reader::new(payload), fidelity).and_then(|()| self.finish_row(fidelity));
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

    /// Converts the columns to one array with these nulls.
    pub fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let mut arrays = self.columns.into_iter().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        if arrays.is_empty() {
            arrays.push(Arc::new(BooleanArray::new_null(self.rows)));
        }
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
        if self.columns.is_empty() {
            while let Some(tag) = reader.unknown_tag()? {
                fidelity.lose();
                reader.skip(tag)?;
            }
            return Ok(());
        }
        while let Some(tag) = reader.tag()? {
            let row = self.rows;
            match self.position(tag.field).and_then(|index| Some((index, self.columns.get_mut(index)?))) {
                Some((index, column)) if column.takes(tag) => {
                    column.merge(row, tag, &mut reader, fidelity)?;
                    if let Some(oneof) = column.oneof {
                        self.clear_other(oneof, index);
                    }
                }
                _ => {
                    fidelity.lose();
                    reader.skip(tag)?;
                }
            }
        }
        Ok(())
    }

    /// Clears the member of a oneof that came before, since only the last one in the payload counts.
    fn clear_other(&mut self, oneof: usize, set: usize) {
        let before = self.oneofs.get_mut(oneof).and_then(|before| before.replace(set));
        if let Some(column) = before.filter(|before| *before != set).and_then(|before| self.columns.get_mut(before)) {
            column.truncate(self.rows);
        }
    }

    /// Appends one element of a repeated message field, or one entry of a map. The caller truncates on an error.
    fn append_entry(&mut self, entry: Reader<'_>, fidelity: &mut Fidelity) -> Result<(), AppendError> {
        self.merge(entry, fidelity)?;
        self.finish_row(fidelity)
    }

    fn finish_row(&mut self, fidelity: &mut Fidelity) -> Result<(), AppendError> {
        for column in &mut self.columns {
            column.finish_row(self.rows, fidelity)?;
        }
        self.oneofs.fill(None);
        self.rows += 1;
        Ok(())
    }

    /// Reserves memory for `times` as many rows as there are now, assuming that they are of similar size.
    pub fn reserve(&mut self, times: usize) {
        for column in &mut self.columns {
            column.values.reserve(times);
            values::reserve(&mut column.presence.0, times);
        }
    }

    /// Removes everything from row `rows` on, including a row that has not been completed.
    fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
        self.oneofs.fill(None);
        self.rows = rows;
    }
}

impl Column {
    fn new(field: &FieldDescriptor, oneof: Option<usize>, in_map: bool, above: &mut Vec<String>) -> Self {
        let (values, may_be_packed) = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let entries = MessageColumns::build(&entry, above);
                (Values::Map(Box::new(MapEntries { offsets: Offsets::new(), entries, replaced: Vec::new() })), false)
            }
            _ => {
                let values = Values::new(field, above);
                let may_be_packed = field.is_list() && values.packed_as().is_some();
                (if field.is_list() { Values::List(Offsets::new(), Box::new(values)) } else { values }, may_be_packed)
            }
        };
        // The value of a map entry is never null: if it is absent, it is the default value.
        let optional = field.cardinality() != Cardinality::Repeated && field.supports_presence() && !in_map;
        let data_type = values.data_type();
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), field.number().to_string())]);
        let field = Arc::new(Field::new(field.name(), data_type, !in_map).with_metadata(id));
        let wire_type = values.wire_type();
        Self { field, values, presence: Presence::default(), optional, oneof, wire_type, may_be_packed, open: false }
    }

    /// Whether a value of this wire type belongs to the column. If not, it counts as an unknown field.
    #[inline]
    const fn takes(&self, tag: Tag) -> bool {
        tag.wire_type == self.wire_type || (self.may_be_packed && tag.wire_type == LEN)
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
                self.open = true;
                message.merge(reader.message()?, fidelity)
            }
            Values::Time(time) => {
                if time.micros.len() == row {
                    time.begin();
                }
                time.micros.truncate(row);
                time.append(reader.message()?, fidelity)
            }
            Values::Json(json) => {
                self.open = true;
                Ok(json.merge(tag, reader, fidelity)?)
            }
            Values::List(_, items) => items.append_items(tag, reader, fidelity),
            Values::Map(map) => {
                fidelity.element(map.entries.element_bytes())?;
                map.entries.append_entry(reader.message()?, fidelity)
            }
            scalar => {
                // A later occurrence replaces an earlier one.
                if scalar.len() > row {
                    scalar.truncate(row);
                }
                scalar.append(tag, reader, fidelity)
            }
        }
    }

    fn finish_row(&mut self, row: usize, fidelity: &mut Fidelity) -> Result<(), AppendError> {
        let present = match &mut self.values {
            Values::Message(message) | Values::Wrapper(message) => {
                if self.open || !self.optional {
                    message.finish_row(fidelity)?;
                } else {
                    message.append_absent(1);
                }
                mem::take(&mut self.open)
            }
            Values::Json(json) => {
                // Without an occurrence, the value of a map entry is a message without fields.
                if self.open || !self.optional {
                    json.append(fidelity)?;
                } else {
                    json.slices.offsets.append_empty(1);
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
                    Values::Enum(names, slices) if !self.optional => {
                        slices.push(names.get(0).unwrap_or("0").as_bytes())?;
                    }
                    scalar => scalar.append_absent(1),
                }
                false
            }
            _ => true,
        };
        if self.optional {
            self.presence.0.push(present);
        }
        Ok(())
    }

    fn absent_bytes(&self) -> usize {
        self.values.absent_bytes() + usize::from(self.optional)
    }

    fn append_absent(&mut self, rows: usize) {
        self.values.append_absent(rows);
        if self.optional {
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
    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends a row with a value.
    pub fn append_present(&mut self) {
        self.0.push(true);
    }

    /// Appends rows without a value.
    pub fn append_absent(&mut self, rows: usize) {
        self.0.resize(self.0.len() + rows, false);
    }

    /// The null buffer, or `None` if every row has a value.
    #[must_use]
    pub fn finish(self) -> Option<NullBuffer> {
        (!self.0.iter().all(|present| *present)).then(|| NullBuffer::from(self.0))
    }
}
