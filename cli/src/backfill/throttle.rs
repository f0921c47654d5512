//! At most so many rows a second, by all that read.

use std::{cell::Cell, time::Duration};

use tokio::time::{Instant, sleep_until};

/// Rows that are read before the next pause.
const ROWS: u32 = 256;

#[derive(Debug)]
pub(super) struct Throttle {
    /// For each row.
    pause: Option<Duration>,
    /// By all readers.
    read: Cell<u32>,
    next: Cell<Instant>,
}

impl Throttle {
    pub(super) fn new(max_rows_per_second: Option<u32>) -> Self {
        let pause = max_rows_per_second.map(|rows| Duration::from_secs(1) / rows.max(1));
        Self { pause, read: Cell::new(0), next: Cell::new(Instant::now()) }
    }

    /// Called for each row; waits until the next one may be read.
    pub(super) async fn row(&self) {
        let read = self.read.get().wrapping_add(1);
        self.read.set(read);
        let Some(pause) = self.pause.filter(|_| read.is_multiple_of(ROWS)) else { return };
        let begin = self.next.get().max(Instant::now());
        self.next.set(begin + pause * ROWS);
        sleep_until(self.next.get()).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn all_readers_together_keep_the_limit() {
        let throttle = Throttle::new(Some(10_240));
        let begun = Instant::now();
        let reader = async || {
            // Of each range it reads fewer than a pause is for.
            for _ in 1..=512 {
                throttle.row().await;
            }
        };
        join_all([reader(), reader()]).await;
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(99), "1,024 rows at 10,240 a second took {took:?}");
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        let throttle = Throttle::new(None);
        let begun = Instant::now();
        for _ in 1..=100_000 {
            throttle.row().await;
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
