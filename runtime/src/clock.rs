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

/// What is left until `deadline_ms`, in milliseconds since 1970-01-01T00:00:00Z.
#[must_use]
pub fn remaining(deadline_ms: u64) -> Duration {
    Duration::from_millis(deadline_ms).saturating_sub(since_epoch())
}
