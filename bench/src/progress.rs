//! How far a long step is: one line that is written over on a terminal, a line every few seconds anywhere else.

use std::{
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// A step of known length.
#[derive(Debug)]
pub struct Progress {
    what: String,
    of: u32,
    done: u32,
    started: Instant,
    last_line: Instant,
    terminal: bool,
}

impl Progress {
    /// Says what begins.
    #[must_use]
    pub fn start(what: impl Into<String>, of: u32) -> Self {
        let now = Instant::now();
        let progress =
            Self { what: what.into(), of, done: 0, started: now, last_line: now, terminal: stderr().is_terminal() };
        progress.write();
        progress
    }

    /// One more is done.
    pub fn advance(&mut self) {
        self.done += 1;
        if self.terminal || self.last_line.elapsed() >= BETWEEN_LINES {
            self.last_line = Instant::now();
            self.write();
        }
    }

    /// Progress that cannot be shown is no reason to stop.
    fn write(&self) {
        let (begin, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let seconds = self.started.elapsed().as_secs_f64();
        let line = format!("{begin}… {} · {} of {} · {seconds:.1} s{end}", self.what, self.done, self.of);
        stderr().lock().write_all(line.as_bytes()).ok();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            stderr().lock().write_all(b"\r\x1b[K").ok();
        }
    }
}
