//! The function's entry: set up once, then one invocation after the other.

use std::{process::ExitCode, sync::Arc};

use collect::{app::App, config::Config, handler::handle};
use lambda_runtime::{Error, LambdaEvent, Runtime, layers::TracingLayer, service_fn, tracing};
use runtime::raw::{self, RawEventLayer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing::init_default_subscriber();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            tracing::error!(%cause, "the function cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let app = Arc::new(App::from_env(Config::from_env()?).await);
    let handler = service_fn(move |event: LambdaEvent<()>| {
        let app = app.clone();
        async move { handle(&app, raw::event(), event.context.deadline).await.map_err(Error::from) }
    });
    Runtime::new(handler).layer(TracingLayer::new()).layer(RawEventLayer).run().await
}
