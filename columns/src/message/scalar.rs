//! Encodings of integers, values of variable length, and enum names.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, StringArray},
    buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    error::ArrowError,
};
use prost_reflect::EnumDescriptor;

use super::{AppendError, values::reserve};
use crate::wire::{FIXED32, FIXED64, Reader, VARINT, WireError, low_i32, low_u32};

/// The wire encoding of an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    Varint,
    /// Unsigned 32-bit varint.
    Varint32,
    ZigZag,
    Fixed32,
    SignedFixed32,
    Fixed64,
}

/// Values of variable length, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Slices {
    pub(super) offsets: Offsets,
    pub(super) data: Vec<u8>,
}

/// Memory of an offset.
pub(super) const OFFSET_BYTES: usize = size_of::<i32>();

/// Arrow offsets: row i is the range from offset i to offset i + 1.
#[derive(Debug, Clone)]
pub(super) struct Offsets(pub(super) Vec<i32>);

#[derive(Debug)]
pub(super) struct EnumNames {
    /// Number → name, sorted by number. If a number has several names, the first counts.
    names: Vec<(i32, String)>,
}

impl Integer {
    pub(super) const fn wire_type(self) -> u8 {
        match self {
            Self::Varint | Self::Varint32 | Self::ZigZag => VARINT,
            Self::Fixed32 | Self::SignedFixed32 => FIXED32,
            Self::Fixed64 => FIXED64,
        }
    }

    #[inline]
    pub(super) fn read_i32(self, reader: &mut Reader<'_>) -> Result<i32, WireError> {
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
    pub(super) fn read_i64(self, reader: &mut Reader<'_>) -> Result<i64, WireError> {
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

impl Offsets {
    pub(super) fn new() -> Self {
        Self(vec![0])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() - 1
    }

    pub(super) fn last(&self) -> i32 {
        self.0.last().copied().unwrap_or(0)
    }

    pub(super) fn end(&self) -> usize {
        usize::try_from(self.last()).unwrap_or(0)
    }

    pub(super) fn push(&mut self, end: usize) -> Result<(), AppendError> {
        self.0.push(i32::try_from(end).map_err(|_| AppendError::Full)?);
        Ok(())
    }

    pub(super) fn append_empty(&mut self, rows: usize) {
        self.0.resize(self.0.len() + rows, self.last());
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows + 1);
    }

    pub(super) fn finish(self) -> OffsetBuffer<i32> {
        OffsetBuffer::new(ScalarBuffer::from(self.0))
    }
}

impl Slices {
    pub(super) fn new() -> Self {
        Self { offsets: Offsets::new(), data: Vec::new() }
    }

    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        self.offsets.push(self.data.len() + bytes.len())?;
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        if self.offsets.len() > rows {
            self.offsets.truncate(rows);
            self.data.truncate(self.offsets.end());
        }
    }

    /// See [`super::MessageColumns::bytes`].
    pub(super) fn bytes(&self) -> usize {
        self.offsets.len() * OFFSET_BYTES + self.data.len()
    }

    /// See [`super::MessageColumns::reserve`].
    pub(super) fn reserve(&mut self, times: usize) {
        reserve(&mut self.offsets.0, times);
        reserve(&mut self.data, times);
    }

    pub(super) fn finish_text(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let (offsets, data) = self.finish();
        Ok(Arc::new(StringArray::try_new(offsets, data, nulls)?))
    }

    pub(super) fn finish(self) -> (OffsetBuffer<i32>, Buffer) {
        (self.offsets.finish(), Buffer::from_vec(self.data))
    }
}

impl EnumNames {
    pub(super) fn new(described: &EnumDescriptor) -> Self {
        // As they are declared: `values()` has the names of one number in an order of its own. Of several, protobuf writes the first.
        let declared = described.enum_descriptor_proto().value.iter();
        let mut names: Vec<(i32, String)> = declared.map(|value| (value.number(), value.name().to_owned())).collect();
        names.sort_by_key(|(number, _)| *number);
        names.dedup_by_key(|(number, _)| *number);
        Self { names }
    }

    pub(super) fn get(&self, number: i32) -> Option<&str> {
        let at = self.names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.names.get(at).map(|(_, name)| name.as_str())
    }
}
