//! Writes missing files again, from the records that the stream still has.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Write},
    ops,
};

use aws_sdk_kinesis::types::Record;
use flate2::{Compression, GzBuilder};
use objects::{Attributes, Bucket, BucketError, Created, S3};
use rolling::{
    batch::Batch,
    event::{self, Shard},
    line::Lines,
    replay::NotLanded,
    rules::Rules,
    run::{Entry, Run},
    shard::{Limits, ShardId, Table, Target},
};
use shared::{
    layout::{KafkaKey, LayoutError, ShortUuid},
    position::{Position, PositionError},
    registrar::{Command, LoadList, LoadStatus},
    rolled::{Reason, RolledFile},
};

use super::{
    AuditError, Roller,
    place::Place,
    staged::{Staged, is_large},
    tiling::{File, Gap, Range},
};
use crate::{
    console::Progress,
    context::Context,
    registrar::{RegistrarArgs, RegistrarError},
    stream::{self, Reader, StreamError},
};

/// The largest file that is written, before compression, since it is held in memory; a smaller limit of the function applies too.
const MAX_BYTES: u64 = 128 << 20;
/// Records of which the registrar is asked at once. An invocation takes 6 MB, and a key has less than 400 bytes.
const ASKED_AT_ONCE: usize = 5_000;

