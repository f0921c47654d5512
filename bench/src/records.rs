//! Records of a stream: the event that Lambda makes of them, and every way from it to the bytes of a file.

use std::{cell::Cell, collections::HashMap, fmt::Write, ops::Range};

use aws_lambda_events::kinesis::KinesisEvent;
use bytes::Bytes;
use kafka_roller::{
    app::App,
    config::Config,
    handler::{self, Tally},
};
use objects::{Attributes, Bucket, BucketError, Created, Head, Listed, Upload};
use rolling::{
    batch::Batch,
    event::Event,
    line::{self, TableOf},
    rules::TABLES,
    run::{Entry, Extent, Run as Lines},
    segment::NewSegment,
    shard::{STATE, ShardId, State, Stored},
};
use runtime::clock;
use shared::{
    layout::Segment,
    position::Position,
    quarantine::{base64, rfc3339},
};

use crate::{
    Error,
    floor::members,
    rounds::{Route, Run, Stopwatch},
};

/// Most records that Lambda hands over.
pub const RECORDS: usize = 10_000;
const ARRIVED_MS: usize = 1_795_183_906_123;
const STEP_MS: usize = 3;

/// A record of 63 bytes, whatever its number.
fn line(number: usize) -> String {
    let (offset, station, amount) = (10_000_000 + number, 100 + number % 131, 100 + number % 877);
    format!("{{\"topic\":\"riders\",\"offset\":{offset},\"station\":{station},\"amount\":{amount}}}")
}

/// A batch as Lambda writes it, from record `first` on.
#[must_use]
pub fn kinesis_event(first: usize, count: usize, line: impl Fn(usize) -> String) -> Vec<u8> {
    let mut records = String::new();
    for number in first..first + count {
        let separator = if number == first { "" } else { "," };
        let sequence = format!("49590338271490256608559692538361571095{number:018}");
        let (seconds, ms) = ((ARRIVED_MS + number * STEP_MS) / 1_000, (ARRIVED_MS + number * STEP_MS) % 1_000);
        // Writing to a String cannot fail.
        let _ = write!(
            records,
            r#"{separator}{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"riders","sequenceNumber":"{sequence}","data":"{}","approximateArrivalTimestamp":{seconds}.{ms:03}}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000006:{sequence}","eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::123456789012:role/roller","awsRegion":"eu-west-1","eventSourceARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/kafka"}}"#,
            base64(line(number).as_bytes())
        );
    }
    format!("{{\"Records\":[{records}]}}").into_bytes()
}

/// The maximum number of records that Lambda delivers in an event: 6.1 MB.
#[must_use]
pub fn full_event() -> Vec<u8> {
    kinesis_event(1, RECORDS, line)
}

fn batch(event: &[u8], lines: &line::Lines) -> Result<Batch, Error> {
    match Batch::of_event(event, lines)? {
        Event::Batch(Some(batch)) => Ok(batch),
        _ => Err("the event holds no records".into()),
    }
}

/// Event → the bytes of the file, as the handler does it.
#[derive(Debug)]
pub struct Landfall<'a> {
    event: &'a [u8],
    lines: line::Lines,
}

impl<'a> Landfall<'a> {
    /// `by_topic`: whether the records name their table.
    pub fn new(event: &'a [u8], by_topic: bool) -> Result<Self, Error> {
        let table_of = if by_topic {
            TableOf::Pointer("/topic".parse().map_err(|()| "no pointer")?)
        } else {
            TableOf::Fixed("riders".parse()?)
        };
        Ok(Self { event, lines: table_of.into() })
    }
}

impl Route for Landfall<'_> {
    fn name(&self) -> &str {
        match self.lines.table_of {
            TableOf::Fixed(_) => "Landfall",
            TableOf::Pointer(_) => "Landfall, table by /topic",
        }
    }

    fn run(&mut self) -> Result<Run, Error> {
        let event = self.event.to_vec();
        let watch = Stopwatch::start();
        let run = batch(&event, &self.lines)?.runs.into_values().next().ok_or("there is no table")?;
        let lines = run.lines(0..run.len());
        drop(run);
        Ok(watch.stop(lines.into()))
    }
}

/// Event → the same bytes, the usual way: the typed event, as `lambda_runtime` reads it.
#[derive(Debug)]
pub struct Typed<'a> {
    /// The event.
    pub event: &'a [u8],
}

impl Route for Typed<'_> {
    fn name(&self) -> &str {
        "typed event"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let event = self.event.to_vec();
        let mut watch = Stopwatch::start();
        let mut json = serde_json::Deserializer::from_slice(&event);
        let event: KinesisEvent = serde_path_to_error::deserialize(&mut json)?;
        watch.lap("event");
        let mut lines = Vec::new();
        for record in &event.records {
            lines.extend_from_slice(&record.kinesis.data);
            lines.push(b'\n');
        }
        watch.lap("lines");
        drop(event);
        Ok(watch.stop(lines))
    }
}

