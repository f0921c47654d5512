//! An SQS for tests that answers as a closure says, behind the HTTP interface of the real client.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::config::Credentials;
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::{body::SdkBody, retry::RetryConfig};
use serde_json::Value;

use crate::{
    clients::Clients,
    context::{Context, Pace},
};

type Answer = dyn FnMut(&str, &Value) -> (u16, Value) + Send;

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
        let target = request.headers().get("x-amz-target").unwrap();
        let action = target.strip_prefix("AmazonSQS.").unwrap();
        let body = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let (status, body) = (self.0.lock().unwrap())(action, &body);
        let status = StatusCode::try_from(status).unwrap();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body.to_string()))))
    }
}

/// A context whose SQS gives to an action and its request what `answer` says, as status and body.
pub(crate) async fn context(answer: impl FnMut(&str, &Value) -> (u16, Value) + Send + 'static) -> Context {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedHttpClient::new(Canned(Arc::new(Mutex::new(Box::new(answer))))))
        .endpoint_url("http://127.0.0.1:1")
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .load()
        .await;
    let pace = Pace { receivers: 1, ..Pace::default() };
    Context { pace, ..Context::new(Clients::of(&config)) }
}
