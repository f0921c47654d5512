//! Seeded pseudorandom numbers. The same seed gives the same numbers on every machine and with every version of every
//! library, which is why this is not the `rand` crate: its algorithms may change between releases.

use uuid::Builder;

/// SplitMix64's increment: 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Vigna's SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// Mixes the bits of a number. Different numbers stay different.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A hash of a text that does not change between runs: FNV-1a, mixed.
#[must_use]
pub fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step))
}

impl Random {
    /// One of many independent sequences of a seed, such as the one of a session.
    #[must_use]
    pub const fn new(seed: u64, sequence: u64) -> Self {
        Self(mix(mix(seed.wrapping_add(STEP)) ^ sequence.wrapping_mul(STEP)))
    }

    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let scaled = u128::from(self.number()) * (end as u128);
        usize::try_from(scaled >> 64).unwrap_or(0)
    }

    /// An item with a probability proportional to its weight.
    pub fn pick<T: Copy + Default>(&mut self, weighted: &[(usize, T)]) -> T {
        let mut left = self.below(weighted.iter().map(|(weight, _)| weight).sum());
        for (weight, item) in weighted {
            match left.checked_sub(*weight) {
                None => return *item,
                Some(rest) => left = rest,
            }
        }
        T::default()
    }

    /// An item, the first ones far more often than the last.
    pub fn pick_popular<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let (one, other) = (self.below(items.len()), self.below(items.len()));
        items.get(one * other / items.len().max(1))
    }

    /// An item, all equally likely.
    pub fn pick_any<T: Copy + Default>(&mut self, items: &[T]) -> T {
        items.get(self.below(items.len())).copied().unwrap_or_default()
    }

    /// A UUID of version 4, as browsers make them.
    pub fn uuid(&mut self) -> String {
        let number = u128::from(self.number()) << 64 | u128::from(self.number());
        Builder::from_random_bytes(number.to_be_bytes()).into_uuid().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed, sequence| {
            let mut random = Random::new(seed, sequence);
            [(); 3].map(|()| random.number())
        };
        assert_eq!(numbers(1, 2), numbers(1, 2));
        assert_ne!(numbers(1, 2), numbers(2, 1));
        assert_ne!(numbers(1, 2), numbers(1, 3));
        // The first number of the reference implementation.
        assert_eq!(Random(0).number(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn numbers_are_evenly_distributed_and_weights_are_kept() {
        let mut random = Random::new(7, 0);
        let mut counts = [0; 6];
        (0..60_000).for_each(|_| counts[random.below(6)] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        let picked = (0..10_000).filter(|_| random.pick(&[(1, 'a'), (9, 'b')]) == 'a').count();
        assert!((850..1_150).contains(&picked), "{picked}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn a_uuid_is_of_version_4() {
        let uuid = Random::new(1, 1).uuid();
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
    }
}
