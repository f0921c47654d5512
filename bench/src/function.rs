//! Functions as Lambda starts them: a program with the environment that Lambda sets and nothing else.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::{Error, aws::Aws, process::Process, python::Python, runtime_api::RuntimeApi};

/// A function that can be started.
#[derive(Debug)]
pub struct Function {
    /// What the table calls it.
    pub name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// Of the binary, in bytes.
    pub size: Option<u64>,
}

impl Function {
    /// A binary.
    pub fn new(name: &'static str, program: PathBuf, settings: &[(&'static str, &str)]) -> Result<Self, Error> {
        let size = Some(std::fs::metadata(&program)?.len());
        Ok(Self { name, program, arguments: vec![], environment: owned(settings), size })
    }

    /// A handler below `peers/`.
    #[must_use]
    pub fn python(name: &'static str, python: &Python, handler: &str, settings: &[(&'static str, &str)]) -> Self {
        let mut environment = owned(settings);
        environment.extend(python.environment());
        Self {
            name,
            program: python.interpreter.clone().into(),
            arguments: ["-m", "awslambdaric", handler].map(str::to_owned).to_vec(),
            environment,
            size: None,
        }
    }

    /// Starts it. What it prints goes to `log`.
    pub fn start(&self, api: &RuntimeApi, aws: &Aws, log: &Path) -> Result<Process, Error> {
        let log = File::create(log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(Python::peers())
            .env_clear()
            .envs(lambda(api))
            .envs(aws.environment())
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(Process(command.spawn()?))
    }
}

/// What Lambda sets.
fn lambda(api: &RuntimeApi) -> Vec<(&'static str, String)> {
    let mut environment = owned(&[
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_LAMBDA_FUNCTION_NAME", "function"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/function"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "stream"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("LANG", "en_US.UTF-8"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ]);
    environment.push(("AWS_LAMBDA_RUNTIME_API", api.address.to_string()));
    environment
}

fn owned(variables: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

/// Builds a release binary and says where it is. Cargo shows the progress.
pub fn build(arguments: &[&str]) -> Result<PathBuf, Error> {
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
