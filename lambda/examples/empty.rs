//! A function that does nothing: what Lambda and the runtime cost by themselves.

use std::{convert::Infallible, process::ExitCode};

use lambda::serve;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    serve(async { Ok(()) }, async |_, _, _| Ok::<_, Infallible>(())).await
}
