//! The quarantine of a function in S3: finding its objects, reading them, and writing what is left of one.

use objects::{Bucket, BucketError, Records, S3};
use shared::layout::QuarantineKey;

use crate::{
    days,
    replay::plan::{Object, Selection, Settlement},
};

/// The objects of a quarantine that may hold selected records, oldest first.
#[derive(Debug, Default)]
pub struct Found {
    /// With their sizes in bytes.
    pub objects: Vec<(QuarantineKey, usize)>,
    /// Keys that are not those of a quarantine.
    pub foreign: Vec<String>,
}

/// The folder of a function's quarantine.
pub fn folder(function: &str) -> String {
    format!("quarantine/{function}/")
}

/// Lists the objects of the wanted days.
pub async fn find(bucket: &S3, function: &str, selection: &Selection) -> Result<Found, BucketError> {
    let (objects, foreign) =
        days::list(bucket, &folder(function), selection, |key: &QuarantineKey| Some(key.day)).await?;
    let objects = objects.into_iter().map(|(key, size)| (key, usize::try_from(size).unwrap_or(usize::MAX)));
    Ok(Found { objects: objects.collect(), foreign })
}

/// Reads an object; `None` when it is gone, because another command has emptied it.
pub async fn read(bucket: &S3, key: &QuarantineKey) -> Result<Option<Object>, BucketError> {
    match bucket.get(&key.to_string(), None).await {
        Ok(body) => Ok(Some(Object::parse(key.clone(), &body))),
        Err(BucketError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes an object what the settlement says. The rest is durable before the object is deleted.
pub async fn settle(bucket: &S3, key: &QuarantineKey, settlement: Settlement) -> Result<(), BucketError> {
    match settlement {
        Settlement::Keep => return Ok(()),
        Settlement::Delete => {}
        Settlement::Replace(rest) => {
            let records = Records {
                key: &rest.key.to_string(),
                body: rest.body.into(),
                content_type: "application/x-ndjson",
                content_id: rest.content_id,
                count: rest.records,
            };
            bucket.put_once(records).await?;
        }
    }
    bucket.delete(&[key.to_string()]).await
}