/// The lower bound: decodes the base64 data at positions that are known in advance, and adds line breaks.
#[derive(Debug)]
pub struct Floor<'a> {
    event: &'a [u8],
    data: Vec<Range<usize>>,
}

impl<'a> Floor<'a> {
    /// Finds the data beforehand.
    #[must_use]
    pub fn new(event: &'a [u8]) -> Self {
        Self { event, data: members(event, "data") }
    }
}

impl Route for Floor<'_> {
    fn name(&self) -> &str {
        "floor: base64 and copy"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let event = self.event.to_vec();
        let watch = Stopwatch::start();
        let mut lines = Vec::with_capacity(event.len());
        for data in &self.data {
            let data = event.get(data.clone()).unwrap_or_default();
            base64_simd::STANDARD.decode_append(data, &mut lines)?;
            lines.push(b'\n');
        }
        Ok(watch.stop(lines))
    }
}

/// A whole batch, staged with S3 answering at once: event → segment and state.
pub struct Batched {
    name: String,
    config: Config,
    event: Vec<u8>,
    bucket: Staged,
}

impl Batched {
    /// Records of so many topics, in a shard that has staged as many before. No file is due.
    pub fn new(topics: usize) -> Result<Self, Error> {
        let config = Config::from_lookup(|name| {
            Some(match name {
                "INCOMING_BUCKET" | "LAKE_BUCKET" => "bucket".to_owned(),
                "TABLE_POINTER" => "/topic".to_owned(),
                "ROLL_MAX_RECORDS" => "10000000".to_owned(),
                _ => return None,
            })
        })?;
        let of_topic = |number: usize| line(number).replace("riders", &format!("topic-{:04}", number % topics));
        let batch = batch(&kinesis_event(1, RECORDS, of_topic), &config.rules.lines)?;
        let mut state = State::new();
        let fresh = state.fresh(&batch)?;
        let segment = NewSegment::of(state.tail, fresh.last, &fresh.runs, &mut [])?;
        state.stage(&batch.shard.stream_arn, &fresh, &segment, |table| config.rules.of(table));
        Ok(Self {
            name: format!("{topics} topics"),
            event: kinesis_event(RECORDS + 1, RECORDS, of_topic),
            bucket: Staged::holding(batch.shard.id, state.to_bytes()?.into()),
            config,
        })
    }
}

impl Route for Batched {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self) -> Result<Run, Error> {
        let event = Bytes::from(self.event.clone());
        let app = App::over(self.config.clone(), &self.bucket, &self.bucket);
        let watch = Stopwatch::start();
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(handler::run(&app, event, None, &mut Tally::default()))?;
        Ok(watch.stop(Vec::new()))
    }
}

/// A bucket that holds a window staged in segments and discards uploads, so that only the roll's memory is measured.
struct Staged {
    id: ShardId,
    state: Bytes,
    /// The lines of every segment.
    lines: Bytes,
    /// What each segment says of its contents, by key.
    contents: HashMap<String, Bytes>,
    uploaded: Cell<u64>,
}

/// Bytes of a line in [`roll`].
const LONG_LINE: usize = 1_024;
/// Lines that fit into an event of 6 MB.
const SEGMENT_LINES: usize = 4_000;

