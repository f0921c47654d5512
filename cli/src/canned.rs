//! AWS services for the tests of commands, which answer as a closure says.

use std::time::Duration;

use aws_smithy_types::retry::RetryConfig;
pub(crate) use kit::output::Ended;
use kit::{
    http::{self, ENDPOINT, HttpRequest, HttpResponse, respond_json},
    output::Captured,
};
use serde_json::{Value, json};
use shared::registrar::Command;

use crate::{
    Cli,
    clients::Clients,
    console::Console,
    context::{Context, Pace},
};

/// A context whose services answer every request as `answer` says.
pub(crate) async fn services(answer: impl FnMut(&HttpRequest) -> HttpResponse + Send + 'static) -> Context {
    Context::new(Clients::of(&http::config(http::client(answer)).await))
}

/// A context whose SQS answers an action and its request as `answer` says, with a status and a body.
pub(crate) async fn sqs(mut answer: impl FnMut(&str, &Value) -> (u16, Value) + Send + 'static) -> Context {
    let context = services(move |request| {
        let action = http::target(request).unwrap().strip_prefix("AmazonSQS.").unwrap();
        let (status, body) = answer(action, &http::json(request));
        respond_json(status, &body)
    })
    .await;
    Context { pace: Pace { receivers: 1, ..Pace::default() }, ..context }
}

/// How an invocation ends.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Answer(Value),
    /// The function fails, with this type and message.
    FunctionError(&'static str, String),
    /// Lambda answers in the function's place, with a status and a code.
    Lambda(u16, &'static str),
    /// The answer does not arrive.
    Silence,
}

/// A context whose load-registrar replies to commands as `reply` says, and whose SDK retries what it usually does.
pub(crate) async fn registrar(mut reply: impl FnMut(Command) -> Reply + Send + 'static) -> Context {
    let client = http::client(move |request| {
        if request.uri().ends_with("/landfall-kafka-roller/configuration") {
            // The stack of load-registrar alone.
            let code = ("x-amzn-errortype", "ResourceNotFoundException".to_owned());
            return http::respond(404, json!({}).to_string(), &[code]).into();
        }
        let path = "/2015-03-31/functions/landfall-load-registrar/invocations";
        assert!(request.uri().ends_with(path), "{}", request.uri());
        assert_eq!(request.headers().get("x-amz-invocation-type"), Some("RequestResponse"));
        let (status, body, header) = match reply(serde_json::from_slice(http::body(request)).unwrap()) {
            Reply::Answer(answer) => (200, answer, None),
            Reply::FunctionError(kind, message) => {
                let body = json!({"errorType": kind, "errorMessage": message});
                (200, body, Some(("x-amz-function-error", "Unhandled")))
            }
            Reply::Lambda(status, code) => {
                let body = json!({"Type": "User", "message": "as a test wants it"});
                (status, body, Some(("x-amzn-errortype", code)))
            }
            Reply::Silence => return http::Reply::Lost,
        };
        let headers: Vec<_> = header.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        http::respond(status, body.to_string(), &headers).into()
    });
    let retry = RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(1));
    Context::new(Clients::of(&http::config_with(client, retry, ENDPOINT).await))
}

/// Runs a command.
pub(crate) async fn run(context: &Context, arguments: &[&str]) -> Ended {
    let (out, err) = (Captured::default(), Captured::default());
    let mut console = Console::of(out.clone(), err.clone());
    let cli = Cli::try_parse_args(arguments).unwrap_or_else(|error| panic!("{error}"));
    let exit = crate::run(&cli, context, &mut console).await;
    Ended { code: exit.code(), out: out.text(), err: err.text() }
}
