//! The function's entry.

use std::process::ExitCode;

use dmap_fetch::{
    app::{ATTEMPT, App},
    config::Config,
    handler::handle,
    http::Http,
};
use lambda::serve;
use runtime::aws;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let app = async { Ok(App::new(Config::from_env()?, &aws::config(ATTEMPT).await, Http::with_native_roots()?)) };
    serve(app, async |app, event, deadline_ms| handle(&app, event, deadline_ms).await).await
}
