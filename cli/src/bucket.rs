//! S3: listing, reading, writing once, deleting.

use std::collections::HashMap;

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

/// An object whose bytes are still to come.
#[derive(Debug)]
pub struct Opened {
    /// What is said of it: names without their prefix, and values.
    pub metadata: HashMap<String, String>,
    body: ByteStream,
    bucket: String,
    key: String,
}

impl Opened {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        self.body.try_next().await.map_err(|error| BucketError::Object {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            verb: "read",
            cause: error.to_string(),
        })
    }
}

/// Begins to read an object; `None` when it is gone.
pub async fn open(client: &Client, bucket: &str, key: &str) -> Result<Option<Opened>, BucketError> {
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    match client.get_object().bucket(&bucket).key(&key).send().await {
        Ok(object) => {
            Ok(Some(Opened { metadata: object.metadata.unwrap_or_default(), body: object.body, bucket, key }))
        }
        Err(error) if code(&error) == Some("NoSuchKey") => Ok(None),
        Err(error) => Err(BucketError::Object { bucket, key, verb: "read", cause: cause(&error) }),
    }
}

/// The object's bytes; `None` when it is gone.
pub async fn read(client: &Client, bucket: &str, key: &str) -> Result<Option<Bytes>, BucketError> {
    let Some(Opened { body, bucket, key, .. }) = open(client, bucket, key).await? else { return Ok(None) };
    match body.collect().await {
        Ok(body) => Ok(Some(body.into_bytes())),
        Err(error) => Err(BucketError::Object { bucket, key, verb: "read", cause: error.to_string() }),
    }
}

/// The object's metadata; `None` when it is gone.
pub async fn metadata(
    client: &Client,
    bucket: &str,
    key: &str,
) -> Result<Option<HashMap<String, String>>, BucketError> {
    match client.head_object().bucket(bucket).key(key).send().await {
        Ok(head) => Ok(Some(head.metadata.unwrap_or_default())),
        Err(error) if code(&error) == Some("NotFound") => Ok(None),
        Err(error) => {
            let (bucket, key) = (bucket.to_owned(), key.to_owned());
            Err(BucketError::Object { bucket, key, verb: "checked", cause: cause(&error) })
        }
    }
}

/// Writes an object unless its key is taken, and says whether it did.
pub async fn create(
    client: &Client,
    bucket: &str,
    key: &str,
    body: Bytes,
    content_type: &str,
    metadata: HashMap<String, String>,
) -> Result<bool, BucketError> {
    let put = client.put_object().bucket(bucket).key(key).if_none_match("*");
    let put = put.content_type(content_type).set_metadata(Some(metadata));
    match put.body(ByteStream::from(body)).send().await {
        Ok(_) => Ok(true),
        Err(error) if is_taken(&error) => Ok(false),
        Err(error) => {
            let (bucket, key) = (bucket.to_owned(), key.to_owned());
            Err(BucketError::Object { bucket, key, verb: "written", cause: cause(&error) })
        }
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
    let said = [(CONTENT_ID_METADATA, content_id), (RECORDS_METADATA, records)];
    let said: HashMap<String, String> = said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if create(client, bucket, key, body.into(), "application/x-ndjson", said.clone()).await?
        || metadata(client, bucket, key).await?.is_some_and(|found| said.iter().all(|(k, v)| found.get(k) == Some(v)))
    {
        return Ok(());
    }
    Err(BucketError::Conflict { bucket: bucket.to_owned(), key: key.to_owned() })
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
