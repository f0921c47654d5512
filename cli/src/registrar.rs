//! Commands to load-registrar: each is one invocation.

use aws_sdk_lambda::{
    Client, config::http::HttpResponse, error::SdkError, operation::invoke::InvokeError, primitives::Blob,
    types::InvocationType,
};
use clap::{Args, builder::NonEmptyStringValueParser};
use runtime::failure::{cause, code};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use shared::registrar::{Command, REFUSED};

use crate::{Exit, console::Console, context::Context, outcome::Failed, stack};

#[derive(Debug, Clone, Args)]
pub struct RegistrarArgs {
    /// Name or ARN of the function that registers loads, if it is not that of the stack.
    #[arg(long, value_name = "NAME", display_order = 90, value_parser = NonEmptyStringValueParser::new())]
    pub function: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrarError {
    /// A rule forbids what was asked for, such as an unknown name or the lease of another job.
    #[error("{0}")]
    Refused(String),
    /// The function failed, in its own words.
    #[error("{0}")]
    Failed(String),
    #[error("function {function} does not exist in {region}; name the right stack with --stack, or deploy it")]
    Missing { function: String, region: String },
    #[error("function {function} cannot be invoked: {cause}")]
    Call { function: String, cause: String },
    /// It may have been invoked.
    #[error(
        "function {function} gave no answer: {cause}; it may have done its work, so check before you repeat the command"
    )]
    NoAnswer { function: String, cause: String },
    #[error(
        "the answer of function {function} is not understood ({cause}); are the command and the function of one version?"
    )]
    Strange { function: String, cause: String },
}

impl From<RegistrarError> for Failed {
    fn from(error: RegistrarError) -> Self {
        let exit = if matches!(error, RegistrarError::Refused(_)) { Exit::Usage } else { Exit::Incomplete };
        Self { sentence: error.to_string(), exit }
    }
}

impl RegistrarArgs {
    fn name(&self, context: &Context) -> String {
        self.function.clone().unwrap_or_else(|| context.named(stack::REGISTRAR))
    }

    /// Sends a command, and shows that it waits for the answer.
    pub async fn ask<A: DeserializeOwned>(
        &self,
        command: &Command,
        context: &Context,
        console: &Console,
    ) -> Result<A, RegistrarError> {
        let _waiting = console.waiting(&self.name(context));
        self.ask_quietly(command, context).await
    }

    /// Sends a command, for callers that show progress themselves.
    pub async fn ask_quietly<A: DeserializeOwned>(
        &self,
        command: &Command,
        context: &Context,
    ) -> Result<A, RegistrarError> {
        invoke(&self.name(context), command, context).await
    }

    /// The error when a page ends where it began, so that continuing would never end.
    pub fn stuck(&self, context: &Context) -> RegistrarError {
        strange(&self.name(context), "a page ends where it began")
    }
}

/// Invokes a function of the stack with a request, and waits for its answer.
pub async fn invoke<A: DeserializeOwned>(
    function: &str,
    request: &impl Serialize,
    context: &Context,
) -> Result<A, RegistrarError> {
    let request = serde_json::to_vec(request).map_err(|error| strange(function, error))?;
    let client = &context.clients.lambda;
    let answer = client
        .invoke()
        .function_name(function)
        .invocation_type(InvocationType::RequestResponse)
        .payload(Blob::new(request))
        .send()
        .await
        .map_err(|error| failed(function, client, &error))?;
    let payload = answer.payload().map(Blob::as_ref).unwrap_or_default();
    if answer.function_error().is_some() {
        let failure: Value = serde_json::from_slice(payload).unwrap_or_default();
        let member = |name| failure.get(name).and_then(Value::as_str);
        return Err(match (member("errorType"), member("errorMessage")) {
            (Some(REFUSED), Some(message)) => RegistrarError::Refused(message.to_owned()),
            (_, Some(message)) => RegistrarError::Failed(message.to_owned()),
            (_, None) => {
                RegistrarError::Failed(format!("function {function} failed: {}", String::from_utf8_lossy(payload)))
            }
        });
    }
    serde_json::from_slice(payload).map_err(|error| strange(function, error))
}

fn failed(function: &str, client: &Client, error: &SdkError<InvokeError, HttpResponse>) -> RegistrarError {
    let (function, cause) = (function.to_owned(), cause(error));
    let is_unknown = match error {
        SdkError::ServiceError(_) => code(error) == Some("ServiceException"),
        SdkError::ResponseError(_) | SdkError::TimeoutError(_) => true,
        SdkError::DispatchFailure(failure) => {
            let is_of_transport = failure.is_timeout() || failure.is_io() || failure.as_other().is_some();
            // In hyper's words, for a connection that was not made.
            is_of_transport && !cause.contains("(Connect)")
        }
        _ => false,
    };
    match code(error) {
        Some("ResourceNotFoundException") => {
            let region = client.config().region().map_or("this region", |region| region.as_ref());
            RegistrarError::Missing { function, region: region.to_owned() }
        }
        _ if is_unknown => RegistrarError::NoAnswer { function, cause },
        _ => RegistrarError::Call { function, cause },
    }
}

