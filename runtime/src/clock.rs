//! The wall clock, for deadlines and metrics only. The names, partitions and contents of files depend on the records alone,
//! so that a retry writes the same file.

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

/// How long ago an instant was that is given in milliseconds since 1970-01-01T00:00:00Z; zero if it is in the future.
#[must_use]
pub fn age(unix_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(self::unix_ms().saturating_sub(unix_ms)).unwrap_or_default())
}

/// The maximum timeout of a Lambda function.
const MAX_TIMEOUT: Duration = Duration::from_secs(900);
/// 2001-09-09T01:46:40Z, years before the first Lambda function. A deadline before it cannot be real.
const BEFORE_LAMBDA_MS: u64 = 1_000_000_000_000;

/// The time left until `deadline_ms`, in milliseconds since 1970-01-01T00:00:00Z.
///
/// `cargo lambda watch` passes a number that is not a time. In that case the result is the maximum timeout of a function.
#[must_use]
pub fn remaining(deadline_ms: u64) -> Duration {
    if deadline_ms < BEFORE_LAMBDA_MS {
        return MAX_TIMEOUT;
    }
    Duration::from_millis(deadline_ms).saturating_sub(since_epoch())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_is_not_a_time_leaves_the_maximum_timeout() {
        assert_eq!(remaining(600_000), MAX_TIMEOUT);
        assert_eq!(remaining(BEFORE_LAMBDA_MS), Duration::ZERO);
        let soon = u64::try_from(unix_ms()).unwrap() + 60_000;
        assert!((50..=60).contains(&remaining(soon).as_secs()));
    }
}
