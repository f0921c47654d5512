//! A lower bound for event → file that no change of ours moves: what has to be done with the bytes, whatever the file looks like.

use std::{hint::black_box, ops::Range};

use sha2::{Digest, Sha256};
use shared::layout::ContentId;

use crate::{
    Error,
    rounds::{Route, Run, Stopwatch},
};

/// One pass over the event, base64 and SHA-256 of every payload, the identity of the file, and zstd over ids and payloads.
pub struct Floor<'a> {
    event: &'a [u8],
    ids: Vec<&'a str>,
    bodies: Vec<Range<usize>>,
    zstd: zstd::bulk::Compressor<'static>,
}

impl<'a> Floor<'a> {
    /// Finds the bodies and the ids beforehand.
    pub fn new(event: &'a [u8]) -> Result<Self, Error> {
        let id = |id: Range<usize>| Ok(std::str::from_utf8(event.get(id).unwrap_or_default())?);
        Ok(Self {
            event,
            ids: members(event, "messageId").into_iter().map(id).collect::<Result<_, Error>>()?,
            bodies: members(event, "body"),
            zstd: zstd::bulk::Compressor::new(1)?,
        })
    }
}

impl Route for Floor<'_> {
    fn name(&self) -> &str {
        "floor: base64, SHA-256, zstd"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let watch = Stopwatch::start();
        black_box(self.event.iter().filter(|byte| **byte == b'"').count());
        let mut columns = Vec::with_capacity(self.event.len());
        for body in &self.bodies {
            let start = columns.len();
            base64_simd::STANDARD.decode_append(self.event.get(body.clone()).unwrap_or_default(), &mut columns)?;
            black_box(Sha256::digest(columns.get(start..).unwrap_or_default()));
        }
        black_box(ContentId::in_order(self.ids.iter().copied()));
        self.ids.iter().for_each(|id| columns.extend_from_slice(id.as_bytes()));
        black_box(self.zstd.compress(&columns)?);
        Ok(watch.stop(Vec::new()))
    }
}

/// Where the texts of the members called `name` are. They contain no escapes.
#[must_use]
pub fn members(event: &[u8], name: &str) -> Vec<Range<usize>> {
    let mark = format!("\"{name}\":\"");
    let (mut texts, mut at) = (Vec::new(), 0);
    let find = |rest: &[u8]| rest.windows(mark.len()).position(|part| part == mark.as_bytes());
    while let Some(found) = event.get(at..).and_then(find) {
        let start = at + found + mark.len();
        let end = event.get(start..).and_then(|rest| rest.iter().position(|byte| *byte == b'"')).unwrap_or_default();
        texts.push(start..start + end);
        at = start + end;
    }
    texts
}
