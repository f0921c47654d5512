//! `--against-stream`: compares the stream, as far as it reaches back, with what kafka-roller has staged and with the counts of files.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_kinesis::types::Record;
use futures_util::{StreamExt, TryStreamExt, stream};
use objects::{Bucket, S3};
use rolling::{
    batch::Batch,
    discarded::{self, Discarded, MAX_EVENT_BYTES},
    event::{self, Shard},
    journal::{Interval, Journal, intervals},
    line::Lines,
    shard::{Known, ShardId, State},
};
use shared::{layout::Segment, position::Position, rolled::Reason};

use super::{
    Audit, AuditError, CONCURRENT_S3_REQUESTS,
    repair::of_stream,
    report::Problem,
    tiling::{File, Range},
};
use crate::{
    console::{Console, Progress},
    stream::{self as kinesis, Reader, Start},
    text::counted,
};

/// A state of a shard, and what else is known of its records.
struct Staged {
    id: ShardId,
    state: State,
    segments: Vec<Interval>,
    replays: Vec<Interval>,
    /// Records in objects that Lambda has written.
    waiting: BTreeSet<Position>,
}

/// What was found in a shard.
#[derive(Default)]
struct Compared {
    /// Records that were never staged, as ranges, with their number and when the first and the last of them arrived.
    missing: Vec<Missing>,
    /// How many of those that were never staged are in objects that Lambda has written.
    waiting: usize,
    /// How many were staged before kafka-roller kept what it had staged.
    undecided: usize,
    /// The first record that was read and of which it is known whether it was staged.
    from: Option<Position>,
    /// The last record that was read.
    to: Position,
    /// Of each file, how many records of its table the stream has in its range, by its place.
    counts: BTreeMap<String, usize>,
}

struct Missing {
    range: Range,
    count: usize,
    oldest_ms: i64,
    newest_ms: i64,
}

