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
    // Cargo passes --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [route, event, turns] = &*arguments {
        return in_this_process(route, Path::new(event), turns.parse()?);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("landfall-bench");
    std::fs::create_dir_all(&folder)?;
    #[expect(clippy::disallowed_methods, reason = "the benchmark is told by its environment which Python to use")]
    let interpreter = std::env::var("LANDFALL_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let python = Python::new(interpreter, &folder)?;
    for (messages, envelope, rounds, inner) in
        [(100, Envelope::Full, 31, 20), (10_000, Envelope::Compact, 15, 1), (4_300, Envelope::Full, 11, 1)]
    {
        let event = folder.join(format!("{messages}.json"));
        std::fs::write(&event, sqs_event(messages, envelope, SEED)?)?;
        parquet_writer(&format!("{messages} messages"), &event, &folder, &python, rounds, inner)?;
    }
    Ok(())
}

/// A Rust route and nothing else, for a profiler, and to see what memory it takes.
fn in_this_process(route: &str, event: &Path, turns: usize) -> Result<(), Error> {
    let event = std::fs::read(event)?;
    let app = ours::app()?;
    let mut route: Box<dyn Route> = match route {
        "landfall" => Box::new(ours::Whole { app: &app, event: &event }),
        "decode" => Box::new(ours::Decode { app: &app, event: &event }),
        "encode" => Box::new(ours::Encode::new(&app, &event)?),
        "idiomatic" => Box::new(Idiomatic { event: &event }),
        route => return Err(format!("no route {route}").into()),
    };
    for _ in 0..turns {
        route.run()?;
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(writeln!(stdout(), "{}", peak.trim())?)
}

/// Event → Parquet by every route. Refuses to give times when the files differ.
fn parquet_writer(
    title: &str,
    event_file: &Path,
    folder: &Path,
    python: &Python,
    rounds: u32,
    inner: u32,
) -> Result<(), Error> {
    let app = ours::app()?;
    let event = &std::fs::read(event_file)?;
    let mut routes: Vec<Box<dyn Route>> = vec![
        Box::new(ours::Whole { app: &app, event }),
        Box::new(ours::Decode { app: &app, event }),
        Box::new(ours::Encode::new(&app, event)?),
        Box::new(Idiomatic { event }),
        Box::new(Handler::start(python, event_file, folder.join("python.parquet"))?),
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
    print(&format!("{title}, event of {} bytes; {} files of {rows} rows are equal", event.len(), files.len()), &timed)
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