#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error("a file of its table cannot be read or understood, and may hold these records")]
    Unclear,
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("{0} has the name of the missing file and holds other records; it was not overwritten")]
    Taken(Place),
    #[error(
        "load {load} ({status}) began with a record of it: {key}; find out where that file is now, and name its bucket with --bucket"
    )]
    Loaded { load: i64, status: LoadStatus, key: String },
    #[error("the state of its shard does not say yet which stream that is; it will after its next batch")]
    NoArn,
    #[error("the stream no longer has the first of them; what it still had was landed")]
    Trimmed,
    #[error("{0} says that it holds more records of this range than were ever staged, so they may be in it")]
    Contradicted(Place),
    #[error("they were not landed: {0}; they wait under aws/lambda/, and landfall replay discarded tries again")]
    NotLanded(RegistrarError),
    #[error("{0}, which says what was staged")]
    Staged(#[source] Box<AuditError>),
    #[error("what was staged is not known: {0}")]
    Unknown(#[from] NotLanded),
    #[error("whether it was loaded is not known: {0}")]
    Registrar(#[from] RegistrarError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Position(#[from] PositionError),
    #[error("record {0} does not say when it arrived")]
    Arrival(String),
    #[error("the file could not be compressed: {0}")]
    Gzip(#[from] io::Error),
}

/// Records that are in no file and no longer in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    pub range: Range,
    /// The earliest time at which they can have arrived, in Unix milliseconds; `None` if nothing tells.
    pub since_ms: Option<i64>,
    /// The latest such time.
    pub until_ms: Option<i64>,
}

#[derive(Debug)]
pub struct Repairer<'a> {
    pub context: &'a Context,
    pub rules: &'a Rules,
    /// The bucket that the function writes to.
    pub incoming: S3,
    /// What kafka-roller says of its shards, if these are its buckets.
    pub roller: Option<&'a Roller>,
    /// What knows which files have become loads, if the stack has it.
    pub registrar: Option<RegistrarArgs>,
    /// Where files with a name are, by name.
    pub taken: HashMap<&'a str, &'a Place>,
    /// Of each stream, the shards that it still has, with the number of digits of their sequence numbers.
    pub shards: HashMap<String, HashMap<String, usize>>,
    pub progress: &'a Progress,
}

impl Repairer<'_> {
    /// Writes the missing files of a gap, as far as the stream still has the records, and returns what is lost. `files`
    /// gets what was written even if the rest fails. Nothing is overwritten.
    pub async fn repair(&mut self, gap: &Gap, files: &mut Vec<File>) -> Result<Vec<Lost>, RepairError> {
        let kinesis = &self.context.clients.kinesis;
        let window = &gap.window;
        let (stream, shard) = (window.stream.as_str(), window.shard.as_str());
        if !self.shards.contains_key(stream) {
            self.shards.insert(stream.to_owned(), stream::shards(kinesis, stream).await?);
        }
        let id = ShardId { stream: window.stream.clone(), shard: window.shard.clone() };
        let staged = match self.roller.filter(|roller| roller.has(&id)) {
            Some(roller) => {
                let staged = Staged::now(&roller.lake, &id, gap.range.after).await;
                Some(staged.map_err(|cause| RepairError::Staged(Box::new(cause)))?)
            }
            None => None,
        };
        let mut refill = Refill { staged, ..Refill::of(gap, &self.rules.lines, self.rules.of(&window.table).0) };
        // A shard that is not listed was closed so long ago that all its records are gone.
        if let Some(digits) = self.shards.get(stream).and_then(|shards| shards.get(shard)) {
            let begin = format!("{:0>digits$}", gap.range.after.sequence_number());
            let mut reader = Reader::at(kinesis, stream, shard, &begin).await?;
            while !refill.is_past
                && let Some(records) = reader.next().await?
            {
                if self.context.interrupt.is_set() {
                    return Err(RepairError::Interrupted);
                }
                self.progress.add(records.len());
                refill.take(&records)?;
                for (file, run) in refill.cut(None) {
                    files.push(self.write(file, &run).await?);
                }
            }
        }
        for (file, run) in refill.cut(Some(i64::MAX)) {
            files.push(self.write(file, &run).await?);
        }
        Ok(refill.lost(files))
    }

    /// Refuses a file if one that began with any of its records has become a load: it held these records, wherever it is now.
    async fn check_loads(&self, rolled: &RolledFile, run: &Run) -> Result<(), RepairError> {
        let Some(registrar) = &self.registrar else { return Ok(()) };
        for entries in run.entries(0..run.len()).chunks(ASKED_AT_ONCE) {
            let ids = entries.iter().map(|entry| RolledFile { first: entry.position, ..rolled.clone() }.id());
            let key = |id: ShortUuid, gzip| KafkaKey { table: rolled.window.table.clone(), id, gzip }.to_string();
            let keys = ids.flat_map(|id| [false, true].map(|gzip| key(id.clone(), gzip))).collect();
            let command = Command::LoadsList {
                table: None,
                status: None,
                since: None,
                displaced: false,
                keys,
                after: None,
                limit: 1,
            };
            let known: LoadList = registrar.ask_quietly(&command, self.context).await?;
            if let Some(load) = known.loads.into_iter().next() {
                return Err(RepairError::Loaded { load: load.id, status: load.status, key: load.s3_key });
            }
        }
        Ok(())
    }

    async fn write(&self, rolled: RolledFile, run: &Run) -> Result<File, RepairError> {
        let gzip = self.rules.of(&rolled.window.table).1.gzip;
        let key = KafkaKey { table: rolled.window.table.clone(), id: rolled.id(), gzip };
        let name = |gzip: bool| format!("{}.json{}", key.id, if gzip { ".gz" } else { "" });
        if let Some(place) = [true, false].into_iter().find_map(|gzip| self.taken.get(name(gzip).as_str())) {
            return Err(RepairError::Taken((*place).clone()));
        }
        self.check_loads(&rolled, run).await?;
        let lines = run.lines(0..run.len());
        let place = Place::of(self.incoming.name(), &key.to_string())?;
        let key = &place.key;
        let (body, content_type) = if gzip {
            // As the function does: no name, no time.
            let mut gzip = GzBuilder::new().write(Vec::new(), Compression::default());
            gzip.write_all(&lines)?;
            (gzip.finish()?.into(), "application/gzip")
        } else {
            (lines, "application/x-ndjson")
        };
        let attributes = Attributes { content_type, metadata: rolled.metadata().to_vec() };
        if self.incoming.create(key, body, &attributes).await? == Created::Exists {
            // Another repair of the same gap writes the same file.
            let head = self.incoming.head(key).await?;
            if RolledFile::of_metadata(|name| head.metadata.get(name).map(String::as_str)).as_ref() != Ok(&rolled) {
                return Err(self.incoming.conflict(key).into());
            }
        }
        Ok(File { place, rolled })
    }
}

