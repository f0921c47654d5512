//! The event by which EventBridge invokes a function on a schedule.

use serde::Deserialize;

/// No tick is larger.
const MAX_TICK_BYTES: usize = 4 << 10;

/// Whether the event is a tick of the schedule.
///
/// Source: "Scheduled events", Amazon EventBridge user guide.
#[must_use]
pub fn is_tick(event: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Scheduled<'a> {
        source: &'a str,
        #[serde(rename = "detail-type")]
        detail_type: &'a str,
    }
    event.len() <= MAX_TICK_BYTES
        && serde_json::from_slice::<Scheduled<'_>>(event)
            .is_ok_and(|event| (event.source, event.detail_type) == ("aws.events", "Scheduled Event"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_event_of_a_schedule_is_a_tick() {
        let tick = br#"{"version":"0","id":"1","detail-type":"Scheduled Event","source":"aws.events","account":"1",
            "time":"2026-11-20T14:11:00Z","region":"eu-west-1","resources":["arn:aws:events:eu-west-1:1:rule/tick"],"detail":{}}"#;
        assert!(is_tick(tick));
        for other in [
            &br#"{"Records":[]}"#[..],
            br#"{"source":"aws.s3","detail-type":"Object Created"}"#,
            br#"{"source":"shop","detail-type":"Scheduled Event"}"#,
            br#"[{"source":"aws.events","detail-type":"Scheduled Event"}]"#,
            b"",
        ] {
            assert!(!is_tick(other), "{}", String::from_utf8_lossy(other));
        }
    }
}
