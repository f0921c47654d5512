//! AWS services for tests that answer as a closure says, behind the HTTP interface of the real clients.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::Credentials;
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::{body::SdkBody, retry::RetryConfig};
use serde_json::{Value, json};
use shared::registrar::Command;

use crate::{
    Cli,
    clients::Clients,
    console::Console,
    context::{Context, Pace},
};

type Answer = dyn FnMut(&HttpRequest) -> Result<HttpResponse, ConnectorError> + Send;

#[derive(Clone)]
struct Canned(Arc<Mutex<Box<Answer>>>);

impl fmt::Debug for Canned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canned")
    }
}

impl HttpClient for Canned {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Canned {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready((self.0.lock().unwrap())(&request))
    }
}

/// A configuration whose services answer as `answer` says. Attempts follow each other at once.
async fn config(
    retry: RetryConfig,
    answer: impl FnMut(&HttpRequest) -> Result<HttpResponse, ConnectorError> + Send + 'static,
) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedHttpClient::new(Canned(Arc::new(Mutex::new(Box::new(answer))))))
        .endpoint_url("http://127.0.0.1:1")
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(retry)
        .load()
        .await
}

/// An answer in JSON.
pub(crate) fn response(status: u16, body: &Value) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body.to_string()))
}

/// A context whose services answer to every request what `answer` says.
pub(crate) async fn services(mut answer: impl FnMut(&HttpRequest) -> HttpResponse + Send + 'static) -> Context {
    let config = config(RetryConfig::disabled(), move |request| Ok(answer(request))).await;
    Context::new(Clients::of(&config))
}

/// A context whose SQS gives to an action and its request what `answer` says, as status and body.
pub(crate) async fn context(mut answer: impl FnMut(&str, &Value) -> (u16, Value) + Send + 'static) -> Context {
    let config = config(RetryConfig::disabled(), move |request| {
        let target = request.headers().get("x-amz-target").unwrap();
        let action = target.strip_prefix("AmazonSQS.").unwrap();
        let body = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let (status, body) = answer(action, &body);
        Ok(response(status, &body))
    })
    .await;
    let pace = Pace { receivers: 1, ..Pace::default() };
    Context { pace, ..Context::new(Clients::of(&config)) }
}

/// How an invocation ends.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// The function answers.
    Answer(Value),
    /// The function fails, with this message.
    FunctionError(String),
    /// Lambda answers in its place, with a status and a code.
    Lambda(u16, &'static str),
    /// Nothing comes back.
    Silence,
}

/// A context whose load-registrar replies to commands as `reply` says, and whose SDK retries what it usually does.
pub(crate) async fn registrar(mut reply: impl FnMut(Command) -> Reply + Send + 'static) -> Context {
    let retry = RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(1));
    let config = config(retry, move |request| {
        let path = "/2015-03-31/functions/landfall-load-registrar/invocations";
        assert!(request.uri().ends_with(path), "{}", request.uri());
        let invocation = request.headers().get("x-amz-invocation-type");
        assert_eq!(invocation, Some("RequestResponse"));
        match reply(serde_json::from_slice(request.body().bytes().unwrap()).unwrap()) {
            Reply::Answer(answer) => Ok(response(200, &answer)),
            Reply::FunctionError(message) => {
                let mut response = response(200, &json!({"errorType": "Refused", "errorMessage": message}));
                response.headers_mut().insert("x-amz-function-error", "Unhandled");
                Ok(response)
            }
            Reply::Lambda(status, code) => {
                let mut response = response(status, &json!({"Type": "User", "message": "as a test wants it"}));
                response.headers_mut().insert("x-amzn-errortype", code);
                Ok(response)
            }
            Reply::Silence => Err(ConnectorError::timeout("HTTP read timeout occurred".into())),
        }
    })
    .await;
    Context::new(Clients::of(&config))
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a command.
pub(crate) async fn run(context: &Context, arguments: &[&str]) -> Ended {
    let (out, err) = (Captured::default(), Captured::default());
    let mut console = Console::of(out.clone(), err.clone());
    let cli = Cli::try_parse_args(arguments).unwrap_or_else(|error| panic!("{error}"));
    let exit = crate::run(&cli, context, &mut console).await;
    Ended { code: exit.code(), out: out.text(), err: err.text() }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
