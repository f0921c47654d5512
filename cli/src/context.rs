//! What every command is given: the clients, the timeouts, and whether someone pressed Ctrl-C.

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

/// The user in histories when the environment does not name one.
const DEFAULT_USER: &str = "cli";
/// The name of the stack in `samconfig.toml`.
const DEFAULT_STACK: &str = "landfall";

#[derive(Debug, Clone)]
pub struct Context {
    pub clients: Clients,
    pub pace: Pace,
    pub interrupt: Interrupt,
    /// When the command began; `2h` ago is counted from then.
    pub now: Timestamp,
    /// Who runs the command, for histories.
    pub user: String,
    /// The name of the stack.
    pub stack: String,
}

impl Context {
    pub fn new(clients: Clients) -> Self {
        let now = Timestamp::from_millisecond(clock::unix_ms()).unwrap_or(Timestamp::MAX);
        Self {
            clients,
            pace: Pace::default(),
            interrupt: Interrupt::default(),
            now,
            user: DEFAULT_USER.to_owned(),
            stack: DEFAULT_STACK.to_owned(),
        }
    }

    /// A context with the process's user.
    pub fn of_process(clients: Clients) -> Self {
        let environment = settings::environment();
        let user = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| environment.optional(name));
        Self { user: user.unwrap_or_else(|| DEFAULT_USER.to_owned()), ..Self::new(clients) }
    }
}

/// How a queue is emptied.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long one receive waits for a message. With 1 or more, SQS asks all servers of the queue (long polling).
    pub wait_seconds: i32,
    pub receivers: usize,
    /// How long to go on when nothing is received although the queue's counters, which are approximate, are not 0.
    pub empty_timeout: Duration,
    /// How long a received message stays hidden from other receivers.
    pub visibility_timeout_seconds: i32,
}

impl Default for Pace {
    fn default() -> Self {
        let empty_timeout = Duration::from_secs(60);
        Self { wait_seconds: 1, receivers: 8, empty_timeout, visibility_timeout_seconds: 300 }
    }
}

/// Set by Ctrl-C, and shared with the command, which then finishes what it has begun and stops.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
