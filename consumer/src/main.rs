//! The process: settings, clients, and a clean end.

use std::{io::Write, process::ExitCode, sync::Arc, time::Duration};

use consumer::{
    broker::Broker,
    config::{self, Config},
    forward,
    gate::Gate,
    health,
    ledger::Ledger,
};
use objects::S3;
use runtime::{aws, metrics};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{error, info, level_filters::LevelFilter, warn};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How long what is in flight may take after SIGTERM. ECS kills a container 30 seconds after it.
const FINISH: Duration = Duration::from_secs(25);
const LOOK: Duration = Duration::from_millis(20);
const HELP: &str = "\
Usage: consumer [health]

Takes messages from RabbitMQ queues and sends them to an SQS queue. A message is acknowledged when SQS has it.
Settings are environment variables: AMQP_URLS, QUEUES, EVENTS_QUEUE_URL and LAKE_BUCKET are required.
SIGTERM ends it: it takes nothing more, and finishes what is in flight within 25 seconds.

Commands:
  health   asks the consumer that runs on this machine (HEALTH_PORT), and ends with 1 if it is not well
";

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            log();
            match run().await {
                Ok(()) => ExitCode::SUCCESS,
                Err(cause) => {
                    error!(%cause, "the consumer cannot run");
                    ExitCode::FAILURE
                }
            }
        }
        ["health"] => {
            let answer = match config::health_port() {
                Ok(port) => health::ask(port).await,
                Err(cause) => Err(cause.to_string()),
            };
            let (text, code) = match answer {
                Ok(text) => (text, ExitCode::SUCCESS),
                Err(text) => (text, ExitCode::FAILURE),
            };
            say(&text);
            code
        }
        ["--help" | "-h"] => {
            say(HELP.trim_end());
            ExitCode::SUCCESS
        }
        _ => {
            say(HELP.trim_end());
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// JSON lines on standard output, where metrics are too. lapin reports as errors what is reported here in other words.
fn log() {
    let targets = Targets::new().with_default(LevelFilter::WARN).with_target("consumer", LevelFilter::INFO);
    let targets = targets.with_target("lapin", LevelFilter::OFF);
    let lines =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    tracing_subscriber::registry().with(lines).with(targets).init();
}

async fn run() -> Result<(), Failure> {
    let config = Config::from_env()?;
    // Before anything is taken: a signal from now on is a clean end.
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let aws = aws::config(forward::ATTEMPT).await;
    let lake = S3::new(&objects::Client::new(&aws), &config.bucket);
    let gate = Gate::new(config.prefetch_bytes);
    let ledger = Arc::new(Ledger::new(gate.clone()));
    let listener = TcpListener::bind(("0.0.0.0", config.health_port)).await?;
    drop(tokio::spawn(health::serve(listener, ledger.clone())));
    drop(tokio::spawn(print_metrics(ledger.clone(), config.stack.clone(), config.metrics_every)));
    let inlet = forward::start(config.clone(), aws_sdk_sqs::Client::new(&aws), lake, ledger.clone());
    let (stop, stopped) = watch::channel(false);
    let stack = config.stack.clone();
    let broker = tokio::spawn(Broker { config, inlet, ledger: ledger.clone(), gate, stop: stopped }.run());
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    let deadline = Instant::now() + FINISH;
    info!(in_flight = ledger.state().in_flight, "stopping: nothing more is taken");
    stop.send(true)?;
    let open = tokio::time::timeout_at(deadline, broker).await;
    while ledger.state().in_flight > 0 && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    if let Ok(Ok(Some(open))) = open {
        open.close().await;
    }
    metrics::print(ledger.metrics(&stack));
    match ledger.state().in_flight {
        0 => info!("stopped; everything that was taken is settled"),
        unfinished => warn!(unfinished, "stopped; what is unfinished is delivered again"),
    }
    Ok(())
}

async fn print_metrics(ledger: Arc<Ledger>, stack: String, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        metrics::print(ledger.metrics(&stack));
    }
}
