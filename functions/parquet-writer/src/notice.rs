//! The notification about a file on the SNS topic, in the form of an S3 event notification, which Snowpipe reads.
//!
//! Source: "Event message structure", Amazon S3 user guide. Snowflake documents only notifications that S3 itself publishes;
//! with `NOTIFY=s3` it does.

use std::time::Duration;

use aws_sdk_sns::Client;
use objects::Stored;
use runtime::{clock, failure::cause};
use serde_json::json;
use shared::{quarantine::rfc3339, s3_key};
use tokio::time::timeout;

/// SNS answers within milliseconds.
const MAX_PUBLISH: Duration = Duration::from_secs(10);

/// The notification could not be published.
#[derive(Debug, thiserror::Error)]
#[error("the file could not be announced on {topic_arn}: {cause}")]
pub struct NoticeError {
    topic_arn: String,
    cause: String,
}

/// The notification for one object, for a topic in the same region as the bucket. `landed_ms` is used as the time of the
/// put. It comes from the records, so that a retry publishes the same notification.
#[must_use]
pub fn body(topic_arn: &str, bucket: &str, key: &str, stored: &Stored, landed_ms: i64) -> String {
    // arn:aws-cn:sns:cn-north-1:123456789012:landed
    let [partition, region] = [1, 3].map(|part| topic_arn.split(':').nth(part).unwrap_or_default());
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
                    "arn": format!("arn:{partition}:s3:::{bucket}"),
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

/// Publishes a notification, in a third of the time that is left of the invocation: if the topic does not answer, there has to be
/// time to note that.
pub async fn publish(client: &Client, topic_arn: &str, body: String, deadline_ms: u64) -> Result<(), NoticeError> {
    let limit = MAX_PUBLISH.min(clock::remaining(deadline_ms) / 3);
    let cause = match timeout(limit, client.publish().topic_arn(topic_arn).message(body).send()).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => cause(&error),
        Err(_) => format!("there was no answer within {limit:.1?}"),
    };
    Err(NoticeError { topic_arn: topic_arn.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_bucket_is_in_the_partition_and_the_region_of_the_topic() {
        let stored = Stored { e_tag: "e".into(), size: 1, already: false };
        for (topic_arn, arn, region) in [
            ("arn:aws:sns:eu-west-1:123456789012:landed", "arn:aws:s3:::lake", "eu-west-1"),
            ("arn:aws-cn:sns:cn-north-1:123456789012:landed", "arn:aws-cn:s3:::lake", "cn-north-1"),
            ("arn:aws-us-gov:sns:us-gov-west-1:123456789012:landed", "arn:aws-us-gov:s3:::lake", "us-gov-west-1"),
        ] {
            let notice: Value = serde_json::from_str(&body(topic_arn, "lake", "events/a", &stored, 0)).unwrap();
            let record = &notice["Records"][0];
            assert_eq!((&record["s3"]["bucket"]["arn"], &record["awsRegion"]), (&arn.into(), &region.into()));
        }
    }
}
