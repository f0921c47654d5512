//! From starting a process to its first answer: the release binary and its peers, on one Runtime API, with one object
//! to put and one notice to publish over TLS.

use std::{
    fs::File,
    io::{Write, stdout},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use serde::Deserialize;

use crate::{
    Error,
    aws::Aws,
    process::Process,
    progress::Progress,
    python::Python,
    rounds::{median, quantile},
    runtime_api::RuntimeApi,
    targets::{Target, Verdict},
};

const ROUNDS: u32 = 21;
/// Invocations after the first, of either event.
const WARM: u32 = 20;
const NO_MESSAGES: &[u8] = br#"{"Records":[]}"#;

/// Starts the functions in turns. `messages` says what is in `event`.
pub fn cold_start(messages: &str, event: &[u8], folder: &Path, python: &Python) -> Result<Vec<Verdict>, Error> {
    let mut functions = [
        Function::new("Landfall", &build(&["--package", "parquet-writer"])?)?,
        Function::new("idiomatic Rust, AWS SDK's defaults", &build_idiomatic(folder)?)?,
        Function::python(python),
    ];
    let bench = Bench { aws: Aws::start(folder, &python.public_roots()?)?, event: event.into(), folder };
    let mut progress = Progress::start("cold starts", ROUNDS + 1);
    let mut files = Vec::new();
    for (position, function) in functions.iter().enumerate() {
        let path = folder.join(format!("cold-start-{position}.parquet"));
        std::fs::write(&path, bench.start(function)?.file)?;
        files.push(path);
    }
    python.compare(&files)?;
    for _ in 0..ROUNDS {
        progress.advance();
        for function in &mut functions {
            let start = bench.start(function)?;
            function.starts.push(start);
        }
    }
    drop(progress);
    print(messages, &functions)?;
    let [ours, idiomatic, peer] = &functions;
    let size = ours.size.unwrap_or_default() as f64 / 1e6;
    let what = |peer: &str| format!("cold start to first answer: {peer}");
    Ok(vec![
        Verdict::new(what("Python"), peer.longer_than(ours), "×", Target::AtLeast(30.0)),
        Verdict::new(what("idiomatic Rust, SDK's defaults"), idiomatic.longer_than(ours), "×", Target::AtLeast(4.0)),
        Verdict::new("size of the binary", size, "MB", Target::AtMost(8.0)),
    ])
}

fn print(messages: &str, functions: &[Function]) -> Result<(), Error> {
    let mut out = stdout().lock();
    writeln!(out, "\ncold start with {messages}: one object, one notice; median (p10–p90) of {ROUNDS} starts")?;
    let [next, answer, warm, none] = ["to first /next", "to first answer", "warm", "warm, no messages"];
    writeln!(out, "{:34} {next:>24} {answer:>25} {warm:>13} {none:>18} {:>10}", "", "peak")?;
    for function in functions {
        let spread = |of: fn(&Start) -> f64, width: usize| {
            let all = || function.starts.iter().map(of);
            let (p10, p90) = (quantile(all(), 0.1), quantile(all(), 0.9));
            format!("{:>width$.1} ({p10:.1}–{p90:.1}) ms", median(all()))
        };
        let middle = |of: fn(&Start) -> f64| median(function.starts.iter().map(of));
        let size = function.size.map(|bytes| format!("   {bytes} bytes")).unwrap_or_default();
        writeln!(
            out,
            "{:34} {:>24} {:>25} {:>10.2} ms {:>15.2} ms {:>6.1} MiB{size}",
            function.name,
            spread(|start| start.next_ms, 0),
            spread(|start| start.answer_ms, 0),
            middle(|start| start.warm_ms),
            middle(|start| start.no_messages_ms),
            middle(|start| start.peak_mib),
        )?;
    }
    Ok(())
}

/// A function and how its starts went.
struct Function {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// Of the binary, in bytes.
    size: Option<u64>,
    starts: Vec<Start>,
}

/// One start.
struct Start {
    next_ms: f64,
    answer_ms: f64,
    warm_ms: f64,
    no_messages_ms: f64,
    peak_mib: f64,
    file: Vec<u8>,
}

impl Function {
    fn new(name: &'static str, program: &Path) -> Result<Self, Error> {
        let size = Some(std::fs::metadata(program)?.len());
        let program = program.to_owned();
        Ok(Self { name, program, arguments: vec![], environment: vec![], size, starts: vec![] })
    }

    fn python(python: &Python) -> Self {
        Self {
            name: "Python, boto3 and pyarrow",
            program: python.interpreter.clone().into(),
            arguments: ["-m", "awslambdaric", "function.handle"].map(str::to_owned).to_vec(),
            environment: python.environment().to_vec(),
            size: None,
            starts: vec![],
        }
    }

    /// The median of the rounds' ratios of the time to the first answer.
    fn longer_than(&self, base: &Self) -> f64 {
        median(self.starts.iter().zip(&base.starts).map(|(this, base)| this.answer_ms / base.answer_ms))
    }
}

struct Bench<'a> {
    aws: Aws,
    event: Arc<[u8]>,
    folder: &'a Path,
}

