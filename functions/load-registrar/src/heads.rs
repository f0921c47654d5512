//! What S3 says about objects that events told of: an event has neither the time an object was modified, as listings
//! tell it, nor a promise that the object is still that one.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_s3::error::DisplayErrorContext;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::timeout;

use crate::{app::App, envelope::Put, register::Object};

/// Requests at the same time.
const CONCURRENCY: usize = 32;
/// A request takes milliseconds; what takes so long will not end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of an object between its event and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// It is there.
    Found(Object),
    /// It is not. Nothing can be loaded.
    Gone,
    /// It is there in another version, which has an event of its own.
    Replaced,
    /// S3 did not say.
    Unknown(String),
}

/// The question: key, version and ETag of an event.
pub type Asked<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// What an event asks of S3.
#[must_use]
pub fn asked(put: &Put) -> Asked<'_> {
    (&put.key, put.version.as_deref(), put.e_tag.as_deref())
}

/// Asks once for each object, however often it was told of.
pub async fn heads<'a>(app: &App, puts: impl Iterator<Item = &'a Put>) -> BTreeMap<Asked<'a>, Head> {
    let mut questions: Vec<Asked<'a>> = puts.map(asked).collect();
    questions.sort_unstable();
    questions.dedup();
    let requests: Vec<_> = questions.into_iter().map(|question| ask(app, question)).collect();
    stream::iter(requests).buffer_unordered(CONCURRENCY).collect().await
}

async fn ask<'a>(app: &App, question: Asked<'a>) -> (Asked<'a>, Head) {
    let unanswered = || Head::Unknown(format!("S3 has not answered for {} seconds", PATIENCE.as_secs()));
    (question, timeout(PATIENCE, head(app, question)).await.unwrap_or_else(|_| unanswered()))
}

async fn head(app: &App, (key, version, e_tag): Asked<'_>) -> Head {
    let request = app.s3.head_object().bucket(&app.config.incoming_bucket).key(key);
    let answer = match request.set_version_id(version.map(str::to_owned)).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let status = error.raw_response().map(|response| response.status().as_u16());
            return match status {
                // 405 is a version that marks a deletion.
                Some(404 | 405) => Head::Gone,
                _ => Head::Unknown(DisplayErrorContext(error).to_string()),
            };
        }
    };
    let found = answer.e_tag().unwrap_or_default().trim_matches('"').to_owned();
    if e_tag.is_some_and(|told| told != found) {
        return Head::Replaced;
    }
    let Some(Ok(modified)) = answer.last_modified().map(|time| Timestamp::from_second(time.secs())) else {
        return Head::Unknown(format!("S3 says nothing of when {key:?} was modified"));
    };
    Head::Found(Object {
        key: key.to_owned(),
        modified,
        size: answer.content_length().unwrap_or_default(),
        e_tag: found,
        version: version.map(str::to_owned),
    })
}
