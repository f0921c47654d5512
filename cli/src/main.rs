//! The process: arguments in, exit code out.

use std::process::{ExitCode, exit};

use clap::Parser;
use landfall::{
    Cli, Exit,
    clients::Clients,
    console::Console,
    context::{Context, Interrupt},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut console = Console::of_process();
    if let Some(ending) = landfall::run_offline(&cli, &mut console) {
        return ExitCode::from(ending.code());
    }
    let interrupt = Interrupt::default();
    tokio::spawn(watch_for_interrupts(interrupt.clone()));
    let ending = match Clients::from_env(cli.profile.as_deref()).await {
        Ok(clients) => {
            let context = Context { interrupt, ..Context::of_process(clients) };
            landfall::run(&cli, &context, &mut console).await
        }
        Err(error) => {
            console.error(&error.to_string());
            Exit::Incomplete
        }
    };
    ExitCode::from(ending.code())
}

/// The first Ctrl-C lets the command finish what it has begun; the second ends it at once.
async fn watch_for_interrupts(interrupt: Interrupt) {
    while tokio::signal::ctrl_c().await.is_ok() {
        if interrupt.is_set() {
            exit(130);
        }
        interrupt.set();
    }
}
