//! Which bytes of which segments hold the records of a window.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
    rc::Rc,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use objects::{Bucket, BucketError};
use rolling::{
    earlier::{self, Item},
    run::{Extent, Run},
    segment::{self, Block, Contents, NewSegment},
    shard::{ShardId, State, Stored},
};
use shared::{layout::Segment, position::Position, quarantine::QuarantineRecord};

use crate::{app::App, error::RollError};

/// Number of segments that are read concurrently.
pub(crate) const CONCURRENT_READS: usize = 8;

/// Reads the segments of a shard.
pub(crate) struct Reader<'a, B> {
    app: &'a App<B>,
    id: &'a ShardId,
    /// The segment of this batch, which need not be read, and its name.
    new: Option<(String, &'a NewSegment)>,
    /// Where the tables that are looked up are in the segments that have been read.
    contents: RefCell<HashMap<String, Rc<Contents>>>,
    /// The segments that are gone.
    gone: RefCell<HashSet<String>>,
}

/// Records of a window, or where some are missing.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// Records of a block.
    Records(Box<Records>),
    /// A segment is gone, which ended with this record and had this name.
    Gone(Position, String),
}

/// Consecutive records of a block.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    /// Their block.
    pub(crate) block: Block,
    /// Summary of them.
    pub(crate) extent: Extent,
    /// The bytes of their lines in the segment.
    pub(crate) lines: Range<u64>,
    /// The segment.
    pub(crate) source: Source,
}

/// The name of a segment, and its place in the order of the state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    pub(crate) order: usize,
    pub(crate) name: String,
}

impl Piece {
    /// The records, if they are not gone.
    pub(crate) fn records(&self) -> Option<&Records> {
        match self {
            Self::Records(records) => Some(records),
            Self::Gone(..) => None,
        }
    }
}

impl<'a, B: Bucket> Reader<'a, B> {
    pub(crate) fn new(app: &'a App<B>, id: &'a ShardId, new: Option<&'a NewSegment>) -> Self {
        let new = new.map(|new| (new.name.to_string(), new));
        Self { app, id, new, contents: RefCell::default(), gone: RefCell::default() }
    }

    /// The records of a table after `after`, up to and including `last`, in order.
    pub(crate) async fn pieces(
        &self,
        state: &State,
        table: &Segment,
        after: Position,
        last: Option<Position>,
    ) -> Result<Vec<Piece>, RollError> {
        let (mut pieces, mut end) = (Vec::new(), after);
        for (order, stored) in state.segments.iter().enumerate().filter(|(_, stored)| stored.may_hold(table, after)) {
            if last.is_some_and(|last| end >= last) {
                break;
            }
            let source = Source { order, name: stored.name.clone() };
            let block = match self.block(stored, table).await {
                Ok(Some(block)) if block.extent.last > end => block,
                Ok(_) => continue,
                Err(RollError::Gone(_)) => {
                    pieces.push(Piece::Gone(stored.last, stored.name.clone()));
                    continue;
                }
                Err(cause) => return Err(cause),
            };
            let last = last.unwrap_or(block.extent.last).min(block.extent.last);
            if block.extent.first > last {
                break;
            }
            if block.extent.first > end && block.extent.last == last {
                let lines = block.lines();
                pieces.push(Piece::Records(Box::new(Records { block, extent: block.extent, lines, source })));
            } else {
                let run = match self.index(&block, &stored.name).await {
                    Ok(run) => run,
                    Err(RollError::Gone(name)) => {
                        pieces.push(Piece::Gone(stored.last, name));
                        continue;
                    }
                    Err(cause) => return Err(cause),
                };
                let range = run.up_to(end)..run.up_to(last);
                let Some(extent) = run.extent(range.clone()) else { continue };
                let at = |index| block.start + run.offset(index);
                let lines = at(range.start)..at(range.end);
                pieces.push(Piece::Records(Box::new(Records { block, extent, lines, source })));
            }
            end = last;
        }
        Ok(pieces)
    }

    /// Reads where these tables are in all segments that may hold their records, several at a time. What was looked up before is
    /// forgotten: the contents of an hour's segments with a thousand tables would not fit into memory.
    pub(crate) async fn look_up<'s>(
        &self,
        state: &'s State,
        tables: &BTreeSet<&Segment>,
        wanted: impl Fn(&'s Stored) -> bool,
    ) -> Result<(), RollError> {
        self.contents.borrow_mut().clear();
        let wanted = state.segments.iter().filter(|stored| wanted(stored));
        let read = stream::iter(wanted).map(async |stored| match self.contents(stored).await {
            Err(RollError::Gone(_)) => Ok(()),
            Err(cause) => Err(cause),
            Ok(contents) => {
                let mut contents = Rc::unwrap_or_clone(contents);
                contents.tables.retain(|table, _| tables.contains(table));
                self.contents.borrow_mut().insert(stored.name.clone(), Rc::new(contents));
                Ok(())
            }
        });
        read.buffer_unordered(CONCURRENT_READS).try_collect().await
    }

