//! Quarantine records: records that can never be used are kept with their bytes and the reason.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One line of a quarantine object, with everything that is needed to send the record again.
///
/// The same record always gives the same line: the line has nothing that differs between deliveries, such as a receive
/// count.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// The function that refused the record.
    pub function: String,
    /// Machine-readable cause in snake_case. Each function lists its reasons in its README.
    pub reason: String,
    /// The cause as a sentence.
    pub detail: String,
    /// The source's id of the record (SQS message id, Kinesis sequence number, request id).
    pub id: String,
    /// When the record was sent, in RFC 3339; `None` if that is not known.
    pub sent_at: Option<String>,
    /// The attributes that came with the record, unchanged.
    pub attributes: Box<RawValue>,
    /// The record's bytes in base64.
    pub body_base64: String,
}

/// Milliseconds since 1970-01-01T00:00:00Z → RFC 3339, such as `2026-11-20T14:11:46.123Z`.
#[must_use]
pub fn rfc3339(unix_ms: i64) -> Option<String> {
    let instant = Timestamp::from_millisecond(unix_ms).ok()?;
    Some(format!("{instant:.3}"))
}

/// Bytes → standard base64.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

impl QuarantineRecord {
    /// What tells records apart. Several records of one message share its id and differ in their bodies.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} {}", self.id, self.body_base64)
    }

    /// When the record was sent, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn sent_at_ms(&self) -> Option<i64> {
        let sent_at: Timestamp = self.sent_at.as_deref()?.parse().ok()?;
        Some(sent_at.as_millisecond())
    }

    /// The record's bytes, or `None` if `body_base64` is damaged.
    #[must_use]
    pub fn body(&self) -> Option<Vec<u8>> {
        base64_simd::STANDARD.decode_to_vec(&self.body_base64).ok()
    }
}

/// The body of a quarantine object: one line per record, sorted by id and body.
pub fn to_ndjson(records: &mut [QuarantineRecord]) -> Result<String, serde_json::Error> {
    records.sort_by(|a, b| (&a.id, &a.body_base64).cmp(&(&b.id, &b.body_base64)));
    let mut body = String::new();
    for record in records.iter() {
        // The attributes may span several lines. Line breaks can be replaced because no JSON string contains any.
        body.push_str(&serde_json::to_string(record)?.replace(['\n', '\r'], " "));
        body.push('\n');
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(id: &str, body: &[u8]) -> QuarantineRecord {
        QuarantineRecord {
            function: "parquet-writer".into(),
            reason: "invalid_base64".into(),
            detail: "the body is not base64".into(),
            id: id.into(),
            sent_at: rfc3339(1_795_183_906_123),
            attributes: RawValue::from_string(r#"{"type":"OrderCreated"}"#.into()).unwrap(),
            body_base64: base64(body),
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(1_795_183_906_123).unwrap(), "2026-11-20T14:11:46.123Z");
        assert_eq!(rfc3339(0).unwrap(), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(i64::MAX), None);
    }

    #[test]
    fn order_of_arrival_does_not_change_the_object() {
        let mut forward = [record("a", b"1"), record("b", b"2")];
        let mut backward = [record("b", b"2"), record("a", b"1")];
        assert_eq!(to_ndjson(&mut forward).unwrap(), to_ndjson(&mut backward).unwrap());
        let (mut forward, mut backward) =
            ([record("a", b"1"), record("a", b"2")], [record("a", b"2"), record("a", b"1")]);
        assert_eq!(to_ndjson(&mut forward).unwrap(), to_ndjson(&mut backward).unwrap(), "two records of one message");
    }

    #[test]
    fn attributes_over_several_lines_are_one_line() {
        let attributes = "{\r\n  \"type\": \"Order\\nCreated\"\n}";
        let spread =
            QuarantineRecord { attributes: RawValue::from_string(attributes.into()).unwrap(), ..record("a", b"1") };
        let line = to_ndjson(&mut [spread]).unwrap();
        assert_eq!(line.lines().count(), 1);
        let read: QuarantineRecord = serde_json::from_str(&line).unwrap();
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(read.attributes.get()), value(attributes));
    }

    proptest! {
        #[test]
        fn the_bytes_come_back(body in prop::collection::vec(any::<u8>(), 0..200), id in any::<String>()) {
            let line = to_ndjson(&mut [record(&id, &body)]).unwrap();
            prop_assert_eq!(line.lines().count(), 1);
            let read: QuarantineRecord = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read.body().unwrap(), body);
            prop_assert_eq!(read.id, id);
        }
    }
}
