//! One invocation: notifications become loads, commands are answered.
//!
//! Registering is the same done twice as done once, in any order: a load is its key, the time it was modified and its
//! ETag, and what depends on other loads is worked out anew by whichever comes last. So everything that may not have
//! happened is simply asked for again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse};
use bytes::Bytes;
use jiff::Timestamp;
use runtime::{
    clock, metrics,
    quarantine::{QuarantineError, keep},
};
use serde_json::Value;
use shared::{
    layout::{ContentId, Day},
    metrics::{Metrics, Unit},
    quarantine::QuarantineRecord,
};
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
    quarantined: BTreeMap<&'static str, usize>,
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
    failed.extend(quarantine_all(app, poison, tally).await);
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

/// Keeps poison with its bytes, one object a day. Gives back the notices that have to come again.
async fn quarantine_all(app: &App, poison: Vec<(Option<String>, Poison)>, tally: &mut Tally) -> Vec<Option<String>> {
    let mut days: BTreeMap<Day, Vec<(Option<String>, Poison)>> = BTreeMap::new();
    for poison in poison {
        let day = sent_ms(&poison.1.record).and_then(|ms| Day::of_unix_ms(ms).ok()).unwrap_or(Day::EPOCH);
        days.entry(day).or_default().push(poison);
    }
    let mut failed = Vec::new();
    for (day, poison) in days {
        let records: Vec<QuarantineRecord> = poison.iter().map(|(_, poison)| poison.record.clone()).collect();
        match quarantine(app, day, records).await {
            Ok(()) => {
                for (_, poison) in poison {
                    *tally.quarantined.entry(poison.error.reason()).or_default() += 1;
                }
            }
            Err(cause) => {
                error!(%cause, records = poison.len(), "quarantine not written, its notifications are returned");
                failed.extend(poison.into_iter().map(|(id, _)| id));
            }
        }
    }
    failed
}

fn sent_ms(record: &QuarantineRecord) -> Option<i64> {
    let sent: Timestamp = record.sent_at.as_deref()?.parse().ok()?;
    Some(sent.as_millisecond())
}

async fn quarantine(app: &App, day: Day, records: Vec<QuarantineRecord>) -> Result<(), QuarantineError> {
    // Several records of one message share its id, so what they hold tells them apart.
    let ids: Vec<String> = records.iter().map(|record| format!("{} {}", record.id, record.body_base64)).collect();
    let content_id = ContentId::of(ids.iter().map(String::as_str));
    let first_ms = records.iter().filter_map(sent_ms).min().unwrap_or(0);
    keep(&app.s3, &app.config.lake_bucket, FUNCTION, day, first_ms, content_id, records).await
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
    #[expect(clippy::cast_precision_loss, reason = "metrics are doubles, and these numbers are far below 2^53")]
    fn report(&self) {
        let Registered { registered, known, unregistered, snapshots, released } = self.registered;
        info!(registered, known, unregistered, snapshots, released, retried = self.retried, "objects registered");
        let all = Metrics::of(FUNCTION)
            .put("loads_registered", Unit::Count, registered as f64)
            .put("loads_known", Unit::Count, known as f64)
            .put("loads_released", Unit::Count, released as f64)
            .put("snapshots_started", Unit::Count, snapshots as f64)
            .put("objects_unregistered", Unit::Count, unregistered as f64)
            .put("objects_not_data", Unit::Count, self.not_data as f64)
            .put("objects_gone", Unit::Count, self.gone as f64)
            .put("objects_replaced", Unit::Count, self.replaced as f64)
            .put(
                "records_ignored",
                Unit::Count,
                (self.ignored.test_events + self.ignored.deletions + self.ignored.others) as f64,
            )
            .put("messages_retried", Unit::Count, self.retried as f64);
        let quarantined = self.quarantined.iter().map(|(reason, records)| {
            Metrics::of(FUNCTION).by("reason", reason).put("records_quarantined", Unit::Count, *records as f64)
        });
        metrics::print(std::iter::once(all).chain(quarantined));
    }
}
