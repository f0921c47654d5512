//! Our route and its parts: the handler of `parquet-writer` without the network.

use arrow::array::RecordBatch;
use aws_config::{BehaviorVersion, Region};
use parquet_writer::{
    app::{App, Clients},
    batch::Batch,
    config::Config,
    handler,
    parquet_file::{ParquetFile, Zstd},
};

use crate::{
    Error,
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
        batch.sort();
        watch.lap("sort");
        let mut file = Vec::new();
        for records in batch.records.chunk_by(|a, b| a.day == b.day) {
            file = handler::encode(self.app, &batch, records)?.bytes;
        }
        watch.lap("encode");
        drop(batch);
        Ok(watch.stop(file))
    }
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
        batch.sort();
        watch.lap("sort");
        let chunk = self.app.table.decode(&batch, &batch.records, usize::MAX, usize::MAX)?;
        watch.lap("columns");
        drop(chunk);
        drop(batch);
        watch.lap("free");
        Ok(watch.stop(Vec::new()))
    }
}

/// Columns that are there already → file. Nothing that writes such files can be faster.
#[derive(Debug)]
pub struct Encode {
    columns: RecordBatch,
    zstd: Zstd,
}

impl Encode {
    /// The columns of `event`.
    pub fn new(app: &App, event: &[u8]) -> Result<Self, Error> {
        let mut batch = Batch::of_event(event, &app.registry)?;
        batch.sort();
        let columns = app.table.decode(&batch, &batch.records, usize::MAX, usize::MAX)?.columns;
        Ok(Self { columns, zstd: Zstd::new(1)? })
    }
}

impl Route for Encode {
    fn name(&self) -> &str {
        "floor: ready columns → file"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let watch = Stopwatch::start();
        let mut file = ParquetFile::new(self.columns.schema())?;
        file.append(&self.columns, &mut self.zstd)?;
        Ok(watch.stop(file.finish(Vec::new())?))
    }
}
