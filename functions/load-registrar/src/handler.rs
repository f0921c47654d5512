//! One invocation: notifications become loads, commands are answered.
//!
//! Registering is idempotent and does not depend on the order of notifications: key, modification time and ETag identify
//! a load, and whatever depends on other loads is recomputed when one of them arrives. So a notification that may not
//! have been registered is simply returned to the queue.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use objects::quarantine;
use runtime::{clock, failure, metrics};
use serde_json::Value;
use shared::{
    metrics::{CountsByReason, Metrics, Unit},
    quarantine::QuarantineRecord,
    registrar::REFUSED,
};
use tokio::time::Instant;
use tracing::{error, info};

use crate::{
    FUNCTION,
    app::App,
    command::{self, CommandError},
    database::DatabaseError,
    envelope::{self, Event, EventError, Ignored, Notice, Put},
    error::RecordError,
    heads::{self, Announced, Head},
    object::Object,
    reconcile::ReconcileError,
    register::{self, Registered},
    unregistered,
};

/// Part of the invocation's time that is kept for the quarantine, the metrics and the response.
const RESPONSE_RESERVE: Duration = Duration::from_millis(1_500);

/// Why an invocation fails as a whole.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A notification that came directly was not registered, and only a failed invocation brings it again.
    #[error("not everything could be registered; the log says what")]
    Incomplete,
    #[error("the answer could not be written as JSON")]
    Answer(#[from] serde_json::Error),
}

impl HandleError {
    /// `Refused` if a rule forbids the command as things are, otherwise `Failed`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Command(
                CommandError::Json(_)
                | CommandError::Database(DatabaseError::Refused(_))
                | CommandError::Reconcile(ReconcileError::Database(DatabaseError::Refused(_))),
            ) => REFUSED,
            _ => "Failed",
        }
    }
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

/// Runs one invocation. The answer to a batch of notifications names those that the queue has to deliver again.
///
/// `deadline_ms`: when the invocation ends, in milliseconds since 1970-01-01T00:00:00Z.
pub async fn handle(app: &App, event: Bytes, deadline_ms: u64) -> Result<Value, HandleError> {
    let time = clock::remaining(deadline_ms).saturating_sub(RESPONSE_RESERVE);
    match envelope::read(&event)? {
        Event::Command => Ok(Box::pin(command::run(app, &event, time)).await?),
        Event::Notices(notices) => {
            let mut tally = Tally::default();
            let failed = Box::pin(register_all(app, notices, Instant::now() + time, &mut tally)).await;
            tally.report(&app.config.stack);
            respond(failed)
        }
    }
}

/// Registers the announced objects and quarantines what cannot be read. Returns the message ids of the notices that have
/// to be delivered again; `None` stands for one that came directly.
async fn register_all(app: &App, notices: Vec<Notice>, until: Instant, tally: &mut Tally) -> BTreeSet<Option<String>> {
    let mut puts: Vec<(Option<String>, Put)> = Vec::new();
    let mut poison: Vec<(Option<String>, QuarantineRecord)> = Vec::new();
    for notice in notices {
        tally.ignored += notice.ignored;
        poison.extend(notice.poison.into_iter().map(|poison| (notice.message_id.clone(), poison)));
        for put in notice.puts {
            let id = notice.message_id.clone();
            if put.bucket != app.config.incoming_bucket {
                let error = RecordError::ForeignBucket(put.bucket.clone());
                poison.push((id, put.into_poison(error)));
            } else {
                tally.not_data += usize::from(!app.config.data.is_data(&put.key));
                puts.push((id, put));
            }
        }
    }
    let mut failed = register_puts(app, &puts, until, tally).await;
    let quarantined = quarantine::keep(&app.lake, FUNCTION, poison).await;
    tally.quarantined = quarantined.kept;
    failed.extend(quarantined.failed);
    tally.retried = failed.len();
    failed
}

/// Asks S3 about every object, registers those that hold data and records the others.
async fn register_puts(
    app: &App,
    puts: &[(Option<String>, Put)],
    until: Instant,
    tally: &mut Tally,
) -> BTreeSet<Option<String>> {
    // The other half is kept for registering those about which S3 answers.
    let asking = Instant::now() + (until - Instant::now()) / 2;
    let heads = heads::heads(app, puts.iter().map(|(_, put)| put.into()), asking).await;
    let is_data = |key: &str| app.config.data.is_data(key);
    let mut failed = BTreeSet::new();
    for (id, put) in puts {
        match heads.get(&Announced::from(put)) {
            Some(Head::Found(_)) => {}
            Some(Head::Gone) => tally.gone += usize::from(is_data(&put.key)),
            Some(Head::Replaced) => tally.replaced += usize::from(is_data(&put.key)),
            Some(Head::Unknown(cause)) => {
                error!(%cause, object.key = ?put.key, "no answer to HEAD, the notification is returned");
                failed.insert(id.clone());
            }
            None => {
                failed.insert(id.clone());
            }
        }
    }
    let found = heads.into_values().filter_map(|head| match head {
        Head::Found(object) => Some(object),
        _ => None,
    });
    let (data, others): (Vec<Object>, Vec<Object>) = found.partition(|object| is_data(&object.key));
    let ids = |of_data: bool| {
        puts.iter().filter(move |(_, put)| app.config.data.is_data(&put.key) == of_data).map(|(id, _)| id.clone())
    };
    match register::register(&app.database, &data, until - Instant::now()).await {
        Ok(registered) => tally.registered = registered,
        Err(cause) => {
            let keys = keys_of(&data);
            error!(%cause, objects = data.len(), keys, "objects not registered, their notifications are returned");
            failed.extend(ids(true));
        }
    }
    if let Err(cause) = unregistered::set_aside(&app.database, &others, until - Instant::now()).await {
        let keys = keys_of(&others);
        error!(%cause, objects = others.len(), keys, "objects not recorded, their notifications are returned");
        failed.extend(ids(false));
    }
    failed
}

fn keys_of(objects: &[Object]) -> String {
    failure::some_of(objects.iter().map(|object| object.key.as_str()))
}

fn respond(failed: BTreeSet<Option<String>>) -> Result<Value, HandleError> {
    let ids = failed.into_iter().collect::<Option<Vec<String>>>().ok_or(HandleError::Incomplete)?;
    Ok(serde_json::to_value(lambda::returning(ids))?)
}

impl Tally {
    /// Logs what was done and prints the metrics.
    fn report(&self, stack: &str) {
        let Registered { registered, known, unregistered, snapshots, released, displaced } = self.registered;
        info!(
            registered,
            known,
            unregistered,
            snapshots,
            released,
            displaced,
            retried = self.retried,
            "objects registered"
        );
        let mut all = Metrics::of(stack, FUNCTION)
            .put("loads_registered", Unit::Count, registered)
            .put("loads_known", Unit::Count, known)
            .put("loads_released", Unit::Count, released)
            .put("snapshots_started", Unit::Count, snapshots)
            .put("objects_unregistered", Unit::Count, unregistered)
            .put("objects_not_data", Unit::Count, self.not_data)
            .put("objects_gone", Unit::Count, self.gone)
            .put("objects_replaced", Unit::Count, self.replaced)
            .put("records_ignored", Unit::Count, self.ignored.total())
            .put("messages_retried", Unit::Count, self.retried);
        if displaced > 0 {
            all = all.put("loads_displaced", Unit::Count, displaced);
        }
        metrics::print(std::iter::once(all).chain(self.quarantined.metrics(stack, FUNCTION, "records_quarantined")));
    }
}
