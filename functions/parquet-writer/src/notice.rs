//! What the topic is told about a file: an S3 event notification, the shape that Snowpipe reads.
//!
//! Source: "Event message structure", Amazon S3 user guide. Snowflake documents S3 itself as the publisher; set
//! `NOTIFY=s3` to have it so.

use aws_sdk_sns::{Client, error::DisplayErrorContext};
use serde_json::json;
use shared::{quarantine::rfc3339, s3_key};

use runtime::store::Stored;

/// The topic did not take a notice.
#[derive(Debug, thiserror::Error)]
#[error("{topic_arn} could not be told of the file: {cause}")]
pub struct NoticeError {
    topic_arn: String,
    cause: String,
}

/// The notification for one object. `landed_ms` stands for the time of the put and comes from the records.
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

/// Tells the topic.
pub async fn publish(client: &Client, topic_arn: &str, body: String) -> Result<(), NoticeError> {
    client.publish().topic_arn(topic_arn).message(body).send().await.map_err(|error| NoticeError {
        topic_arn: topic_arn.to_owned(),
        cause: DisplayErrorContext(error).to_string(),
    })?;
    Ok(())
}
