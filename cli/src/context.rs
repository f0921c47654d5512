//! What every command is given: the clients, the patience, and whether someone pressed Ctrl-C.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use runtime::{clock, settings};

use crate::clients::Clients;

/// Who is said to have asked when the environment does not name a user.
const NOBODY: &str = "cli";

/// What a command needs besides its arguments.
#[derive(Debug, Clone)]
pub struct Context {
    /// The AWS clients.
    pub clients: Clients,
    /// How long to wait for queues.
    pub pace: Pace,
    /// Set by Ctrl-C.
    pub interrupt: Interrupt,
    /// When the command began: what `2h` ago is counted from.
    pub now: Timestamp,
    /// Who asks, for histories.
    pub user: String,
}

impl Context {
    /// A context with the usual patience.
    #[must_use]
    pub fn new(clients: Clients) -> Self {
        let now = Timestamp::from_millisecond(clock::unix_ms()).unwrap_or(Timestamp::MAX);
        Self { clients, pace: Pace::default(), interrupt: Interrupt::default(), now, user: NOBODY.to_owned() }
    }

    /// The same for the process's user.
    #[must_use]
    pub fn of_process(clients: Clients) -> Self {
        let environment = settings::environment();
        let user = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| environment.optional(name));
        Self { user: user.unwrap_or_else(|| NOBODY.to_owned()), ..Self::new(clients) }
    }
}

/// How a queue is emptied.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long one receive waits for a message, in seconds. Anything above 0 asks every server of the queue.
    pub wait_seconds: i32,
    /// Receives that run side by side.
    pub receivers: usize,
    /// A queue is empty when all receivers got nothing, so many times in a row, and its counters say so too.
    pub empty_rounds: u32,
    /// How long to go on when nothing comes although the counters, which are approximate, say that something is left.
    pub patience: Duration,
    /// How long a received message stays hidden from others, in seconds.
    pub hidden_seconds: i32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { wait_seconds: 1, receivers: 8, empty_rounds: 2, patience: Duration::from_secs(60), hidden_seconds: 300 }
    }
}

/// A wish to stop, shared between whoever notices it and whoever obeys.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks the command to finish what it has begun and to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
