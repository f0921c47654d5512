//! What the function asks of S3. A trait, so that the tests can try every order and every failure of these calls.

use std::collections::HashMap;

use aws_sdk_s3::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier},
};
use bytes::Bytes;
use runtime::store::is_taken;

/// Most keys in one call that deletes.
const MAX_DELETED: usize = 1_000;

/// A call that did not do what it was asked for, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// There is no such object.
    #[error("s3://{0}/{1} does not exist")]
    Missing(String, String),
    /// S3 did not do it, or its answer was lost.
    #[error("{call} of s3://{bucket}/{key} failed: {cause}")]
    Failed {
        /// The call.
        call: &'static str,
        /// The bucket.
        bucket: String,
        /// The key or prefix.
        key: String,
        /// S3's answer.
        cause: String,
    },
}

/// What became of an object that must not exist before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there now.
    New,
    /// The key is taken.
    Exists,
}

/// What is said of an object besides its bytes.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Its content type.
    pub content_type: &'static str,
    /// Names and values.
    pub metadata: Vec<(&'static str, String)>,
}

/// An upload in parts.
#[derive(Debug)]
pub struct Upload {
    key: String,
    id: String,
    parts: Vec<CompletedPart>,
}

impl Upload {
    /// An upload that S3 knows by `id`.
    #[must_use]
    pub fn new(key: &str, id: &str) -> Self {
        Self { key: key.to_owned(), id: id.to_owned(), parts: Vec::new() }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// One bucket.
#[expect(async_fn_in_trait, reason = "nothing here runs on more than one thread")]
pub trait Bucket {
    /// Keys that start with `prefix`, in order.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError>;

    /// An object, or its first `bytes` bytes.
    async fn get(&self, key: &str, bytes: Option<u64>) -> Result<Bytes, BucketError>;

    /// Writes an object unless its key exists.
    async fn create(&self, key: &str, body: Bytes, about: &About) -> Result<Created, BucketError>;

    /// An object's metadata.
    async fn metadata(&self, key: &str) -> Result<HashMap<String, String>, BucketError>;

    /// Deletes objects. Those that do not exist count as deleted.
    async fn delete(&self, keys: &[String]) -> Result<(), BucketError>;

    /// Begins an upload in parts.
    async fn begin(&self, key: &str, about: &About) -> Result<Upload, BucketError>;

    /// Uploads the next part: 5 MiB or more, unless it is the last.
    async fn part(&self, upload: &mut Upload, body: Bytes) -> Result<(), BucketError>;

    /// Makes an object of the parts unless its key exists. Then the upload is still there.
    async fn complete(&self, upload: &Upload) -> Result<Created, BucketError>;

    /// Forgets an upload.
    async fn abort(&self, upload: &Upload) -> Result<(), BucketError>;
}

/// A bucket in S3.
#[derive(Debug)]
pub struct S3 {
    client: Client,
    bucket: String,
}

impl S3 {
    /// The bucket of this name.
    #[must_use]
    pub const fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    fn failed<E>(&self, call: &'static str, key: &str) -> impl FnOnce(SdkError<E>) -> BucketError
    where
        SdkError<E>: std::error::Error + Send + Sync + 'static,
    {
        let (bucket, key) = (self.bucket.clone(), key.to_owned());
        move |error| BucketError::Failed { call, bucket, key, cause: DisplayErrorContext(error).to_string() }
    }

    /// Tells an object that is not there from a call that failed.
    fn missing<E>(&self, call: &'static str, key: &str) -> impl FnOnce(SdkError<E>) -> BucketError
    where
        SdkError<E>: std::error::Error + Send + Sync + 'static,
    {
        let (bucket, key_of_missing, failed) = (self.bucket.clone(), key.to_owned(), self.failed(call, key));
        move |error| match error.raw_response().map(|response| response.status().as_u16()) {
            Some(404) => BucketError::Missing(bucket, key_of_missing),
            _ => failed(error),
        }
    }

    /// Tells a key that is taken from a call that failed.
    fn created<T, E>(
        &self,
        call: &'static str,
        key: &str,
        result: Result<T, SdkError<E>>,
    ) -> Result<Created, BucketError>
    where
        E: ProvideErrorMetadata,
        SdkError<E>: std::error::Error + Send + Sync + 'static,
    {
        match result {
            Ok(_) => Ok(Created::New),
            Err(error) if is_taken(&error) => Ok(Created::Exists),
            Err(error) => Err(self.failed(call, key)(error)),
        }
    }
}

fn metadata(about: &About) -> HashMap<String, String> {
    about.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

impl Bucket for S3 {
    async fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        let mut pages = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(self.failed("ListObjectsV2", prefix))?;
            keys.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key));
        }
        Ok(keys)
    }

    async fn get(&self, key: &str, bytes: Option<u64>) -> Result<Bytes, BucketError> {
        let range = bytes.map(|bytes| format!("bytes=0-{}", bytes.saturating_sub(1)));
        let object = self.client.get_object().bucket(&self.bucket).key(key).set_range(range).send().await;
        let object = object.map_err(self.missing("GetObject", key))?;
        let body = object.body.collect().await.map_err(|cause| BucketError::Failed {
            call: "GetObject",
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            cause: cause.to_string(),
        })?;
        Ok(body.into_bytes())
    }

    async fn create(&self, key: &str, body: Bytes, about: &About) -> Result<Created, BucketError> {
        let put = self.client.put_object().bucket(&self.bucket).key(key).if_none_match("*");
        let put = put.content_type(about.content_type).set_metadata(Some(metadata(about)));
        self.created("PutObject", key, put.body(ByteStream::from(body)).send().await)
    }

    async fn metadata(&self, key: &str) -> Result<HashMap<String, String>, BucketError> {
        let head = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let head = head.map_err(self.missing("HeadObject", key))?;
        Ok(head.metadata.unwrap_or_default())
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        for keys in keys.chunks(MAX_DELETED) {
            let first = keys.first().map_or("", String::as_str);
            let failed = |cause: String| BucketError::Failed {
                call: "DeleteObjects",
                bucket: self.bucket.clone(),
                key: first.to_owned(),
                cause,
            };
            let objects: Result<_, _> = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build()).collect();
            let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
            let delete = delete.map_err(|cause| failed(cause.to_string()))?;
            let answer = self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await;
            let answer = answer.map_err(self.failed("DeleteObjects", first))?;
            if let Some(error) = answer.errors().first() {
                return Err(failed(format!("{}: {}", error.key().unwrap_or("?"), error.code().unwrap_or("?"))));
            }
        }
        Ok(())
    }

