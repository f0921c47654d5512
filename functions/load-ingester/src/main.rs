//! The function's entry.

use std::process::ExitCode;

use lambda::serve;
use load_ingester::{
    app::{ATTEMPT, App},
    config::Config,
    handler::handle,
};
use runtime::aws;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let app = async { Ok(App::new(Config::from_env()?, &aws::config(ATTEMPT).await)) };
    serve(app, async |app, event, deadline_ms| handle(&app, event, deadline_ms).await).await
}
