//! Our route and its parts: the handler of `parquet-writer` without the network.

use arrow::array::RecordBatch;
use aws_config::{BehaviorVersion, Region};
use columns::{ParquetFile, Zstd};
use landing::{
    batch::Batch,
    envelope::{Attributes, Message},
    table::LAYOUT,
};
use parquet_writer::{
    app::{App, Clients},
    config::Config,
    handler,
};

use crate::{
    Error,
    events::received,
    rounds::{Route, Run, Stopwatch},
};

/// The function as it is configured by default, with clients that are never asked.
pub fn app() -> Result<App, Error> {
    let config = Config::from_lookup(|name| match name {
        "LAKE_BUCKET" => Some("lake".to_owned()),
        "NOTIFY" => Some("s3".to_owned()),
        _ => None,
    })?;
    let aws = aws_config::defaults(BehaviorVersion::latest()).region(Region::from_static("eu-west-1")).no_credentials();
    let clients = Clients::of(&tokio::runtime::Builder::new_current_thread().build()?.block_on(aws.load()));
    Ok(App::new(config, clients)?)
}

/// Event → file, as the handler does it.
#[derive(Debug)]
pub struct Whole<'a> {
    /// The function.
    pub app: &'a App,
    /// The SQS event.
    pub event: &'a [u8],
}

impl Route for Whole<'_> {
    fn name(&self) -> &str {
        "Landfall"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let mut watch = Stopwatch::start();
        let mut batch = Batch::of_event(self.event, &self.app.registry)?;
        watch.lap("read");
        batch.sort(false);
        watch.lap("sort");
        let mut file = Vec::new();
        for records in batch.files(false) {
            file = handler::encode(self.app, &batch, records)?.bytes;
        }
        watch.lap("encode");
        drop(batch);
        Ok(watch.stop(file))
    }
}

/// Receives messages until they hold so many bytes of payload, and encodes them. Gives back how many there were and the
/// memory, in bytes, that a drain counts for them.
///
/// As in the function, the id and receipt handle of each are kept until the file is durable.
pub fn drain(app: &App, payload_bytes: usize, seed: u64) -> Result<(usize, usize), Error> {
    let mut batch = Batch::default();
    let mut to_delete = Vec::new();
    for received in received(seed) {
        if batch.payload_bytes() >= payload_bytes {
            break;
        }
        let sent_timestamp = received.sent_ms.to_string();
        let attributes = Attributes {
            source: Some(received.source.into()),
            type_name: Some(received.type_name.into()),
            event_id: Some(received.event_id.into()),
            all: None,
        };
        let message = Message {
            message_id: (&*received.message_id).into(),
            sent_timestamp: Some((&*sent_timestamp).into()),
            body: received.body.into_bytes().into(),
            attributes,
        };
        batch.push(&message, &app.registry);
        to_delete.push((received.message_id, received.receipt_handle));
    }
    let counted = batch.memory_bytes();
    batch.sort(false);
    for records in batch.files(false) {
        let file = handler::encode(app, &batch, records)?;
        if file.rows.len() != to_delete.len() {
            return Err(format!("{} rows of {} messages", file.rows.len(), to_delete.len()).into());
        }
    }
    Ok((to_delete.len(), counted))
}

/// Event → columns.
#[derive(Debug)]
pub struct Decode<'a> {
    /// The function.
    pub app: &'a App,
    /// The SQS event.
    pub event: &'a [u8],
}

impl Route for Decode<'_> {
    fn name(&self) -> &str {
        "  of which event → columns"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let mut watch = Stopwatch::start();
        let mut batch = Batch::of_event(self.event, &self.app.registry)?;
        watch.lap("read");
        batch.sort(false);
        watch.lap("sort");
        let chunk = self.app.tables.of(None).0.decode(&batch, &batch.records, usize::MAX, usize::MAX)?;
        watch.lap("columns");
        drop(chunk);
        drop(batch);
        watch.lap("free");
        Ok(watch.stop(Vec::new()))
    }
}

/// Columns that are there already → file.
#[derive(Debug)]
pub struct Encode {
    columns: RecordBatch,
    zstd: Zstd,
}

impl Encode {
    /// The columns of `event`.
    pub fn new(app: &App, event: &[u8]) -> Result<Self, Error> {
        let mut batch = Batch::of_event(event, &app.registry)?;
        batch.sort(false);
        let columns = app.tables.of(None).0.decode(&batch, &batch.records, usize::MAX, usize::MAX)?.columns;
        Ok(Self { columns, zstd: Zstd::new(1)? })
    }
}

impl Route for Encode {
    fn name(&self) -> &str {
        "  of which columns → file"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let watch = Stopwatch::start();
        let mut file = ParquetFile::new(self.columns.schema(), LAYOUT)?;
        file.append(&self.columns, &mut self.zstd)?;
        Ok(watch.stop(file.finish(Vec::new())?))
    }
}
