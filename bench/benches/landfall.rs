//! All benchmarks, one table: `cargo bench -p bench`.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use bench::{
    Error,
    events::{Envelope, sqs_event},
    idiomatic::Idiomatic,
    ours,
    python::{Handler, Python},
    rounds::{Route, Timed, take_turns},
};

const SEED: u64 = 1;

fn main() -> Result<(), Error> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("landfall-bench");
    std::fs::create_dir_all(&folder)?;
    #[expect(clippy::disallowed_methods, reason = "the benchmark is told by its environment which Python to use")]
    let interpreter = std::env::var("LANDFALL_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let python = Python::new(interpreter, &folder)?;
    let full = |messages| (format!("{messages} messages"), messages, Envelope::Full);
    for ((title, messages, envelope), rounds, inner) in [
        (full(100), 31, 20),
        (("10,000 messages".to_owned(), 10_000, Envelope::Compact), 15, 1),
        (full(4_300), 11, 1),
    ] {
        let event = sqs_event(messages, envelope, SEED)?;
        let title = format!("{title}, event of {} bytes", event.len());
        parquet_writer(&title, &event, &folder, &python, rounds, inner)?;
    }
    Ok(())
}

/// Event → Parquet by every route. Refuses to give times when the files differ.
fn parquet_writer(
    title: &str,
    event: &[u8],
    folder: &Path,
    python: &Python,
    rounds: u32,
    inner: u32,
) -> Result<(), Error> {
    let app = ours::app()?;
    let event_file = folder.join("event.json");
    std::fs::write(&event_file, event)?;
    let mut routes: Vec<Box<dyn Route>> = vec![
        Box::new(ours::Whole { app: &app, event }),
        Box::new(ours::Decode { app: &app, event }),
        Box::new(ours::Encode::new(&app, event)?),
        Box::new(Idiomatic { event }),
        Box::new(Handler::start(python, &event_file, folder.join("python.parquet"))?),
    ];
    let mut files: Vec<PathBuf> = Vec::new();
    for (position, route) in routes.iter_mut().enumerate() {
        let output = route.run()?.output;
        if !output.is_empty() {
            let file = folder.join(format!("{position}.parquet"));
            std::fs::write(&file, output)?;
            files.push(file);
        }
    }
    let rows = python.compare(&files)?;
    let timed = take_turns(&mut routes, rounds, inner)?;
    print(&format!("{title}: {} files of {rows} rows are equal", files.len()), &timed)
}

fn print(title: &str, timed: &[Timed]) -> Result<(), Error> {
    let mut out = stdout().lock();
    writeln!(out, "\n{title}")?;
    let Some(base) = timed.first() else { return Ok(()) };
    for route in timed {
        let stages: Vec<String> = route.stages().map(|(stage, micros)| format!("{stage} {micros:.0}")).collect();
        writeln!(
            out,
            "{:30} {:>10.1} µs  {:>6.2} × {:>10} bytes   {}",
            route.name,
            route.median(),
            route.ratio(base),
            route.output_bytes,
            stages.join(" · ")
        )?;
    }
    Ok(())
}
