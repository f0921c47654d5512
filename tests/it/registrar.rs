//! load-registrar as Lambda runs it, for the tests of it and of those who invoke it.

use aws_config::SdkConfig;
use bytes::Bytes;
use kit::http::{HttpResponse, respond, respond_json};
use load_registrar::{app::App, config::Config, handler::handle};
use runtime::clock;
use serde_json::{Value, json};
use shared::registrar::REFUSED;

use crate::postgres::Scratch;

pub(crate) const INCOMING: &str = "incoming";
pub(crate) const LAKE: &str = "lake";

/// The function, over a database of its own.
pub(crate) struct Registrar(App);

impl Registrar {
    /// With its schema and nothing else.
    pub(crate) async fn new(database: &Scratch, aws: &SdkConfig) -> Self {
        let url = database.url();
        let config = Config::from_lookup(|name| match name {
            "INCOMING_BUCKET" => Some(INCOMING.to_owned()),
            "LAKE_BUCKET" => Some(LAKE.to_owned()),
            "DATABASE_URL" => Some(url.clone()),
            _ => None,
        });
        let registrar = Self(App::new(config.unwrap(), aws));
        registrar.ask(json!({"command": "migrate"})).await;
        registrar
    }

    /// What Lambda answers to an invocation.
    pub(crate) async fn invoke(&self, command: Bytes) -> HttpResponse {
        match handle(&self.0, command, in_seconds(60)).await {
            Ok(answer) => respond_json(200, &answer),
            Err(error) => {
                let failure = json!({"errorType": error.kind(), "errorMessage": error.to_string()});
                assert!(error.kind() == REFUSED, "{error}");
                respond(200, failure.to_string(), &[("x-amz-function-error", "Unhandled".to_owned())])
            }
        }
    }

    /// The answer to a command that is not refused.
    pub(crate) async fn ask(&self, command: Value) -> Value {
        handle(&self.0, command.to_string().into(), in_seconds(60)).await.unwrap()
    }

    /// Why it refuses a command.
    pub(crate) async fn refuses(&self, command: Value) -> String {
        let error = handle(&self.0, command.to_string().into(), in_seconds(60)).await.unwrap_err();
        assert_eq!(error.kind(), REFUSED, "{error}");
        error.to_string()
    }
}

/// A deadline, in milliseconds of Unix time.
pub(crate) fn in_seconds(seconds: u64) -> u64 {
    u64::try_from(clock::unix_ms()).unwrap() + seconds * 1_000
}

/// Lets every lease run out.
pub(crate) async fn expire_leases(database: &Scratch) {
    let sql = "alter table cubic_loads disable trigger cubic_loads_transition; \
        update cubic_loads set leased_until = now() - interval '1 second' where leased_until is not null; \
        alter table cubic_loads enable trigger cubic_loads_transition";
    database.client().await.batch_execute(sql).await.unwrap();
}
