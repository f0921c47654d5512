//! What is in flight, what happened to the rest, and metrics of both.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use shared::metrics::{CountsByReason, Metrics, Unit};

use crate::{SERVICE, gate::Gate};

/// What is counted between two prints.
#[derive(Debug, Default)]
struct Counts {
    consumed: usize,
    without_id: usize,
    sent: usize,
    acked: usize,
    requeued: usize,
    abandoned: usize,
    failed_requests: usize,
    connections_lost: usize,
    quarantined: CountsByReason,
    most_in_flight: usize,
}

/// What can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// SQS has confirmed a message.
    Sent,
    /// The broker was told that a message is done.
    Acked,
    /// The broker was told to deliver a message again.
    Requeued,
    /// The connection was lost while a message was in flight; the broker delivers it again by itself.
    Abandoned,
    /// A whole request to SQS failed.
    RequestFailed,
    /// A connection to the broker ended.
    ConnectionLost,
}

#[derive(Debug, Default)]
struct Books {
    counts: Counts,
    next: u64,
    /// When each message in flight was delivered.
    in_flight: BTreeMap<u64, Instant>,
    /// Since when there is no connection to the broker; `None` while there is one.
    disconnected: Option<Instant>,
}

/// Counts messages.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Books>,
    gate: Gate,
}

/// What the health endpoint tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Messages in flight.
    pub in_flight: usize,
    /// How long the oldest of them has been in flight.
    pub oldest: Duration,
    /// Since when there is no connection to the broker.
    pub disconnected: Option<Duration>,
}

impl Ledger {
    /// Books of a process that is not connected yet.
    #[must_use]
    pub fn new(gate: Gate) -> Self {
        let books = Books { disconnected: Some(Instant::now()), ..Books::default() };
        Self { books: Mutex::new(books), gate }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a delivery. The number is that of the message while it is in flight.
    pub fn begin(&self, has_event_id: bool) -> u64 {
        let mut books = self.books();
        let number = books.next;
        books.next += 1;
        books.in_flight.insert(number, Instant::now());
        let in_flight = books.in_flight.len();
        books.counts.consumed += 1;
        books.counts.without_id += usize::from(!has_event_id);
        books.counts.most_in_flight = books.counts.most_in_flight.max(in_flight);
        number
    }

    /// The message is no longer in flight.
    pub fn end(&self, number: u64) {
        self.books().in_flight.remove(&number);
    }

    /// Counts one of these.
    pub fn count(&self, event: Event) {
        let counts = &mut self.books().counts;
        *match event {
            Event::Sent => &mut counts.sent,
            Event::Acked => &mut counts.acked,
            Event::Requeued => &mut counts.requeued,
            Event::Abandoned => &mut counts.abandoned,
            Event::RequestFailed => &mut counts.failed_requests,
            Event::ConnectionLost => &mut counts.connections_lost,
        } += 1;
    }

    /// Counts quarantined messages.
    pub fn quarantined(&self, kept: CountsByReason) {
        self.books().counts.quarantined.append(kept);
    }

    /// Whether there is a connection to the broker.
    pub fn connected(&self, is: bool) {
        let since = &mut self.books().disconnected;
        *since = if is { None } else { since.or(Some(Instant::now())) };
    }

    /// What is in flight now.
    #[must_use]
    pub fn state(&self) -> State {
        let books = self.books();
        State {
            in_flight: books.in_flight.len(),
            oldest: books.in_flight.first_key_value().map_or(Duration::ZERO, |(_, since)| since.elapsed()),
            disconnected: books.disconnected.map(|since| since.elapsed()),
        }
    }

    /// Metrics since the last call.
    pub fn metrics(&self, stack: &str) -> Vec<Metrics> {
        let state = self.state();
        let counts = std::mem::take(&mut self.books().counts);
        let most_in_flight = counts.most_in_flight.max(state.in_flight);
        let mut all = vec![
            Metrics::of(stack, SERVICE)
                .put("messages_consumed", Unit::Count, counts.consumed)
                .put("messages_sent", Unit::Count, counts.sent)
                .put("messages_acked", Unit::Count, counts.acked)
                .put("messages_requeued", Unit::Count, counts.requeued)
                .put("messages_abandoned", Unit::Count, counts.abandoned)
                .put("messages_without_id", Unit::Count, counts.without_id)
                .put("requests_failed", Unit::Count, counts.failed_requests)
                .put("connections_lost", Unit::Count, counts.connections_lost)
                .put("connected", Unit::Count, usize::from(state.disconnected.is_none()))
                .put("in_flight", Unit::Count, most_in_flight)
                .put("in_flight_bytes", Unit::Bytes, self.gate.bytes())
                .put("oldest_in_flight", Unit::Seconds, state.oldest),
        ];
        all.extend(counts.quarantined.metrics(stack, SERVICE, "records_quarantined"));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_count_what_happened_since_they_were_printed_last() {
        let ledger = Ledger::new(Gate::new(1));
        let (first, second) = (ledger.begin(true), ledger.begin(false));
        ledger.count(Event::Sent);
        ledger.end(second);
        let line = |metrics: &[Metrics]| metrics[0].to_line(0);
        let printed = line(&ledger.metrics("s"));
        for part in ["\"messages_consumed\":2.0", "\"messages_sent\":1.0", "\"in_flight\":2.0", "\"connected\":0.0"] {
            assert!(printed.contains(part), "{printed}");
        }
        ledger.connected(true);
        let printed = line(&ledger.metrics("s"));
        for part in ["\"messages_consumed\":0.0", "\"in_flight\":1.0", "\"connected\":1.0"] {
            assert!(printed.contains(part), "{printed}");
        }
        assert_eq!(ledger.state().in_flight, 1);
        ledger.end(first);
        assert_eq!(ledger.state(), State { in_flight: 0, oldest: Duration::ZERO, disconnected: None });
    }
}
