//! The entry point of the function.

use std::process::ExitCode;

use lambda::serve;
use parquet_writer::{
    app::{ATTEMPT, App, Clients},
    config::Config,
    handler::handle,
};
use runtime::aws;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let app = async { Ok(App::new(Config::from_env()?, Clients::of(&aws::config(ATTEMPT).await))?) };
    serve(app, async |app, event, deadline_ms| handle(&app, event, deadline_ms).await).await
}
