//! How long answers took, in bounded memory: each is kept to 1.6 % of itself.

use std::time::Duration;

/// Buckets in each doubling of the time.
const STEPS: u32 = 64;
/// Microseconds are counted one by one up to here.
const EXACT: u64 = 128;

/// A histogram of times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    counts: Vec<u64>,
    number: u64,
    max_us: u64,
}

/// The bucket of a time.
fn bucket(us: u64) -> usize {
    let bucket = if us < EXACT {
        us
    } else {
        let doublings = us.ilog2() - STEPS.ilog2();
        u64::from(doublings * STEPS) + (us >> doublings)
    };
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The longest time of a bucket.
fn longest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let doublings = bucket / u64::from(STEPS) - 1;
    ((bucket - doublings * u64::from(STEPS) + 1) << doublings) - 1
}

impl Latencies {
    /// One more time.
    pub fn add(&mut self, time: Duration) {
        // A day at the most, so that the buckets are few.
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(86_400_000_000);
        let bucket = bucket(us);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.number += 1;
        self.max_us = self.max_us.max(us);
    }

    /// How many times there are.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The time, in microseconds, that so many in a hundred did not exceed.
    #[must_use]
    pub fn percentile_us(&self, percent: u64) -> Option<u64> {
        let wanted = (self.number * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let position = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(longest(position).min(self.max_us))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Latencies::default().percentile_us(50), None);
    }

    #[test]
    fn a_hundred_times_have_their_percentiles() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|us| latencies.add(Duration::from_micros(us)));
        assert_eq!([50, 90, 99, 100].map(|percent| latencies.percentile_us(percent)), [50, 90, 99, 100].map(Some));
        assert_eq!(latencies.number(), 100);
    }

    proptest! {
        #[test]
        fn a_percentile_is_right_to_a_sixtieth(mut times in prop::collection::vec(0..86_400_000_000_u64, 1..200), percent in 1..=100_u64) {
            let mut latencies = Latencies::default();
            times.iter().for_each(|us| latencies.add(Duration::from_micros(*us)));
            times.sort_unstable();
            let right = times[(times.len() as u64 * percent).div_ceil(100) as usize - 1];
            let told = latencies.percentile_us(percent).unwrap();
            prop_assert!(told >= right && told <= right + right / 60, "{} {}", told, right);
            prop_assert!(latencies.counts.len() < 4_096);
        }
    }
}
