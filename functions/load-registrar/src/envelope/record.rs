//! One record of S3, by itself or by EventBridge: what it announces.

use serde_json::value::RawValue;
use shared::{quarantine::QuarantineRecord, s3_key};

use super::{
    json::{Members, shortened},
    poison::Source,
};
use crate::error::RecordError;

/// Longest key that S3 allows, in bytes.
pub(super) const MAX_KEY_BYTES: usize = 1_024;

/// An object that was put, according to the notification. The bucket may hold another version by now, so only bucket,
/// key and version are relied on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    pub bucket: String,
    /// The key, decoded, 1 to 1,024 bytes. It can hold any text: `..`, quotes and NUL too.
    pub key: String,
    /// The version id, in a bucket with versioning.
    pub version: Option<String>,
    /// The ETag without quotes.
    pub e_tag: Option<String>,
    pub source: Source,
}

impl Put {
    /// What the quarantine keeps of a put that turns out to be poison.
    #[must_use]
    pub fn into_poison(self, error: RecordError) -> QuarantineRecord {
        self.source.into_poison(error)
    }
}

/// What one record announces.
pub(super) enum Announcement {
    Put(Put),
    TestEvent,
    Deletion,
    Other,
}

/// Reads one record of an S3 event.
pub(super) fn s3_record(record: &Members<'_>) -> Result<Announcement, RecordError> {
    supported_version(record.raw("eventVersion"), "2")?;
    let name = record.text("eventName").unwrap_or_default();
    let name = name.strip_prefix("s3:").unwrap_or(&name);
    match name.split(':').next().unwrap_or_default() {
        "" => Err(RecordError::InvalidRecord("eventName")),
        "ObjectCreated" => {
            let s3 = record.object("s3");
            let bucket = s3.as_ref().and_then(|s3| s3.object("bucket")).and_then(|bucket| bucket.text("name"));
            let object =
                s3.as_ref().and_then(|s3| s3.object("object")).ok_or(RecordError::InvalidRecord("s3.object"))?;
            let key = not_empty(object.text("key"), "s3.object.key")?;
            Ok(Announcement::Put(Put {
                bucket: not_empty(bucket, "s3.bucket.name")?,
                key: short_enough(s3_key::decode(&key)?)?,
                version: version(&object, "versionId", "s3.object.versionId")?,
                e_tag: e_tag(&object, "eTag"),
                source: Source::default(),
            }))
        }
        "ObjectRemoved" => Ok(Announcement::Deletion),
        "TestEvent" => Ok(Announcement::TestEvent),
        _ => Ok(Announcement::Other),
    }
}

/// Reads one event of S3 by EventBridge.
pub(super) fn event_bridge(
    kind: &str,
    event: &Members<'_>,
    unknown: impl FnOnce() -> RecordError,
) -> Result<Announcement, RecordError> {
    match kind {
        "Object Created" => {
            let detail = event.object("detail").ok_or(RecordError::InvalidRecord("detail"))?;
            // Events before version 1.0 do not have this member.
            if let Some(version) = detail.raw("event-version") {
                supported_version(Some(version), "1")?;
            }
            let bucket = detail.object("bucket").and_then(|bucket| bucket.text("name"));
            let object = detail.object("object").ok_or(RecordError::InvalidRecord("detail.object"))?;
            Ok(Announcement::Put(Put {
                bucket: not_empty(bucket, "detail.bucket.name")?,
                // Not encoded, unlike in the events that S3 sends itself.
                key: short_enough(not_empty(object.text("key"), "detail.object.key")?)?,
                version: version(&object, "version-id", "detail.object.version-id")?,
                e_tag: e_tag(&object, "etag"),
                source: Source::default(),
            }))
        }
        "Object Deleted" => Ok(Announcement::Deletion),
        // Restore, tags, access control, storage class, access tier. CloudTrail's `AWS API Call via CloudTrail` has the
        // same source and can be about a put, so it is not ignored.
        _ if kind.starts_with("Object ") => Ok(Announcement::Other),
        _ => Err(unknown()),
    }
}

/// Refuses all major versions but one. Minor versions only add members.
fn supported_version(version: Option<&RawValue>, known: &'static str) -> Result<(), RecordError> {
    let text: Option<String> = version.and_then(|version| serde_json::from_str(version.get()).ok());
    let supported = text.as_deref().and_then(|text| text.split_once('.')).is_some_and(|(major, minor)| {
        major == known && !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit())
    });
    if supported {
        return Ok(());
    }
    let found = version.map_or_else(|| "missing".to_owned(), |version| shortened(version.get()));
    Err(RecordError::UnsupportedVersion { found, known })
}

fn not_empty(text: Option<String>, member: &'static str) -> Result<String, RecordError> {
    text.filter(|text| !text.is_empty()).ok_or(RecordError::InvalidRecord(member))
}

fn short_enough(key: String) -> Result<String, RecordError> {
    if key.len() > MAX_KEY_BYTES { Err(RecordError::KeyTooLong(key.len())) } else { Ok(key) }
}

