//! The event by which EventBridge invokes a function on a schedule.

use jiff::Timestamp;
use serde::Deserialize;

/// No tick is larger.
const MAX_TICK_BYTES: usize = 4 << 10;

/// Whether the event is a tick of the schedule.
#[must_use]
pub fn is_tick(event: &[u8]) -> bool {
    tick(event).is_some()
}

/// When the schedule sent the event, if it is one of a schedule. Other events have a time as well.
///
/// Source: "Scheduled events", Amazon EventBridge user guide.
#[must_use]
pub fn tick(event: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Scheduled<'a> {
        source: &'a str,
        #[serde(rename = "detail-type")]
        detail_type: &'a str,
        time: Timestamp,
    }
    if event.len() > MAX_TICK_BYTES {
        return None;
    }
    let event: Scheduled<'_> = serde_json::from_slice(event).ok()?;
    ((event.source, event.detail_type) == ("aws.events", "Scheduled Event")).then_some(event.time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_event_of_a_schedule_is_a_tick() {
        let tick = br#"{"version":"0","id":"1","detail-type":"Scheduled Event","source":"aws.events","account":"1",
            "time":"2026-11-20T14:11:00Z","region":"eu-west-1","resources":["arn:aws:events:eu-west-1:1:rule/tick"],"detail":{}}"#;
        assert!(is_tick(tick));
        assert_eq!(super::tick(tick), Some("2026-11-20T14:11:00Z".parse().unwrap()));
        for other in [
            &br#"{"Records":[]}"#[..],
            br#"{"source":"aws.s3","detail-type":"Object Restore Completed","time":"2026-11-20T14:11:00Z"}"#,
            br#"{"source":"aws.ecr","detail-type":"ECR Image Scan","time":"2026-11-20T14:11:00Z"}"#,
            br#"{"source":"aws.cloudwatch","detail-type":"CloudWatch Alarm State Change","time":"2026-11-20T14:11:00Z"}"#,
            br#"{"source":"shop","detail-type":"Scheduled Event","time":"2026-11-20T14:11:00Z"}"#,
            br#"{"source":"aws.events","detail-type":"Scheduled Event"}"#,
            br#"{"time":"2026-11-20T14:11:00Z"}"#,
            br#"[{"source":"aws.events","detail-type":"Scheduled Event","time":"2026-11-20T14:11:00Z"}]"#,
            b"",
        ] {
            assert!(!is_tick(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
