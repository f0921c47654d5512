//! What is asked of a bucket.

use std::{collections::HashMap, ops::Range};

use aws_sdk_s3::types::CompletedPart;
use bytes::Bytes;
use shared::layout::{CONTENT_ID_METADATA, ContentId, RECORDS_METADATA};

/// Why a call did not succeed, as far as is known: after [`BucketError::Failed`], S3 may have done it all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// There is no such bucket.
    #[error("bucket {0} does not exist")]
    NoBucket(String),
    /// There is no such object.
    #[error("s3://{bucket}/{key} does not exist")]
    Missing {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// The key exists, and its object holds something else than was to be written.
    #[error("s3://{bucket}/{key} exists and holds other records; it was not overwritten")]
    Conflict {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// Another conditional write of the key was in progress, so S3 decided nothing. The write has to begin anew.
    #[error("s3://{bucket}/{key} could not be written: another write of it was in progress")]
    Raced {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// The object is another one than the version that was asked for.
    #[error("s3://{bucket}/{key} was replaced by another object")]
    Replaced {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// S3 refused the call, or its response was lost.
    #[error("s3://{bucket}/{key} could not be {verb}: {cause}")]
    Failed {
        /// What was tried, such as `read`.
        verb: &'static str,
        /// The bucket.
        bucket: String,
        /// The object's key, or the prefix of a listing.
        key: String,
        /// The error that S3 or the connection gave.
        cause: String,
    },
}

/// The result of writing an object under a key that must not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object has been written.
    New {
        /// Its ETag, without quotes.
        e_tag: String,
    },
    /// The key exists already; nothing was written.
    Exists,
}

/// The attributes of an object to be written.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// User-defined metadata: names without `x-amz-meta-`, and values.
    pub metadata: Vec<(&'static str, String)>,
}

/// What S3 knows of an object besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// ETag, without quotes.
    pub e_tag: String,
    /// Size in bytes.
    pub size: u64,
    /// User-defined metadata: names without `x-amz-meta-`, and values.
    pub metadata: HashMap<String, String>,
    /// The version's id, if the bucket has versions.
    pub version: Option<String>,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The object's key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// When it was last modified, in milliseconds since 1970-01-01T00:00:00Z, if S3 says so.
    pub modified_ms: Option<i64>,
}

/// An object that holds records, to be written by [`Bucket::put_once`].
#[derive(Debug)]
pub struct Records<'a> {
    /// The object's key.
    pub key: &'a str,
    /// The records as bytes.
    pub body: Bytes,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// The identity of the records.
    pub content_id: ContentId,
    /// The number of records.
    pub count: usize,
}

/// An object that is durable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// ETag, without quotes.
    pub e_tag: String,
    /// Size in bytes.
    pub size: u64,
    /// Whether the object existed before the call.
    pub already: bool,
}

/// A multipart upload in progress.
#[derive(Debug)]
pub struct Upload {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) parts: Vec<CompletedPart>,
}

impl Upload {
    /// An upload that S3 knows by `id`.
    #[must_use]
    pub fn new(key: &str, id: &str) -> Self {
        Self { key: key.to_owned(), id: id.to_owned(), parts: Vec::new() }
    }

    /// The key of the object to be.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The id that S3 gave the upload.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// One bucket.
#[expect(async_fn_in_trait, reason = "every process here runs on a single thread")]
pub trait Bucket {
    /// The bucket's name.
    fn name(&self) -> &str;

    /// Lists the objects under `prefix` whose keys come after `start_after`, in the order of their keys, and stops
    /// before the first key that is not `wanted`.
    ///
    /// A listing of several pages is not a point-in-time snapshot: it may miss an object that is written meanwhile.
    async fn list_while(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Listed>, BucketError>;

    /// Lists all objects under `prefix`, in the order of their keys; see [`list_while`](Self::list_while).
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, BucketError> {
        self.list_while(prefix, None, |_| true).await
    }

    /// Lists the folders directly under `prefix`, which ends with `/`: their names, without `prefix` and the last `/`.
    async fn folders(&self, prefix: &str) -> Result<Vec<String>, BucketError>;

    /// Reads an object, or only its first `limit` bytes.
    async fn get(&self, key: &str, limit: Option<u64>) -> Result<Bytes, BucketError>;

    /// Reads an object and its ETag, without quotes.
    async fn get_tagged(&self, key: &str) -> Result<(Bytes, String), BucketError>;

    /// Reads some bytes of an object: fewer, if it ends before.
    async fn range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError>;

    /// Asks for an object's size, ETag and metadata.
    async fn head(&self, key: &str) -> Result<Head, BucketError>;

    /// Writes an object unless its key exists.
    async fn create(&self, key: &str, body: Bytes, attributes: &Attributes) -> Result<Created, BucketError>;

    /// Writes an object in place of the one with this ETag. [`Created::Exists`] says that there is another one by now, and
    /// [`BucketError::Missing`] that there is none.
    async fn replace(
        &self,
        key: &str,
        body: Bytes,
        attributes: &Attributes,
        e_tag: &str,
    ) -> Result<Created, BucketError>;

    /// What S3 knows of the newest object that has ever been under a key, also if it was deleted since, as far as the bucket has
    /// versions.
    async fn newest(&self, key: &str) -> Result<Option<Head>, BucketError>;

    /// Another bucket of the same account.
    #[must_use]
    fn sibling(&self, name: &str) -> Self
    where
        Self: Sized;

    /// Deletes objects. Deleting an object that does not exist succeeds.
    async fn delete(&self, keys: &[String]) -> Result<(), BucketError>;

    /// Begins a multipart upload.
    async fn begin(&self, key: &str, attributes: &Attributes) -> Result<Upload, BucketError>;

    /// Uploads the next part, which must have at least 5 MiB unless it is the last.
    async fn part(&self, upload: &mut Upload, body: Bytes) -> Result<(), BucketError>;

    /// Makes the parts one object unless its key exists. If it exists, the upload is still there and has to be aborted.
    /// After [`BucketError::Raced`], only a new upload can succeed.
    async fn complete(&self, upload: &Upload) -> Result<Created, BucketError>;

    /// Discards an upload and its parts.
    async fn abort(&self, upload: &Upload) -> Result<(), BucketError>;

    /// Writes records unless their key exists. An object that exists is not assumed to hold the same records: its
    /// metadata is read and compared, so that a batch which is delivered again finds its own file.
    async fn put_once(&self, records: Records<'_>) -> Result<Stored, BucketError> {
        let Records { key, body, content_type, content_id, count } = records;
        let size = body.len() as u64;
        let metadata = vec![(CONTENT_ID_METADATA, content_id.to_string()), (RECORDS_METADATA, count.to_string())];
        let attributes = Attributes { content_type, metadata };
        if let Created::New { e_tag } = self.create(key, body, &attributes).await? {
            return Ok(Stored { e_tag, size, already: false });
        }
        let head = self.head(key).await?;
        if attributes.metadata.iter().all(|(name, value)| head.metadata.get(*name) == Some(value)) {
            Ok(Stored { e_tag: head.e_tag, size: head.size, already: true })
        } else {
            Err(self.conflict(key))
        }
    }

    /// The error that `key` exists and holds something else.
    fn conflict(&self, key: &str) -> BucketError {
        BucketError::Conflict { bucket: self.name().to_owned(), key: key.to_owned() }
    }
}