/// The version id decides which object is meant, so an unreadable one is an error. An unreadable ETag is left out:
/// without one, the object that S3 holds under the key counts as the announced one.
fn version(object: &Members<'_>, name: &str, member: &'static str) -> Result<Option<String>, RecordError> {
    let Some(raw) = object.raw(name) else { return Ok(None) };
    let version: Option<String> = serde_json::from_str(raw.get()).map_err(|_| RecordError::InvalidRecord(member))?;
    Ok(version.filter(|version| !version.is_empty()))
}

fn e_tag(object: &Members<'_>, name: &str) -> Option<String> {
    let e_tag = object.text(name)?;
    Some(e_tag.trim_matches('"').to_owned()).filter(|e_tag| !e_tag.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{
        Ignored,
        samples::{KAFKA, bridge, file, keys, notice, notices, reasons, records, s3_event, sqs, with},
    };

    #[test]
    fn what_creates_nothing_is_counted() {
        let notices = notices(&file("deletions"));
        let ignored: Vec<Ignored> = notices.iter().map(|notice| notice.ignored).collect();
        let deletion = Ignored { deletions: 1, ..Ignored::default() };
        let other = Ignored { others: 1, ..Ignored::default() };
        assert_eq!(ignored, [deletion, deletion, other, other, other]);
        assert!(notices.iter().all(|notice| records(notice) == 1));
        let kinds = [("Object Deleted", deletion), ("Object Restore Completed", other), ("Object Tags Added", other)];
        for (kind, ignored) in kinds {
            let mut event = bridge(KAFKA);
            event["detail-type"] = kind.into();
            let notice = notice(&event);
            assert_eq!((notice.ignored, records(&notice)), (ignored, 1), "{kind}");
        }
    }

    #[test]
    fn every_way_to_create_an_object_is_a_put() {
        for name in ["Put", "Post", "Copy", "CompleteMultipartUpload"] {
            for name in [format!("ObjectCreated:{name}"), format!("s3:ObjectCreated:{name}")] {
                let event = json!({"Records": [with("/eventName", name.into())]});
                assert_eq!(keys(&[notice(&event)]), [KAFKA]);
            }
        }
    }

    #[test]
    fn members_that_are_not_needed_may_be_wrong() {
        for (member, value) in [("size", json!(-1)), ("size", json!("7")), ("size", json!(1e300)), ("eTag", json!(7))] {
            let event = json!({"Records": [with(&format!("/s3/object/{member}"), value)]});
            let put = notice(&event).puts.remove(0);
            assert_eq!(put.e_tag.is_none(), member == "eTag");
        }
        let event = json!({"Records": [with("/s3/object/eTag", json!("\"d41d\""))]});
        assert_eq!(notice(&event).puts.remove(0).e_tag.as_deref(), Some("d41d"));
        for version in [json!(null), json!("")] {
            let event = json!({"Records": [with("/s3/object/versionId", version)]});
            assert_eq!(notice(&event).puts.remove(0).version, None);
        }
    }

    #[test]
    fn event_bridge_has_its_own_versions_and_mistakes() {
        for (pointer, value, reason) in [
            ("/detail/event-version", json!("1.7"), None),
            ("/detail/event-version", json!("2.0"), Some("unsupported_version")),
            ("/detail/object/key", json!(""), Some("invalid_record")),
            ("/detail/object", json!(1), Some("invalid_record")),
            ("/detail/bucket", json!(1), Some("invalid_record")),
            ("/detail", json!("text"), Some("invalid_record")),
        ] {
            let mut event = bridge(KAFKA);
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            event.pointer_mut(parent).unwrap()[name] = value;
            for (by, id) in [(sqs(&event), "c9a8f2b3"), (event.clone(), "17793124-05d4-b198-2fde-7ededc63b103")] {
                let notice = notice(&by);
                assert_eq!(reasons(&notice), reason.into_iter().collect::<Vec<_>>(), "{by}");
                assert_eq!(records(&notice), 1);
                for poison in notice.poison {
                    assert_eq!(poison.id, id);
                    assert_eq!(poison.body().unwrap(), event.to_string().as_bytes());
                }
            }
        }
        let mut trail = bridge(KAFKA);
        trail["detail-type"] = "AWS API Call via CloudTrail".into();
        assert_eq!(reasons(&notice(&sqs(&trail))), ["unknown_envelope"]);
    }

    #[test]
    fn the_last_of_two_members_counts() {
        let event = s3_event(KAFKA).to_string().replace("\"key\":", "\"key\":5,\"key\":");
        assert_eq!(keys(&notices(&event)), [KAFKA]);
        let event =
            sqs(&s3_event(KAFKA)).to_string().replace("\"messageId\":", "\"messageId\":\"other\",\"messageId\":");
        assert_eq!(notices(&event)[0].message_id.as_deref(), Some("c9a8f2b3"));
    }
}
