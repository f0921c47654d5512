//! One version of an object, which is read, copied and deleted as it was registered, whatever has been put under its key since.

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    types::{ChecksumAlgorithm, CompletedPart, TaggingDirective},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    bucket::{BucketError, Created, Head, Upload},
    s3::{Before, Opened, S3, head_of, is_taken},
};

/// The largest object that one CopyObject copies. Source: "Copying, moving, and renaming objects", Amazon S3 user guide.
const MAX_COPIED: u64 = 5 << 30;
/// The size of the parts in which a larger one is copied.
const COPIED_PART: u64 = 512 << 20;
/// What the header with the source of a copy does not encode.
const SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'a> {
    /// The object's key.
    pub key: &'a str,
    /// The version's id, if the bucket has versions. Otherwise the ETag tells whether the object is still the same.
    pub id: Option<&'a str>,
    /// The ETag, without quotes.
    pub e_tag: &'a str,
}

/// A version in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVersion {
    /// The object's key.
    pub key: String,
    /// The version's id; none in a bucket that has no versions.
    pub id: Option<String>,
    /// The ETag, without quotes.
    pub e_tag: String,
    /// When it was written, in milliseconds since 1970-01-01T00:00:00Z.
    pub modified_ms: i64,
}

impl ListedVersion {
    /// The version to read, copy or delete.
    #[must_use]
    pub fn version(&self) -> Version<'_> {
        Version { key: &self.key, id: self.id.as_deref(), e_tag: &self.e_tag }
    }
}

impl Version<'_> {
    fn id(&self) -> Option<String> {
        self.id.map(str::to_owned)
    }

    fn e_tag(&self) -> String {
        format!("\"{}\"", self.e_tag)
    }
}

