//! The quarantine of a function in S3: finding its objects, reading them, and writing what is left of one.

use objects::{Bucket, BucketError, Listed, Records, S3};
use shared::layout::QuarantineKey;

use crate::replay::plan::{Object, Selection, Settlement};

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
    let folder = folder(function);
    let (first, last) = selection.days();
    let start_after = first.map(|day| format!("{folder}{day}/"));
    let is_wanted = |key: &str| match key.parse::<QuarantineKey>() {
        Ok(key) => last.is_none_or(|last| key.day <= last),
        Err(_) => true,
    };
    let mut found = Found::default();
    for Listed { key, size, .. } in bucket.list_while(&folder, start_after.as_deref(), is_wanted).await? {
        match key.parse() {
            Ok(parsed) => found.objects.push((parsed, usize::try_from(size).unwrap_or(usize::MAX))),
            Err(_) => found.foreign.push(key),
        }
    }
    Ok(found)
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
