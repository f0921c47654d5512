//! S3: listing, reading, writing once, deleting.

use aws_sdk_s3::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use bytes::Bytes;
use shared::layout::{CONTENT_ID_METADATA, ContentId, RECORDS_METADATA};

use crate::failure::{cause, code};

/// Why something could not be done in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// There is no such bucket.
    #[error("bucket {0} does not exist")]
    Missing(String),
    /// The objects cannot be listed.
    #[error("bucket {bucket} cannot be read: {cause}")]
    List {
        /// The bucket.
        bucket: String,
        /// S3's answer.
        cause: String,
    },
    /// One object could not be read, written or deleted.
    #[error("s3://{bucket}/{key} could not be {verb}: {cause}")]
    Object {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
        /// What was tried.
        verb: &'static str,
        /// S3's answer.
        cause: String,
    },
    /// The key is taken by something else.
    #[error("s3://{bucket}/{key} exists and holds other records; it was not overwritten")]
    Conflict {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
}

/// An object, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: usize,
}

/// All objects under `prefix` after `start_after`, in order, until `wanted` says no for the first time.
pub async fn list(
    client: &Client,
    bucket: &str,
    prefix: &str,
    start_after: Option<String>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Listed>, BucketError> {
    let request = client.list_objects_v2().bucket(bucket).prefix(prefix).set_start_after(start_after);
    let mut pages = request.into_paginator().send();
    let mut listed = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| match code(&error) {
            Some("NoSuchBucket") => BucketError::Missing(bucket.to_owned()),
            _ => BucketError::List { bucket: bucket.to_owned(), cause: cause(&error) },
        })?;
        for object in page.contents.unwrap_or_default() {
            let Some(key) = object.key else { continue };
            if !wanted(&key) {
                return Ok(listed);
            }
            let bytes = object.size.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
            listed.push(Listed { key, bytes });
        }
    }
    Ok(listed)
}

/// The object's bytes; `None` when it is gone.
pub async fn read(client: &Client, bucket: &str, key: &str) -> Result<Option<Bytes>, BucketError> {
    let failed = |cause| BucketError::Object { bucket: bucket.to_owned(), key: key.to_owned(), verb: "read", cause };
    match client.get_object().bucket(bucket).key(key).send().await {
        Ok(object) => match object.body.collect().await {
            Ok(body) => Ok(Some(body.into_bytes())),
            Err(error) => Err(failed(error.to_string())),
        },
        Err(error) if code(&error) == Some("NoSuchKey") => Ok(None),
        Err(error) => Err(failed(cause(&error))),
    }
}

/// Writes records under a key that is not taken, or that already holds the same records; nothing is overwritten.
pub async fn put_once(
    client: &Client,
    bucket: &str,
    key: &str,
    body: Vec<u8>,
    content_id: ContentId,
    records: usize,
) -> Result<(), BucketError> {
    let (content_id, records) = (content_id.to_string(), records.to_string());
    let put = client
        .put_object()
        .bucket(bucket)
        .key(key)
        .if_none_match("*")
        .content_type("application/x-ndjson")
        .metadata(CONTENT_ID_METADATA, &content_id)
        .metadata(RECORDS_METADATA, &records)
        .body(ByteStream::from(body))
        .send()
        .await;
    let failed = |verb, cause| BucketError::Object { bucket: bucket.to_owned(), key: key.to_owned(), verb, cause };
    match put {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => {
            let head = client.head_object().bucket(bucket).key(key).send().await;
            let head = head.map_err(|error| failed("checked", cause(&error)))?;
            let is = |name: &str, value: &str| {
                head.metadata().and_then(|metadata| metadata.get(name)).is_some_and(|found| found == value)
            };
            if is(CONTENT_ID_METADATA, &content_id) && is(RECORDS_METADATA, &records) {
                Ok(())
            } else {
                Err(BucketError::Conflict { bucket: bucket.to_owned(), key: key.to_owned() })
            }
        }
        Err(error) => Err(failed("written", cause(&error))),
    }
}

/// Deletes an object. One that is gone already is fine.
pub async fn delete(client: &Client, bucket: &str, key: &str) -> Result<(), BucketError> {
    match client.delete_object().bucket(bucket).key(key).send().await {
        Ok(_) => Ok(()),
        Err(error) => {
            let (bucket, key) = (bucket.to_owned(), key.to_owned());
            Err(BucketError::Object { bucket, key, verb: "deleted", cause: cause(&error) })
        }
    }
}

/// Whether the key exists already.
fn is_taken<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 412)
        || code(error) == Some("PreconditionFailed")
}
