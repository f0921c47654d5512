//! The entry point of the function.

use std::process::ExitCode;

use kafka_roller::{
    app::{ATTEMPT, App},
    config::Config,
    handler::handle,
};
use lambda::serve;
use runtime::aws;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let app = async { Ok(App::new(Config::from_env()?, &aws::config(ATTEMPT).await)) };
    serve(app, async |app, event, deadline_ms| handle(&app, event, deadline_ms).await).await
}
