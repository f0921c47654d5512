//! Why a shard or a window could not be brought up to date. A later invocation tries again.

use objects::BucketError;
use rolling::{
    discarded::DiscardedError,
    event::EventError,
    replay::NotLanded,
    rules::TableRulesError,
    run::IndexError,
    shard::{Refused, StateError},
};
use shared::{position::Position, rolled::RolledError};

/// Why something could not be staged or rolled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RollError {
    /// A call of S3 failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The state of a shard cannot be read.
    #[error("{0} cannot be used: {1}")]
    State(String, StateError),
    /// The state of a shard is gone, but segments are there that it named.
    #[error(
        "{0} is gone, but its segments are still there: which of their records are in files is not known; README.md says what to do"
    )]
    NoState(String),
    /// An earlier version has staged records after the shard was taken over.
    #[error("{0} was staged by an earlier version after this one had taken over its shard; README.md says what to do")]
    Late(String),
    /// The shards of a stream could not be listed.
    #[error("the shards of {0} could not be listed: {1}")]
    Shards(String, String),
    /// The rules of tables are damaged, of one table or of all.
    #[error(transparent)]
    Rules(TableRulesError),
    /// The records are not of the stream that is staged.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The contents of a segment are damaged.
    #[error("the segment {0} is damaged: {1}")]
    Segment(String, String),
    /// The index of a block is damaged.
    #[error("the index of a block is damaged: {0}")]
    Index(#[from] IndexError),
    /// The segments hold another number of records than the state says.
    #[error("the segments hold {found} records of the file that begins with {first:?}, and not {count}")]
    Count {
        /// The file's first record.
        first: Position,
        /// How many it has to have.
        count: usize,
        /// How many there are.
        found: usize,
    },
    /// A segment is not there. If the state still names it, it is lost.
    #[error("the segment {0} is gone")]
    Gone(String),
    /// The key of a file exists, and the metadata of the object do not say which records it holds.
    #[error("{0} exists, but its metadata do not say which records it holds: {1}")]
    Unknown(String, RolledError),
    /// A file that begins with a record that was landed out of band holds others besides it.
    #[error("a file that begins with the record {0:?} exists, and holds others than those that Lambda had given up")]
    OtherFile(Position),
    /// Records that can never be used could not be written to the quarantine.
    #[error("records of the segment {0} could not be quarantined")]
    Quarantine(String),
    /// A file could not be compressed.
    #[error("the file could not be compressed: {0}")]
    Gzip(String),
    /// Lambda would have stopped the invocation.
    #[error("there was no time left to write all files; a later invocation goes on")]
    Time,
    /// Other invocations kept changing the state.
    #[error("other invocations changed the state of the shard again and again")]
    Busy,
}

/// Why what Lambda has given up is not landed. Nothing was landed out of band.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The key is none of Lambda's.
    #[error("{0:?} is not an object that Lambda has written: they are in aws/lambda/")]
    Elsewhere(String),
    /// The object is not what Lambda writes.
    #[error(transparent)]
    Discarded(#[from] DiscardedError),
    /// Its records cannot be read.
    #[error(transparent)]
    Event(#[from] EventError),
    /// There are no records in it.
    #[error("there are no records in it")]
    Empty,
    /// It is not known, or not yet, which records were staged.
    #[error(transparent)]
    NotLanded(#[from] NotLanded),
    /// S3 failed, or other invocations were faster.
    #[error(transparent)]
    Roll(#[from] RollError),
}
