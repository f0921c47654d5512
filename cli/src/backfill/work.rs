//! Ranges: read, written, and noted as done, several at a time.

use std::{cell::RefCell, collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all};
use landing::batch::Batch;
use objects::{Bucket, BucketError, Records, S3, quarantine};
use runtime::pause::jittered;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_postgres::{Client, binary_copy::BinaryCopyOutRow};

use super::{
    files::{FilesError, Row, Writer, Written, check_of_empty},
    manifest::{Bounds, Counts, Done, ManifestError, Notes},
    source::{Range, Server, SourceError, Stored, Table, unix_us},
    throttle::Throttle,
};
use crate::{
    console::Progress,
    context::Interrupt,
    text::{counted, grouped},
};

/// How often a range is tried.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Rows between two signs of progress.
const SHOWN_ROWS: u64 = 4_096;
/// How often Ctrl-C is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Memory of a row besides its texts and its payload.
const ROW_BYTES: u64 = 40;

#[derive(Debug, thiserror::Error)]
pub(super) enum WorkError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Notes(#[from] ManifestError),
    #[error("{0} could not be put into the quarantine")]
    Quarantine(String),
    #[error(
        "{rows} rows have the same value of the key, and are more than fit into memory; name a column with --key whose values differ"
    )]
    OneKey { rows: String },
    #[error("the files could not be made: {0}")]
    Ended(String),
}

impl From<tokio_postgres::Error> for WorkError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Source(error.into())
    }
}

impl WorkError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Source(error) => error.is_transient(),
            Self::Bucket(error) | Self::Notes(ManifestError::Bucket(error)) => {
                matches!(error, BucketError::Failed { .. } | BucketError::Raced { .. })
            }
            Self::Quarantine(_) => true,
            Self::Files(_) | Self::Notes(_) | Self::OneKey { .. } | Self::Ended(_) => false,
        }
    }

    /// Whether only this range cannot be done: its rows are others than when it was begun, or too many have one key.
    pub(super) const fn is_of_range(&self) -> bool {
        matches!(self, Self::Bucket(BucketError::Conflict { .. }) | Self::OneKey { .. })
    }
}

/// What all ranges need.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) server: &'a Server,
    pub(super) table: &'a Table,
    pub(super) bounds: &'a Bounds,
    pub(super) lake: &'a S3,
    pub(super) notes: &'a Notes<'a>,
    pub(super) writer: Arc<Writer>,
    /// Of the manifest.
    pub(super) plan: String,
    pub(super) throttle: &'a Throttle,
    pub(super) progress: &'a Progress,
    /// A part of a range with more bytes is files of its own.
    pub(super) part_bytes: u64,
    pub(super) interrupt: &'a Interrupt,
    /// Ranges of the backfill, and rows that are left to read.
    pub(super) ranges: usize,
    pub(super) rows: u64,
}

/// What became of the ranges.
#[derive(Debug, Default)]
pub(super) struct Worked {
    pub(super) counts: Counts,
    pub(super) done: usize,
    /// The keys of the files of the ranges that are done.
    pub(super) files: Vec<String>,
    /// Ranges that cannot be done, with what is wrong.
    pub(super) failed: Vec<(usize, WorkError)>,
    /// Snapshots that were read besides the first.
    pub(super) more_snapshots: usize,
    /// What ended the run before the last range.
    pub(super) stopped: Option<String>,
}

