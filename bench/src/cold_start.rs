//! From starting a process to its first answer: the release binaries and their peers, on one Runtime API, with AWS
//! behind TLS.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use serde::Deserialize;

use crate::{
    Error,
    aws::{Aws, Taken},
    function::{Function, build},
    hits,
    progress::Progress,
    python::Python,
    rounds::{median, quantile},
    runtime_api::RuntimeApi,
    targets::{Target, Verdict},
};

const ROUNDS: u32 = 21;
/// Invocations after the first, of either event.
const WARM: u32 = 20;

/// What the functions are started for.
struct Job<'a> {
    /// The event and the expected output, for the heading of the table.
    what: String,
    event: Arc<[u8]>,
    /// An event for which the function does almost nothing, and its name.
    idle: (&'static str, &'static [u8]),
    /// Fails if the response reports a failure, because a function that fails early is faster than it should be.
    check: fn(&[u8]) -> Result<(), Error>,
    /// The objects or records that the function wrote, one per event.
    outputs: fn(Taken) -> Vec<Vec<u8>>,
    aws: &'a Aws,
    folder: &'a Path,
}

/// Starts parquet-writer and its peers in turns. `messages` says what is in `event`.
pub fn parquet_writer(
    messages: &str,
    event: &[u8],
    folder: &Path,
    python: &Python,
    aws: &Aws,
) -> Result<Vec<Verdict>, Error> {
    let settings =
        [("LAKE_BUCKET", "lake"), ("LANDED_TOPIC_ARN", "arn:aws:sns:us-east-1:123456789012:landed")].as_slice();
    let functions = [
        Function::new("Landfall", build(&["--package", "parquet-writer"])?, settings)?,
        Function::new("idiomatic Rust, AWS SDK's defaults", build_idiomatic(folder)?, settings)?,
        Function::python("Python, boto3 and pyarrow", python, "function.handle", settings),
    ];
    let job = Job {
        what: format!("{messages}: one object, one notice"),
        event: event.into(),
        idle: ("no messages", br#"{"Records":[]}"#),
        check: all_landed,
        outputs: |taken| if taken.objects.len() == taken.notices { taken.objects } else { vec![] },
        aws,
        folder,
    };
    let [ours, idiomatic, peer] = job.take_turns(functions, |outputs| {
        let mut files = Vec::new();
        for (position, output) in outputs.iter().enumerate() {
            let path = folder.join(format!("cold-start-{position}.parquet"));
            std::fs::write(&path, output)?;
            files.push(path);
        }
        python.compare(&files).map(drop)
    })?;
    let size = ours.function.size.unwrap_or_default() as f64 / 1e6;
    let what = |peer: &str| format!("cold start to first response: {peer}");
    Ok(vec![
        Verdict::new(what("Python"), peer.longer_than(&ours), "×", Target::AtLeast(30.0)),
        Verdict::new(what("idiomatic Rust, SDK's defaults"), idiomatic.longer_than(&ours), "×", Target::AtLeast(4.0)),
        Verdict::new("size of the binary", size, "MB", Target::AtMost(8.0)),
    ])
}

/// Starts collect and its peer in turns. Only its warm invocations have a target.
pub fn collect(folder: &Path, python: &Python, aws: &Aws) -> Result<Verdict, Error> {
    let settings = [("STREAM_NAME", "clicks")].as_slice();
    let functions = [
        Function::new("Landfall", build(&["--package", "collect"])?, settings)?,
        Function::python("Python, boto3", python, "collector.handle", settings),
    ];
    let job = Job {
        what: "a hit: one record".to_owned(),
        event: hits::event(hits::FORM)?.into(),
        idle: ("/health", hits::HEALTH),
        check: hits::is_stored,
        outputs: |taken| taken.records,
        aws,
        folder,
    };
    let [ours, peer] = job.take_turns(functions, hits::all_equal)?;
    let warm = median(peer.starts.iter().zip(&ours.starts).map(|(peer, ours)| peer.warm_ms / ours.warm_ms));
    Ok(Verdict::new("a hit, stored, warm: faster than Python, boto3", warm, "×", Target::AtLeast(3.0)))
}

impl Job<'_> {
    /// Starts all functions in turns, after a round that does not count. `compare` refuses outputs that differ.
    fn take_turns<const N: usize>(
        &self,
        functions: [Function; N],
        compare: impl Fn(&[Vec<u8>]) -> Result<(), Error>,
    ) -> Result<[Started; N], Error> {
        let mut all = functions.map(|function| Started { function, starts: vec![] });
        let mut progress = Progress::start("cold starts", ROUNDS + 1);
        let first: Vec<Vec<u8>> =
            all.iter().map(|started| Ok(self.start(&started.function)?.output)).collect::<Result<_, Error>>()?;
        compare(&first)?;
        for _ in 0..ROUNDS {
            progress.advance();
            for started in &mut all {
                started.starts.push(self.start(&started.function)?);
            }
        }
        drop(progress);
        self.print(&all)?;
        Ok(all)
    }

    fn start(&self, function: &Function) -> Result<Start, Error> {
        let log = self.folder.join("cold-start.log");
        self.try_start(function, &log).map_err(|error| {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            format!("{}: {error}\n{log}", function.name).into()
        })
    }

    fn try_start(&self, function: &Function, log: &Path) -> Result<Start, Error> {
        let api = RuntimeApi::start()?;
        let started = Instant::now();
        let mut process = function.start(&api, self.aws, log)?;
        let first = api.next(&mut process.0)?;
        let answered = api.invoke(&mut process.0, &first, self.event.clone())?;
        (self.check)(&answered.body)?;
        let Ok([output]) = <[Vec<u8>; 1]>::try_from((self.outputs)(self.aws.take())) else {
            return Err("the first invocation did not do its work once".into());
        };
        let mut warm = |event: Arc<[u8]>, check: fn(&[u8]) -> Result<(), Error>| -> Result<f64, Error> {
            let mut times = Vec::new();
            for _ in 0..WARM {
                let next = api.next(&mut process.0)?;
                let answered = api.invoke(&mut process.0, &next, event.clone())?;
                check(&answered.body)?;
                times.push(answered.time.as_secs_f64() * 1e3);
            }
            Ok(median(times.into_iter()))
        };
        let warm_ms = warm(self.event.clone(), self.check)?;
        let idle_ms = warm(self.idle.1.into(), |_| Ok(()))?;
        if (self.outputs)(self.aws.take()).len() != WARM as usize {
            return Err("a warm invocation did not do its work".into());
        }
        Ok(Start {
            next_ms: (first.at - started).as_secs_f64() * 1e3,
            answer_ms: (answered.at - started).as_secs_f64() * 1e3,
            warm_ms,
            idle_ms,
            peak_mib: process.peak_mib()?,
            output,
        })
    }

    fn print(&self, functions: &[Started]) -> Result<(), Error> {
        let mut out = stdout().lock();
        writeln!(out, "\ncold start with {}; median (p10–p90) of {ROUNDS} starts", self.what)?;
        let [next, answer, warm] = ["to first /next", "to first response", "warm"];
        let idle = format!("warm, {}", self.idle.0);
        writeln!(out, "{:34} {next:>24} {answer:>25} {warm:>13} {idle:>18} {:>10}", "", "peak")?;
        for Started { function, starts } in functions {
            let spread = |of: fn(&Start) -> f64, width: usize| {
                let all = || starts.iter().map(of);
                let (p10, p90) = (quantile(all(), 0.1), quantile(all(), 0.9));
                format!("{:>width$.1} ({p10:.1}–{p90:.1}) ms", median(all()))
            };
            let middle = |of: fn(&Start) -> f64| median(starts.iter().map(of));
            let size = function.size.map(|bytes| format!("   {bytes} bytes")).unwrap_or_default();
            writeln!(
                out,
                "{:34} {:>24} {:>25} {:>10.2} ms {:>15.2} ms {:>6.1} MiB{size}",
                function.name,
                spread(|start| start.next_ms, 0),
                spread(|start| start.answer_ms, 0),
                middle(|start| start.warm_ms),
                middle(|start| start.idle_ms),
                middle(|start| start.peak_mib),
            )?;
        }
        Ok(())
    }
}

/// A function and how its starts went.
struct Started {
    function: Function,
    starts: Vec<Start>,
}

/// One start.
struct Start {
    next_ms: f64,
    answer_ms: f64,
    warm_ms: f64,
    idle_ms: f64,
    peak_mib: f64,
    output: Vec<u8>,
}

impl Started {
    /// The median of the rounds' ratios of the time to the first answer.
    fn longer_than(&self, base: &Self) -> f64 {
        median(self.starts.iter().zip(&base.starts).map(|(this, base)| this.answer_ms / base.answer_ms))
    }
}

fn all_landed(answer: &[u8]) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "batchItemFailures")]
        failures: Vec<serde_json::Value>,
    }
    let answer: Answer = serde_json::from_slice(answer)?;
    if answer.failures.is_empty() { Ok(()) } else { Err("the function gave messages back".into()) }
}

/// The peer has a target folder of its own: it is no member of the workspace.
fn build_idiomatic(folder: &Path) -> Result<PathBuf, Error> {
    let manifest = Python::peers().join("idiomatic/Cargo.toml");
    let target = folder.join("idiomatic");
    build(&["--manifest-path", &manifest.display().to_string(), "--target-dir", &target.display().to_string()])
}
