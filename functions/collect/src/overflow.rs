//! The queue that takes hits which Kinesis does not take in time, and from which they go into the stream later.
//!
//! A message is `{"partition_key": …, "event": …}`, with the event as it is in the stream.
//!
//! Source: `SendMessageBatch`, Amazon SQS API reference; "Using Lambda with Amazon SQS", AWS Lambda developer guide.

use std::time::Duration;

use aws_sdk_sqs::{
    Client,
    error::{ProvideErrorMetadata as _, SdkError},
    operation::send_message_batch::SendMessageBatchError,
    types::SendMessageBatchRequestEntry,
};
use runtime::{failure, pause::jittered};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::event::Event;

/// Most messages of a request.
const MOST_ENTRIES: usize = 10;
/// Most bytes of a request, of all messages together. SQS takes four times as many.
const MOST_BYTES: usize = 256 * 1_024;
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    partition_key: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// A message that Lambda delivers.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    /// `None` if it is none of ours. It is given back until SQS moves it to the dead letters.
    pub event: Option<Event>,
}

/// Sends the events at `positions` until `until`. Returns the positions of those that are not known to be in the queue.
pub async fn send(client: &Client, url: &str, events: &[Event], positions: Vec<usize>, until: Instant) -> Vec<usize> {
    let mut waiting: Vec<(usize, String)> = Vec::with_capacity(positions.len());
    let mut failed = Vec::new();
    for position in positions {
        match events.get(position).and_then(body) {
            Some(body) => waiting.push((position, body)),
            None => failed.push(position),
        }
    }
    while !waiting.is_empty() {
        let number = fitting(&waiting);
        let batch = waiting.get(..number).unwrap_or_default();
        let rejected = match timeout_at(until, attempt(client, url, batch)).await {
            Ok(Ok(rejected)) => rejected,
            Ok(Err(cause)) => {
                warn!(%cause, messages = number, "messages not queued, retrying");
                batch.iter().map(|(position, _)| *position).collect()
            }
            Err(_) => break,
        };
        let sent = waiting.drain(..number);
        let back: Vec<_> = sent.filter(|(position, _)| rejected.contains(position)).collect();
        if !back.is_empty() {
            if Instant::now() + PAUSE >= until {
                failed.extend(back.into_iter().map(|(position, _)| position));
                break;
            }
            waiting.extend(back);
            sleep(jittered(PAUSE)).await;
        }
    }
    failed.extend(waiting.into_iter().map(|(position, _)| position));
    failed
}

