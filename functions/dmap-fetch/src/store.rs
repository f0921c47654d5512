//! Uploads a dataset while it is downloaded, in place of what was found under its key.

use bytes::{Bytes, BytesMut};
use objects::{Attributes, Bucket, BucketError, Created, Head, S3, Upload};
use sha2::{Digest, Sha256};
use shared::dmap::{Dataset, OtherVersion, StoredDataset};
use tracing::warn;

use crate::{
    download::{Download, Next},
    http::HttpError,
};

/// The size of the parts of an upload.
const PART_BYTES: usize = 8 << 20;
/// Names of the metadata that say which version of which dataset an object is.
const DATASET_METADATA: &str = "landfall-dataset";
const UPDATED_METADATA: &str = "landfall-last-updated";

/// Why a dataset is not in the bucket.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Download(#[from] HttpError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// It is not what its key says. An error page is not, either.
    #[error("it is not gzip: its first bytes are {0}")]
    NotGzip(String),
    /// Somebody else has written its key in the meantime.
    #[error("another object was put under its key in the meantime")]
    Taken,
}

/// What is under a key.
#[derive(Debug, PartialEq, Eq)]
pub enum There {
    /// This version, or a later one.
    This(OtherVersion),
    /// An earlier version.
    Earlier(OtherVersion),
    /// Something that is no dataset.
    Foreign,
}

/// What an object says that it is.
#[must_use]
pub fn there(dataset: &Dataset, head: &Head) -> There {
    let is_of = head.metadata.get(DATASET_METADATA) == Some(&name(dataset));
    let time = head.metadata.get(UPDATED_METADATA).and_then(|time| time.parse().ok());
    let object = StoredDataset { e_tag: head.e_tag.clone(), size: head.size, sha256: None };
    match time.filter(|_| is_of) {
        Some(last_updated) if last_updated >= dataset.last_updated => {
            There::This(OtherVersion { last_updated, object })
        }
        Some(last_updated) => There::Earlier(OtherVersion { last_updated, object }),
        None => There::Foreign,
    }
}

fn name(dataset: &Dataset) -> String {
    format!("{}/{}", dataset.kind, dataset.identifier)
}

/// Downloads and uploads a dataset in place of the object with the `ETag` `before`, or of none.
pub async fn store(
    bucket: &S3,
    dataset: &Dataset,
    before: Option<&str>,
    download: &mut Download<'_>,
) -> Result<StoredDataset, StoreError> {
    let metadata = vec![(DATASET_METADATA, name(dataset)), (UPDATED_METADATA, dataset.last_updated.to_string())];
    let attributes = Attributes { content_type: "application/gzip", metadata };
    let mut object = Object { bucket, key: dataset.key(), attributes, waiting: BytesMut::new(), upload: None };
    let stored = object.fill(before, download).await;
    // What is left of an upload whose function dies is removed by the bucket's lifecycle.
    if stored.is_err() {
        object.discard().await;
    }
    stored
}

/// An object that is being written: in one request, or in parts if it is larger than one.
struct Object<'a> {
    bucket: &'a S3,
    key: String,
    attributes: Attributes,
    waiting: BytesMut,
    upload: Option<Upload>,
}

impl Object<'_> {
    async fn fill(&mut self, before: Option<&str>, download: &mut Download<'_>) -> Result<StoredDataset, StoreError> {
        let (mut sha256, mut size) = (Sha256::new(), 0);
        loop {
            match download.next().await? {
                Next::Bytes(bytes) => {
                    sha256.update(&bytes);
                    size += bytes.len() as u64;
                    self.append(&bytes).await?;
                }
                Next::Anew => {
                    self.discard().await;
                    (sha256, size) = (Sha256::new(), 0);
                }
                Next::End => break,
            }
        }
        let rest = self.waiting.split().freeze();
        if self.upload.is_none() {
            check_gzip(&rest)?;
        }
        match self.finish(rest, before).await? {
            Created::New { e_tag } => {
                let sha256 = sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(StoredDataset { e_tag, size, sha256: Some(sha256) })
            }
            Created::Exists => Err(StoreError::Taken),
        }
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() > PART_BYTES {
            let part = self.waiting.split_to(PART_BYTES).freeze();
            let upload = match &mut self.upload {
                Some(upload) => upload,
                none => {
                    check_gzip(&part)?;
                    none.insert(self.bucket.begin(&self.key, &self.attributes).await?)
                }
            };
            self.bucket.part(upload, part).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, rest: Bytes, before: Option<&str>) -> Result<Created, BucketError> {
        let Some(upload) = &mut self.upload else {
            return match before {
                None => self.bucket.create(&self.key, rest, &self.attributes).await,
                Some(e_tag) => self.bucket.replace(&self.key, rest, &self.attributes, e_tag).await,
            };
        };
        self.bucket.part(upload, rest).await?;
        match before {
            None => self.bucket.complete(upload).await,
            Some(e_tag) => self.bucket.complete_instead(upload, e_tag).await,
        }
    }

    async fn discard(&mut self) {
        self.waiting.clear();
        if let Some(upload) = self.upload.take()
            && let Err(cause) = self.bucket.abort(&upload).await
        {
            warn!(%cause, "an upload could not be discarded; the lifecycle of the bucket removes it");
        }
    }
}

/// The first two bytes of gzip, and that it is deflate. Source: RFC 1952.
fn check_gzip(bytes: &[u8]) -> Result<(), StoreError> {
    if bytes.starts_with(&[0x1f, 0x8b, 8]) {
        return Ok(());
    }
    let shown: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Err(StoreError::NotGzip(if shown.is_empty() { "none".to_owned() } else { shown.join(" ") }))
}
