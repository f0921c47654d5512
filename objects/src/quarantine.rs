//! Records that can never be used are kept in the quarantine, with their bytes and the reason.

use std::collections::BTreeMap;

use bytes::Bytes;
use runtime::failure;
use shared::{
    layout::{ContentId, Day, LayoutError, QuarantineKey},
    metrics::CountsByReason,
    quarantine::{QuarantineRecord, to_ndjson},
};
use tracing::{error, warn};

use crate::bucket::{Bucket, BucketError, Records};

/// What became of records that were to be quarantined.
#[derive(Debug)]
pub struct Quarantined<T> {
    /// The records that are in the quarantine.
    pub kept: CountsByReason,
    /// The origins of the records that are not. The cause is a dependency that may recover, so they should be retried.
    pub failed: Vec<T>,
}

/// Why the records of one day were not kept.
#[derive(Debug, thiserror::Error)]
enum QuarantineError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("the records give their object no valid name: {0}")]
    Name(#[from] LayoutError),
    #[error("the records could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes the records of `function` to the quarantine: one object for each UTC day on which records were sent, or for
/// 1970-01-01 if they do not say when.
///
/// Each record comes with its origin, such as the id of the message that it was part of. If an object could not be
/// written, the origins of its records are given back, and the other days are written all the same. The same records
/// always give the same object, so a redelivery does not quarantine them twice.
pub async fn keep<T>(bucket: &impl Bucket, function: &str, records: Vec<(T, QuarantineRecord)>) -> Quarantined<T> {
    let mut days: BTreeMap<Day, (Vec<T>, Vec<QuarantineRecord>)> = BTreeMap::new();
    for (origin, record) in records {
        let day = record.sent_at_ms().and_then(|ms| Day::of_unix_ms(ms).ok()).unwrap_or(Day::EPOCH);
        let (origins, records) = days.entry(day).or_default();
        origins.push(origin);
        records.push(record);
    }
    let mut quarantined = Quarantined { kept: CountsByReason::default(), failed: Vec::new() };
    for (day, (origins, mut records)) in days {
        let result = write(bucket, function, day, &mut records).await;
        let ids = failure::some_of(records.iter().map(|record| record.id.as_str()));
        match result {
            Ok(key) => {
                warn!(file.key = %key, records = records.len(), ids, "records quarantined");
                records.iter().for_each(|record| quarantined.kept.add(&record.reason));
            }
            Err(cause) => {
                error!(%cause, records = records.len(), ids, "records could not be quarantined and are returned");
                quarantined.failed.extend(origins);
            }
        }
    }
    quarantined
}

async fn write(
    bucket: &impl Bucket,
    function: &str,
    day: Day,
    records: &mut [QuarantineRecord],
) -> Result<String, QuarantineError> {
    let (key, content_id, body) = object(function, day, records)?;
    let content_type = "application/x-ndjson";
    bucket.put_once(Records { key: &key, body, content_type, content_id, count: records.len() }).await?;
    Ok(key)
}

/// The key, the identity and the bytes of the object that holds `records`.
fn object(
    function: &str,
    day: Day,
    records: &mut [QuarantineRecord],
) -> Result<(String, ContentId, Bytes), QuarantineError> {
    let identities: Vec<String> = records.iter().map(QuarantineRecord::identity).collect();
    let content_id = ContentId::of(identities.iter().map(String::as_str));
    let first_ms = records.iter().filter_map(QuarantineRecord::sent_at_ms).min().unwrap_or(0);
    let key = QuarantineKey { function: function.parse()?, day, name: content_id.name(first_ms)? };
    Ok((key.to_string(), content_id, to_ndjson(records)?.into()))
}

#[cfg(test)]
mod tests {
    use shared::quarantine::{base64, rfc3339};

    use super::*;

    fn record(id: &str, sent_at_ms: Option<i64>, body: &str) -> QuarantineRecord {
        QuarantineRecord {
            function: "parquet-writer".into(),
            reason: "invalid_base64".into(),
            detail: "the body is not base64".into(),
            id: id.into(),
            sent_at: sent_at_ms.and_then(rfc3339),
            attributes: Box::default(),
            body_base64: base64(body.as_bytes()),
        }
    }

    fn key(records: &[QuarantineRecord]) -> String {
        let (key, ..) = object("parquet-writer", Day::EPOCH, &mut records.to_vec()).unwrap();
        key
    }

    #[test]
    fn an_object_is_named_by_its_first_time_and_its_records_in_any_order() {
        let (a, b) = (record("m", Some(1_795_183_906_123), "1"), record("m", Some(1_795_183_906_124), "2"));
        let both = key(&[a.clone(), b.clone()]);
        assert!(both.starts_with("quarantine/parquet-writer/1970/01/01/20261120T141146123Z-"), "{both}");
        assert_eq!(both, key(&[b.clone(), a.clone()]));
        let c = record("m", Some(1_795_183_906_124), "3");
        assert_ne!(both, key(&[a, c]), "another record of the same message");
        assert!(key(&[record("m", None, "1")]).contains("/19700101T000000000Z-"));
    }
}
