//! Map fields. If a key is repeated, its last entry counts.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, MapArray, StructArray, UInt32Array},
    buffer::NullBuffer,
    compute::take,
    datatypes::DataType,
    error::ArrowError,
};

use super::{AppendError, MessageColumns, scalar::Offsets};

#[derive(Debug, Clone)]
pub(super) struct MapEntries {
    /// Covers all entries, including those that were replaced by a later one with the same key.
    pub(super) offsets: Offsets,
    pub(super) entries: MessageColumns,
    /// Indices of entries that were replaced by a later one of the same row, sorted.
    pub(super) replaced: Vec<usize>,
}

/// A key of a map, for finding repeated keys.
#[derive(PartialEq, Eq, Hash)]
pub(super) enum MapKey<'a> {
    Integer(i128),
    Text(&'a [u8]),
}

impl MapEntries {
    /// Ends a row. If a key is repeated, all entries but the last are marked, and removed when the map is finished.
    pub(super) fn finish_row(&mut self) -> Result<(), AppendError> {
        let (start, end) = (self.offsets.end(), self.entries.rows);
        if end - start > 1 {
            let before = self.replaced.len();
            let mut last: HashMap<MapKey<'_>, usize> = HashMap::with_capacity(end - start);
            for entry in start..end {
                if let Some(key) = self.entries.columns.first().and_then(|key| key.values.map_key(entry)) {
                    self.replaced.extend(last.insert(key, entry));
                }
            }
            if let Some(of_row) = self.replaced.get_mut(before..) {
                of_row.sort_unstable();
            }
        }
        self.offsets.push(end)
    }

    pub(super) fn finish(mut self, data_type: &DataType, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let DataType::Map(entry, _) = data_type else {
            return Err(ArrowError::SchemaError("a map field is no map".into()));
        };
        let rows = self.entries.rows;
        let mut entries = self.entries.finish(None)?;
        if !self.replaced.is_empty() {
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
