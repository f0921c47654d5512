//! The Python peer: a process that is asked, and the tools that come with it.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::{
    Error,
    process::Process,
    rounds::{Route, Run},
};

/// The interpreter and the message classes that it imports.
#[derive(Debug)]
pub struct Python {
    /// The interpreter.
    pub interpreter: String,
    classes: PathBuf,
    bytecode: PathBuf,
}

impl Python {
    /// `interpreter`, with the classes of `proto/` generated into `folder`.
    pub fn new(interpreter: String, folder: &Path) -> Result<Self, Error> {
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
        let classes = folder.join("classes");
        std::fs::create_dir_all(&classes)?;
        let mut protoc = Command::new(&interpreter);
        protoc.args(["-m", "grpc_tools.protoc"]).arg(format!("--proto_path={}", proto.display()));
        protoc.arg(format!("--python_out={}", classes.display()));
        for file in files_below(&proto)?.iter().filter(|file| file.extension().is_some_and(|kind| kind == "proto")) {
            protoc.arg(file);
        }
        if !protoc.status().map_err(|error| format!("{interpreter}: {error}"))?.success() {
            return Err(format!("{interpreter} has not all of bench/peers/requirements.txt").into());
        }
        Ok(Self { interpreter, classes, bytecode: folder.join("bytecode") })
    }

    /// A script of `peers/`, ready to start.
    #[must_use]
    pub fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.arg(Self::peers().join(name)).envs(self.environment());
        command
    }

    /// The folder of all peers.
    #[must_use]
    pub fn peers() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
    }

    /// Where the message classes are, and where bytecode goes: a peer is not to lose time to compiling itself, and not
    /// to leave files in the sources.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("PYTHONPATH", self.classes.display().to_string()),
            ("PYTHONPYCACHEPREFIX", self.bytecode.display().to_string()),
        ]
    }

    /// The public certificate authorities that botocore brings along.
    pub fn public_roots(&self) -> Result<PathBuf, Error> {
        let script = "import botocore, pathlib; print(pathlib.Path(botocore.__file__).parent / 'cacert.pem', end='')";
        let output = Command::new(&self.interpreter).args(["-c", script]).stderr(Stdio::inherit()).output()?;
        Ok(String::from_utf8(output.stdout)?.into())
    }

    /// Reads `files` back and compares them row by row; gives back how many rows they hold.
    pub fn compare(&self, files: &[PathBuf]) -> Result<usize, Error> {
        let output = self.script("compare.py").args(files).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err("the routes do not write the same rows, so their times mean nothing".into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }
}

/// Files below a folder, sorted.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The handler in a process of its own, which times itself: the pipe is not in its time.
#[derive(Debug)]
pub struct Handler {
    turns: u32,
    process: Process,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    output: PathBuf,
}

impl Handler {
    /// Starts the process with a handler, a module of `peers/`, and gives it the event, which it handles `turns` times
    /// in a run. What it makes of it goes to `output`.
    pub fn start(python: &Python, module: &str, event: &Path, turns: u32, output: PathBuf) -> Result<Self, Error> {
        let mut script = python.script("serve.py");
        let mut process = script.arg(module).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (requests, answers) = process.stdin.take().zip(process.stdout.take()).ok_or("no pipe")?;
        let answers = BufReader::new(answers);
        let mut handler = Self { turns, process: Process(process), requests, answers, output };
        handler.ask(&format!("event {}", event.display()))?;
        Ok(handler)
    }

    /// One request, one line.
    pub fn ask(&mut self, request: &str) -> Result<String, Error> {
        writeln!(self.requests, "{request}")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err("the Python handler ended".into());
        }
        Ok(answer.trim_end().to_owned())
    }

    /// The most memory it has had so far, in MiB.
    pub fn peak_mib(&self) -> Result<f64, Error> {
        self.process.peak_mib()
    }

    /// The last output.
    pub fn output(&mut self) -> Result<Vec<u8>, Error> {
        self.ask(&format!("write {}", self.output.display()))?;
        Ok(std::fs::read(&self.output)?)
    }
}

impl Route for Handler {
    fn name(&self) -> &str {
        "Python"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let answer = self.ask(&format!("run {}", self.turns))?;
        let mut words = answer.split(' ');
        let mut run = Run::default();
        while let Some((stage, nanoseconds)) = words.next().zip(words.next()) {
            let time = Duration::from_nanos(nanoseconds.parse()?);
            match stage {
                "total" => run.total = time,
                "json" => run.stages.push(("json", time)),
                "protobuf" => run.stages.push(("protobuf", time)),
                "columns" => run.stages.push(("columns", time)),
                _ => run.stages.push(("parquet", time)),
            }
        }
        run.output = self.output()?;
        Ok(run.of_each(self.turns))
    }
}