impl Audit<'_> {
    /// Reads each shard of the stream up to its tail, and adds what is in no file and never will be.
    pub(super) async fn against_stream(
        &mut self,
        lake: &S3,
        states: Vec<(ShardId, State)>,
        lines: &Lines,
        console: &Console,
    ) -> Result<(), AuditError> {
        let progress = console.progress("Read from the stream:", "records", None);
        let mut known: BTreeMap<String, _> = BTreeMap::new();
        for (id, state) in states {
            let name = id.stream.to_string();
            if !known.contains_key(&name) {
                let shards = kinesis::shards(&self.context.clients.kinesis, &name).await;
                known.insert(name.clone(), shards?);
            }
            if !known.get(&name).is_some_and(|shards| shards.contains_key(id.shard.as_str())) {
                self.notes.push(format!("the stream does not have shard {id} any more; it was not compared"));
                continue;
            }
            let compared = self.compare_shard(lake, id.clone(), state, lines, &progress).await?;
            self.tell(&id, compared);
        }
        Ok(())
    }

    async fn compare_shard(
        &self,
        lake: &S3,
        id: ShardId,
        state: State,
        lines: &Lines,
        progress: &Progress,
    ) -> Result<Compared, AuditError> {
        let start = self.since.map_or(Start::Oldest, Start::Time);
        let client = &self.context.clients.kinesis;
        let mut reader = Reader::from(client, id.stream.as_str(), id.shard.as_str(), start).await?;
        let (mut compared, mut staged) = (Compared::default(), None);
        let files = self.files_of(&id);
        while let Some(records) = reader.next().await? {
            if self.context.interrupt.is_set() {
                return Err(AuditError::Interrupted);
            }
            progress.add(records.len());
            let read = records.iter().map(of_stream).collect::<Result<Vec<_>, _>>();
            let read = read.map_err(|cause| AuditError::Record(cause.to_string()))?;
            let (Some(first), Some(last)) = (read.first(), read.last()) else { continue };
            let known_from = first.position.max(state.intervals_after.unwrap_or(state.tail));
            compared.from.get_or_insert(known_from);
            compared.to = last.position.min(state.tail);
            let is_past = last.position > state.tail;
            if staged.is_none() {
                // After the state, so that what it has forgotten since is there.
                staged = Some(staged_since(lake, &id, &state, first.position).await?);
            }
            if let Some(staged) = &staged {
                compared.add(staged, &records, lines, &files)?;
            }
            if is_past {
                break;
            }
        }
        Ok(compared)
    }

    fn tell(&mut self, id: &ShardId, compared: Compared) {
        for Missing { range, count, oldest_ms, newest_ms } in &compared.missing {
            self.problems.push(Problem::not_staged(id, *range, *count, (*oldest_ms, *newest_ms)));
        }
        if compared.waiting > 0 {
            let records = counted(compared.waiting, "record", "records");
            self.notes.push(format!("{records} of {id} wait under aws/lambda/: landfall replay discarded lands them"));
        }
        if compared.undecided > 0 {
            let records = counted(compared.undecided, "record", "records");
            self.notes.push(format!(
                "{records} of {id} are from before kafka-roller kept what it had staged; they were not compared"
            ));
        }
        let Some(from) = compared.from else { return };
        let mut problems = Vec::new();
        for file in self.files_of(id).into_values().flatten() {
            let is_read = file.rolled.after >= from.before() && file.rolled.last <= compared.to;
            let found = compared.counts.get(&file.place.to_string()).copied().unwrap_or_default();
            if is_read && found != file.rolled.count {
                problems.push(Problem::other_count(file, found));
            }
        }
        self.problems.extend(problems);
    }

    /// The files of the windows of a shard by table, in the order of their records, without those that lie between others.
    fn files_of(&self, id: &ShardId) -> BTreeMap<&Segment, Vec<&File>> {
        let of_shard =
            self.windows.iter().filter(|(window, _)| (&window.stream, &window.shard) == (&id.stream, &id.shard));
        let sorted = of_shard.map(|(window, files)| {
            let mut files: Vec<&File> =
                files.files.iter().filter(|file| file.rolled.reason != Reason::Replay).collect();
            files.sort_by_key(|file| file.rolled.last);
            (&window.table, files)
        });
        sorted.collect()
    }
}

/// What is known of the records of a shard from a position on.
async fn staged_since(lake: &S3, id: &ShardId, state: &State, from: Position) -> Result<Staged, AuditError> {
    let (segments, replays) = (Journal::Segments, Journal::Replays);
    let begun = state.replays.iter().map(|replay| replay.interval);
    Ok(Staged {
        segments: journaled(lake, id, segments, from).await?,
        replays: begun.chain(journaled(lake, id, replays, from).await?).collect(),
        waiting: waiting(lake, id).await?,
        id: id.clone(),
        state: state.clone(),
    })
}

