//! A bucket in Amazon S3.

use std::{collections::HashMap, error::Error, ops::Range, time::Duration};

use aws_sdk_s3::{
    Client,
    config::Builder,
    error::{ProvideErrorMetadata, SdkError},
    operation::{get_object::GetObjectOutput, head_object::HeadObjectOutput},
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier},
};
use bytes::Bytes;
use runtime::{
    failure::{cause, chain, code},
    pause::jittered,
};
use tokio::time::sleep;

use crate::bucket::{Attributes, Bucket, BucketError, Created, Head, Listed, Upload};

/// DeleteObjects takes no more keys in one call.
const MAX_DELETED: usize = 1_000;
/// A larger body has a second more to be written for each of these many bytes.
const BYTES_PER_SECOND: usize = 8 << 20;
/// S3 needs longer to put the parts of an upload together than for any other call.
const COMPLETION: Duration = Duration::from_secs(20);
/// How often an object is written while S3 answers that another write of its key is in progress.
const WRITES: usize = 4;
/// The pause between them, in milliseconds, of which the next is twice as long.
const FIRST_PAUSE_MS: u64 = 50;

/// A bucket in S3.
#[derive(Debug, Clone)]
pub struct S3 {
    pub(crate) client: Client,
    pub(crate) bucket: String,
}

/// What has to be under a key for an object to be written there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Before<'a> {
    Nothing,
    /// The object with this ETag, which is without quotes.
    This(&'a str),
    Anything,
}

/// An object whose bytes have not been read yet.
#[derive(Debug)]
pub struct Opened<'a> {
    /// User-defined metadata: names without `x-amz-meta-`, and values.
    pub metadata: HashMap<String, String>,
    body: ByteStream,
    bucket: &'a S3,
    key: String,
}

impl Opened<'_> {
    /// Reads the next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        self.body.try_next().await.map_err(|error| self.bucket.broken(&self.key, &error))
    }
}

impl S3 {
    /// The bucket of this name.
    #[must_use]
    pub fn new(client: &Client, bucket: &str) -> Self {
        Self { client: client.clone(), bucket: bucket.to_owned() }
    }

    /// Begins to read an object, for objects that may be larger than memory.
    pub async fn open(&self, key: &str) -> Result<Opened<'_>, BucketError> {
        let object = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let object = object.map_err(|error| self.error("read", key, &error))?;
        Ok(self.opened(key, object))
    }

    pub(crate) fn opened(&self, key: &str, object: GetObjectOutput) -> Opened<'_> {
        let metadata = object.metadata.unwrap_or_default();
        Opened { metadata, body: object.body, bucket: self, key: key.to_owned() }
    }

    async fn read(&self, key: &str, range: Option<String>) -> Result<(Bytes, String), BucketError> {
        let object = self.client.get_object().bucket(&self.bucket).key(key).set_range(range).send().await;
        let object = object.map_err(|error| self.error("read", key, &error))?;
        let body = object.body.collect().await.map_err(|error| self.broken(key, &error))?;
        Ok((body.into_bytes(), unquoted(object.e_tag)))
    }

    /// Makes the parts of an upload one object, if what is under its key is what is expected.
    pub(crate) async fn completed(&self, upload: &Upload, before: Before<'_>) -> Result<Created, BucketError> {
        let complete = self.client.complete_multipart_upload().bucket(&self.bucket).key(&upload.key);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(upload.parts.clone())).build();
        let complete = complete.upload_id(&upload.id).multipart_upload(parts);
        let complete = match before {
            Before::Nothing => complete.if_none_match("*"),
            Before::This(e_tag) => complete.if_match(format!("\"{e_tag}\"")),
            Before::Anything => complete,
        };
        let response = match self.timeouts(COMPLETION) {
            None => complete.send().await,
            Some(timeouts) => complete.customize().config_override(timeouts).send().await,
        };
        self.created(&upload.key, response.map(|output| output.e_tag))
    }

    /// Timeouts for writing so many bytes in one call, if they need more time than any other call.
    pub(crate) fn longer(&self, bytes: usize) -> Option<Builder> {
        let seconds = u64::try_from(bytes / BYTES_PER_SECOND).unwrap_or_default();
        // Rounded, because the SDK keeps connections for each timeout apart.
        (seconds > 0).then(|| self.timeouts(Duration::from_secs(seconds.next_power_of_two())))?
    }

    /// The client's timeouts and `extra`, if it has any.
    fn timeouts(&self, extra: Duration) -> Option<Builder> {
        let timeouts = self.client.config().timeout_config()?;
        let longer = |timeout: Option<Duration>| timeout.map(|timeout| timeout + extra);
        let mut builder = timeouts.to_builder();
        builder.set_read_timeout(longer(timeouts.read_timeout()));
        builder.set_operation_attempt_timeout(longer(timeouts.operation_attempt_timeout()));
        Some(Builder::default().timeout_config(builder.build()))
    }

    fn failed(&self, verb: &'static str, key: &str, cause: String) -> BucketError {
        BucketError::Failed { verb, bucket: self.bucket.clone(), key: key.to_owned(), cause }
    }

    /// The connection broke while an object was read.
    fn broken(&self, key: &str, error: &dyn Error) -> BucketError {
        self.failed("read", key, chain(error))
    }

    /// Tells a bucket or an object that does not exist from a call that failed.
    pub(crate) fn error<E>(&self, verb: &'static str, key: &str, error: &SdkError<E>) -> BucketError
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match (status, code(error)) {
            (_, Some("NoSuchBucket")) => BucketError::NoBucket(self.bucket.clone()),
            // The response to HEAD has no body and so no code.
            (Some(404), None | Some("NoSuchKey" | "NotFound")) => {
                BucketError::Missing { bucket: self.bucket.clone(), key: key.to_owned() }
            }
            _ => self.failed(verb, key, cause(error)),
        }
    }

    /// Tells a key that exists from a call that failed.
    pub(crate) fn created<E>(
        &self,
        key: &str,
        result: Result<Option<String>, SdkError<E>>,
    ) -> Result<Created, BucketError>
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        match result {
            Ok(e_tag) => Ok(Created::New { e_tag: unquoted(e_tag) }),
            Err(error) if is_taken(&error) => Ok(Created::Exists),
            Err(error) if is_raced(&error) => {
                Err(BucketError::Raced { bucket: self.bucket.clone(), key: key.to_owned() })
            }
            Err(error) => Err(self.error("written", key, &error)),
        }
    }
}

