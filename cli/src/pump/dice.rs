//! Seeded chance. The same seed falls the same way on every machine: integers only, no library's choice of algorithm.

/// What is added for each throw: 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of throws: Vigna's SplitMix64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dice(u64);

/// Mixes the bits of a number. Different numbers stay different.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// FNV-1a of a text, mixed: the same text is the same number, in every run.
#[must_use]
pub fn of_text(text: &str) -> u64 {
    let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, hash))
}

impl Dice {
    /// The dice of one of many things that share a seed, such as a session by its number.
    #[must_use]
    pub const fn new(seed: u64, number: u64) -> Self {
        Self(mix(mix(seed.wrapping_add(STEP)) ^ number.wrapping_mul(STEP)))
    }

    /// Any number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        let scaled = u128::from(self.number()) * (end as u128);
        usize::try_from(scaled >> 64).unwrap_or(0)
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them, each as likely as its weight says.
    pub fn pick<T: Copy + Default>(&mut self, weighted: &[(usize, T)]) -> T {
        let mut left = self.below(weighted.iter().map(|(weight, _)| weight).sum());
        for (weight, thing) in weighted {
            match left.checked_sub(*weight) {
                None => return *thing,
                Some(rest) => left = rest,
            }
        }
        T::default()
    }

    /// One of them, the first ones far more often than the last.
    pub fn pick_popular<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        let (one, other) = (self.below(things.len()), self.below(things.len()));
        things.get(one * other / things.len().max(1))
    }

    /// One of them, all equally likely.
    pub fn pick_any<T: Copy + Default>(&mut self, things: &[T]) -> T {
        things.get(self.below(things.len())).copied().unwrap_or_default()
    }

    /// A random UUID, as browsers make them.
    pub fn uuid(&mut self) -> String {
        let number = u128::from(self.number()) << 64 | u128::from(self.number());
        let number = number & !(0xf << 76) | (4 << 76);
        let number = number & !(0b11 << 62) | (0b10 << 62);
        let digits = format!("{number:032x}");
        let mut uuid = String::with_capacity(36);
        for (position, digit) in digits.chars().enumerate() {
            if matches!(position, 8 | 12 | 16 | 20) {
                uuid.push('-');
            }
            uuid.push(digit);
        }
        uuid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_falls_the_same_way() {
        let throws = |seed, number| {
            let mut dice = Dice::new(seed, number);
            [(); 3].map(|()| dice.number())
        };
        assert_eq!(throws(1, 2), throws(1, 2));
        assert_ne!(throws(1, 2), throws(2, 1));
        assert_ne!(throws(1, 2), throws(1, 3));
        // SplitMix64's own first number.
        assert_eq!(Dice(0).number(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn throws_are_fair_and_weights_are_kept() {
        let mut dice = Dice::new(7, 0);
        let mut counts = [0; 6];
        (0..60_000).for_each(|_| counts[dice.below(6)] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        let picked = (0..10_000).filter(|_| dice.pick(&[(1, 'a'), (9, 'b')]) == 'a').count();
        assert!((850..1_150).contains(&picked), "{picked}");
        assert_eq!(dice.below(0), 0);
    }

    #[test]
    fn a_uuid_looks_like_one() {
        let uuid = Dice::new(1, 1).uuid();
        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
    }
}