/// Rolls a window of `mib` MiB, staged in segments as large as an event makes them. Gives back the bytes of the file.
pub fn roll(mib: usize) -> Result<u64, Error> {
    let segments = ((mib << 20) / (LONG_LINE * SEGMENT_LINES)).max(1);
    let bytes = segments * SEGMENT_LINES * LONG_LINE;
    let config = Config::from_lookup(|name| {
        Some(match name {
            "INCOMING_BUCKET" | "LAKE_BUCKET" => "bucket".to_owned(),
            "TABLE" => "riders".to_owned(),
            // It is closed by age.
            "ROLL_MAX_BYTES" => (bytes * 2).to_string(),
            "ROLL_MAX_RECORDS" => "10000000".to_owned(),
            _ => return None,
        })
    })?;
    let long = format!("\"{}\"", "x".repeat(LONG_LINE - 3));
    let event = kinesis_event(1, SEGMENT_LINES, |_| long.clone());
    let run = batch(&event, &config.rules.lines)?.runs.into_values().next().ok_or("there is no table")?;
    let (table, mut state): (Segment, _) = ("riders".parse()?, State::new());
    let id = ShardId { stream: "landfall-kafka".parse()?, shard: "shardId-000000000006".parse()? };
    let (mut contents, mut open) = (HashMap::new(), None::<Extent>);
    for number in 0..segments {
        let position = |index: usize| Position::of_sequence_number(&(number * SEGMENT_LINES + index + 1).to_string());
        let entries = run.entries(0..SEGMENT_LINES).iter().enumerate();
        let entries = entries.map(|(index, entry)| Ok(Entry { position: position(index)?, ..*entry }));
        let run = Lines::new(entries.collect::<Result<_, Error>>()?, run.lines(0..SEGMENT_LINES));
        let runs = [(table.clone(), run)].into();
        let segment = NewSegment::of(state.tail, position(SEGMENT_LINES - 1)?, &runs, &mut [])?;
        let extent = segment.contents.tables.get(&table).ok_or("there is no block")?.extent;
        open = open.into_iter().chain([extent]).reduce(Extent::and);
        state.tail = segment.name.last;
        let (name, at) = (segment.name.to_string(), segment.contents_at);
        let bytes = segment.body.slice(usize::try_from(at.start)?..);
        contents.insert(id.key(&name), Bytes::copy_from_slice(&bytes));
        state.segments.push(Stored {
            name,
            first: None,
            last: state.tail,
            contents: Some((at.start, at.end)),
            poison: false,
        });
    }
    state.tables.entry(table).or_default().open = open;
    let (state, lines) = (state.to_bytes()?.into(), run.lines(0..SEGMENT_LINES));
    let staged = Staged { lines, contents, ..Staged::holding(id, state) };
    drop((event, run));
    let app = App::over(config, &staged, &staged);
    let time = rfc3339(clock::unix_ms()).ok_or("there is no time")?;
    let tick = format!(r#"{{"detail-type":"Scheduled Event","source":"aws.events","time":"{time}","detail":{{}}}}"#);
    tokio::runtime::Builder::new_current_thread().build()?.block_on(handler::run(
        &app,
        tick.into(),
        None,
        &mut Tally::default(),
    ))?;
    Ok(staged.uploaded.get())
}

impl Staged {
    fn holding(id: ShardId, state: Bytes) -> Self {
        Self { id, state, lines: Bytes::new(), contents: HashMap::new(), uploaded: Cell::default() }
    }
}

impl Bucket for &Staged {
    fn name(&self) -> &str {
        "bucket"
    }

    async fn list_while(&self, _: &str, _: Option<&str>, _: impl Fn(&str) -> bool) -> Result<Vec<Listed>, BucketError> {
        let keys = self.contents.keys().cloned().chain([self.id.key(STATE)]);
        Ok(keys.map(|key| Listed { key, size: 0, modified_ms: None }).collect())
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        let rest = self.id.folder();
        let rest = rest.strip_prefix(prefix).unwrap_or_default();
        Ok(rest.split('/').next().map(str::to_owned).into_iter().collect())
    }

    async fn get(&self, key: &str, _: Option<u64>) -> Result<Bytes, BucketError> {
        if key == TABLES {
            return Err(BucketError::Missing { bucket: self.name().to_owned(), key: key.to_owned() });
        }
        self.get_tagged(key).await.map(|(body, _)| body)
    }

    async fn get_tagged(&self, _: &str) -> Result<(Bytes, String), BucketError> {
        Ok((self.state.clone(), String::new()))
    }

    async fn range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        let end = usize::try_from(range.end).unwrap_or(usize::MAX);
        // Every answer of S3 has memory of its own.
        match self.lines.get(usize::try_from(range.start).unwrap_or(usize::MAX)..end) {
            Some(lines) => Ok(Bytes::copy_from_slice(lines)),
            None => Ok(self.contents.get(key).cloned().unwrap_or_default()),
        }
    }

    async fn replace(&self, _: &str, _: Bytes, _: &Attributes, _: &str) -> Result<Created, BucketError> {
        Ok(Created::New { e_tag: String::new() })
    }

    async fn newest(&self, _: &str) -> Result<Option<Head>, BucketError> {
        Ok(None)
    }

    fn sibling(&self, _: &str) -> Self {
        self
    }

    async fn create(&self, _: &str, body: Bytes, _: &Attributes) -> Result<Created, BucketError> {
        self.uploaded.set(self.uploaded.get() + body.len() as u64);
        Ok(Created::New { e_tag: String::new() })
    }

    async fn head(&self, key: &str) -> Result<Head, BucketError> {
        Err(BucketError::Missing { bucket: "bucket".into(), key: key.into() })
    }

    async fn delete(&self, _: &[String]) -> Result<(), BucketError> {
        Ok(())
    }

    async fn begin(&self, key: &str, _: &Attributes) -> Result<Upload, BucketError> {
        Ok(Upload::new(key, "1"))
    }

    async fn part(&self, _: &mut Upload, body: Bytes) -> Result<(), BucketError> {
        self.uploaded.set(self.uploaded.get() + body.len() as u64);
        Ok(())
    }

    async fn complete(&self, _: &Upload) -> Result<Created, BucketError> {
        Ok(Created::New { e_tag: String::new() })
    }

    async fn abort(&self, _: &Upload) -> Result<(), BucketError> {
        Ok(())
    }
}
