//! `--against-stream`: compares the stream, as far as it reaches back, with what kafka-roller has staged and with the counts of files.

use std::{collections::BTreeMap, mem};

use aws_sdk_kinesis::types::Record;
use objects::{Bucket, S3};
use rolling::{
    batch::Batch,
    event::Shard,
    journal::Interval,
    line::Lines,
    shard::{ShardId, State},
};
use shared::{layout::Segment, position::Position, rolled::Reason};

use super::{
    Audit, AuditError,
    land::NotStaged,
    repair::of_stream,
    report::Problem,
    staged::{Staged, Waiting, is_large, waiting},
    tiling::{File, Range},
};
use crate::{
    console::{Console, Progress},
    stream::{self as kinesis, Reader, Start},
    text::counted,
};

/// What was found in a shard.
#[derive(Default)]
struct Compared {
    /// How many records were compared.
    records: usize,
    /// Those that were never staged.
    missing: Vec<Missing>,
    /// Records in objects that Lambda has written.
    waits: Waiting,
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

/// Records of a shard, one behind the other, that were never staged.
#[derive(Debug, Clone)]
pub struct Missing {
    pub range: Range,
    /// Position of the first of them.
    pub first: Position,
    pub count: usize,
    pub oldest_ms: i64,
    pub newest_ms: i64,
}

impl Audit<'_> {
    /// Reads each shard of the stream up to its tail, and adds what is in no file and never will be.
    pub(super) async fn against_stream(
        &mut self,
        lake: &S3,
        states: &[(ShardId, State)],
        lines: &Lines,
        console: &Console,
    ) -> Result<(), AuditError> {
        let progress = console.progress("Read from the stream:", "records", None);
        let mut known: BTreeMap<String, _> = BTreeMap::new();
        let mut read = 0;
        for (id, state) in states {
            let name = id.stream.to_string();
            if !known.contains_key(&name) {
                let shards = kinesis::shards(&self.context.clients.kinesis, &name).await;
                known.insert(name.clone(), shards?);
            }
            let Some(digits) = known.get(&name).and_then(|shards| shards.get(id.shard.as_str())) else {
                self.notes.push(format!("the stream does not have shard {id} any more; it was not compared"));
                continue;
            };
            let mut compared = self.compare_shard(lake, id, state, lines, &progress).await?;
            read += compared.records - compared.undecided;
            for missing in mem::take(&mut compared.missing) {
                let (id, stream_arn) = (id.clone(), state.stream_arn.clone());
                let not_staged = NotStaged { id, stream_arn, digits: *digits, missing };
                self.problems.push(Problem::not_staged(&not_staged));
                self.not_staged.push(not_staged);
            }
            self.tell(lake.name(), id, &compared);
        }
        self.stream_records = Some(read);
        for (stream, shards) in &known {
            let has_state =
                |shard: &str| states.iter().any(|(id, _)| id.stream.as_str() == stream && id.shard.as_str() == shard);
            for shard in shards.keys().filter(|shard| !has_state(shard)) {
                self.notes.push(format!("nothing of shard {stream}/{shard} was ever staged; it was not compared"));
            }
        }
        Ok(())
    }

    async fn compare_shard(
        &self,
        lake: &S3,
        id: &ShardId,
        state: &State,
        lines: &Lines,
        progress: &Progress,
    ) -> Result<Compared, AuditError> {
        let start = self.since.map_or(Start::Oldest, Start::Time);
        let client = &self.context.clients.kinesis;
        let mut reader = Reader::from(client, id.stream.as_str(), id.shard.as_str(), start).await?;
        let (mut compared, mut staged) = (Compared::default(), None);
        let files = self.files_of(id);
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
                staged = Some(Staged::since(lake, id, state, first.position).await?);
                compared.waits = waiting(lake, id).await?;
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

    fn tell(&mut self, lake: &str, id: &ShardId, compared: &Compared) {
        if compared.waiting > 0 {
            self.problems.push(Problem::waiting(id, compared.waiting));
        }
        for (key, cause) in &compared.waits.unreadable {
            self.notes.push(format!("s3://{lake}/{key} cannot be read: {cause}"));
        }
        if compared.undecided > 0 {
            let records = counted(compared.undecided, "record", "records");
            self.notes.push(format!(
                "{records} of {id} are from before kafka-roller kept what it had staged; they were not compared"
            ));
        }
        let Some(from) = compared.from else { return };
        let (mut problems, mut fuller) = (Vec::new(), Vec::new());
        for file in self.files_of(id).into_values().flatten() {
            let is_read = file.rolled.after >= from.before() && file.rolled.last <= compared.to;
            let found = compared.counts.get(&file.place.to_string()).copied().unwrap_or_default();
            if is_read && found != file.rolled.count {
                problems.push(Problem::other_count(file, found));
                fuller.extend((file.rolled.count > found).then(|| (id.clone(), file.clone())));
            }
        }
        self.problems.extend(problems);
        self.fuller.extend(fuller);
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
            self.records += batch.len();
            let missing = staged.missing(&batch, large);
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
        let known_from = staged.known_from();
        let mut times: Vec<(Position, i64)> = batch.times().collect();
        times.sort_unstable();
        let mut follows = false;
        for (position, arrived_ms) in times {
            let is_missing = missing.iter().any(|interval| interval.covers(position));
            let is_undecided = is_missing && position <= known_from && !large;
            let is_waiting = is_missing && !is_undecided && self.waits.positions.contains(&position.record());
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
                    first: position,
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
