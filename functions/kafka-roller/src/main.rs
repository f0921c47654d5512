//! The function's entry.

use std::process::ExitCode;

use kafka_roller::{app::App, config::Config, handler::handle};
use runtime::entry::{aws, serve};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let app = async { Ok(App::new(Config::from_env()?, &aws().await)) };
    serve(app, async |app, event, _| handle(&app, event).await).await
}
