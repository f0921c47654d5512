//! All benchmarks: `cargo bench -p bench`, or one part of them: `cargo bench -p bench -- speed|memory|cold-start|registrar`.
//!
//! For a profiler, one route in one process: `cargo bench -p bench -- landfall <event> <turns>`.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

use bench::{
    Error,
    cold_start::cold_start,
    events::{Envelope, sqs_event},
    idiomatic::Idiomatic,
    memory, ours,
    process::own_peak_mib,
    progress::Progress,
    python::{Handler, Python},
    registrar::Bench,
    rounds::{Route, Timed, take_turns},
    targets::{Target, Verdict},
};

const SEED: u64 = 1;

fn main() -> Result<(), Error> {
    // Cargo passes --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &*arguments {
        [] => benchmarks(|_| true),
        [part @ ("speed" | "memory" | "cold-start" | "registrar")] => benchmarks(|name| name == *part),
        ["drain", payload_mib] => {
            let (messages, counted) = ours::drain(&ours::app()?, payload_mib.parse::<usize>()? << 20, SEED)?;
            Ok(writeln!(stdout(), "{messages} {} {:.1}", counted >> 20, own_peak_mib()?)?)
        }
        [route, event, turns] => in_this_process(route, Path::new(event), turns.parse()?),
        _ => Err("there are speed, memory, cold-start and registrar".into()),
    }
}

fn benchmarks(wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("landfall-bench");
    std::fs::create_dir_all(&folder)?;
    #[expect(clippy::disallowed_methods, reason = "the benchmark is told by its environment which Python to use")]
    let interpreter = std::env::var("LANDFALL_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let python = Python::new(interpreter, &folder)?;
    let event = |name: &str, messages, envelope| -> Result<PathBuf, Error> {
        let path = folder.join(name);
        std::fs::write(&path, sqs_event(messages, envelope, SEED)?)?;
        Ok(path)
    };
    let hundred = event("100.json", 100, Envelope::Full)?;
    let ten_thousand = event("10000.json", 10_000, Envelope::Compact)?;
    let full = event("4300.json", 4_300, Envelope::Full)?;
    let mut verdicts = Vec::new();
    if wanted("speed") {
        let speed = |messages, event, rounds, inner| parquet_writer(messages, event, &folder, &python, rounds, inner);
        let [ours, _, _, idiomatic, _] = &speed("100 messages", &hundred, 31, 20)?;
        verdicts.push(faster("100 messages", idiomatic, ours, 3.0));
        let [ours, _, floor, idiomatic, peer] = &speed("10,000 messages", &ten_thousand, 15, 1)?;
        verdicts.push(faster("10,000 messages", peer, ours, 10.0));
        verdicts.push(faster("10,000 messages", idiomatic, ours, 3.0));
        let what = "10,000 messages: time of writing ready columns";
        verdicts.push(Verdict::new(what, ours.ratio(floor), "×", Target::AtMost(1.5)));
        speed("4,300 messages, all that fits with what SQS sends along", &full, 11, 1)?;
    }
    if wanted("memory") {
        verdicts.extend(memory::peaks("10,000 messages", &ten_thousand, &folder, &python)?);
    }
    if wanted("cold-start") {
        verdicts.extend(cold_start("100 messages", &std::fs::read(&hundred)?, &folder, &python)?);
    }
    if wanted("registrar") {
        verdicts.extend(load_registrar()?);
    }
    let mut out = stdout().lock();
    writeln!(out, "\ntargets")?;
    verdicts.iter().try_for_each(|verdict| Ok(writeln!(out, "{verdict}")?))
}

fn faster(messages: &str, peer: &Timed, ours: &Timed, least: f64) -> Verdict {
    Verdict::new(format!("{messages}: faster than {}", peer.name), peer.ratio(ours), "×", Target::AtLeast(least))
}

/// Objects → loads by every route, on this machine and over a network.
fn load_registrar() -> Result<Vec<Verdict>, Error> {
    #[expect(clippy::disallowed_methods, reason = "the benchmark is told by its environment where Postgres is")]
    let server =
        std::env::var("LANDFALL_POSTGRES").map_err(|_| "LANDFALL_POSTGRES names no Postgres; `make postgres`")?;
    let mut verdicts = Vec::new();
    for (network, one_way_us, objects, rounds) in [
        ("loopback", 0, 10, 101),
        ("loopback", 0, 100, 51),
        ("loopback", 0, 1_000, 21),
        ("2.5 ms away", 1_250, 10, 15),
        ("2.5 ms away", 1_250, 100, 7),
        ("2.5 ms away", 1_250, 1_000, 3),
    ] {
        let title = format!("{objects} objects, Postgres on {network}");
        let bench = Bench::new(&server, Duration::from_micros(one_way_us))?;
        let (timed, round_trips) = bench.speed(&title, objects, rounds)?;
        let [ours, row_by_row, copy] = &timed[..] else { return Err("a route is missing".into()) };
        print(&format!("{title}; {round_trips} round trip(s) a batch"), &timed)?;
        let mut out = stdout().lock();
        for route in &timed {
            writeln!(out, "{:30} {:>10.0} objects/s", route.name, objects as f64 / route.median() * 1e6)?;
        }
        if objects == 1_000 {
            let least = if one_way_us == 0 { 8.0 } else { 100.0 };
            verdicts.push(faster(&title, row_by_row, ours, least));
        }
        if objects == 1_000 && one_way_us == 0 {
            let what = format!("{title}: objects/s beside COPY");
            verdicts.push(Verdict::new(what, copy.ratio(ours), "×", Target::AtLeast(0.8)));
        }
    }
    Ok(verdicts)
}

/// A Rust route and nothing else. Says what memory it took.
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
    Ok(writeln!(stdout(), "{:.1}", own_peak_mib()?)?)
}

/// Event → Parquet by every route. Refuses to give times when the files differ.
fn parquet_writer(
    messages: &str,
    event_file: &Path,
    folder: &Path,
    python: &Python,
    rounds: u32,
    inner: u32,
) -> Result<[Timed; 5], Error> {
    let app = ours::app()?;
    let event = &std::fs::read(event_file)?;
    let mut routes: [Box<dyn Route>; 5] = [
        Box::new(ours::Whole { app: &app, event }),
        Box::new(ours::Decode { app: &app, event }),
        Box::new(ours::Encode::new(&app, event)?),
        Box::new(Idiomatic { event }),
        Box::new(Handler::start(python, event_file, folder.join("python.parquet"))?),
    ];
    let mut progress = Progress::start(messages, rounds);
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
    let timed = take_turns(&mut routes, rounds, inner, &mut progress)?;
    drop(progress);
    print(
        &format!("{messages}, event of {} bytes; {} files of {rows} rows are equal", event.len(), files.len()),
        &timed,
    )?;
    timed.try_into().map_err(|_| "a route is missing".into())
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
