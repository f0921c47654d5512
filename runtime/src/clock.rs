//! The wall clock, for deadlines and metrics only. Names, partitions and contents come from the records.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970-01-01T00:00:00Z.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[must_use]
pub fn unix_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// The longest that Lambda lets a function run.
const LONGEST: Duration = Duration::from_secs(900);
/// 2001-09-09T01:46:40Z, when no Lambda ran yet.
const BEFORE_LAMBDA_MS: u64 = 1_000_000_000_000;

/// What is left until `deadline_ms`, in milliseconds since 1970-01-01T00:00:00Z. `cargo lambda watch` gives a number that is
/// no time: then it is as much as Lambda ever gives.
#[must_use]
pub fn remaining(deadline_ms: u64) -> Duration {
    if deadline_ms < BEFORE_LAMBDA_MS {
        return LONGEST;
    }
    Duration::from_millis(deadline_ms).saturating_sub(since_epoch())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_is_no_time_leaves_time() {
        assert_eq!(remaining(600_000), LONGEST);
        assert_eq!(remaining(BEFORE_LAMBDA_MS), Duration::ZERO);
        let soon = u64::try_from(unix_ms()).unwrap() + 60_000;
        assert!((50..=60).contains(&remaining(soon).as_secs()));
    }
}
