//! The only place that prints: results to standard output, everything else to standard error.

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text::{grouped, printable_lines};

/// Where there is no terminal, the time until the first line of progress.
const FIRST_LINE: Duration = Duration::from_secs(2);
/// The time between such lines.
const BETWEEN_LINES: Duration = Duration::from_secs(5);
/// The interval at which a spinner turns while nothing else happens.
const TICK: Duration = Duration::from_millis(120);

/// Where a command's output goes.
pub struct Console {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    progress: Style,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A bar, on a terminal.
    Bar,
    /// A line every few seconds, in a log.
    Lines,
    Hidden,
}

impl Console {
    /// The process's own standard output and error.
    pub fn of_process() -> Self {
        let progress = if io::stderr().is_terminal() { Style::Bar } else { Style::Lines };
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), progress }
    }

    /// Writes elsewhere, without progress.
    pub fn of(out: impl Write + 'static, err: impl Write + 'static) -> Self {
        Self { out: Box::new(out), err: Box::new(err), progress: Style::Hidden }
    }

    /// Prints a command's result.
    pub fn result(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Prints an error. If that fails, there is no place left to report it.
    pub fn error(&mut self, text: &str) {
        drop(writeln!(self.err, "error: {}", printable_lines(text)));
    }

    /// Shows progress of things, such as `messages`, out of `total` if that is known.
    pub fn progress(&self, verb: &'static str, things: &'static str, total: Option<usize>) -> Progress {
        let bar = self.bar(
            total,
            match total {
                Some(_) => "{spinner} {prefix} {bar:30} {human_pos} of {human_len} {msg}",
                None => "{spinner} {prefix} {human_pos} {msg}",
            },
        );
        bar.set_prefix(verb);
        bar.set_message(things);
        let lines = self.progress == Style::Lines;
        Progress { bar, verb, things, next_line: Cell::new(lines.then(|| Instant::now() + FIRST_LINE)) }
    }

    /// Shows, on a terminal, that the command waits.
    pub fn waiting(&self, for_what: &str) -> Progress {
        let bar = self.bar(None, "{spinner} Waiting for {msg}");
        bar.set_message(for_what.to_owned());
        Progress { bar, verb: "Waiting for", things: "", next_line: Cell::new(None) }
    }

    fn bar(&self, total: Option<usize>, template: &str) -> ProgressBar {
        let is_shown = self.progress == Style::Bar;
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(total.map(|total| total as u64), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if is_shown {
            bar.enable_steady_tick(TICK);
        }
        bar
    }
}

/// Progress of one command. It disappears from a terminal when it is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    verb: &'static str,
    things: &'static str,
    next_line: Cell<Option<Instant>>,
}

impl Progress {
    pub fn add(&self, done: usize) {
        self.bar.inc(done as u64);
        // The total may be an estimate.
        if self.bar.length().is_some_and(|length| self.bar.position() > length) {
            self.bar.set_length(self.bar.position());
        }
        self.line("");
    }

    /// Shows a remark behind the numbers.
    pub fn say(&self, text: &str) {
        self.bar.set_message(format!("{}, {text}", self.things));
        self.line(text);
    }

    fn line(&self, text: &str) {
        let now = Instant::now();
        if self.next_line.get().is_none_or(|next| now < next) {
            return;
        }
        self.next_line.set(Some(now + BETWEEN_LINES));
        let of = self.bar.length().map(|total| format!(" of {}", grouped(total))).unwrap_or_default();
        let comma = if text.is_empty() { "" } else { ", " };
        let done = grouped(self.bar.position());
        drop(writeln!(io::stderr(), "{} {done}{of} {}{comma}{text}", self.verb, self.things));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