/// The message of an event. SQS refuses two characters that JSON allows, so they are escaped.
fn body(event: &Event) -> Option<String> {
    let line = str::from_utf8(event.line.trim_ascii_end()).ok()?;
    let envelope =
        Envelope { partition_key: event.partition_key.as_str().into(), event: serde_json::from_str(line).ok()? };
    let body = serde_json::to_string(&envelope).ok()?;
    if body.contains(['\u{fffe}', '\u{ffff}']) {
        return Some(body.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff"));
    }
    Some(body)
}

/// How many of the messages fit into a request, at least one.
fn fitting(waiting: &[(usize, String)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, body): &&(usize, String)| {
        bytes += body.len();
        bytes <= MOST_BYTES
    };
    waiting.iter().take(MOST_ENTRIES).take_while(fits).count().max(1)
}

/// Sends a batch once and returns the positions of the messages that were rejected.
async fn attempt(client: &Client, url: &str, batch: &[(usize, String)]) -> Result<Vec<usize>, String> {
    let mut entries = Vec::with_capacity(batch.len());
    for (position, body) in batch {
        let entry = SendMessageBatchRequestEntry::builder().id(position.to_string()).message_body(body);
        entries.push(entry.build().map_err(|error| error.to_string())?);
    }
    let answer = client.send_message_batch().queue_url(url).set_entries(Some(entries)).send().await;
    let answer = answer.map_err(|error| cause(&error))?;
    let is_sent = |position: &usize| answer.successful().iter().any(|entry| entry.id() == position.to_string());
    Ok(batch.iter().map(|(position, _)| *position).filter(|position| !is_sent(position)).collect())
}

/// The cause of an error for the log, without the message of SQS, which may quote a hit.
fn cause(error: &SdkError<SendMessageBatchError>) -> String {
    match error {
        SdkError::ServiceError(service) => {
            error.code().map_or_else(|| format!("status {}", service.raw().status().as_u16()), str::to_owned)
        }
        other => failure::cause(other),
    }
}

/// The messages of an event of SQS. `None` if it is another event.
#[must_use]
pub fn read(event: &[u8]) -> Option<Vec<Message>> {
    #[derive(Deserialize)]
    struct Messages {
        #[serde(rename = "Records")]
        records: Vec<Record>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record {
        message_id: String,
        event_source: String,
        body: String,
    }
    // A request is not parsed twice.
    let members = event.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start();
    if !members.starts_with(b"\"Records\"") {
        return None;
    }
    let Messages { records } = serde_json::from_slice(event).ok()?;
    if records.is_empty() || records.iter().any(|record| record.event_source != "aws:sqs") {
        return None;
    }
    Some(
        records
            .into_iter()
            .map(|Record { message_id, body, .. }| Message { id: message_id, event: of_body(&body) })
            .collect(),
    )
}

fn of_body(body: &str) -> Option<Event> {
    let Envelope { partition_key, event } = serde_json::from_str(body).ok()?;
    let line = [event.get().as_bytes(), b"\n"].concat();
    Some(Event { line, partition_key: partition_key.into_owned(), redacted: 0, anonymised: false, is_rejected: false })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn event(line: &str, key: &str) -> Event {
        let line = format!("{line}\n").into_bytes();
        Event { line, partition_key: key.to_owned(), redacted: 0, anonymised: false, is_rejected: false }
    }

    fn delivered(bodies: &[String]) -> Vec<u8> {
        let records: Vec<Value> = bodies
            .iter()
            .enumerate()
            .map(|(id, body)| json!({"messageId": id.to_string(), "eventSource": "aws:sqs", "body": body, "attributes": {}}))
            .collect();
        json!({"Records": records}).to_string().into_bytes()
    }

    #[test]
    fn other_events_are_none_of_the_queue() {
        for other in [
            json!({"Records": []}),
            json!({"Records": [{"eventSource": "aws:s3"}]}),
            json!({"Records": [{"messageId": "1", "eventSource": "aws:kinesis", "body": "{}"}]}),
            json!({"requestContext": {}, "body": "\"Records\""}),
            json!([]),
        ] {
            assert_eq!(read(other.to_string().as_bytes()), None, "{other}");
        }
        let strange = read(&delivered(&["hello".to_owned(), "{}".to_owned()])).unwrap();
        assert!(strange.iter().all(|message| message.event.is_none()));
    }

    #[test]
    fn messages_are_sent_in_requests_that_sqs_takes() {
        let of = |bytes: usize| (0, "x".repeat(bytes));
        assert_eq!(fitting(&vec![of(10); 30]), 10);
        assert_eq!(fitting(&vec![of(100_000); 5]), 2);
        assert_eq!(fitting(&[of(900_000), of(1)]), 1);
    }

    proptest! {
        #[test]
        fn events_come_out_of_the_queue_as_they_went_in(text in any::<String>(), key in any::<String>()) {
            let line = json!({"text": text, "more": [1, 2.50, null], "odd": "\u{ffff}\u{fffe}\u{1}"}).to_string();
            let body = body(&event(&line, &key)).unwrap();
            // What SQS takes: XML 1.0, "2.2 Characters".
            let is_taken = |character: char| {
                matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
            };
            prop_assert!(body.chars().all(is_taken));
            let [Message { event: Some(found), .. }] = &read(&delivered(&[body])).unwrap()[..] else { panic!("one") };
            prop_assert_eq!(&found.partition_key, &key);
            let value = |line: &[u8]| serde_json::from_slice::<Value>(line).unwrap();
            prop_assert_eq!(value(&found.line), value(line.as_bytes()));
            prop_assert_eq!(found.line.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }
}
