//! Dictionaries: the different values of a column in the order in which they first occur, and the position of each row's value.

use std::{hash::BuildHasher, ops::Range};

use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};

use super::{hybrid, value::Value};

/// A dictionary that becomes larger than this is given up, as in the Parquet library.
const MAX_BYTES: usize = 1 << 20;
/// After this many values it is decided whether the column repeats enough of them.
const SAMPLED_VALUES: usize = 1_024;

/// The values of a column that repeats them.
#[derive(Debug)]
pub(super) struct Dictionary<V> {
    /// The different values.
    pub entries: Vec<V>,
    /// Where the value of each row is among them.
    positions: Vec<u32>,
    /// The size of the entries on their page.
    bytes: usize,
}

/// Whether so many different ones among so many values are too many for a dictionary.
const fn are_distinct(entries: usize, values: usize) -> bool {
    entries * 32 > values * 31
}

impl<V: Value> Dictionary<V> {
    /// The dictionary of `values`, unless they are better written one by one.
    ///
    /// The hash has random keys, because values come from clients, and those who know the hash could choose values that all
    /// have the same one. The keys do not influence the result.
    pub(super) fn of(values: &[V]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let hasher = DefaultHashBuilder::default();
        let mut table: HashTable<u32> = HashTable::with_capacity(values.len().min(SAMPLED_VALUES));
        let (mut entries, mut positions) = (Vec::<V>::new(), Vec::with_capacity(values.len()));
        let mut bytes = 0;
        let mut previous = None;
        for value in values {
            if positions.len() == SAMPLED_VALUES && are_distinct(entries.len(), SAMPLED_VALUES) {
                return None;
            }
            if let Some((position, _)) = previous.filter(|(_, previous)| previous == value) {
                positions.push(position);
                continue;
            }
            let is_same = |position: &u32| entries.get(*position as usize) == Some(value);
            let hash_again = |position: &u32| entries.get(*position as usize).map_or(0, |entry| hasher.hash_one(entry));
            let position = match table.entry(hasher.hash_one(value), is_same, hash_again) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    // `MAX_BYTES` is the reason that positions have 32 bits.
                    let position = entries.len() as u32;
                    entry.insert(position);
                    entries.push(*value);
                    bytes += value.plain_bytes();
                    if bytes > MAX_BYTES {
                        return None;
                    }
                    position
                }
            };
            previous = Some((position, *value));
            positions.push(position);
        }
        (!are_distinct(entries.len(), values.len())).then_some(Self { entries, positions, bytes })
    }

    /// The size of all pages, without levels, before it is known which positions are equal.
    pub(super) fn max_bytes(&self) -> usize {
        self.bytes + (self.positions.len() * self.bits() as usize).div_ceil(8)
    }

    /// Appends the entries as they are on the page of the dictionary.
    pub(super) fn append_entries(&self, page: &mut Vec<u8>) {
        self.entries.iter().for_each(|entry| entry.append_plain(page));
    }

    /// Appends the positions of `values`, which number the column's values, as they are on a data page.
    pub(super) fn append_positions(&self, values: Range<usize>, page: &mut Vec<u8>) {
        page.push(self.bits() as u8);
        hybrid::encode(self.positions.get(values).unwrap_or_default(), self.bits(), page);
    }

    /// The bits of a position: at least one, as Arrow C++ writes it for a single entry.
    fn bits(&self) -> u32 {
        (usize::BITS - self.entries.len().saturating_sub(1).leading_zeros()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_repeats_hardly_any_value_has_no_dictionary() {
        assert!(Dictionary::of(&(0..100).collect::<Vec<i64>>()).is_none());
        assert!(Dictionary::of(&(0..100_000).collect::<Vec<i64>>()).is_none());
        // It repeats them later, which is not worth the time that it takes to find out.
        assert!(Dictionary::of(&(0..100_000).map(|row| row % 5_000).collect::<Vec<i64>>()).is_none());
    }

    #[test]
    fn a_dictionary_has_each_value_once_in_the_order_of_the_rows() {
        let dictionary = Dictionary::of(&["b", "a", "a", "b", "", "b"].repeat(20)).unwrap();
        assert_eq!(dictionary.entries, ["b", "a", ""]);
        let mut page = Vec::new();
        dictionary.append_entries(&mut page);
        assert_eq!(page, b"\x01\0\0\0b\x01\0\0\0a\0\0\0\0");
        assert_eq!(dictionary.positions[..7], [0, 1, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_dictionary_of_long_values_is_given_up() {
        let long: Vec<String> = (0..300).map(|value| format!("{value:04000}")).collect();
        let values: Vec<&str> = (0..3_000).map(|row| &*long[row % 300]).collect();
        assert!(Dictionary::of(&values).is_none());
        assert!(Dictionary::of(&values[..250].repeat(10)).is_some());
    }
}
