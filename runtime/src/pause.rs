//! Pauses between retries.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// A random duration between half of `pause` and `pause`, so that clients whose requests failed together do not retry
/// together.
#[must_use]
pub fn jittered(pause: Duration) -> Duration {
    let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(2);
    Duration::from_millis(millis / 2 + RandomState::new().hash_one(0) % (millis / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_never_longer_and_never_less_than_half() {
        for millis in [0, 1, 2, 3, 50, 2_000] {
            let pause = jittered(Duration::from_millis(millis));
            assert!((millis / 2..=millis.max(2)).contains(&u64::try_from(pause.as_millis()).unwrap()), "{pause:?}");
        }
    }
}
