//! Peak memory, each figure of a process that does nothing else.

use std::{
    io::{Write, stdout},
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    Error,
    progress::Progress,
    python::{Handler, Python},
    rounds::{Route, median},
    targets::{Target, Verdict},
};

const PROCESSES: u32 = 5;
/// What an invocation leaves behind may make the next one's peak higher.
const TURNS: u32 = 5;
const DRAIN_PAYLOAD_MIB: u32 = 64;
const ROLL_MIB: u32 = 128;
/// Memory that the function reserves for everything except messages: `BASE_MEMORY_BYTES` in its config.rs.
const BASE_MEMORY_MIB: f64 = 256.0;

/// Peaks of the routes with one event, and of a large drain. This program starts itself for that.
pub fn peaks(messages: &str, event: &Path, folder: &Path, python: &Python) -> Result<Vec<Verdict>, Error> {
    let mut progress = Progress::start("peak memory", PROCESSES + 1);
    let [mut ours, mut idiomatic, mut peer] = [vec![], vec![], vec![]];
    for _ in 0..PROCESSES {
        ours.push(peak_of(&["landfall", &event.display().to_string(), &TURNS.to_string()])?);
        idiomatic.push(peak_of(&["idiomatic", &event.display().to_string(), &TURNS.to_string()])?);
        let mut handler = Handler::start(python, "handler", event, 1, folder.join("python.parquet"))?;
        for _ in 0..TURNS {
            handler.run()?;
        }
        peer.push(handler.peak_mib()?);
        progress.advance();
    }
    let (drained, counted, drain) = drain(DRAIN_PAYLOAD_MIB)?;
    drop(progress);
    let [ours, idiomatic, peer] = [ours, idiomatic, peer].map(|peaks| median(peaks.into_iter()));
    let allowed = BASE_MEMORY_MIB + counted;
    let mut out = stdout().lock();
    writeln!(out, "\npeak memory of a process that lands {messages} {TURNS} times, median of {PROCESSES} processes")?;
    for (name, peak) in [("Landfall", ours), ("idiomatic Rust", idiomatic), ("Python", peer)] {
        writeln!(out, "{name:30} {peak:>10.1} MiB {:>6.2} ×", peak / ours)?;
    }
    let what = format!("drain of {DRAIN_PAYLOAD_MIB} MiB of payload");
    writeln!(out, "{what:30} {drain:>10.1} MiB           {drained} messages")?;
    Ok(vec![
        Verdict::new(
            format!("{messages}: peak memory beside idiomatic Rust"),
            ours / idiomatic,
            "×",
            Target::AtMost(0.6),
        ),
        Verdict::new(format!("{what}: peak memory beside the estimate"), drain, "MiB", Target::AtMost(allowed)),
    ])
}

/// Peak memory of kafka-roller: of decoding an event of 6 MB, and of rolling a large file.
pub fn roller(event: &Path) -> Result<(), Error> {
    let mut progress = Progress::start("peak memory", PROCESSES + 1);
    let mut peaks = Vec::new();
    for _ in 0..PROCESSES {
        peaks.push(peak_of(&["roller", &event.display().to_string(), &TURNS.to_string()])?);
        progress.advance();
    }
    let said = said_by(&["roll", &ROLL_MIB.to_string()])?;
    let (bytes, peak) = said.split_once(' ').ok_or("a roll says two numbers")?;
    drop(progress);
    let mut out = stdout().lock();
    writeln!(out, "\npeak memory of a process that does nothing else")?;
    writeln!(out, "an event of 6 MB, {TURNS} times   {:>10.1} MiB", median(peaks.into_iter()))?;
    Ok(writeln!(out, "a roll of {bytes} bytes   {peak:>10} MiB")?)
}

fn peak_of(arguments: &[&str]) -> Result<f64, Error> {
    Ok(said_by(arguments)?.parse()?)
}

/// How many messages hold so much payload, the memory that a drain counts for them, and the peak, both in MiB.
fn drain(payload_mib: u32) -> Result<(usize, f64, f64), Error> {
    let said = said_by(&["drain", &payload_mib.to_string()])?;
    let mut numbers = said.split(' ');
    let mut next = || numbers.next().ok_or("a drain says three numbers");
    Ok((next()?.parse()?, next()?.parse()?, next()?.parse()?))
}

/// Starts this program with `arguments` and returns its standard output.
fn said_by(arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new(std::env::current_exe()?).args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", arguments.join(" "), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
