//! What a good team writes in Rust today: typed event, prost messages, Arrow builders, `ArrowWriter`.

use aws_lambda_events::sqs::SqsEvent;

use crate::{
    Error,
    rounds::{Route, Run, Stopwatch},
};

// The function that is started for the cold start is made of the same code.
#[path = "../peers/idiomatic/src/encode.rs"]
mod encode;

/// Event → file, the usual way.
#[derive(Debug)]
pub struct Idiomatic<'a> {
    /// The SQS event.
    pub event: &'a [u8],
}

impl Route for Idiomatic<'_> {
    fn name(&self) -> &str {
        "idiomatic Rust"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let mut watch = Stopwatch::start();
        // As lambda_runtime reads the payload type of a handler.
        let event: SqsEvent = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(self.event))?;
        watch.lap("json");
        let messages = encode::messages(&event)?;
        watch.lap("protobuf");
        let columns = encode::columns(&messages)?;
        watch.lap("columns");
        let file = encode::parquet(&columns)?;
        watch.lap("parquet");
        drop((messages, columns));
        drop(event);
        watch.lap("free");
        Ok(watch.stop(file))
    }
}
