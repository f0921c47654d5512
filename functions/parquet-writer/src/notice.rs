//! The notification about a file on the SNS topic, in the form of an S3 event notification, which Snowpipe reads.
//!
//! Source: "Event message structure", Amazon S3 user guide. Snowflake documents only notifications that S3 itself publishes;
//! with `NOTIFY=s3` it does.

use aws_sdk_sns::{Client, error::DisplayErrorContext};
use objects::Stored;
use serde_json::json;
use shared::{quarantine::rfc3339, s3_key};

/// The notification could not be published.
#[derive(Debug, thiserror::Error)]
#[error("the file could not be announced on {topic_arn}: {cause}")]
pub struct NoticeError {
    topic_arn: String,
    cause: String,
}

/// The notification for one object. `landed_ms` is used as the time of the put. It comes from the records, so that a retry
/// publishes the same notification.
#[must_use]
pub fn body(region: &str, bucket: &str, key: &str, stored: &Stored, landed_ms: i64) -> String {
    json!({
        "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": region,
            "eventTime": rfc3339(landed_ms),
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": crate::FUNCTION},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {"x-amz-request-id": "", "x-amz-id-2": ""},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": crate::FUNCTION,
                "bucket": {
                    "name": bucket,
                    "ownerIdentity": {"principalId": crate::FUNCTION},
                    "arn": format!("arn:aws:s3:::{bucket}"),
                },
                "object": {
                    "key": s3_key::encode(key),
                    "size": stored.size,
                    "eTag": stored.e_tag,
                    "sequencer": format!("{landed_ms:016X}"),
                },
            },
        }],
    })
    .to_string()
}

/// Publishes a notification.
pub async fn publish(client: &Client, topic_arn: &str, body: String) -> Result<(), NoticeError> {
    client.publish().topic_arn(topic_arn).message(body).send().await.map_err(|error| NoticeError {
        topic_arn: topic_arn.to_owned(),
        cause: DisplayErrorContext(error).to_string(),
    })?;
    Ok(())
}