impl Work<'_> {
    /// Does the ranges, so many at a time.
    pub(super) async fn run(&self, snapshot: &str, ranges: Vec<(usize, Range)>, parallel: usize) -> Worked {
        let queue = RefCell::new(VecDeque::from(ranges));
        let worked = RefCell::new(Worked::default());
        let begun = Instant::now();
        let worker = async || {
            let mut session = None;
            loop {
                if worked.borrow().stopped.is_some() {
                    return;
                }
                let Some((number, range)) = queue.borrow_mut().pop_front() else { return };
                let (done, more_snapshots) = self.retried(snapshot, &mut session, number, &range).await;
                let mut worked = worked.borrow_mut();
                worked.more_snapshots += more_snapshots;
                match done {
                    Ok(done) => {
                        worked.counts.add(&done.counts);
                        worked.done += 1;
                        worked.files.extend(done.files);
                        let begun_ranges = self.ranges - queue.borrow().len();
                        let (read, took) = (worked.counts.read, begun.elapsed());
                        self.progress.say(&remark((begun_ranges, self.ranges), (read, self.rows), took));
                    }
                    Err(error) if error.is_of_range() => worked.failed.push((number, error)),
                    Err(error) => {
                        worked.stopped.get_or_insert_with(|| error.to_string());
                        worked.failed.push((number, error));
                    }
                }
            }
        };
        let interrupted = async {
            while !self.interrupt.is_set() {
                sleep(LOOK).await;
            }
        };
        // What is begun is dropped: a range is done when it is noted, and is written again with the same files otherwise.
        let is_interrupted = tokio::select! {
            _ = join_all((0..parallel).map(|_| worker())) => false,
            () = interrupted => true,
        };
        let mut worked = worked.take();
        if is_interrupted {
            worked.stopped = Some("interrupted".to_owned());
        }
        worked.failed.sort_by_key(|(number, _)| *number);
        worked
    }

    /// Does one range, and again if the connection or S3 failed. The second number counts snapshots of its own.
    async fn retried(
        &self,
        snapshot: &str,
        session: &mut Option<Client>,
        number: usize,
        range: &Range,
    ) -> (Result<Done, WorkError>, usize) {
        let (mut pause, mut attempt, mut more_snapshots) = (FIRST_PAUSE, 1, 0);
        loop {
            let result: Result<Done, WorkError> = async {
                let client = match session.take().filter(|client| !client.is_closed()) {
                    Some(client) => client,
                    None => self.server.connect().await?,
                };
                // A transaction of its own, so that the table is not locked for longer than a range takes.
                more_snapshots += usize::from(!self.server.begin(&client, Some(snapshot)).await?);
                let done = self.range(&client, number, range).await?;
                client.batch_execute("rollback").await?;
                *session = Some(client);
                Ok(done)
            }
            .await;
            match result {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    self.progress.say(&format!("trying again: {error}"));
                }
                done => return (done, more_snapshots),
            }
            attempt += 1;
            sleep(jittered(pause)).await;
            pause *= 2;
        }
    }

    async fn range(&self, client: &Client, number: usize, range: &Range) -> Result<Done, WorkError> {
        let mut rows = pin!(self.table.read(client, self.bounds, range).await?);
        let (mut batch, mut bytes, mut part) = (Batch::default(), 0_u64, 0);
        let mut done = Done { plan: self.plan.clone(), ..Done::default() };
        let (mut read, mut nulls, mut last_key, mut id) = (0_u64, 0_u64, Vec::new(), String::new());
        while let Some(row) = rows.next().await {
            let binary = row?;
            let key: Option<&[u8]> = binary.try_get(6)?;
            let key = key.unwrap_or_default();
            if bytes >= self.part_bytes || batch.is_full() {
                // Rows with the same key come in any order, so they stay together.
                if key != last_key.as_slice() {
                    self.land(std::mem::take(&mut batch), number, part, &mut done).await?;
                    (bytes, part) = (0, part + 1);
                } else if bytes >= 4 * self.part_bytes {
                    return Err(WorkError::OneKey { rows: grouped(batch.records.len()) });
                }
            }
            last_key.clear();
            last_key.extend_from_slice(key);
            let row = self.row(&binary)?;
            bytes += row.bytes() + ROW_BYTES;
            nulls += u64::from(row.payload.is_none());
            row.push(&mut batch, &self.table.name, self.table.stored, &self.writer.registry, &mut id);
            read += 1;
            if read.is_multiple_of(SHOWN_ROWS) {
                self.progress.add(usize::try_from(SHOWN_ROWS).unwrap_or_default());
            }
            self.throttle.row().await;
        }
        self.progress.add(usize::try_from(read % SHOWN_ROWS).unwrap_or_default());
        if !batch.is_empty() {
            self.land(batch, number, part, &mut done).await?;
        }
        // An empty payload has a hash, and one that is null has none in SQL either.
        done.counts.check -= u128::from(nulls) * check_of_empty();
        self.notes.finish(number, &done).await?;
        Ok(done)
    }

    fn row<'r>(&self, row: &'r BinaryCopyOutRow) -> Result<Row<'r>, tokio_postgres::Error> {
        let payload = match self.table.stored {
            Stored::Bytes => row.try_get::<Option<&[u8]>>(2)?,
            Stored::Base64 => row.try_get::<Option<&str>>(2)?.map(str::as_bytes),
        };
        Ok(Row {
            source: row.try_get(0)?,
            type_name: row.try_get(1)?,
            payload,
            created_at_us: row.try_get::<Option<i64>>(3)?.and_then(unix_us),
            id: row.try_get(4)?,
            event_id: row.try_get(5)?,
        })
    }

    /// Writes a part of a range to the bucket: its files, and what cannot be in one.
    async fn land(&self, batch: Batch, number: usize, part: usize, done: &mut Done) -> Result<(), WorkError> {
        let writer = self.writer.clone();
        let written = spawn_blocking(move || writer.write(batch, number, part)).await;
        let Written { files, quarantined, counts } = written.map_err(|error| WorkError::Ended(error.to_string()))??;
        for file in files {
            let records = Records {
                key: &file.key,
                body: file.body,
                content_type: self.writer.content_type(),
                content_id: file.content_id,
                count: file.rows,
            };
            self.lake.put_once(records).await?;
            done.files.push(file.key);
        }
        for records in quarantined {
            let records = records.into_iter().map(|record| ((), record)).collect();
            let failed = quarantine::keep(self.lake, landing::FUNCTION, records).await.failed;
            if !failed.is_empty() {
                return Err(WorkError::Quarantine(counted(failed.len(), "row", "rows")));
            }
        }
        done.counts.add(&counts);
        Ok(())
    }
}

/// How far the ranges are, how fast, and how long it takes from here: of so many ranges and rows.
fn remark((begun, ranges): (usize, usize), (read, rows): (u64, u64), took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    let left = seconds / (read.max(1) as f64) * (rows.saturating_sub(read) as f64);
    let left = if left < 90.0 { format!("{left:.0} seconds") } else { format!("{:.0} minutes", left / 60.0) };
    let per_second = grouped((read as f64 / seconds) as u64);
    format!("range {begun} of {ranges}, {per_second} a second, about {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_estimated() {
        let at = |read, seconds| remark((3, 10), (read, 1_000_000), Duration::from_secs(seconds));
        assert_eq!(at(200_000, 10), "range 3 of 10, 20,000 a second, about 40 seconds left");
        assert_eq!(at(100_000, 60), "range 3 of 10, 1,666 a second, about 9 minutes left");
        assert_eq!(at(2_000_000, 10), "range 3 of 10, 200,000 a second, about 0 seconds left");
    }
}
