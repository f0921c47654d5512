//! All benchmarks: `cargo bench -p bench`, or one part of them: `cargo bench -p bench -- <part>`,
//! which is speed, memory, cold-start, registrar, collect, roller or ingest.
//!
//! For a profiler, one route in one process: `cargo bench -p bench -- landfall <event> <turns>`, or `-- staged <topics> <turns>`.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

use bench::{
    Error,
    aws::Aws,
    cold_start,
    events::{Envelope, sqs_event},
    floor::Floor,
    hits,
    idiomatic::Idiomatic,
    ingest, memory, ours,
    process::own_peak_mib,
    progress::Progress,
    python::{Handler, Python},
    records,
    registrar::Bench,
    rounds::{Route, Timed, take_turns},
    targets::{Target, Verdict},
    warm,
};

const SEED: u64 = 1;
/// The event of a stream.
const RECORDS: &str = "records.json";

fn main() -> Result<(), Error> {
    // Cargo passes --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &*arguments {
        [] => benchmarks(|_| true),
        [part @ ("speed" | "memory" | "cold-start" | "registrar" | "collect" | "roller" | "ingest")] => {
            benchmarks(|name| name == *part)
        }
        ["drain", payload_mib] => {
            let (messages, counted) = ours::drain(&ours::app()?, payload_mib.parse::<usize>()? << 20, SEED)?;
            Ok(writeln!(stdout(), "{messages} {} {:.1}", counted >> 20, own_peak_mib()?)?)
        }
        ["ingest", folder] => {
            let folder = Path::new(folder);
            let load = ingest::Load::write(folder)?;
            ingest::Landfall::new(&load, folder.join("load.parquet"))?.run()?;
            Ok(writeln!(stdout(), "{:.1}", own_peak_mib()?)?)
        }
        ["staged", topics, turns] => {
            let mut route = records::Batched::new(topics.parse()?)?;
            for _ in 0..turns.parse::<usize>()? {
                route.run()?;
            }
            Ok(())
        }
        ["roll", mib] => {
            let bytes = records::roll(mib.parse()?)?;
            Ok(writeln!(stdout(), "{bytes} {:.1}", own_peak_mib()?)?)
        }
        [route, event, turns] => in_this_process(route, Path::new(event), turns.parse()?),
        _ => Err("there are speed, memory, cold-start, registrar, collect, roller and ingest".into()),
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
        let [ours, _, _, _, idiomatic, _] = &speed("100 messages", &hundred, 31, 20)?;
        verdicts.push(faster("100 messages", idiomatic, ours, 4.5));
        let [ours, _, _, floor, idiomatic, peer] = &speed("10,000 messages", &ten_thousand, 15, 1)?;
        verdicts.push(faster("10,000 messages", peer, ours, 9.0));
        verdicts.push(faster("10,000 messages", idiomatic, ours, 3.7));
        let what = "10,000 messages: time beside the floor";
        verdicts.push(Verdict::new(what, ours.ratio(floor), "×", Target::AtMost(1.5)));
        speed("4,300 messages, all that fits with what SQS sends along", &full, 11, 1)?;
    }
    if wanted("memory") {
        verdicts.extend(memory::peaks("10,000 messages", &ten_thousand, &folder, &python)?);
    }
    if wanted("cold-start") {
        let aws = Aws::start(&folder, &python.public_roots()?)?;
        let event = std::fs::read(&hundred)?;
        verdicts.extend(cold_start::parquet_writer("100 messages", &event, &folder, &python, &aws)?);
    }
    if wanted("registrar") {
        verdicts.extend(load_registrar()?);
    }
    if wanted("collect") {
        verdicts.extend(collect(&folder, &python)?);
    }
    if wanted("roller") {
        verdicts.extend(kafka_roller(&folder, &python)?);
        memory::roller(&folder.join(RECORDS))?;
    }
    if wanted("ingest") {
        verdicts.extend(load_ingester(&folder, &python)?);
    }
    if wanted("cold-start") || wanted("collect") {
        verdicts.push(cold_start::collect(&folder, &python, &Aws::start(&folder, &python.public_roots()?)?)?);
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

/// Requests → events by every route, and calls of the running function.
fn collect(folder: &Path, python: &Python) -> Result<Vec<Verdict>, Error> {
    let config = hits::config()?;
    let mut verdicts = Vec::new();
    let ga4 = hits::ga4()?;
    for (what, of) in [("form", hits::FORM), ("JSON", hits::JSON), ("query", hits::QUERY), ("GA4", &ga4)] {
        let events = &hits::events(of)?;
        let (file, output) = (folder.join("hits.json"), folder.join("hit.line"));
        std::fs::write(&file, events.join(&b'\n'))?;
        let mut routes: [Box<dyn Route>; 3] = [
            Box::new(hits::Landfall { config: &config, events }),
            Box::new(hits::LambdaHttp { events }),
            Box::new(Handler::start(python, "hits", &file, hits::REQUESTS, output)?),
        ];
        let lines: Vec<Vec<u8>> =
            routes.iter_mut().map(|route| Ok(route.run()?.output)).collect::<Result<_, Error>>()?;
        hits::all_equal(&lines)?;
        let bytes = events.iter().map(Vec::len).sum::<usize>() / events.len();
        let title = format!("{what}, events of {bytes} bytes → one record each");
        let timed = take_turns(&mut routes, 101, 1, &mut Progress::start(&title, 101))?;
        print(&title, &timed)?;
        let [ours, lambda_http, python] = &timed[..] else { return Err("a route is missing".into()) };
        verdicts.push(faster(what, lambda_http, ours, 3.0));
        verdicts.push(faster(what, python, ours, 3.5));
    }
    let (usual, hostile) = (&hits::batch(false)?, &hits::batch(true)?);
    let mut routes: [Box<dyn Route>; 2] = [
        Box::new(hits::Batch { name: "twenty hits of a hundred", config: &config, event: usual }),
        Box::new(hits::Batch { name: "and 950 addresses", config: &config, event: hostile }),
    ];
    let title =
        format!("a batch made to be slow, {} bytes, {} of them addresses", hostile.len(), hostile.len() - usual.len());
    let timed = take_turns(&mut routes, 101, 1, &mut Progress::start(&title, 101))?;
    print(&title, &timed)?;
    let [usual, hostile] = &timed[..] else { return Err("a route is missing".into()) };
    verdicts.push(Verdict::new("a batch made to be slow", hostile.ratio(usual), "×", Target::AtMost(5.0)));
    let timed = warm::collect(folder, &Aws::start(folder, &python.public_roots()?)?)?;
    print("warm call, from the event to its answer", &timed)?;
    for call in &timed {
        let cycle: f64 = call.stages().map(|(_, micros)| micros).sum();
        writeln!(stdout(), "{:30} {:>10.0} requests/s", call.name, 1e6 / cycle)?;
    }
    let [empty, calls @ ..] = &timed;
    for call in calls {
        let what = format!("warm invocation beside an empty handler: {}", call.name);
        verdicts.push(Verdict::new(what, call.ratio(empty), "×", Target::AtMost(1.25)));
    }
    Ok(verdicts)
}

/// Records → the bytes of a file by every route.
fn kafka_roller(folder: &Path, python: &Python) -> Result<Vec<Verdict>, Error> {
    let (event, file) = (&records::full_event(), folder.join(RECORDS));
    std::fs::write(&file, event)?;
    let mut routes: [Box<dyn Route>; 5] = [
        Box::new(records::Landfall::new(event, false)?),
        Box::new(records::Floor::new(event)),
        Box::new(records::Typed { event }),
        Box::new(Handler::start(python, "records", &file, 1, folder.join("records.ndjson"))?),
        Box::new(records::Landfall::new(event, true)?),
    ];
    let files: Vec<Vec<u8>> = routes.iter_mut().map(|route| Ok(route.run()?.output)).collect::<Result<_, Error>>()?;
    if files.windows(2).any(|pair| pair.first() != pair.last()) {
        return Err("the routes do not write the same bytes, so their times mean nothing".into());
    }
    let title = format!("{} records, event of {} bytes → the bytes of the file", records::RECORDS, event.len());
    let timed = take_turns(&mut routes, 31, 1, &mut Progress::start(&title, 31))?;
    print(&title, &timed)?;
    let mut out = stdout().lock();
    for route in &timed {
        writeln!(out, "{:30} {:>12.0} records/s", route.name, records::RECORDS as f64 / route.median() * 1e6)?;
    }
    let [ours, floor, typed, python, _] = &timed[..] else { return Err("a route is missing".into()) };
    drop(out);
    let mut batches =
        [records::Batched::new(1)?, records::Batched::new(1_000)?].map(|route| Box::new(route) as Box<dyn Route>);
    let title = format!("{} records, staged as one segment", records::RECORDS);
    let staged = take_turns(&mut batches, 31, 1, &mut Progress::start(&title, 31))?;
    print(&title, &staged)?;
    let [one, thousand] = &staged[..] else { return Err("a route is missing".into()) };
    let many =
        Verdict::new("a batch of 1,000 topics: time of one".to_owned(), thousand.ratio(one), "×", Target::AtMost(2.0));
    let what = "10,000 records";
    let beside = Verdict::new(format!("{what}: time of {}", floor.name), ours.ratio(floor), "×", Target::AtMost(3.0));
    Ok(vec![faster(what, typed, ours, 15.0), faster(what, python, ours, 25.0), beside, many])
}

/// A load → a Parquet file by every route.
fn load_ingester(folder: &Path, python: &Python) -> Result<Vec<Verdict>, Error> {
    let load = ingest::Load::write(folder)?;
    let files = ["landfall", "duckdb", "pyarrow"].map(|name| folder.join(format!("load.{name}.parquet")));
    let [ours, duckdb, pyarrow] = &files;
    let mut routes: [Box<dyn Route>; 3] = [
        Box::new(ingest::Landfall::new(&load, ours.clone())?),
        Box::new(ingest::Peer::start(python, "DuckDB, one thread", "ingest_duckdb", &load, duckdb)?),
        Box::new(ingest::Peer::start(python, "pyarrow, one thread", "ingest_pyarrow", &load, pyarrow)?),
    ];
    routes.iter_mut().try_for_each(|route| route.run().map(drop))?;
    let rows = python.compare(&files)?;
    let title = format!("a load of {rows} rows, {} bytes in gzip → Parquet", load.bytes);
    let mut timed = take_turns(&mut routes, 11, 1, &mut Progress::start(&title, 11))?;
    for (route, file) in timed.iter_mut().zip(&files) {
        route.output_bytes = usize::try_from(std::fs::metadata(file)?.len())?;
    }
    print(&title, &timed)?;
    let mut out = stdout().lock();
    for route in &timed {
        writeln!(out, "{:30} {:>10.0} MB/s", route.name, load.bytes as f64 / route.median())?;
    }
    let [ours, duckdb, pyarrow] = &timed[..] else { return Err("a route is missing".into()) };
    Ok(vec![faster("a load", duckdb, ours, 1.0), faster("a load", pyarrow, ours, 1.0)])
}

/// A Rust route and nothing else. Says what memory it took.
fn in_this_process(route: &str, event: &Path, turns: usize) -> Result<(), Error> {
    let event = std::fs::read(event)?;
    let (app, config) = (ours::app()?, hits::config()?);
    let lines: Vec<Vec<u8>> = event.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let mut route: Box<dyn Route> = match route {
        "landfall" => Box::new(ours::Whole { app: &app, event: &event }),
        "decode" => Box::new(ours::Decode { app: &app, event: &event }),
        "encode" => Box::new(ours::Encode::new(&app, &event)?),
        "idiomatic" => Box::new(Idiomatic { event: &event }),
        "roller" => Box::new(records::Landfall::new(&event, false)?),
        "collect" => Box::new(hits::Landfall { config: &config, events: &lines }),
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
) -> Result<[Timed; 6], Error> {
    let app = ours::app()?;
    let event = &std::fs::read(event_file)?;
    let mut routes: [Box<dyn Route>; 6] = [
        Box::new(ours::Whole { app: &app, event }),
        Box::new(ours::Decode { app: &app, event }),
        Box::new(ours::Encode::new(&app, event)?),
        Box::new(Floor::new(event)?),
        Box::new(Idiomatic { event }),
        Box::new(Handler::start(python, "handler", event_file, 1, folder.join("python.parquet"))?),
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
            "{:30} {:>10.2} µs  {:>6.2} × {:>10} bytes   {}",
            route.name,
            route.median(),
            route.ratio(base),
            route.output_bytes,
            stages.join(" · ")
        )?;
    }
    Ok(())
}