impl Bench<'_> {
    fn start(&self, function: &Function) -> Result<Start, Error> {
        let log = self.folder.join("cold-start.log");
        self.try_start(function, &log).map_err(|error| {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            format!("{}: {error}\n{log}", function.name).into()
        })
    }

    fn try_start(&self, function: &Function, log: &Path) -> Result<Start, Error> {
        let api = RuntimeApi::start()?;
        let log = File::create(log)?;
        let mut command = Command::new(&function.program);
        command
            .args(&function.arguments)
            .current_dir(Python::peers())
            .env_clear()
            .envs(self.environment(&api))
            .envs(function.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = Instant::now();
        let mut process = Process(command.spawn()?);
        let first = api.next(&mut process.0)?;
        let answered = api.invoke(&mut process.0, &first, self.event.clone())?;
        all_landed(&answered.body)?;
        let mut taken = self.aws.take();
        if (taken.objects.len(), taken.notices) != (1, 1) {
            return Err(format!("{} objects, {} notices", taken.objects.len(), taken.notices).into());
        }
        let mut warm = |event: Arc<[u8]>| -> Result<f64, Error> {
            let mut times = Vec::new();
            for _ in 0..WARM {
                let next = api.next(&mut process.0)?;
                let answered = api.invoke(&mut process.0, &next, event.clone())?;
                all_landed(&answered.body)?;
                times.push(answered.time.as_secs_f64() * 1e3);
            }
            Ok(median(times.into_iter()))
        };
        let (warm_ms, no_messages_ms) = (warm(self.event.clone())?, warm(NO_MESSAGES.into())?);
        if self.aws.take().notices != WARM as usize {
            return Err("a warm invocation did not announce its object".into());
        }
        Ok(Start {
            next_ms: (first.at - started).as_secs_f64() * 1e3,
            answer_ms: (answered.at - started).as_secs_f64() * 1e3,
            warm_ms,
            no_messages_ms,
            peak_mib: process.peak_mib()?,
            file: taken.objects.pop().unwrap_or_default(),
        })
    }

    /// What Lambda sets, and the template.
    fn environment(&self, api: &RuntimeApi) -> impl Iterator<Item = (&'static str, String)> {
        let lambda = [
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_LAMBDA_FUNCTION_NAME", "parquet-writer"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/parquet-writer"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "stream"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("LAKE_BUCKET", "lake"),
            ("LANDED_TOPIC_ARN", "arn:aws:sns:us-east-1:123456789012:landed"),
            ("LANG", "en_US.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ];
        let runtime_api = ("AWS_LAMBDA_RUNTIME_API", api.address.to_string());
        lambda
            .map(|(name, value)| (name, value.to_owned()))
            .into_iter()
            .chain([runtime_api])
            .chain(self.aws.environment())
    }
}

/// An answer that gives messages back is fast for the wrong reason.
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

/// Builds a release binary and says where it is. Cargo shows the progress.
fn build(arguments: &[&str]) -> Result<PathBuf, Error> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--message-format=json-render-diagnostics"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo build {}: {}", arguments.join(" "), output.status).into());
    }
    let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Message>();
    let executables: Vec<PathBuf> =
        messages.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(|message| message.executable).collect();
    executables.into_iter().next().ok_or_else(|| "cargo built no executable".into())
}
