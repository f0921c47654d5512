//! What lives as long as the execution environment: settings and the two buckets.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_config::SdkConfig;
use objects::{Bucket, BucketError, Client, S3};
use rolling::{
    discarded::MAX_EVENT_BYTES,
    journal,
    rules::{Rules, TABLES, TableRules, Waiting},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{config::Config, error::RollError, lineage::Lineage};

/// When an attempt of a call to AWS fails. The shortest timeout of the function is 30 seconds, in which two attempts have to fit.
pub const ATTEMPT: Duration = Duration::from_secs(10);
/// The largest file, of 1 GiB, has 128 parts of this size.
const PART_BYTES: usize = 8 << 20;
const ROOM_BYTES: u32 = 64 << 20;
const TIDY_MINUTES: i64 = 30;
/// Batches believe the rules of tables for so long. Ticks look each time.
const RULES_FOR: Duration = Duration::from_secs(60);
const JOURNAL_MS: i64 = journal::DECIDED_DAYS as i64 * 86_400_000;

/// What an invocation may write at once: files of so many bytes before compression, and beside them a single one that is larger.
///
/// If large files of many shards shared the time, it might end before any of them is finished, and a file that was not
/// finished begins anew. One that never fits into the time holds up other large ones, but none that is small.
#[derive(Debug)]
pub struct Room {
    bytes: u32,
    free: Semaphore,
    large: Semaphore,
}

impl Room {
    /// Room for this many bytes.
    #[must_use]
    pub fn of(bytes: u32) -> Self {
        Self { bytes, free: Semaphore::new(bytes as usize), large: Semaphore::new(1) }
    }

    /// Whether files of this many bytes fit.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        bytes <= u64::from(self.bytes)
    }

    /// Waits for room. First come, first served.
    pub(crate) async fn take(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let free = match u32::try_from(bytes) {
            Ok(bytes) if bytes <= self.bytes => self.free.acquire_many(bytes).await,
            _ => self.large.acquire().await,
        };
        // They are never closed.
        free.ok()
    }
}

/// Everything a handler needs.
#[derive(Debug)]
pub struct App<B> {
    pub config: Config,
    /// For staged and quarantined records.
    pub lake: B,
    /// For files.
    pub incoming: B,
    /// A tick looks for objects that nobody needs once in so many minutes.
    pub tidy_minutes: i64,
    /// For so many milliseconds after its arrival it is known of a record whether it was staged.
    pub journal_ms: i64,
    /// Lambda passes no larger event to a function, so nobody ever got the record in it.
    pub max_event_bytes: usize,
    /// A larger file is uploaded in parts of this many bytes. S3 requires at least 5 MiB per part and at most 10,000 parts.
    pub part_bytes: usize,
    /// What is written at once, in all shards together.
    pub room: Room,
    /// Whom to ask which shards a new one came from. Without it, files of a shard do not wait for those of its parents.
    pub lineage: Option<Box<dyn Lineage>>,
    /// How long a batch believes the rules of tables that were read before.
    pub rules_for: Duration,
    /// Those, and when they were read.
    tables: Mutex<Option<(Instant, Arc<TableRules>)>>,
}

impl App<S3> {
    /// Sets up the clients without connecting.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        let client = Client::new(aws);
        let lake = S3::new(&client, &config.lake_bucket);
        let incoming = S3::new(&client, &config.rules.incoming_bucket);
        Self { lineage: Some(Box::new(aws_sdk_kinesis::Client::new(aws))), ..Self::over(config, lake, incoming) }
    }
}

impl<B: Bucket> App<B> {
    /// The app with any kind of bucket.
    #[must_use]
    pub fn over(config: Config, lake: B, incoming: B) -> Self {
        Self {
            config,
            lake,
            incoming,
            tidy_minutes: TIDY_MINUTES,
            journal_ms: JOURNAL_MS,
            max_event_bytes: MAX_EVENT_BYTES,
            part_bytes: PART_BYTES,
            room: Room::of(ROOM_BYTES),
            lineage: None,
            rules_for: RULES_FOR,
            tables: Mutex::default(),
        }
    }

    /// The rules, with those of tables as they are now, or for a batch (`may_be_old`) as they were a moment ago. Rules that cannot be
    /// read keep no record from being staged: then the last ones hold, or, as a pause may be among them, all tables wait; and the
    /// reason is given back.
    pub async fn rules(&self, may_be_old: bool) -> (Rules, Option<RollError>) {
        let known = self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Instant::now();
        if let Some((_, tables)) = known.as_ref().filter(|(read, _)| may_be_old && now - *read < self.rules_for) {
            return (self.config.rules.with(Arc::clone(tables)), None);
        }
        let read = match self.lake.get(TABLES, None).await {
            Ok(bytes) => TableRules::as_far_as_possible(&bytes).map_err(RollError::Rules),
            Err(BucketError::Missing { .. }) => Ok((TableRules::default(), None)),
            Err(cause) => Err(cause.into()),
        };
        match (read, known) {
            (Ok((tables, problem)), _) => {
                let tables = Arc::new(tables);
                *self.tables.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&tables)));
                (self.config.rules.with(tables), problem.map(RollError::Rules))
            }
            (Err(cause), Some((_, tables))) => (self.config.rules.with(tables), Some(cause)),
            (Err(cause), None) => (self.config.rules.while_waiting(Waiting::All), Some(cause)),
        }
    }
}
