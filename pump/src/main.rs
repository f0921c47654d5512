//! The process: reads arguments, shows progress on standard error, prints the report on standard output.

use std::{
    cell::Cell,
    io::{self, Write},
    process::{ExitCode, exit},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pump::{Arguments, report::Report, run, send::Counts};

/// Time between two lines of progress where standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let interrupt = Arc::new(AtomicBool::new(false));
    tokio::spawn(watch_for_interrupts(interrupt.clone()));
    let progress = Progress::new(arguments.hits);
    let report = run(&arguments, &interrupt, |counts| progress.show(counts)).await;
    progress.bar.finish_and_clear();
    match report {
        Ok(report) => match print(&report, arguments.json) {
            Ok(()) => ExitCode::from(u8::from(!report.complete)),
            Err(error) => fail(&format!("the report cannot be printed: {error}"), 1),
        },
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

/// The first Ctrl-C lets the requests in flight finish; the second ends the process at once.
async fn watch_for_interrupts(interrupt: Arc<AtomicBool>) {
    while tokio::signal::ctrl_c().await.is_ok() {
        if interrupt.swap(true, Ordering::Relaxed) {
            exit(130);
        }
    }
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let text = if json { serde_json::to_string_pretty(report)? + "\n" } else { report.to_string() };
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Nothing is left to report an error of standard error to.
    drop(writeln!(io::stderr(), "error: {message}"));
    ExitCode::from(code)
}

/// A bar on a terminal, otherwise a line every few seconds.
struct Progress {
    bar: ProgressBar,
    next_line: Cell<Instant>,
}

impl Progress {
    /// `hits` is 0 when the number is not known.
    fn new(hits: u64) -> Self {
        let bar = ProgressBar::with_draw_target((hits > 0).then_some(hits), ProgressDrawTarget::stderr());
        let template = match hits {
            0 => "{spinner} Sent {human_pos} hits, {per_sec}, {msg}",
            _ => "{spinner} {bar:30} Sent {human_pos} of {human_len} hits, {per_sec}, {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, next_line: Cell::new(Instant::now() + LINE_INTERVAL) }
    }

    fn show(&self, counts: &Counts) {
        let retries = HumanCount(counts.retried.values().sum());
        self.bar.set_position(counts.total());
        self.bar.set_message(format!("{retries} retries"));
        let now = Instant::now();
        if self.bar.is_hidden() && now >= self.next_line.get() {
            self.next_line.set(now + LINE_INTERVAL);
            let line = format!(
                "Sent {} hits, {} accepted, {retries} retries",
                HumanCount(counts.total()),
                HumanCount(counts.accepted)
            );
            drop(writeln!(io::stderr(), "{line}"));
        }
    }
}