/// Whether an object was not written because its key exists already.
pub(crate) fn is_taken<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 412)
        || code(error) == Some("PreconditionFailed")
}

/// Whether S3 decided nothing because another conditional write of the key was in progress. Source: "How to prevent object
/// overwrites with conditional writes", Amazon S3 user guide.
fn is_raced<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    code(error) == Some("ConditionalRequestConflict")
}

pub(crate) fn unquoted(e_tag: Option<String>) -> String {
    e_tag.unwrap_or_default().trim_matches('"').to_owned()
}

pub(crate) fn size(content_length: Option<i64>) -> u64 {
    content_length.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default()
}

pub(crate) fn head_of(head: HeadObjectOutput) -> Head {
    Head {
        e_tag: unquoted(head.e_tag),
        size: size(head.content_length),
        metadata: head.metadata.unwrap_or_default(),
        version: head.version_id,
    }
}

fn metadata(attributes: &Attributes) -> HashMap<String, String> {
    attributes.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

impl Bucket for S3 {
    fn name(&self) -> &str {
        &self.bucket
    }

    async fn list_while(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Listed>, BucketError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let mut pages = request.set_start_after(start_after.map(str::to_owned)).into_paginator().send();
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error("listed", prefix, &error))?;
            for object in page.contents.unwrap_or_default() {
                let Some(key) = object.key else { continue };
                if !wanted(&key) {
                    return Ok(listed);
                }
                let modified_ms = object.last_modified.and_then(|modified| modified.to_millis().ok());
                listed.push(Listed { key, size: size(object.size), modified_ms });
            }
        }
        Ok(listed)
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).delimiter("/");
        let mut pages = request.into_paginator().send();
        let mut folders = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error("listed", prefix, &error))?;
            let names = page.common_prefixes().iter().filter_map(|folder| folder.prefix()?.strip_prefix(prefix));
            folders.extend(names.map(|name| name.trim_end_matches('/').to_owned()));
        }
        Ok(folders)
    }

    async fn get(&self, key: &str, limit: Option<u64>) -> Result<Bytes, BucketError> {
        let range = limit.map(|bytes| format!("bytes=0-{}", bytes.saturating_sub(1)));
        self.read(key, range).await.map(|(body, _)| body)
    }

    async fn get_tagged(&self, key: &str) -> Result<(Bytes, String), BucketError> {
        self.read(key, None).await
    }

    async fn range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let range = format!("bytes={}-{}", range.start, range.end - 1);
        self.read(key, Some(range)).await.map(|(body, _)| body)
    }

    async fn replace(
        &self,
        key: &str,
        body: Bytes,
        attributes: &Attributes,
        e_tag: &str,
    ) -> Result<Created, BucketError> {
        let put = self.client.put_object().bucket(&self.bucket).key(key).if_match(format!("\"{e_tag}\""));
        let put = put.content_type(attributes.content_type).set_metadata(Some(metadata(attributes)));
        let response = put.body(ByteStream::from(body)).send().await;
        self.created(key, response.map(|output| output.e_tag))
    }

    async fn newest(&self, key: &str) -> Result<Option<Head>, BucketError> {
        let versions = self.versions(key).await?;
        // The newest comes first.
        let Some(version) = versions.iter().find(|version| version.key == key) else { return Ok(None) };
        match self.head_version(version.version()).await {
            Err(BucketError::Missing { .. }) => Ok(None),
            head => head.map(Some),
        }
    }

    fn sibling(&self, name: &str) -> Self {
        Self::new(&self.client, name)
    }

    async fn head(&self, key: &str) -> Result<Head, BucketError> {
        let head = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        let head = head.map_err(|error| self.error("checked", key, &error))?;
        Ok(head_of(head))
    }

    async fn create(&self, key: &str, body: Bytes, attributes: &Attributes) -> Result<Created, BucketError> {
        let mut pauses = (0..WRITES - 1).map(|number| Duration::from_millis(FIRST_PAUSE_MS << number));
        loop {
            let put = self.client.put_object().bucket(&self.bucket).key(key).if_none_match("*");
            let put = put.content_type(attributes.content_type).set_metadata(Some(metadata(attributes)));
            let put = put.body(ByteStream::from(body.clone()));
            let response = match self.longer(body.len()) {
                None => put.send().await,
                Some(timeouts) => put.customize().config_override(timeouts).send().await,
            };
            match (self.created(key, response.map(|output| output.e_tag)), pauses.next()) {
                (Err(BucketError::Raced { .. }), Some(pause)) => sleep(jittered(pause)).await,
                (result, _) => return result,
            }
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        for keys in keys.chunks(MAX_DELETED) {
            let first = keys.first().map_or("", String::as_str);
            let failed = |key: &str, cause: String| self.failed("deleted", key, cause);
            let objects: Result<_, _> = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build()).collect();
            let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
            let delete = delete.map_err(|error| failed(first, error.to_string()))?;
            let response = self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await;
            let response = response.map_err(|error| self.error("deleted", first, &error))?;
            if let Some(error) = response.errors().first() {
                return Err(failed(error.key().unwrap_or(first), error.code().unwrap_or("no reason given").to_owned()));
            }
        }
        Ok(())
    }

    async fn begin(&self, key: &str, attributes: &Attributes) -> Result<Upload, BucketError> {
        // The SDK sends a CRC32 with each part. S3 accepts them on completion only if the upload was begun with the algorithm.
        let begin = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let begin = begin.checksum_algorithm(ChecksumAlgorithm::Crc32);
        let begin = begin.content_type(attributes.content_type).set_metadata(Some(metadata(attributes)));
        let response = begin.send().await.map_err(|error| self.error("uploaded", key, &error))?;
        Ok(Upload::new(key, response.upload_id().unwrap_or_default()))
    }

    async fn part(&self, upload: &mut Upload, body: Bytes) -> Result<(), BucketError> {
        let number = i32::try_from(upload.parts.len()).unwrap_or(i32::MAX).saturating_add(1);
        let part = self.client.upload_part().bucket(&self.bucket).key(&upload.key).upload_id(&upload.id);
        let response = part.part_number(number).body(ByteStream::from(body)).send().await;
        let response = response.map_err(|error| self.error("uploaded", &upload.key, &error))?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(response.e_tag);
        upload.parts.push(part.set_checksum_crc32(response.checksum_crc32).build());
        Ok(())
    }

    async fn complete(&self, upload: &Upload) -> Result<Created, BucketError> {
        self.completed(upload, Before::Nothing).await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), BucketError> {
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(&upload.key).upload_id(&upload.id);
        match abort.send().await {
            // It was completed, and only the answer was lost, or aborted before.
            Err(error) if code(&error) == Some("NoSuchUpload") => Ok(()),
            done => done.map(drop).map_err(|error| self.error("aborted", &upload.key, &error)),
        }
    }
}
