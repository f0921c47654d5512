//! The function's entry.

use std::process::ExitCode;

use parquet_writer::{
    app::{App, Clients},
    config::Config,
    handler::handle,
};
use runtime::entry::{aws, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let app = async { Ok(App::new(Config::from_env()?, Clients::of(&aws().await))?) };
    serve(app, async |app, event, deadline_ms| handle(&app, event, deadline_ms).await).await
}