impl S3 {
    /// Begins to read a version from this byte on, for objects that may be larger than memory.
    pub async fn open_version(&self, version: Version<'_>, from: u64) -> Result<Opened<'_>, BucketError> {
        let get = self.client.get_object().bucket(&self.bucket).key(version.key).set_version_id(version.id());
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let object = get.if_match(version.e_tag()).set_range(range).send().await;
        let object = object.map_err(|error| self.changed("read", version.key, &error))?;
        Ok(self.opened(version.key, object))
    }

    /// Lists all versions of all objects whose keys start with `prefix`, without markers of deletions.
    pub async fn versions(&self, prefix: &str) -> Result<Vec<ListedVersion>, BucketError> {
        let (mut key, mut id) = (None, None);
        let mut listed = Vec::new();
        loop {
            let list = self.client.list_object_versions().bucket(&self.bucket).prefix(prefix);
            let page = list.set_key_marker(key).set_version_id_marker(id).send().await;
            let page = page.map_err(|error| self.error("listed", prefix, &error))?;
            listed.extend(page.versions.unwrap_or_default().into_iter().filter_map(|version| {
                // Written before the bucket had versions. Where it has none still, the ETag tells whether it is the same.
                let is_only = version.version_id.as_deref() == Some("null") && version.is_latest == Some(true);
                Some(ListedVersion {
                    key: version.key?,
                    id: version.version_id.filter(|_| !is_only),
                    e_tag: version.e_tag?.trim_matches('"').to_owned(),
                    modified_ms: version.last_modified?.to_millis().ok()?,
                })
            }));
            if page.is_truncated != Some(true) {
                return Ok(listed);
            }
            (key, id) = (page.next_key_marker, page.next_version_id_marker);
        }
    }

    /// Asks for the size, ETag and metadata of a version.
    pub async fn head_version(&self, version: Version<'_>) -> Result<Head, BucketError> {
        let head = self.client.head_object().bucket(&self.bucket).key(version.key).set_version_id(version.id());
        let head = head.if_match(version.e_tag()).send().await;
        let head = head.map_err(|error| self.changed("checked", version.key, &error))?;
        Ok(head_of(head))
    }

    /// Copies a version of an object of the bucket `from` to `key`, with its metadata. An object at `key` is replaced.
    pub async fn copy(&self, from: &Self, version: Version<'_>, key: &str) -> Result<(), BucketError> {
        let head = from.head_version(version).await?;
        let source = from.source(version);
        if head.size > MAX_COPIED {
            return self.copy_in_parts(from, version, &head, key).await;
        }
        let copy = self.client.copy_object().bucket(&self.bucket).key(key).copy_source(source);
        // Copying tags would need permissions of its own, and only for objects that have some.
        let copy = copy.copy_source_if_match(version.e_tag()).tagging_directive(TaggingDirective::Replace);
        let copy = match self.longer(usize::try_from(head.size).unwrap_or(usize::MAX)) {
            None => copy.send().await,
            Some(timeouts) => copy.customize().config_override(timeouts).send().await,
        };
        copy.map(drop).map_err(|error| from.changed("copied", version.key, &error))
    }

    async fn copy_in_parts(
        &self,
        from: &Self,
        version: Version<'_>,
        head: &Head,
        key: &str,
    ) -> Result<(), BucketError> {
        let begin = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let begin = begin.checksum_algorithm(ChecksumAlgorithm::Crc32).set_metadata(Some(head.metadata.clone()));
        let begun = begin.send().await.map_err(|error| self.error("copied", key, &error))?;
        // What is left of an upload that fails is removed by the bucket's lifecycle.
        let mut upload = Upload::new(key, begun.upload_id().unwrap_or_default());
        self.copy_parts(from, version, head.size, &mut upload).await
    }

    async fn copy_parts(
        &self,
        from: &Self,
        version: Version<'_>,
        size: u64,
        upload: &mut Upload,
    ) -> Result<(), BucketError> {
        for (number, first) in (1..).zip((0..size).step_by(usize::try_from(COPIED_PART).unwrap_or(usize::MAX))) {
            let last = size.min(first + COPIED_PART) - 1;
            let part = self.client.upload_part_copy().bucket(&self.bucket).key(&upload.key).upload_id(&upload.id);
            let part = part.part_number(number).copy_source(from.source(version));
            let part = part.copy_source_if_match(version.e_tag()).copy_source_range(format!("bytes={first}-{last}"));
            let part = match self.longer(usize::try_from(COPIED_PART).unwrap_or(usize::MAX)) {
                None => part.send().await,
                Some(timeouts) => part.customize().config_override(timeouts).send().await,
            };
            let copied = part.map_err(|error| from.changed("copied", version.key, &error))?;
            let result =
                copied.copy_part_result.unwrap_or_else(|| aws_sdk_s3::types::CopyPartResult::builder().build());
            let part = CompletedPart::builder().part_number(number).set_e_tag(result.e_tag);
            upload.parts.push(part.set_checksum_crc32(result.checksum_crc32).build());
        }
        self.completed(upload, Before::Anything).await.map(drop)
    }

    /// Deletes a version for good. In a bucket without versions, the object is deleted only if it is still the same.
    /// Deleting what does not exist succeeds.
    pub async fn delete_version(&self, version: Version<'_>) -> Result<(), BucketError> {
        let delete = self.client.delete_object().bucket(&self.bucket).key(version.key);
        let delete = match version.id {
            Some(id) => delete.version_id(id),
            None => delete.if_match(version.e_tag()),
        };
        match delete.send().await.map_err(|error| self.changed("deleted", version.key, &error)) {
            Ok(_) | Err(BucketError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the parts of an upload one object in place of the one with this ETag.
    pub async fn complete_instead(&self, upload: &Upload, e_tag: &str) -> Result<Created, BucketError> {
        self.completed(upload, Before::This(e_tag)).await
    }

    /// The value of the header `x-amz-copy-source`.
    fn source(&self, version: Version<'_>) -> String {
        let key = utf8_percent_encode(version.key, SOURCE);
        match version.id {
            None => format!("{}/{key}", self.bucket),
            Some(id) => format!("{}/{key}?versionId={}", self.bucket, utf8_percent_encode(id, SOURCE)),
        }
    }

    /// Tells an object that was replaced, and one that does not exist, from a call that failed.
    fn changed<E>(&self, verb: &'static str, key: &str, error: &SdkError<E>) -> BucketError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let (bucket, key) = (self.bucket.clone(), key.to_owned());
        match error.raw_response().map(|response| response.status().as_u16()) {
            _ if is_taken(error) => BucketError::Replaced { bucket, key },
            // The version is gone, is a delete marker, or its id is none that S3 gives.
            Some(404 | 405) => self.missing(&key, error),
            _ => self.error(verb, &key, error),
        }
    }

    fn missing<E: ProvideErrorMetadata>(&self, key: &str, error: &SdkError<E>) -> BucketError {
        match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some("NoSuchBucket") => BucketError::NoBucket(self.bucket.clone()),
            _ => BucketError::Missing { bucket: self.bucket.clone(), key: key.to_owned() },
        }
    }
}