    async fn begin(&self, key: &str, about: &About) -> Result<Upload, BucketError> {
        let begin = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let begin = begin.content_type(about.content_type).set_metadata(Some(metadata(about)));
        let answer = begin.send().await.map_err(self.failed("CreateMultipartUpload", key))?;
        Ok(Upload::new(key, answer.upload_id().unwrap_or_default()))
    }

    async fn part(&self, upload: &mut Upload, body: Bytes) -> Result<(), BucketError> {
        let number = i32::try_from(upload.parts.len()).unwrap_or(i32::MAX).saturating_add(1);
        let part = self.client.upload_part().bucket(&self.bucket).key(&upload.key).upload_id(&upload.id);
        let answer = part.part_number(number).body(ByteStream::from(body)).send().await;
        let answer = answer.map_err(self.failed("UploadPart", &upload.key))?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag);
        upload.parts.push(part.set_checksum_crc32(answer.checksum_crc32).build());
        Ok(())
    }

    async fn complete(&self, upload: &Upload) -> Result<Created, BucketError> {
        let complete = self.client.complete_multipart_upload().bucket(&self.bucket).key(&upload.key);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(upload.parts.clone())).build();
        let answer = complete.upload_id(&upload.id).multipart_upload(parts).if_none_match("*").send().await;
        self.created("CompleteMultipartUpload", &upload.key, answer)
    }

    async fn abort(&self, upload: &Upload) -> Result<(), BucketError> {
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(&upload.key).upload_id(&upload.id);
        abort.send().await.map(drop).map_err(self.failed("AbortMultipartUpload", &upload.key))
    }
}