/// The records of a gap that were read and are in no file yet. Does no I/O.
struct Refill<'a> {
    gap: &'a Gap,
    wanted: Range,
    /// What is known of the shard; `None` if nothing is.
    staged: Option<Staged>,
    how: &'a Lines,
    limits: Limits,
    /// The position before the next file.
    after: Position,
    /// Whether any record was read.
    has_begun: bool,
    /// Whether the stream has been read to the end of the gap.
    is_past: bool,
    entries: Vec<Entry>,
    lines: Vec<u8>,
}

impl<'a> Refill<'a> {
    fn of(gap: &'a Gap, how: &'a Lines, limits: Limits) -> Self {
        let limits = Limits { bytes: limits.bytes.min(MAX_BYTES), ..limits };
        let wanted = gap.range;
        Self {
            gap,
            wanted,
            staged: None,
            how,
            limits,
            after: wanted.after,
            has_begun: false,
            is_past: false,
            entries: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Keeps the records of the gap, except those that the function quarantines, which are not missing, and those that Lambda gave up, which
    /// were never in the file: they are for `landfall replay discarded`.
    fn take(&mut self, records: &[Record]) -> Result<(), RepairError> {
        let window = &self.gap.window;
        let large: BTreeSet<&str> =
            records.iter().filter(|record| is_large(record)).map(Record::sequence_number).collect();
        let mut records = records.iter().map(of_stream).collect::<Result<Vec<_>, _>>()?;
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
        // Unless the stream still has the record before the gap, it may have dropped records of the gap.
        if !self.has_begun && first.position > self.wanted.after.record() {
            self.after = first.position.before().min(self.wanted.up_to);
        }
        self.has_begun = true;
        self.is_past = last.position >= self.wanted.up_to.record();
        let id = ShardId { stream: window.stream.clone(), shard: window.shard.clone() };
        let shard = Shard { stream_arn: String::new(), id };
        records.retain(|record| !large.contains(record.sequence_number().as_ref()));
        let mut batch = Batch::of(shard, records, self.how);
        let outside = match &self.staged {
            Some(staged) => staged.outside(&batch)?,
            None => BTreeSet::new(),
        };
        let Some(run) = batch.runs.remove(&window.table) else { return Ok(()) };
        self.keep(&run, run.up_to(self.wanted.after)..run.up_to(self.wanted.up_to), &outside);
        Ok(())
    }

    /// Appends a range of a run, except for what was given up or landed out of band.
    fn keep(&mut self, run: &Run, range: ops::Range<usize>, outside: &BTreeSet<Position>) {
        for (index, entry) in range.clone().zip(run.entries(range)) {
            let is_replayed = self.gap.replayed.iter().any(|replayed| replayed.holds(entry.position));
            if !is_replayed && !outside.contains(&entry.position) {
                self.lines.extend_from_slice(&run.lines(index..index + 1));
                self.entries.push(Entry { end: self.lines.len(), ..*entry });
            }
        }
    }

    /// Takes out the files that are full or, at `now_ms`, old enough, with their records.
    fn cut(&mut self, now_ms: Option<i64>) -> Vec<(RolledFile, Run)> {
        let fresh = Run::new(std::mem::take(&mut self.entries), std::mem::take(&mut self.lines).into());
        let mut table = Table { rolled: self.after, ..Table::default() };
        // The function's own rules say where a file ends.
        let target = Target { bucket: String::new(), gzip: false };
        table.add(&fresh, &self.limits, &target);
        let is_old = |oldest_ms: i64| now_ms.is_some_and(|now| now.saturating_sub(oldest_ms) >= self.limits.age_ms);
        if table.open.is_some_and(|open| is_old(open.oldest_ms)) {
            table.close(Reason::Age, &target);
        }
        self.after = table.begun_to();
        let files = table.begun.iter().map(|begun| {
            let run = fresh.between(begun.extent.first, begun.extent.last);
            (RolledFile { reason: Reason::Repair, ..begun.file(self.gap.window.clone()) }, run)
        });
        let files = files.collect();
        self.keep(&fresh, fresh.up_to(self.after)..fresh.len(), &BTreeSet::new());
        files
    }

    /// The parts of the gap that are in none of the files.
    fn lost(&self, files: &[File]) -> Vec<Lost> {
        let Range { after, up_to } = self.wanted;
        let since_ms = self.gap.before.as_ref().map(|before| before.rolled.newest_ms);
        let until_ms = self.gap.next.as_ref().map(|next| next.rolled.oldest_ms);
        let (Some(first), Some(last)) = (files.first(), files.last()) else {
            return vec![Lost { range: self.wanted, since_ms, until_ms }];
        };
        let (first, last) = (&first.rolled, &last.rolled);
        let head = Lost { range: Range { after, up_to: first.after }, since_ms, until_ms: Some(first.oldest_ms) };
        let tail = Lost { range: Range { after: last.last, up_to }, since_ms: Some(last.newest_ms), until_ms };
        [head, tail].into_iter().filter(|lost| lost.range.after < lost.range.up_to).collect()
    }
}

/// When a record arrived, in Unix milliseconds.
pub fn arrived_ms(record: &Record) -> Result<i64, RepairError> {
    let arrived_ms = record.approximate_arrival_timestamp().and_then(|time| time.to_millis().ok());
    arrived_ms.ok_or_else(|| RepairError::Arrival(record.sequence_number().to_owned()))
}

pub fn of_stream(record: &Record) -> Result<event::Record<'_>, RepairError> {
    let arrived_ms = arrived_ms(record)?;
    let key = record.partition_key().unwrap_or_default();
    Ok(event::Record::of_stream(record.sequence_number(), key, arrived_ms, record.data().as_ref())?)
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::primitives::{Blob, DateTime};
    use proptest::prelude::*;

    use super::{
        super::tiling::tests::{at, rolled},
        *,
    };

    /// A record of table `sample` or of another one.
    fn record(number: u64, is_ours: bool) -> Record {
        let table = if is_ours { "sample" } else { "other" };
        let data = format!(r#"{{"topic":"{table}","n":{number}}}"#);
        Record::builder()
            .sequence_number(format!("{number:030}"))
            .partition_key("k")
            .data(Blob::new(data))
            .approximate_arrival_timestamp(DateTime::from_millis(rolled(number - 1, number).newest_ms))
            .build()
            .unwrap()
    }

    fn file(after: u64, last: u64) -> File {
        let place = Place::of("incoming", "cubic/kafka/sample/vytxeTZskVKR7C7WgdSP3d.json").unwrap();
        File { place, rolled: rolled(after, last) }
    }

    fn gap(before: File, next: File) -> Gap {
        let range = Range { after: before.rolled.last, up_to: next.rolled.after };
        Gap {
            window: before.rolled.window.clone(),
            range,
            before: Some(before),
            next: Some(next),
            replayed: Vec::new(),
        }
    }

    /// Files and their lines, and what is lost.
    fn refill(gap: &Gap, records: usize, pages: &[&[Record]]) -> (Vec<(RolledFile, String)>, Vec<Lost>) {
        let lines = rolling::line::TableOf::Pointer("/topic".parse().unwrap()).into();
        let limits = Limits { records, bytes: 1 << 20, age_ms: 3_600_000 };
        let mut refill = Refill::of(gap, &lines, limits);
        let mut files = Vec::new();
        for page in pages {
            if !refill.is_past {
                refill.take(page).unwrap();
                files.extend(refill.cut(None));
            }
        }
        files.extend(refill.cut(Some(i64::MAX)));
        let rolled = |(rolled, _): &(RolledFile, _)| File { rolled: rolled.clone(), ..gap.next.clone().unwrap() };
        let lost = refill.lost(&files.iter().map(rolled).collect::<Vec<_>>());
        let lines = |run: Run| String::from_utf8(run.lines(0..run.len()).to_vec()).unwrap();
        (files.into_iter().map(|(file, run)| (file, lines(run))).collect(), lost)
    }

    #[test]
    fn what_the_stream_has_no_longer_is_told_and_the_rest_is_written() {
        let gap = gap(file(0, 10), file(20, 30));
        let records: Vec<Record> = (14..=31).map(|number| record(number, true)).collect();
        let (files, lost) = refill(&gap, 10_000, &[&records]);
        let [(file, lines)] = files.as_slice() else { panic!("{files:?}") };
        assert_eq!((file.after, file.first, file.last, file.count), (at(14).before(), at(14), at(20), 7));
        assert_eq!((file.reason, lines.lines().count()), (Reason::Repair, 7));
        let range = Range { after: at(10), up_to: at(14).before() };
        assert_eq!(
            lost,
            [Lost { range, since_ms: Some(rolled(9, 10).newest_ms), until_ms: Some(rolled(13, 14).oldest_ms) }]
        );

        // Whatever the stream has behind the gap, and when it has nothing.
        for pages in [&[&records[8..]][..], &[]] {
            let (files, lost) = refill(&gap, 10_000, pages);
            assert_eq!((files, lost[0].range, lost.len()), (vec![], gap.range, 1));
        }
    }

    #[test]
    fn what_was_landed_out_of_band_is_not_written_again() {
        let mut gap = gap(file(0, 10), file(20, 30));
        gap.replayed = vec![Range { after: at(12), up_to: at(14) }];
        let records: Vec<Record> = (10..=21).map(|number| record(number, true)).collect();
        let (files, lost) = refill(&gap, 10_000, &[&records]);
        assert_eq!((files[0].0.count, lost.len()), (8, 0));
        assert!(!files[0].1.contains("\"n\":13") && files[0].1.contains("\"n\":15"), "{}", files[0].1);
    }

    #[test]
    fn a_gap_may_begin_and_end_in_an_aggregate() {
        let (mut before, mut next) = (file(0, 10), file(12, 30));
        before.rolled.last = at(10).in_aggregate(4).unwrap();
        next.rolled.after = at(12).in_aggregate(1).unwrap();
        let gap = gap(before, next);
        let records: Vec<Record> = (10..=12).map(|number| record(number, true)).collect();
        let (files, lost) = refill(&gap, 10_000, &[&records]);
        assert_eq!((files[0].0.after, files[0].0.last), (gap.range.after, at(12)));
        // 12.1 was promised, and the record with number 12 is none of several.
        assert_eq!(lost[0].range, Range { after: at(12), up_to: gap.range.up_to });
    }

    proptest! {
        #[test]
        fn files_and_losses_tile_the_gap_and_hold_what_the_stream_has(
            tables in prop::collection::vec(any::<bool>(), 2..60),
            ends in any::<[prop::sample::Index; 2]>(),
            trimmed in 0..40_usize,
            page in 1..9_usize,
            most in 1..9_usize,
        ) {
            let ours: Vec<u64> = (1..).zip(&tables).filter(|(_, is_ours)| **is_ours).map(|(number, _)| number).collect();
            prop_assume!(ours.len() > 2);
            let [first, next] = ends.map(|end| end.index(ours.len() - 1));
            let (first, next) = (first.min(next), first.max(next) + 1);
            let gap = gap(file(ours[first] - 1, ours[first]), file(ours[next], ours[next] + 1));
            let range = gap.range;
            let records: Vec<Record> =
                (1..).zip(&tables).skip(trimmed).map(|(number, is_ours)| record(number, *is_ours)).collect();
            // The stream begins with the record before the gap, if it still has it.
            let begin = (usize::try_from(ours[first]).unwrap() - 1).saturating_sub(trimmed).min(records.len());
            let pages: Vec<&[Record]> = records[begin..].chunks(page).collect();
            let (files, lost) = refill(&gap, most, &pages);

            let mut pieces: Vec<Range> =
                files.iter().map(|(file, _)| Range { after: file.after, up_to: file.last }).collect();
            pieces.extend(lost.iter().map(|lost| lost.range));
            pieces.sort_by_key(|piece| piece.after);
            prop_assert_eq!(pieces.first().map(|piece| piece.after), Some(range.after));
            prop_assert_eq!(pieces.last().map(|piece| piece.up_to), Some(range.up_to));
            prop_assert!(pieces.windows(2).all(|two| two[0].up_to == two[1].after), "{:?}", pieces);

            let left = |number: &&u64| usize::try_from(**number).unwrap() > trimmed;
            let expected: String = ours[first + 1..=next]
                .iter()
                .filter(left)
                .map(|number| format!("{{\"topic\":\"sample\",\"n\":{number}}}\n"))
                .collect();
            prop_assert_eq!(files.iter().map(|(_, lines)| lines.as_str()).collect::<String>(), expected);
            for (file, lines) in &files {
                prop_assert!(file.count == lines.lines().count() && file.count <= most);
            }
            prop_assert_eq!(lost.is_empty(), trimmed < usize::try_from(ours[first]).unwrap());
        }
    }
}
