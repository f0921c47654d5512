//! A fake of the network below the real AWS SDK clients: a closure answers their HTTP requests.

use std::{
    fmt,
    future::pending,
    pin::Pin,
    sync::{Arc, Mutex},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::Credentials;
pub use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::{body::SdkBody, retry::RetryConfig};
use serde_json::Value;

/// Where the clients of [`config`] send their requests. Nothing listens there.
pub const ENDPOINT: &str = "http://127.0.0.1:1";

/// What happens to a request.
#[derive(Debug)]
pub enum Reply {
    Answer(Box<HttpResponse>),
    /// The connection times out while the client waits for the answer.
    Lost,
    /// The client waits forever.
    Hang,
    /// The real client gets the request (see [`before`]).
    PassOn,
    /// The answer takes time.
    Later(Later),
}

/// An answer that takes time.
pub struct Later(Pin<Box<dyn Future<Output = HttpResponse> + Send>>);

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Later")
    }
}

impl Reply {
    pub fn later(answer: impl Future<Output = HttpResponse> + Send + 'static) -> Self {
        Self::Later(Later(Box::pin(answer)))
    }
}

impl From<HttpResponse> for Reply {
    fn from(response: HttpResponse) -> Self {
        Self::Answer(Box::new(response))
    }
}

type Answer = dyn FnMut(&HttpRequest) -> Reply + Send;

#[derive(Clone)]
struct Fake {
    answer: Arc<Mutex<Box<Answer>>>,
    real: Option<SharedHttpClient>,
}

struct Connector {
    answer: Arc<Mutex<Box<Answer>>>,
    real: Option<SharedHttpConnector>,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpClient for Fake {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let real = self.real.as_ref().map(|real| real.http_connector(settings, components));
        SharedHttpConnector::new(Connector { answer: self.answer.clone(), real })
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let reply = (self.answer.lock().unwrap())(&request);
        match reply {
            Reply::Answer(response) => HttpConnectorFuture::ready(Ok(*response)),
            Reply::Lost => {
                let error = ConnectorError::timeout("HTTP read timeout occurred".into());
                HttpConnectorFuture::ready(Err(error))
            }
            Reply::Hang => HttpConnectorFuture::new(pending()),
            Reply::Later(Later(answer)) => HttpConnectorFuture::new(async { Ok(answer.await) }),
            Reply::PassOn => self.real.as_ref().expect("there is no real client").call(request),
        }
    }
}

/// An HTTP client whose requests `answer` answers.
pub fn client<R: Into<Reply>>(mut answer: impl FnMut(&HttpRequest) -> R + Send + 'static) -> SharedHttpClient {
    let answer: Box<Answer> = Box::new(move |request| answer(request).into());
    SharedHttpClient::new(Fake { answer: Arc::new(Mutex::new(answer)), real: None })
}

/// The same, and what `answer` passes on goes to `real`.
pub fn before(real: SharedHttpClient, answer: impl FnMut(&HttpRequest) -> Reply + Send + 'static) -> SharedHttpClient {
    let answer: Box<Answer> = Box::new(answer);
    SharedHttpClient::new(Fake { answer: Arc::new(Mutex::new(answer)), real: Some(real) })
}

/// Configuration of SDK clients that send their requests through `client` and do not retry.
pub async fn config(client: SharedHttpClient) -> SdkConfig {
    config_with(client, RetryConfig::disabled(), ENDPOINT).await
}

/// Configuration of SDK clients with test credentials.
pub async fn config_with(client: SharedHttpClient, retry: RetryConfig, endpoint: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(client)
        .endpoint_url(endpoint)
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(retry)
        .load()
        .await
}

/// The action of a request in one of AWS's JSON protocols, such as `AmazonSQS.SendMessageBatch`.
pub fn target(request: &HttpRequest) -> Option<&str> {
    request.headers().get("x-amz-target")
}

/// The body of a request, which is in memory.
pub fn body(request: &HttpRequest) -> &[u8] {
    request.body().bytes().expect("the body is in memory")
}

/// The body of a request in JSON.
pub fn json(request: &HttpRequest) -> Value {
    serde_json::from_slice(body(request)).unwrap()
}

/// A response with a body (text, bytes or [`Value::to_string`]) and headers.
pub fn respond(status: u16, body: impl Into<SdkBody>, headers: &[(&'static str, String)]) -> HttpResponse {
    let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), body.into());
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.clone());
    }
    response
}

/// A response in JSON.
pub fn respond_json(status: u16, body: &Value) -> HttpResponse {
    respond(status, body.to_string(), &[("content-type", "application/x-amz-json-1.1".to_owned())])
}
