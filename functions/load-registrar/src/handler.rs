//! One invocation: notifications become loads, commands are answered.
//!
//! Registering is the same done twice as done once, in any order: a load is its key, the time it was modified and its
//! ETag, and what depends on other loads is worked out anew by whichever comes last. So everything that may not have
//! happened is simply asked for again.

use std::{collections::BTreeSet, time::Duration};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse};
use bytes::Bytes;
use objects::quarantine;
use runtime::{clock, metrics};
use serde_json::Value;
use shared::metrics::{CountsByReason, Metrics, Unit};
use tokio::time::Instant;
use tracing::{error, info};

use crate::{
    FUNCTION,
    app::App,
    command::{self, CommandError},
    envelope::{self, Event, EventError, Ignored, Notice, Poison, Put},
    error::RecordError,
    heads::{self, Head},
    register::{self, Registered},
};

/// Keys of objects that hold data. What accompanies them, such as Qlik's `.dfm`, is no load.
const DATA: [&str; 5] = [".csv.gz", ".csv", ".json.gz", ".json", ".parquet"];

/// What is kept of the invocation's time to say how it ended.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

/// Why an invocation fails as a whole.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The event is none that this function knows.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A command was not done.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A notification that did not come through a queue has to come again.
    #[error("not everything could be registered; the log says what")]
    Incomplete,
    /// The answer could not be written.
    #[error("the answer could not be written as JSON")]
    Answer(#[from] serde_json::Error),
}

/// What one invocation did, in numbers.
#[derive(Debug, Default)]
struct Tally {
    registered: Registered,
    ignored: Ignored,
    not_data: usize,
    gone: usize,
    replaced: usize,
    quarantined: CountsByReason,
    retried: usize,
}

/// Whether an object of that key holds data.
#[must_use]
pub fn is_data(key: &str) -> bool {
    DATA.iter().any(|suffix| key.ends_with(suffix))
}

/// Does what the event asks for. Notifications from a queue are answered with those that have to come again.
///
/// `deadline_ms`: when the invocation ends, in milliseconds since 1970-01-01T00:00:00Z.
pub async fn handle(app: &App, event: Bytes, deadline_ms: u64) -> Result<Value, HandleError> {
    let time = clock::remaining(deadline_ms).saturating_sub(LAST_WORDS);
    match envelope::read(&event)? {
        Event::Command => Ok(Box::pin(command::run(app, &event, time)).await?),
        Event::Notices(notices) => {
            let mut tally = Tally::default();
            let failed = Box::pin(register_all(app, notices, Instant::now() + time, &mut tally)).await;
            tally.report();
            respond(failed)
        }
    }
}

/// Registers what notices tell of and quarantines what cannot be read. Gives back the notices that have to come again,
/// by message id; `None` is one that came without a message.
async fn register_all(app: &App, notices: Vec<Notice>, until: Instant, tally: &mut Tally) -> BTreeSet<Option<String>> {
    let mut puts: Vec<(Option<String>, Put)> = Vec::new();
    let mut poison: Vec<(Option<String>, Poison)> = Vec::new();
    for notice in notices {
        tally.ignored.test_events += notice.ignored.test_events;
        tally.ignored.deletions += notice.ignored.deletions;
        tally.ignored.others += notice.ignored.others;
        poison.extend(notice.poison.into_iter().map(|poison| (notice.message_id.clone(), poison)));
        for put in notice.puts {
            let id = notice.message_id.clone();
            if put.bucket != app.config.incoming_bucket {
                let error = RecordError::ForeignBucket(put.bucket.clone());
                poison.push((id, put.into_poison(error)));
            } else if is_data(&put.key) {
                puts.push((id, put));
            } else {
                tally.not_data += 1;
            }
        }
    }
    let mut failed = register_puts(app, &puts, until, tally).await;
    let poison = poison.into_iter().map(|(id, poison)| (id, poison.record)).collect();
    let quarantined = quarantine::keep(&app.lake, FUNCTION, poison).await;
    tally.quarantined = quarantined.kept;
    failed.extend(quarantined.failed);
    tally.retried = failed.len();
    failed
}

/// Asks S3 about every object and registers what is there.
async fn register_puts(
    app: &App,
    puts: &[(Option<String>, Put)],
    until: Instant,
    tally: &mut Tally,
) -> BTreeSet<Option<String>> {
    let heads = heads::heads(app, puts.iter().map(|(_, put)| put)).await;
    let mut failed = BTreeSet::new();
    for (id, put) in puts {
        match heads.get(&heads::asked(put)) {
            Some(Head::Found(_)) => {}
            Some(Head::Gone) => tally.gone += 1,
            Some(Head::Replaced) => tally.replaced += 1,
            Some(Head::Unknown(cause)) => {
                error!(%cause, object.key = ?put.key, "object not looked at, its notification is returned");
                failed.insert(id.clone());
            }
            None => {
                failed.insert(id.clone());
            }
        }
    }
    let objects: Vec<register::Object> = heads
        .into_values()
        .filter_map(|head| match head {
            Head::Found(object) => Some(object),
            _ => None,
        })
        .collect();
    match register::register(&app.database, &objects, until - Instant::now()).await {
        Ok(registered) => tally.registered = registered,
        Err(cause) => {
            error!(%cause, objects = objects.len(), "objects not registered, their notifications are returned");
            failed.extend(puts.iter().map(|(id, _)| id.clone()));
        }
    }
    failed
}

fn respond(failed: BTreeSet<Option<String>>) -> Result<Value, HandleError> {
    let mut response = SqsBatchResponse::default();
    for id in failed {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id.ok_or(HandleError::Incomplete)?;
        response.batch_item_failures.push(failure);
    }
    Ok(serde_json::to_value(response)?)
}

impl Tally {
    /// Logs what was done and prints the metrics.
    fn report(&self) {
        let Registered { registered, known, unregistered, snapshots, released } = self.registered;
        info!(registered, known, unregistered, snapshots, released, retried = self.retried, "objects registered");
        let all = Metrics::of(FUNCTION)
            .put("loads_registered", Unit::Count, registered)
            .put("loads_known", Unit::Count, known)
            .put("loads_released", Unit::Count, released)
            .put("snapshots_started", Unit::Count, snapshots)
            .put("objects_unregistered", Unit::Count, unregistered)
            .put("objects_not_data", Unit::Count, self.not_data)
            .put("objects_gone", Unit::Count, self.gone)
            .put("objects_replaced", Unit::Count, self.replaced)
            .put(
                "records_ignored",
                Unit::Count,
                self.ignored.test_events + self.ignored.deletions + self.ignored.others,
            )
            .put("messages_retried", Unit::Count, self.retried);
        metrics::print(std::iter::once(all).chain(self.quarantined.metrics(FUNCTION, "records_quarantined")));
    }
}
