//! Objects in S3, each written once and never overwritten.

use aws_sdk_s3::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use bytes::Bytes;
use shared::layout::{CONTENT_ID_METADATA, ContentId, RECORDS_METADATA};

/// An object to write.
#[derive(Debug)]
pub struct Object<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its bytes.
    pub body: Bytes,
    /// Its content type.
    pub content_type: &'static str,
    /// The identity of the records it holds.
    pub content_id: ContentId,
    /// How many they are.
    pub records: usize,
}

/// An object that is durable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// ETag, without quotes.
    pub e_tag: String,
    /// Size in bytes.
    pub size: i64,
    /// Whether it was there before.
    pub already: bool,
}

/// Why an object is not known to be durable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// S3 did not take it.
    #[error("s3://{bucket}/{key} could not be written: {cause}")]
    Put {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// S3's answer.
        cause: String,
    },
    /// The key is taken, and what is there cannot be looked at.
    #[error("s3://{bucket}/{key} exists and could not be checked: {cause}")]
    Check {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// S3's answer.
        cause: String,
    },
    /// The key is taken by something else.
    #[error("s3://{bucket}/{key} exists and holds other records; it was not overwritten")]
    Conflict {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
}

/// Writes `object` unless its key exists. A key that exists is checked, never assumed, to hold the same records: a
/// batch that is delivered again finds its own file.
pub async fn put_once(client: &Client, bucket: &str, object: Object<'_>) -> Result<Stored, StoreError> {
    let (content_id, records) = (object.content_id.to_string(), object.records.to_string());
    let size = object.body.len();
    let put = client
        .put_object()
        .bucket(bucket)
        .key(object.key)
        .if_none_match("*")
        .content_type(object.content_type)
        .metadata(CONTENT_ID_METADATA, &content_id)
        .metadata(RECORDS_METADATA, &records)
        .body(ByteStream::from(object.body))
        .send()
        .await;
    let (bucket_name, key) = (bucket.to_owned(), object.key.to_owned());
    match put {
        Ok(output) => Ok(Stored {
            e_tag: unquoted(output.e_tag()),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            already: false,
        }),
        Err(error) if is_taken(&error) => {
            let head = client.head_object().bucket(bucket).key(object.key).send().await.map_err(|error| {
                let cause = DisplayErrorContext(error).to_string();
                StoreError::Check { bucket: bucket_name.clone(), key: key.clone(), cause }
            })?;
            let is = |name: &str, value: &str| {
                head.metadata().and_then(|metadata| metadata.get(name)).is_some_and(|found| found == value)
            };
            if is(CONTENT_ID_METADATA, &content_id) && is(RECORDS_METADATA, &records) {
                let size = head.content_length().unwrap_or_default();
                Ok(Stored { e_tag: unquoted(head.e_tag()), size, already: true })
            } else {
                Err(StoreError::Conflict { bucket: bucket_name, key })
            }
        }
        Err(error) => {
            let cause = DisplayErrorContext(error).to_string();
            Err(StoreError::Put { bucket: bucket_name, key, cause })
        }
    }
}

/// Whether an object was not written because its key exists already.
pub fn is_taken<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 412)
        || error.as_service_error().and_then(ProvideErrorMetadata::code) == Some("PreconditionFailed")
}

fn unquoted(e_tag: Option<&str>) -> String {
    e_tag.unwrap_or_default().trim_matches('"').to_owned()
}
