//! What a call of the running function costs beside a call of one that does nothing, on one Runtime API.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    Error,
    aws::Aws,
    function::{Function, build},
    hits,
    process::Process,
    progress::Progress,
    rounds::{Route, Run, Stopwatch, Timed, take_turns},
    runtime_api::RuntimeApi,
};

/// Calls a turn.
const CALLS: u32 = 100;
const ROUNDS: u32 = 31;

/// A function that runs, and the event that it is given.
struct Warm {
    name: &'static str,
    api: RuntimeApi,
    process: Process,
    event: Arc<[u8]>,
    check: fn(&[u8]) -> Result<(), Error>,
}

impl Route for Warm {
    fn name(&self) -> &str {
        self.name
    }

    /// The time is from handing an event out to having its answer, as Lambda bills it.
    fn run(&mut self) -> Result<Run, Error> {
        let mut calls = Duration::ZERO;
        let mut watch = Stopwatch::start();
        for _ in 0..CALLS {
            let waiting = self.api.next(&mut self.process.0)?;
            let answered = self.api.invoke(&mut self.process.0, &waiting, self.event.clone())?;
            (self.check)(&answered.body)?;
            calls += answered.time;
        }
        watch.lap("with /next");
        Ok(Run { total: calls, ..watch.stop(Vec::new()) }.of_each(CALLS))
    }
}

/// Measures warm invocations of an empty handler, and of collect: a hit that is stored, the same hit sent to
/// `/debug/collect`, and `/health`.
pub fn collect(folder: &Path, aws: &Aws) -> Result<[Timed; 4], Error> {
    let empty = build(&["--package", "lambda", "--example", "empty"])?;
    let collect = build(&["--package", "collect"])?;
    let hit = hits::event(hits::FORM)?;
    let start = |name, program: &Path, event: &[u8], check| -> Result<Box<dyn Route>, Error> {
        let api = RuntimeApi::start()?;
        let function = Function::new(name, program.to_owned(), &[("STREAM_NAME", "clicks")])?;
        let process = function.start(&api, aws, &folder.join("warm.log"))?;
        Ok(Box::new(Warm { name, api, process, event: event.into(), check }))
    };
    let mut routes = [
        start("empty handler", &empty, &hit, |_| Ok(()))?,
        start("collect, POST /collect", &collect, &hit, hits::is_stored)?,
        start("collect, POST /debug/collect", &collect, &hits::event(hits::DEBUG)?, hits::is_explained)?,
        start("collect, GET /health", &collect, hits::HEALTH, hits::is_healthy)?,
    ];
    let mut progress = Progress::start("warm calls", ROUNDS);
    drop(aws.take());
    let timed = take_turns(&mut routes, ROUNDS, 1, &mut progress)?;
    if aws.take().records.len() != (CALLS * (ROUNDS + 1)) as usize {
        return Err("not every hit is in the stream once".into());
    }
    timed.try_into().map_err(|_| "a route is missing".into())
}