fn strange(function: &str, error: impl ToString) -> RegistrarError {
    RegistrarError::Strange { function: function.to_owned(), cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use aws_config::retry::RetryConfig;
    use runtime::aws;
    use serde_json::json;

    use super::*;
    use crate::{
        canned::{self, Ended, Reply, run},
        clients::{Clients, invoking},
    };

    /// Invokes a function that gives these replies, the last one repeatedly, and counts the invocations.
    async fn asked(mut replies: Vec<Reply>) -> (Ended, usize) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let context = canned::registrar(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            if replies.len() > 1 { replies.remove(0) } else { replies[0].clone() }
        })
        .await;
        let ended = run(&context, &["loads", "next", "--table", "t"]).await;
        (ended, count.load(Ordering::SeqCst))
    }

    fn done() -> Reply {
        Reply::Answer(json!({"loads": [], "next": null}))
    }

    #[tokio::test]
    async fn the_function_s_own_words_are_the_error() {
        for (kind, code) in [(REFUSED, 2), ("Failed", 1)] {
            let reply = Reply::FunctionError(kind, "there is no table t".to_owned());
            let (ended, invocations) = asked(vec![reply]).await;
            assert_eq!((ended.code, ended.out.as_str(), invocations), (code, "", 1));
            assert_eq!(ended.err, "error: there is no table t\n");
        }
        let (ended, _) = asked(vec![Reply::FunctionError("Failed", "\u{1b}[2Jgone".to_owned())]).await;
        assert_eq!(ended.err, "error: \\u{1b}[2Jgone\n");
    }

    #[tokio::test]
    async fn a_missing_function_is_named() {
        let (ended, _) = asked(vec![Reply::Lambda(404, "ResourceNotFoundException")]).await;
        let expected = "error: function landfall-load-registrar does not exist in eu-west-1; name the right stack with \
                        --stack, or deploy it\n";
        assert_eq!((ended.code, ended.err.as_str()), (1, expected));
    }

    #[tokio::test]
    async fn a_throttled_invocation_is_tried_again() {
        let throttled = || Reply::Lambda(429, "TooManyRequestsException");
        let (ended, invocations) = asked(vec![throttled(), throttled(), done()]).await;
        assert_eq!((ended.code, invocations), (0, 3), "{}", ended.err);
        let (ended, invocations) = asked(vec![throttled()]).await;
        assert_eq!((ended.code, invocations), (1, 3));
        assert!(
            ended.err.ends_with("cannot be invoked: TooManyRequestsException: as a test wants it\n"),
            "{}",
            ended.err
        );
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_not_done_again() {
        for reply in [Reply::Silence, Reply::Lambda(500, "ServiceException")] {
            let (ended, invocations) = asked(vec![reply, done()]).await;
            assert_eq!((ended.code, invocations), (1, 1));
            assert!(
                ended.err.ends_with("; it may have done its work, so check before you repeat the command\n"),
                "{}",
                ended.err
            );
        }
    }

    #[tokio::test]
    async fn what_was_refused_is_told() {
        let (ended, invocations) = asked(vec![Reply::Lambda(403, "AccessDeniedException")]).await;
        let expected = "error: function landfall-load-registrar cannot be invoked: AccessDeniedException: as a test \
                        wants it\n";
        assert_eq!((ended.code, ended.err.as_str(), invocations), (1, expected, 1));
    }

    #[tokio::test]
    async fn another_version_s_answer_is_told_as_such() {
        let (ended, _) = asked(vec![Reply::Answer(json!({"loadz": []}))]).await;
        let expected = "error: the answer of function landfall-load-registrar is not understood (missing field `loads` at \
                        line 1 column 12); are the command and the function of one version?\n";
        assert_eq!((ended.code, ended.err.as_str()), (1, expected));
    }

    /// Runs a real client against a server that serves each connection so, and counts the connections.
    async fn over_the_wire(serve: impl Fn(std::net::TcpStream) + Send + 'static) -> (Ended, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        // The thread ends with the process.
        drop(thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                serve(stream.unwrap());
            }
        }));
        let ended = run(&context_at(&address.to_string()).await, &["migrate"]).await;
        (ended, count.load(Ordering::SeqCst))
    }

    async fn context_at(address: &str) -> Context {
        let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
        let config = kit::http::config_with(aws::https(), retry, &format!("http://{address}")).await;
        let clients = Clients { lambda: invoking(&config, Duration::from_millis(300)), ..Clients::of(&config) };
        Context::new(clients)
    }

    fn read_request(stream: &mut std::net::TcpStream) {
        let mut buffer = [0; 16 << 10];
        assert!(stream.read(&mut buffer).unwrap() > 0);
    }

    #[tokio::test]
    async fn an_answer_that_takes_too_long_is_not_asked_for_again() {
        let (ended, connections) = over_the_wire(|mut stream| {
            read_request(&mut stream);
            thread::sleep(Duration::from_secs(5));
        })
        .await;
        let expected = "error: function landfall-load-registrar gave no answer: HTTP read timeout occurred after \
                        300ms: timed out; it may have done its work, so check before you repeat the command\n";
        assert_eq!((ended.err.as_str(), connections), (expected, 1));
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_not_made_again() {
        for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"applied\""] {
            let (ended, connections) = over_the_wire(move |mut stream| {
                read_request(&mut stream);
                stream.write_all(answer.as_bytes()).unwrap();
            })
            .await;
            assert!(ended.err.contains("may have done its work"), "{}", ended.err);
            assert_eq!(connections, 1);
        }
    }

    #[tokio::test]
    async fn an_answer_over_the_wire_is_understood() {
        let (ended, _) = over_the_wire(|mut stream| {
            read_request(&mut stream);
            let body = r#"{"applied": [], "version": 7}"#;
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        })
        .await;
        assert_eq!((ended.out.as_str(), ended.err.as_str()), ("nothing to apply; the database is at version 7\n", ""));
    }

    #[tokio::test]
    async fn nobody_there_is_not_taken_for_a_lost_answer() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let ended = run(&context_at(&free.to_string()).await, &["migrate"]).await;
        assert!(ended.err.contains("cannot be invoked: "), "{}", ended.err);
        assert!(ended.err.contains("refused"), "{}", ended.err);
    }
}
