//! Records that can never be used, kept with their bytes and the reason.

use aws_sdk_s3::Client;
use bytes::Bytes;
use shared::{
    layout::{ContentId, Day, LayoutError, QuarantineKey},
    quarantine::{QuarantineRecord, to_ndjson},
};
use tracing::warn;

use crate::store::{self, Object, StoreError};

/// Why records were not kept. Every cause is a dependency that may recover.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The object could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no object to store.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// Why records cannot be an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The records give the object no valid name.
    #[error(transparent)]
    Name(#[from] LayoutError),
    /// The records could not be written as JSON.
    #[error("the quarantine records could not be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// The key and the bytes of the object that [`keep`] writes.
pub fn object(
    function: &str,
    day: Day,
    first_ms: i64,
    content_id: ContentId,
    records: &mut [QuarantineRecord],
) -> Result<(String, Bytes), ObjectError> {
    let key = QuarantineKey { function: function.parse()?, day, name: content_id.name(first_ms)? };
    Ok((key.to_string(), to_ndjson(records)?.into()))
}

/// Keeps the records of one function and day as one object, which the same records always find again: it is named by
/// `first_ms`, milliseconds since 1970-01-01T00:00:00Z, and `content_id`.
pub async fn keep(
    client: &Client,
    bucket: &str,
    function: &str,
    day: Day,
    first_ms: i64,
    content_id: ContentId,
    mut records: Vec<QuarantineRecord>,
) -> Result<(), QuarantineError> {
    let count = records.len();
    let (key, body) = object(function, day, first_ms, content_id, &mut records)?;
    let object = Object { key: &key, body, content_type: "application/x-ndjson", content_id, records: count };
    store::put_once(client, bucket, object).await?;
    warn!(file.key = %key, records = count, "records quarantined");
    Ok(())
}