async fn journaled(lake: &S3, id: &ShardId, journal: Journal, from: Position) -> Result<Vec<Interval>, AuditError> {
    let is_ours = |key: &str| journal.parse(id, key).is_some();
    let listed = lake.list_while(&journal.folder(id), Some(&journal.before(id, from)), is_ours).await?;
    let read = listed.iter().map(async |object| {
        let bytes = lake.get(&object.key, None).await?;
        intervals(&bytes).map_err(|cause| AuditError::Journal(object.key.clone(), cause.to_string()))
    });
    let read: Vec<Vec<Interval>> = stream::iter(read).buffered(CONCURRENT_S3_REQUESTS).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// The records of a shard that Lambda has given up and written to the lake.
async fn waiting(lake: &S3, id: &ShardId) -> Result<BTreeSet<Position>, AuditError> {
    let mut waiting = BTreeSet::new();
    for object in lake.list(discarded::FOLDER).await? {
        if object.key.split('/').nth(3) != Some(id.shard.as_str()) {
            continue;
        }
        let body = lake.get(&object.key, None).await?;
        let journal = |cause: String| AuditError::Journal(object.key.clone(), cause);
        let discarded = Discarded::of_bytes(&body).map_err(|cause| journal(cause.to_string()))?;
        let mut positions = Vec::new();
        let read = event::read_json(&discarded.event, |record| positions.push(record.position));
        let shard = read.map_err(|cause| journal(cause.to_string()))?;
        if shard.is_some_and(|shard| shard.id == *id) {
            waiting.extend(positions);
        }
    }
    Ok(waiting)
}

/// Whether a record is too large for Lambda ever to have passed it on.
fn is_large(record: &Record) -> bool {
    record.data().as_ref().len().div_ceil(3) * 4 > MAX_EVENT_BYTES
}

impl Compared {
    /// Adds a page of records.
    fn add(
        &mut self,
        staged: &Staged,
        records: &[Record],
        lines: &Lines,
        files: &BTreeMap<&Segment, Vec<&File>>,
    ) -> Result<(), AuditError> {
        for large in [false, true] {
            let wanted = records.iter().filter(|record| is_large(record) == large).map(of_stream);
            let wanted = wanted.collect::<Result<Vec<_>, _>>();
            let mut wanted = wanted.map_err(|cause| AuditError::Record(cause.to_string()))?;
            wanted.retain(|record| record.position <= staged.state.tail);
            let shard = Shard { stream_arn: String::new(), id: staged.id.clone() };
            let batch = Batch::of(shard, wanted, lines);
            let known = Known {
                segments: staged.segments.clone(),
                replays: staged.replays.clone(),
                never_delivered: large,
                even_if_landed: true,
            };
            let missing = staged.state.missing(&batch, &known);
            let missing = missing.map_err(|cause| AuditError::Record(cause.to_string()))?;
            self.add_missing(staged, &batch, large, &missing);
            // What is too large is in files of its own.
            if !large {
                self.count(staged, &batch, &missing, files);
            }
        }
        Ok(())
    }

    fn add_missing(&mut self, staged: &Staged, batch: &Batch, large: bool, missing: &[Interval]) {
        let known_from = staged.state.intervals_after.unwrap_or(staged.state.tail);
        let mut times: Vec<(Position, i64)> = batch.times().collect();
        times.sort_unstable();
        let mut follows = false;
        for (position, arrived_ms) in times {
            let is_missing = missing.iter().any(|interval| interval.covers(position));
            let is_undecided = is_missing && position <= known_from && !large;
            let is_waiting = is_missing && !is_undecided && staged.waiting.contains(&position.record());
            self.undecided += usize::from(is_undecided);
            self.waiting += usize::from(is_waiting);
            if !is_missing || is_undecided || is_waiting {
                follows = false;
                continue;
            }
            match self.missing.last_mut().filter(|_| follows) {
                Some(run) => {
                    run.range.up_to = position;
                    run.count += 1;
                    run.newest_ms = run.newest_ms.max(arrived_ms);
                }
                None => self.missing.push(Missing {
                    range: Range { after: position.before(), up_to: position },
                    count: 1,
                    oldest_ms: arrived_ms,
                    newest_ms: arrived_ms,
                }),
            }
            follows = true;
        }
    }

    fn count(&mut self, staged: &Staged, batch: &Batch, missing: &[Interval], files: &BTreeMap<&Segment, Vec<&File>>) {
        for (table, files) in files {
            let Some(run) = batch.runs.get(*table) else { continue };
            for entry in run.entries(0..run.len()) {
                let file = files.get(files.partition_point(|file| file.rolled.last < entry.position));
                let Some(file) = file.filter(|file| file.rolled.after < entry.position) else { continue };
                let mut others = missing.iter().chain(&staged.replays);
                if !others.any(|interval| interval.covers(entry.position)) {
                    *self.counts.entry(file.place.to_string()).or_default() += 1;
                }
            }
        }
    }
}
