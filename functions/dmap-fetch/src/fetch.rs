//! Takes one feed, and each of its datasets, into the bucket.
//!
//! The order of steps makes a repetition harmless, wherever the function dies:
//!
//! 1. What is under the key is looked at. If it is this version, only recording it is left to do.
//! 2. load-registrar notes that the version is begun. If it was begun before and its object has been registered since, it is
//!    recorded: the object may have been ingested and be gone.
//! 3. The version is downloaded and put, on condition that the key still holds what was found there.
//! 4. It is recorded.
//!
//! The time of the feed moves when every dataset of an answer is recorded, so nothing that failed is forgotten.

use objects::{Bucket, BucketError, quarantine};
use shared::{
    dmap::{Dataset, Feed, StoredDataset},
    metrics::CountsByReason,
};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{
    FUNCTION,
    answer::{self, Answered, Found},
    app::App,
    download::Download,
    http::{Get, HttpError},
    registrar::RegistrarError,
    secret::{ApiKey, SecretError},
    store::{StoreError, There, store, there},
};

/// The largest answer of a feed.
const MAX_ANSWER_BYTES: u64 = 32 << 20;
/// How often a feed is asked before it is left for the next invocation.
const MAX_QUESTIONS: u32 = 4;
/// Datasets of one question to load-registrar.
const DATASETS_AT_ONCE: usize = 1_000;

/// Why a feed was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The base URL and the feed's own make none.
    #[error("base URL and relative URL make no URL: {0}")]
    Url(#[from] url::ParseError),
    /// The text of the answer is not repeated.
    #[error("the answer is no JSON object with results: {0}")]
    Answer(String),
    #[error(transparent)]
    Registrar(#[from] RegistrarError),
}

/// Why a dataset was not fetched.
#[derive(Debug, thiserror::Error)]
enum DatasetError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Registrar(#[from] RegistrarError),
}

/// What became of feeds and datasets, in numbers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Versions of datasets that were put.
    pub fetched: u64,
    /// Their size.
    pub bytes: u64,
    /// Versions that an earlier invocation had put, and that are recorded now.
    pub recorded: u64,
    /// Versions that could not be fetched.
    pub failed: u64,
    /// Versions for which no time was left.
    pub left: u64,
    /// Results in the quarantine.
    pub quarantined: CountsByReason,
}

/// Fetches what is new of a feed. An error is one of the feed as a whole; what happened before is in the tally.
pub async fn feed(app: &App, feed: &Feed, until: Instant, tally: &mut Tally) -> Result<(), FeedError> {
    let body = ask(app, feed, until).await?;
    let Answered { found, last_updated, bad } = answer::read(&feed.name, &body).map_err(FeedError::Answer)?;
    let results = found.len() + bad.len();
    for record in &bad {
        warn!(feed = %feed.name, reason = record.reason, detail = record.detail, "a result cannot be used");
    }
    let kept = quarantine::keep(&app.lake, FUNCTION, bad.into_iter().map(|record| ((), record)).collect()).await;
    tally.quarantined.append(kept.kept);
    // What could not be kept comes again with the next answer.
    let mut complete = kept.failed.is_empty();
    let unfetched = unfetched(app, feed, &found).await?;
    let number = unfetched.len();
    for (position, found) in unfetched.into_iter().enumerate() {
        match dataset(app, feed, found, until, tally).await {
            Ok(()) => {}
            Err(DatasetError::Registrar(error @ RegistrarError::Unavailable(_))) => return Err(error.into()),
            Err(DatasetError::Store(StoreError::Download(HttpError::OutOfTime))) => {
                let left = number - position;
                warn!(feed = %feed.name, left, "no time is left, the next invocation goes on");
                tally.left += left as u64;
                complete = false;
                break;
            }
            Err(cause) => {
                error!(feed = %feed.name, dataset = found.dataset.key(), %cause, "a dataset could not be fetched");
                tally.failed += 1;
                complete = false;
            }
        }
    }
    if complete {
        app.registrar.answered(&feed.name, last_updated).await?;
    }
    info!(feed = %feed.name, results, unfetched = number, complete, "feed asked");
    Ok(())
}

