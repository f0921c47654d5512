//! Values of flat columns: how Parquet writes them one by one, and as bounds in statistics.

use std::hash::Hash;

use parquet::file::statistics::{Statistics, ValueStatistics};

/// Longer texts and bytes are truncated in statistics, as the Parquet library does it.
const MAX_BOUND_BYTES: usize = 64;

/// A value of a flat column. `Ord` is the order in which the column's statistics are to be understood.
pub(super) trait Value: Copy + Ord + Hash {
    /// The size of the value on a page.
    fn plain_bytes(self) -> usize;

    /// Appends the value as it is on a page without a dictionary, and on that of the dictionary.
    fn append_plain(self, page: &mut Vec<u8>);

    /// Whatever has a lesser head is less. Most values are told apart by it, without a call.
    fn head(self) -> u64;

    /// The bytes of texts or of bytes without their lengths; `None` for numbers.
    fn data_bytes(values: &[Self]) -> Option<usize>;

    /// Something that is not greater than the value, for statistics.
    fn lower_bound(self) -> Bound;

    /// Something that is not less than the value, for statistics.
    fn upper_bound(self) -> Bound;

    /// The statistics of a column chunk.
    fn statistics(range: Option<Range<Self>>, nulls: u64) -> Statistics;
}

/// The least and the greatest of some values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range<V> {
    pub min: V,
    pub max: V,
}

impl<V: Value> Range<V> {
    /// `None` if there are no values.
    pub(super) fn of(values: &[V]) -> Option<Self> {
        let (first, rest) = values.split_first()?;
        let (mut range, mut least, mut greatest) = (Self { min: *first, max: *first }, first.head(), first.head());
        for value in rest {
            let head = value.head();
            if head <= least && *value < range.min {
                (range.min, least) = (*value, head);
            }
            if head >= greatest && *value > range.max {
                (range.max, greatest) = (*value, head);
            }
        }
        Some(range)
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// A value as it is in statistics.
#[derive(Debug, PartialEq)]
pub(super) struct Bound {
    pub bytes: Vec<u8>,
    /// Whether this is the value itself.
    pub is_exact: bool,
}

impl Bound {
    fn exact(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), is_exact: true }
    }
}

macro_rules! number {
    ($number:ty, $statistics:ident) => {
        impl Value for $number {
            fn plain_bytes(self) -> usize {
                size_of::<Self>()
            }

            fn append_plain(self, page: &mut Vec<u8>) {
                page.extend_from_slice(&self.to_le_bytes());
            }

            fn head(self) -> u64 {
                0
            }

            fn data_bytes(_: &[Self]) -> Option<usize> {
                None
            }

            fn lower_bound(self) -> Bound {
                Bound::exact(&self.to_le_bytes())
            }

            fn upper_bound(self) -> Bound {
                Bound::exact(&self.to_le_bytes())
            }

            fn statistics(range: Option<Range<Self>>, nulls: u64) -> Statistics {
                let (min, max) = range.map(|range| (range.min, range.max)).unzip();
                // The order of signed numbers is the one that readers from before 2017 assume, so they get these too.
                let statistics = ValueStatistics::new(min, max, None, Some(nulls), false);
                Statistics::$statistics(statistics.with_backwards_compatible_min_max(true))
            }
        }
    };
}

number!(i32, Int32);
number!(i64, Int64);

macro_rules! bytes {
    ($bytes:ty, $lower:path, $upper:path) => {
        impl Value for $bytes {
            fn plain_bytes(self) -> usize {
                size_of::<u32>() + self.len()
            }

            fn append_plain(self, page: &mut Vec<u8>) {
                // Arrow's offsets have 31 bits.
                page.extend_from_slice(&(self.len() as u32).to_le_bytes());
                page.extend_from_slice(self.as_ref());
            }

            fn head(self) -> u64 {
                head(self.as_ref())
            }

            fn data_bytes(values: &[Self]) -> Option<usize> {
                Some(values.iter().map(|value| value.len()).sum())
            }

            fn lower_bound(self) -> Bound {
                $lower(self)
            }

            fn upper_bound(self) -> Bound {
                $upper(self)
            }

            fn statistics(range: Option<Range<Self>>, nulls: u64) -> Statistics {
                let bounds = range.map(|range| (range.min.lower_bound(), range.max.upper_bound()));
                let statistics = match bounds {
                    None => ValueStatistics::new(None, None, None, Some(nulls), false),
                    Some((min, max)) => {
                        ValueStatistics::new(Some(min.bytes.into()), Some(max.bytes.into()), None, Some(nulls), false)
                            .with_min_is_exact(min.is_exact)
                            .with_max_is_exact(max.is_exact)
                    }
                };
                Statistics::ByteArray(statistics)
            }
        }
    };
}

