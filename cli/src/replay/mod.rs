//! `landfall replay`: sends dead-lettered messages and quarantined records again.

pub mod destination;
pub mod discarded;
pub mod dlq;
pub mod message;
pub mod plan;
pub mod quarantine;
pub mod raw;
pub mod report;

use std::cell::RefCell;

use clap::Subcommand;
use objects::BucketError;

use self::{discarded::DiscardedArgs, dlq::DlqArgs, quarantine::QuarantineArgs, raw::RawArgs};
use crate::{
    Exit,
    console::Console,
    context::{Context, Interrupt},
    outcome::{Failed, conclude},
    queue::{Delivery, QueueError},
    stack::StackError,
};

#[derive(Debug, Subcommand)]
pub enum Replay {
    /// Moves dead-lettered messages back to their queue.
    Dlq(DlqArgs),
    /// Sends quarantined records to a queue again and removes them from the quarantine.
    Quarantine(QuarantineArgs),
    /// Lands batches of a stream that Lambda has given up.
    Discarded(DiscardedArgs),
    /// Sends events that landed before their type was known, so that they land typed.
    Raw(RawArgs),
}

/// Why a replay could not begin; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

/// Why a command ends early. The first cause counts.
#[derive(Debug, Default)]
struct Stop(RefCell<Option<String>>);

impl Stop {
    fn set(&self, cause: String) {
        self.0.borrow_mut().get_or_insert(cause);
    }

    /// A whole batch that failed means that the queue cannot be reached, and that there is no point in going on.
    fn set_if_all_failed(&self, destination: &str, deliveries: &[Delivery]) {
        if let Some(Delivery::Failed(cause)) = deliveries.first()
            && deliveries.iter().all(|delivery| matches!(delivery, Delivery::Failed(_)))
        {
            self.set(format!("{destination} cannot be sent to: {cause}"));
        }
    }

    fn is_set(&self, interrupt: &Interrupt) -> bool {
        if interrupt.is_set() {
            self.set("interrupted".to_owned());
        }
        self.0.borrow().is_some()
    }

    fn cause(self) -> Option<String> {
        self.0.into_inner()
    }
}

/// Tells the URL of a queue from its name or ARN.
fn queue_url(text: &str) -> Result<String, &'static str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest.and_then(|rest| rest.rsplit_once('/')) {
        Some((host, name)) if !host.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err("a queue URL looks like https://sqs.eu-west-1.amazonaws.com/123456789012/name"),
    }
}

impl From<ReplayError> for Failed {
    fn from(error: ReplayError) -> Self {
        let exit = if matches!(error, ReplayError::Usage(_)) { Exit::Usage } else { Exit::Incomplete };
        Self { sentence: error.to_string(), exit }
    }
}

pub async fn run(command: &Replay, json: bool, context: &Context, console: &mut Console) -> Exit {
    let report = match command {
        Replay::Dlq(args) => dlq::replay(args, context, console).await,
        Replay::Quarantine(args) => quarantine::replay(args, context, console).await,
        Replay::Discarded(args) => discarded::replay(args, context, console).await,
        Replay::Raw(args) => raw::replay(args, context, console).await,
    };
    conclude(report, json, console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_url_is_told_from_a_name() {
        for url in ["http://127.0.0.1:4566/000000000000/events", "https://sqs.eu-west-1.amazonaws.com/1/events"] {
            assert_eq!(queue_url(url), Ok(url.to_owned()));
        }
        for other in
            ["", "events", "https://sqs.eu-west-1.amazonaws.com/", "arn:aws:sqs:eu-west-1:1:events", "http://x"]
        {
            assert!(queue_url(other).is_err(), "{other}");
        }
    }
}
