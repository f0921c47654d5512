//! The search for an event in the files of the lake.

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    datatypes::TimestampMicrosecondType,
};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use objects::{Bucket, S3};
use parquet::{arrow::ProjectionMask, schema::types::SchemaDescriptor};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::{event::ENVELOPE, layout::EventsKey};

use super::Row;
use crate::{
    console::Console,
    lake::{self, ReadError, Rows},
    replay::plan::Selection,
};

const CONCURRENT_FILES: usize = 8;
/// The columns of the envelope that are read, besides one of each event type.
const COLUMNS: [&str; 5] = ["event_id", "message_id", "source", "type", "sent_at"];

/// The members of a line that are read.
#[derive(Deserialize)]
struct Line {
    event_id: String,
    message_id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    type_name: Option<String>,
    sent_at: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The rows of the event, how many files were searched, and which could not be.
pub(super) async fn rows(
    lake: &S3,
    id: &str,
    selection: &Selection,
    console: &Console,
) -> Result<((Vec<Row>, usize), Vec<String>), String> {
    let files = lake::list(lake, selection).await.map_err(|error| error.to_string())?;
    let progress = console.progress("Searching", "files", Some(files.len()));
    let searches = files.iter().map(|(key, size)| async move { (key, search(lake, key, *size, id).await) });
    let mut searches = stream::iter(searches).buffered(CONCURRENT_FILES);
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    while let Some((key, found)) = searches.next().await {
        progress.add(1);
        match found {
            Ok(found) => rows.extend(found),
            Err(error) => problems.push(format!("s3://{}/{key}: {error}", lake.name())),
        }
    }
    Ok(((rows, files.len()), problems))
}

/// The rows of a file of `size` bytes that are the event `id`.
async fn search(lake: &S3, key: &EventsKey, size: u64, id: &str) -> Result<Vec<Row>, ReadError> {
    let mut search = Search { id, file: format!("s3://{}/{key}", lake.name()), rows: Vec::new(), broken: None };
    lake::read(lake, key, size, &mut search).await?;
    // What was found counts more than what could not be read.
    match search.broken {
        Some(broken) if search.rows.is_empty() => Err(broken),
        _ => Ok(search.rows),
    }
}

struct Search<'a> {
    id: &'a str,
    file: String,
    rows: Vec<Row>,
    /// The first line that may be the event and is no row.
    broken: Option<ReadError>,
}

impl Rows for Search<'_> {
    fn columns(&self, schema: &SchemaDescriptor) -> ProjectionMask {
        // The first column of an event type tells whether a row is of the type.
        let mut before = None;
        let leaves = (0..schema.num_columns()).filter(|leaf| {
            let root = schema.get_column_root(*leaf).name();
            let is_first = before.replace(root) != Some(root);
            COLUMNS.contains(&root) || (is_of_type(root) && is_first)
        });
        ProjectionMask::leaves(schema, leaves.collect::<Vec<_>>())
    }

    fn batch(&mut self, rows: &RecordBatch, first: usize) -> Result<(), ReadError> {
        let text = |name: &'static str| {
            let column = rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            column.ok_or(ReadError::Column(name))
        };
        let [ids, source, type_name] = [text("event_id")?, text("source")?, text("type")?];
        // Files of early versions have no message ids.
        let message_ids = text("message_id").ok();
        let sent_at =
            rows.column_by_name("sent_at").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let sent_at = sent_at.ok_or(ReadError::Column("sent_at"))?;
        let schema = rows.schema();
        let of_types = schema.fields().iter().zip(rows.columns()).filter(|(field, _)| is_of_type(field.name()));
        let of_types: Vec<_> = of_types.map(|(_, column)| column).collect();
        let is_event = |ids: &StringArray, row: usize| ids.is_valid(row) && ids.value(row) == self.id;
        let of_event = (0..rows.num_rows())
            .filter(|row| is_event(ids, *row) || message_ids.is_some_and(|ids| is_event(ids, *row)));
        let found = of_event.map(|row| Row {
            file: self.file.clone(),
            row: first + row,
            type_name: type_name.is_valid(row).then(|| type_name.value(row).to_owned()),
            source: source.is_valid(row).then(|| source.value(row).to_owned()),
            sent_at: sent_at.is_valid(row).then(|| sent_at.value(row)).and_then(instant),
            payload_only: of_types.iter().all(|column| column.is_null(row)),
        });
        let found: Vec<Row> = found.collect();
        self.rows.extend(found);
        Ok(())
    }

    fn line(&mut self, line: &[u8], row: usize) {
        // Most lines are not the event, and need no parser. JSON escapes some characters.
        let is_escaped = |character: char| matches!(character, '"' | '\\') || character.is_control();
        let id = self.id.split(is_escaped).next().unwrap_or_default();
        if !id.is_empty() && !line.windows(id.len()).any(|window| window == id.as_bytes()) {
            return;
        }
        match serde_json::from_slice::<Line>(line) {
            Ok(line) if line.event_id == self.id || line.message_id.as_deref() == Some(self.id) => {
                let (type_name, source, sent_at) = (line.type_name, line.source, line.sent_at);
                let payload_only = !line.others.keys().any(|name| is_of_type(name));
                self.rows.push(Row { file: self.file.clone(), row, type_name, source, sent_at, payload_only });
            }
            Ok(_) => {}
            Err(cause) => drop(self.broken.get_or_insert(ReadError::Line { line: row + 1, cause })),
        }
    }
}

/// Whether a column is that of an event type.
fn is_of_type(column: &str) -> bool {
    !ENVELOPE.contains(&column)
}

fn instant(micros: i64) -> Option<String> {
    Some(Timestamp::from_microsecond(micros).ok()?.to_string())
}