    /// Where the records of a table are in a segment.
    async fn block(&self, stored: &Stored, table: &Segment) -> Result<Option<Block>, RollError> {
        if self.gone.borrow().contains(&stored.name) {
            return Err(RollError::Gone(stored.name.clone()));
        }
        if stored.table().is_some() {
            return match earlier::parse(&stored.name) {
                Some((_, Item::Segment(staged))) => Ok(Some(staged.block())),
                _ => Err(RollError::Gone(stored.name.clone())),
            };
        }
        Ok(self.contents(stored).await?.tables.get(table).copied())
    }

    async fn contents(&self, stored: &Stored) -> Result<Rc<Contents>, RollError> {
        if let Some(known) = self.contents.borrow().get(&stored.name) {
            return Ok(known.clone());
        }
        let contents = match (&self.new, stored.contents) {
            (Some((name, new)), _) if *name == stored.name => new.contents.clone(),
            (_, None) => Contents::default(),
            (_, Some((start, end))) => {
                let bytes = self.bytes(&stored.name, start..end).await?;
                Contents::of_bytes(&bytes)
                    .map_err(|error| RollError::Segment(stored.name.clone(), error.to_string()))?
            }
        };
        Ok(Rc::new(contents))
    }

    /// The index of a block, without its lines.
    pub(crate) async fn index(&self, block: &Block, name: &str) -> Result<Run, RollError> {
        Ok(Run::of_index(&self.bytes(name, block.index()).await?, Bytes::new())?)
    }

    /// The segments that are gone, although a state names them.
    pub(crate) fn gone(&self, state: &State) -> Vec<String> {
        let (gone, names) = (self.gone.borrow(), state.names());
        gone.iter().filter(|name| names.contains(name.as_str())).cloned().collect()
    }

    /// Some bytes of a segment.
    pub(crate) async fn bytes(&self, name: &str, range: Range<u64>) -> Result<Bytes, RollError> {
        if let Some((_, new)) = self.new.as_ref().filter(|(new, _)| new == name) {
            let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(new.body.len());
            return Ok(new.body.slice(at(range.start)..at(range.end)));
        }
        match self.app.lake.range(&self.id.key(name), range).await {
            Err(BucketError::Missing { .. }) => {
                self.gone.borrow_mut().insert(name.to_owned());
                Err(RollError::Gone(name.to_owned()))
            }
            read => Ok(read?),
        }
    }

    /// Reads ranges of a segment that are in order. Those with little between them are read at once.
    pub(crate) async fn ranges<T: Clone>(
        &self,
        name: &str,
        ranges: &[(T, Range<u64>)],
    ) -> Result<Vec<(T, Bytes)>, RollError> {
        let mut found = Vec::new();
        for parts in ranges.chunk_by(|(_, before), (_, next)| next.start <= before.end + SKIPPED) {
            let start = parts.first().map_or(0, |(_, range)| range.start);
            let end = parts.iter().map(|(_, range)| range.end).max().unwrap_or(start);
            let read = start..end;
            let bytes = self.bytes(name, read.clone()).await?;
            for (of, range) in parts {
                let at = |at: u64| usize::try_from(at - read.start).unwrap_or(usize::MAX).min(bytes.len());
                let slice = bytes.slice(at(range.start)..at(range.end));
                if slice.len() as u64 != range.end - range.start {
                    let short = format!("it has {} of {} bytes", slice.len(), range.end - range.start);
                    return Err(RollError::Segment(name.to_owned(), short));
                }
                found.push((of.clone(), slice));
            }
        }
        Ok(found)
    }

    /// The records of a segment that can never be used.
    pub(crate) async fn poison(&self, stored: &Stored) -> Result<Vec<QuarantineRecord>, RollError> {
        let contents = self.contents(stored).await?;
        let lines = self.bytes(&stored.name, contents.poison.clone()).await?;
        segment::poison(&lines).map_err(|error| RollError::Segment(stored.name.clone(), error.to_string()))
    }
}

/// Bytes between two ranges that are read rather than asked for twice.
const SKIPPED: u64 = 64 << 10;

/// The ranges of many files, by segment.
pub(crate) fn by_segment(files: &[Vec<Piece>]) -> BTreeMap<Source, Vec<(usize, Range<u64>)>> {
    let mut ranges: BTreeMap<Source, Vec<(usize, Range<u64>)>> = BTreeMap::new();
    for (number, pieces) in files.iter().enumerate() {
        for Records { source, lines, .. } in pieces.iter().filter_map(Piece::records) {
            ranges.entry(source.clone()).or_default().push((number, lines.clone()));
        }
    }
    ranges.values_mut().for_each(|ranges| ranges.sort_by_key(|(_, range)| range.start));
    ranges
}
