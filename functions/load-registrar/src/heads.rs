//! HEAD for every announced object. A notification does not have the modification time that listings report, and the
//! object may have been replaced or deleted since it was sent.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use runtime::failure::cause;
use tokio::time::{Instant, timeout_at};

use crate::{app::App, envelope::Put, object::Object};

/// Requests in flight at the same time.
const CONCURRENCY: usize = 32;
/// A request takes milliseconds, so one that has taken this long is stuck.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What S3 holds in place of an announced object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// The object itself.
    Found(Object),
    /// Nothing. There is nothing to load.
    Gone,
    /// Another version, which has a notification of its own.
    Replaced,
    /// S3 did not answer; the text says why.
    Unknown(String),
}

/// The object that a notification announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announced<'a> {
    key: &'a str,
    version: Option<&'a str>,
    e_tag: Option<&'a str>,
}

impl<'a> From<&'a Put> for Announced<'a> {
    fn from(put: &'a Put) -> Self {
        Self { key: &put.key, version: put.version.as_deref(), e_tag: put.e_tag.as_deref() }
    }
}

impl<'a> Announced<'a> {
    /// Whatever object has this key now.
    #[must_use]
    pub const fn current(key: &'a str) -> Self {
        Self { key, version: None, e_tag: None }
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> &'a str {
        self.key
    }
}

/// Sends one HEAD for each object, however often it was announced. An object about which S3 has not answered `until` then is
/// [`Head::Unknown`].
pub async fn heads<'a>(
    app: &App,
    announced: impl Iterator<Item = Announced<'a>>,
    until: Instant,
) -> BTreeMap<Announced<'a>, Head> {
    let mut announced: Vec<Announced<'a>> = announced.collect();
    announced.sort_unstable();
    announced.dedup();
    let requests: Vec<_> = announced.into_iter().map(|object| head_in_time(app, object, until)).collect();
    stream::iter(requests).buffer_unordered(CONCURRENCY).collect().await
}

async fn head_in_time<'a>(app: &App, object: Announced<'a>, until: Instant) -> (Announced<'a>, Head) {
    let start = Instant::now();
    if start >= until {
        return (object, Head::Unknown("there was no time left to ask S3".to_owned()));
    }
    let end = until.min(start + TIMEOUT);
    let timed_out = |_| Head::Unknown(format!("S3 did not answer within {:.1} seconds", (end - start).as_secs_f64()));
    (object, timeout_at(end, head(app, object)).await.unwrap_or_else(timed_out))
}

async fn head(app: &App, Announced { key, version, e_tag }: Announced<'_>) -> Head {
    let request = app.s3.head_object().bucket(&app.config.incoming_bucket).key(key);
    let answer = match request.set_version_id(version.map(str::to_owned)).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let status = error.raw_response().map(|response| response.status().as_u16());
            return match status {
                // 405: the version is a delete marker.
                Some(404 | 405) => Head::Gone,
                _ => Head::Unknown(cause(&error)),
            };
        }
    };
    let found = answer.e_tag().unwrap_or_default().trim_matches('"').to_owned();
    if e_tag.is_some_and(|announced| announced != found) {
        return Head::Replaced;
    }
    let Some(Ok(modified)) = answer.last_modified().map(|time| Timestamp::from_second(time.secs())) else {
        return Head::Unknown(format!("S3 did not say when {key:?} was modified"));
    };
    Head::Found(Object {
        key: key.to_owned(),
        modified,
        size: answer.content_length().unwrap_or_default(),
        e_tag: found,
        // Of an object that was put before its bucket had versions, it is `null`.
        version: answer.version_id().or(version).map(str::to_owned),
    })
}
