//! Notices that could not be published wait in the bucket, one object each, until a tick of the schedule publishes them.
//!
//! A file that is durable and not announced is no reason to deliver its messages again: they would come in another mix, and
//! land a second time in another file. So the notice is stored, the messages are acknowledged, and the notice is deleted
//! only after it has been published. It may be published twice, as any notice of SNS may.

use std::{cell::Cell, time::Duration};

use futures_util::{StreamExt, stream};
use objects::{Attributes, Bucket, BucketError, Listed};
use runtime::{clock, metrics};
use shared::{
    layout::EventsKey,
    metrics::{Metrics, Unit},
};
use tracing::{info, warn};

use crate::{
    FUNCTION,
    app::App,
    notice::{self, NoticeError},
};

/// Where the notices are.
const FOLDER: &str = "outbox/landed/";
/// Notices that are published at a time.
const CONCURRENT: usize = 8;
/// Nothing is begun when less than this is left of the invocation.
const RESERVE: Duration = Duration::from_secs(15);

/// Why the outbox could not be emptied.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The notices cannot be listed.
    #[error("the notices that wait in the outbox could not be listed: {0}")]
    List(#[from] BucketError),
    /// With `NOTIFY=s3`, the function may have no topic.
    #[error("{0} notices wait in the outbox, and LANDED_TOPIC_ARN does not say where to publish them")]
    NoTopic(usize),
}

/// Stores the notice of a file until a tick publishes it. Storing it twice is the same as once.
pub async fn keep(app: &App, file: &EventsKey, notice: String) -> Result<(), BucketError> {
    let file = file.to_string();
    let key = format!("{FOLDER}{}.json", file.strip_prefix("events/").unwrap_or(&file));
    let attributes = Attributes { content_type: "application/json", ..Attributes::default() };
    app.lake.create(&key, notice.into(), &attributes).await?;
    Ok(())
}

/// Publishes what waits, the oldest first, until everything is published, the topic refuses, or the time is over.
pub async fn publish(app: &App, deadline_ms: u64) -> Result<(), OutboxError> {
    let mut waiting = app.lake.list(FOLDER).await?;
    waiting.retain(|listed| listed.key.ends_with(".json"));
    waiting.sort_by(|a, b| (a.modified_ms, &a.key).cmp(&(b.modified_ms, &b.key)));
    let topic_arn = match app.config.notify.topic_arn() {
        Some(topic_arn) => topic_arn,
        None if waiting.is_empty() => return Ok(()),
        None => return Err(OutboxError::NoTopic(waiting.len())),
    };
    let is_over = Cell::new(false);
    let published = waiting.iter().map(|Listed { key, .. }| {
        let is_over = &is_over;
        async move {
            if is_over.get() || clock::remaining(deadline_ms) < RESERVE {
                return false;
            }
            match publish_one(app, topic_arn, key, deadline_ms).await {
                Ok(published) => published,
                Err(cause) => {
                    // The topic would refuse the next one in the same way, after as many attempts.
                    is_over.set(true);
                    warn!(%cause, notice.key = key, "a notice of the outbox could not be published; the next tick tries again");
                    false
                }
            }
        }
    });
    let published: Vec<bool> = stream::iter(published).buffered(CONCURRENT).collect().await;
    let pending = waiting.iter().zip(&published).filter(|(_, published)| !**published);
    let oldest = pending.clone().filter_map(|(listed, _)| listed.modified_ms).min();
    let (done, left) = (published.iter().filter(|published| **published).count(), pending.count());
    if !waiting.is_empty() {
        info!(published = done, pending = left, "notices of the outbox published");
    }
    let age = oldest.map(clock::age).unwrap_or_default();
    let mut metrics = Metrics::of(&app.config.stack, FUNCTION).put("oldest_notice_age", Unit::Seconds, age);
    if !waiting.is_empty() {
        metrics = metrics.put("notices_published", Unit::Count, done).put("notices_pending", Unit::Count, left);
    }
    metrics::print(std::iter::once(metrics));
    Ok(())
}

/// Whether the notice is published, by this invocation or by another one. An error if the topic refuses it.
async fn publish_one(app: &App, topic_arn: &str, key: &str, deadline_ms: u64) -> Result<bool, NoticeError> {
    let notice = match app.lake.get(key, None).await {
        Ok(notice) => String::from_utf8_lossy(&notice).into_owned(),
        Err(BucketError::Missing { .. }) => return Ok(true),
        Err(cause) => {
            warn!(%cause, notice.key = key, "a notice of the outbox could not be read; the next tick tries again");
            return Ok(false);
        }
    };
    notice::publish(&app.clients.sns, topic_arn, notice, deadline_ms).await?;
    if let Err(cause) = app.lake.delete(&[key.to_owned()]).await {
        warn!(%cause, notice.key = key, "a notice that is published could not be deleted; the next tick publishes it again");
    }
    Ok(true)
}