bytes!(&str, text_below, text_above);
bytes!(&[u8], bytes_below, bytes_above);

/// The first eight bytes. What is shorter ends with zeros, and may have the head of something greater.
fn head(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut first = [0; 8];
        first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        first
    });
    u64::from_be_bytes(first)
}

/// The first bytes of `bytes`.
fn bytes_below(bytes: &[u8]) -> Bound {
    match bytes.split_at_checked(MAX_BOUND_BYTES) {
        Some((first, [_, ..])) => Bound { bytes: first.to_vec(), is_exact: false },
        _ => Bound::exact(bytes),
    }
}

/// The first bytes of `bytes`, the last of which is increased. If it cannot be, the one before is.
fn bytes_above(bytes: &[u8]) -> Bound {
    let Bound { bytes: mut first, is_exact: false } = bytes_below(bytes) else { return Bound::exact(bytes) };
    for byte in first.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Bound { bytes: first, is_exact: false };
        }
    }
    Bound::exact(bytes)
}

/// The first characters of `text`.
fn text_below(text: &str) -> Bound {
    let first = first_characters(text);
    Bound { bytes: first.as_bytes().to_vec(), is_exact: first.len() == text.len() }
}

/// The first characters of `text`, the last of which is replaced by the next in order. If the next is longer or no character, the
/// one before is replaced.
fn text_above(text: &str) -> Bound {
    let first = first_characters(text);
    if first.len() == text.len() {
        return Bound::exact(text.as_bytes());
    }
    for (at, character) in first.char_indices().rev() {
        let next = char::from_u32(u32::from(character) + 1);
        if let Some(next) = next.filter(|next| next.len_utf8() == character.len_utf8()) {
            let mut bytes = Vec::with_capacity(MAX_BOUND_BYTES);
            bytes.extend_from_slice(first.as_bytes().get(..at).unwrap_or_default());
            bytes.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes());
            return Bound { bytes, is_exact: false };
        }
    }
    Bound::exact(text.as_bytes())
}

/// As many of the first characters as have room.
fn first_characters(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_BOUND_BYTES)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_is_short_is_its_own_bound() {
        let text = "é".repeat(32);
        assert_eq!(text.as_str().lower_bound(), Bound { bytes: text.clone().into_bytes(), is_exact: true });
        assert_eq!(text.as_str().upper_bound(), Bound { bytes: text.clone().into_bytes(), is_exact: true });
        assert_eq!([255; 64].as_slice().upper_bound(), Bound { bytes: vec![255; 64], is_exact: true });
    }

    #[test]
    fn the_bounds_of_a_long_text_are_texts_around_it() {
        for long in [
            "a".repeat(70),
            "é".repeat(70),
            format!("{}佐藤", "b".repeat(62)),
            format!("{}{}", "c".repeat(61), "\u{d7ff}".repeat(2)),
        ] {
            let (lower, upper) = (long.as_str().lower_bound(), long.as_str().upper_bound());
            assert!(!lower.is_exact && !upper.is_exact);
            assert!(lower.bytes.len() <= 64 && upper.bytes.len() <= 64);
            assert!(text(&lower.bytes) < &*long && text(&upper.bytes) > &*long);
        }
    }

    #[test]
    fn the_upper_bound_of_long_bytes_carries() {
        let mut long = vec![7; 63];
        long.extend([255; 9]);
        let mut expected = vec![7; 62];
        expected.extend([8, 0]);
        assert_eq!(long.as_slice().upper_bound(), Bound { bytes: expected, is_exact: false });
    }

    #[test]
    fn a_value_without_a_short_upper_bound_is_kept() {
        assert_eq!([255; 70].as_slice().upper_bound(), Bound { bytes: vec![255; 70], is_exact: true });
        let last = char::MAX.to_string().repeat(20);
        assert_eq!(last.as_str().upper_bound(), Bound { bytes: last.clone().into_bytes(), is_exact: true });
    }
}