/// The answer of a feed. A key that is refused is read again from the secret, in case it was replaced.
async fn ask(app: &App, feed: &Feed, until: Instant) -> Result<Vec<u8>, FeedError> {
    let name = feed.api_key.as_deref();
    let key = app.secret.key(name).await?;
    match ask_with(app, feed, &key, until).await {
        Err(FeedError::Http(refused @ HttpError::Status { status: 401 | 403, .. })) => {
            match app.secret.instead(&key, name).await? {
                Some(key) => ask_with(app, feed, &key, until).await,
                None => Err(refused.into()),
            }
        }
        answer => answer,
    }
}

async fn ask_with(app: &App, feed: &Feed, key: &ApiKey, until: Instant) -> Result<Vec<u8>, FeedError> {
    let url = answer::question(&app.config.base, feed, key)?;
    let mut failures = 0;
    loop {
        let answer = async {
            let answer = app.http.get(&app.config.hosts, Get { url: &url, rest: None, until }).await?;
            answer.whole(MAX_ANSWER_BYTES).await
        };
        let error = match answer.await {
            Ok(body) => return Ok(body),
            Err(error) => error,
        };
        failures += 1;
        if !error.is_transient() || failures >= MAX_QUESTIONS {
            return Err(error.into());
        }
        warn!(feed = %feed.name, cause = %error, "the feed is asked again");
        app.http.pause(failures, &error, until).await?;
    }
}

/// The datasets that have not been fetched. Those that were tried least often come first, so that one that takes all the time
/// there is does not keep the others waiting for ever.
async fn unfetched<'f>(app: &App, feed: &Feed, found: &'f [Found]) -> Result<Vec<&'f Found>, RegistrarError> {
    let mut unfetched = Vec::new();
    for found in found.chunks(DATASETS_AT_ONCE) {
        let datasets: Vec<Dataset> = found.iter().map(|found| found.dataset.clone()).collect();
        let positions = app.registrar.unfetched(&feed.name, datasets).await?;
        unfetched.extend(positions.into_iter().filter_map(|position| found.get(position)));
    }
    Ok(unfetched)
}

/// Takes one version into the bucket, and records it.
async fn dataset(
    app: &App,
    feed: &Feed,
    Found { dataset, url }: &Found,
    until: Instant,
    tally: &mut Tally,
) -> Result<(), DatasetError> {
    let before = match look(app, dataset).await? {
        Some((There::This(version), _)) => {
            return recorded(app, feed, dataset, version.last_updated, version.object, tally).await;
        }
        before => before,
    };
    let (found, e_tag) = match before {
        Some((There::Earlier(version), e_tag)) => (Some(version), Some(e_tag)),
        Some((_, e_tag)) => (None, Some(e_tag)),
        None => (None, None),
    };
    if !app.registrar.begin(&feed.name, dataset, found).await? {
        tally.recorded += 1;
        return Ok(());
    }
    let mut download = Download::new(&app.http, &app.config.hosts, url, app.config.max_dataset_bytes, until);
    let stored = match store(&app.incoming, dataset, e_tag.as_deref(), &mut download).await {
        // The answer to a put of this invocation was lost, or another invocation fetches the same.
        Err(StoreError::Taken) => match look(app, dataset).await? {
            Some((There::This(version), _)) => {
                return recorded(app, feed, dataset, version.last_updated, version.object, tally).await;
            }
            _ => return Err(StoreError::Taken.into()),
        },
        stored => stored?,
    };
    tally.fetched += 1;
    tally.bytes += stored.size;
    info!(feed = %feed.name, dataset = dataset.key(), bytes = stored.size, sha256 = stored.sha256, "dataset fetched");
    Ok(app.registrar.fetched(&feed.name, dataset, stored).await?)
}

/// What is under the key of a dataset, and its `ETag`.
async fn look(app: &App, dataset: &Dataset) -> Result<Option<(There, String)>, BucketError> {
    match app.incoming.head(&dataset.key()).await {
        Ok(head) => Ok(Some((there(dataset, &head), head.e_tag))),
        Err(BucketError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Records a version that is in the bucket: this one, or a later one.
async fn recorded(
    app: &App,
    feed: &Feed,
    dataset: &Dataset,
    last_updated: jiff::Timestamp,
    object: StoredDataset,
    tally: &mut Tally,
) -> Result<(), DatasetError> {
    let dataset = Dataset { last_updated, ..dataset.clone() };
    app.registrar.fetched(&feed.name, &dataset, object).await?;
    info!(feed = %feed.name, dataset = dataset.key(), "dataset was fetched before");
    tally.recorded += 1;
    Ok(())
}
