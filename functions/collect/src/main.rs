//! The function's entry.

use std::process::ExitCode;

use collect::{app::App, config::Config, handler::dispatch};
use lambda::serve;
use runtime::aws;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let app = async {
        let config = Config::from_env()?;
        let aws = aws::config(config.attempt()).await;
        Ok(App::new(config, &aws))
    };
    serve(app, async |app, event, deadline_ms| dispatch(&app, event, deadline_ms).await).await
}
