//! The records of one file → its bytes.

use columns::Zstd;
use shared::{
    layout::{ContentId, EventsFormat},
    quarantine::rfc3339,
};

use crate::{
    batch::{Batch, Record},
    error::RecordError,
    file::{EncodeError, EventsFile},
    table::Table,
};

/// How files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRules {
    pub format: EventsFormat,
    /// Maximum number of rows in a row group.
    pub row_group_rows: usize,
    /// The memory of a row group's columns.
    pub row_group_bytes: usize,
}

/// An encoded file that has not been stored yet.
#[derive(Debug)]
pub struct Encoded<'a> {
    pub bytes: Vec<u8>,
    /// The records of the file in order.
    pub rows: Vec<&'a Record>,
    /// The records whose payload is not a message of their type.
    pub refused: Vec<(&'a Record, RecordError)>,
    /// The identity of the file's messages.
    pub content_id: ContentId,
    /// Number of rows with their payload in `_raw`.
    pub raw_kept: usize,
    /// The sum of what [`check_of`] says of each payload, in whatever order the rows are.
    pub payload_check: u128,
}

/// The first seven bytes of the SHA-256 hash of a payload, as a number.
#[must_use]
pub fn check_of(sha256: &[u8]) -> u128 {
    sha256.iter().take(7).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Encodes the sorted records of one file. The same records always give the same bytes.
pub fn encode<'a>(
    table: &Table,
    rules: &FileRules,
    zstd: &mut Zstd,
    batch: &Batch,
    records: &'a [Record],
) -> Result<Encoded<'a>, EncodeError> {
    let mut file = EventsFile::new(rules.format, table.schema())?;
    let (mut rows, mut refused, mut raw_kept, mut payload_check, mut rest) = (Vec::new(), Vec::new(), 0, 0, records);
    while !rest.is_empty() {
        let chunk = table.decode(batch, rest, rules.row_group_rows, rules.row_group_bytes)?;
        file.append(&chunk.columns, zstd)?;
        rest = rest.get(chunk.read..).unwrap_or_default();
        raw_kept += chunk.raw_kept;
        payload_check += chunk.hashes().map(check_of).sum::<u128>();
        if rows.is_empty() {
            rows = chunk.rows;
        } else {
            rows.extend(chunk.rows);
        }
        refused.extend(chunk.refused);
    }
    let content_id = ContentId::in_order(rows.iter().map(|record| batch.message_id(record)));
    let time = |record: Option<&&Record>| record.and_then(|record| rfc3339(record.sent_at_ms())).unwrap_or_default();
    let bytes = file.finish(vec![
        ("landfall.rows", rows.len().to_string()),
        ("landfall.min_sent_at", time(rows.first())),
        ("landfall.max_sent_at", time(rows.last())),
        ("landfall.content_id", content_id.to_string()),
        ("landfall.schema_fingerprint", table.fingerprint().to_owned()),
        ("landfall.version", env!("CARGO_PKG_VERSION").to_owned()),
    ])?;
    Ok(Encoded { bytes, rows, refused, content_id, raw_kept, payload_check })
}
