//! The function's entry.

use std::process::ExitCode;

use lambda::{Failure, serve};
use load_registrar::{
    app::{ATTEMPT, App},
    config::Config,
    handler::handle,
};
use runtime::aws;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let app = async { Ok(App::new(Config::from_env()?, &aws::config(ATTEMPT).await)) };
    serve(app, async |app, event, deadline_ms| {
        handle(&app, event, deadline_ms).await.map_err(|error| Failure::new(error.kind(), &error))
    })
    .await
}
