//! Parquet's hybrid of run lengths and packed bits, which definition levels and positions in a dictionary are written in.

/// Values are packed in groups of eight.
const GROUP: usize = 8;
/// A run of equal values this long is written as its length, which ends the packed groups before it.
const MIN_RUN: usize = 16;
/// Packed groups before their next header. The format allows more, but other writers stop here, and readers are used to it.
const MAX_GROUPS: u8 = 63;

/// Appends `values`, each of which has at most `bits` bits.
pub(super) fn encode<T: Copy + PartialEq + Into<u32>>(values: &[T], bits: u32, page: &mut Vec<u8>) {
    let mut packed = Packed { groups: 0, header_at: 0, bits };
    let mut rest = values;
    while let Some(first) = rest.first() {
        let run = run_length(rest, *first);
        if run >= MIN_RUN || run == rest.len() {
            packed.end(page);
            append_varint((run as u64) << 1, page);
            let bytes = (*first).into().to_le_bytes();
            page.extend(bytes.into_iter().take(bits.div_ceil(u8::BITS) as usize));
            rest = rest.get(run..).unwrap_or_default();
        } else if let Some((group, after)) = rest.split_first_chunk::<GROUP>() {
            packed.append(group.map(Into::into), page);
            rest = after;
        } else {
            let mut group = [0; GROUP];
            group.iter_mut().zip(rest).for_each(|(slot, value)| *slot = (*value).into());
            packed.append(group, page);
            break;
        }
    }
    packed.end(page);
}

fn run_length<T: Copy + PartialEq>(values: &[T], value: T) -> usize {
    values.iter().position(|other| *other != value).unwrap_or(values.len())
}

/// Consecutive packed groups with one header, which is a single byte.
struct Packed {
    groups: u8,
    header_at: usize,
    bits: u32,
}

impl Packed {
    fn append(&mut self, group: [u32; GROUP], page: &mut Vec<u8>) {
        if self.groups == MAX_GROUPS {
            self.end(page);
        }
        if self.groups == 0 {
            self.header_at = page.len();
            page.push(0);
        }
        self.groups += 1;
        // Up to 31 bits are waiting for their bytes, beside the 32 of a value.
        let (mut waiting, mut count) = (0_u64, 0);
        for value in group {
            waiting |= u64::from(value) << count;
            count += self.bits;
            if count >= u32::BITS {
                page.extend_from_slice(&(waiting as u32).to_le_bytes());
                waiting >>= u32::BITS;
                count -= u32::BITS;
            }
        }
        page.extend(waiting.to_le_bytes().into_iter().take(count.div_ceil(u8::BITS) as usize));
    }

    fn end(&mut self, page: &mut [u8]) {
        if let Some(header) = page.get_mut(self.header_at).filter(|_| self.groups > 0) {
            *header = self.groups << 1 | 1;
        }
        self.groups = 0;
    }
}

fn append_varint(mut value: u64, page: &mut Vec<u8>) {
    while value >= 0x80 {
        page.push(value as u8 | 0x80);
        value >>= 7;
    }
    page.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads what `encode` wrote, as the specification says.
    fn decode(mut bytes: &[u8], bits: u32, count: usize) -> Vec<u32> {
        let mut values = Vec::new();
        while values.len() < count {
            let mut header = 0_u64;
            for shift in (0..).step_by(7) {
                let (byte, rest) = bytes.split_first().unwrap();
                bytes = rest;
                header |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            if header & 1 == 0 {
                let (value, rest) = bytes.split_at(bits.div_ceil(8) as usize);
                bytes = rest;
                let value = value.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
                values.extend(std::iter::repeat_n(value, (header >> 1) as usize));
            } else {
                let (packed, rest) = bytes.split_at((header >> 1) as usize * bits as usize);
                bytes = rest;
                let bit = |at: usize| u32::from(packed[at / 8] >> (at % 8) & 1);
                let bits = bits as usize;
                values
                    .extend((0..packed.len() * 8 / bits).map(|value| {
                        (0..bits).fold(0, |sum, position| sum | bit(value * bits + position) << position)
                    }));
            }
        }
        assert!(bytes.is_empty(), "{} bytes are left", bytes.len());
        assert!(values.len() < count + 8);
        values.truncate(count);
        values
    }

    /// Runs of values of `bits` bits.
    fn runs(bits: u32) -> impl Strategy<Value = Vec<u32>> {
        let value = any::<u32>().prop_map(move |value| value & (u64::MAX >> (64 - bits)) as u32);
        let length = prop_oneof![8 => 1..4_usize, 1 => 1..40_usize, 1 => Just(600)];
        let runs = prop::collection::vec((value, length), 0..300);
        runs.prop_map(|runs| runs.into_iter().flat_map(|(value, length)| std::iter::repeat_n(value, length)).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_encoded_is_read_back((bits, values) in (1..=32_u32).prop_flat_map(|bits| (Just(bits), runs(bits)))) {
            let mut page = Vec::new();
            encode(&values, bits, &mut page);
            prop_assert_eq!(decode(&page, bits, values.len()), values);
        }
    }

    #[test]
    fn equal_values_take_three_bytes() {
        let mut page = Vec::new();
        encode(&[1_u8; 100], 1, &mut page);
        assert_eq!(page, [0xc8, 0x01, 0x01]);
    }
}
