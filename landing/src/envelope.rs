//! Parses SQS events record by record.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::{RawValue, to_raw_value};
use shared::json::{self, Scan, Text};

/// Why an event cannot be read. Nothing has been done.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The event is not an SQS event.
    #[error("the event is not an SQS event: {0}")]
    Json(#[from] serde_json::Error),
    /// A message has no id, without which it cannot be reported as failed.
    #[error("record {0} of the event has no messageId")]
    MessageId(usize),
}

/// A message, from an event or received from the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    pub message_id: Cow<'a, str>,
    /// The system attribute `SentTimestamp`, milliseconds since 1970-01-01T00:00:00Z.
    pub sent_timestamp: Option<Cow<'a, str>>,
    /// The body as it was sent: base64.
    pub body: Cow<'a, [u8]>,
    pub attributes: Attributes<'a>,
}

/// The message attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `source`: the system that sent the event.
    pub source: Option<Cow<'a, str>>,
    /// `type`: the event's type.
    pub type_name: Option<Cow<'a, str>>,
    /// `event_id`: the event's own id.
    pub event_id: Option<Cow<'a, str>>,
    /// All attributes as one JSON object; only kept if they could not be restored from these three.
    pub all: Option<Cow<'a, str>>,
}

/// Passes every message of an SQS event to `each`, in order.
///
/// If there is an error, the messages before it may already have been passed to `each`. The fast path does not check that a body
/// is valid in JSON: if it is not base64, the caller has to read the event again with [`read_json`].
pub fn read<'a>(event: &'a [u8], each: impl FnMut(Message<'a>)) -> Result<(), EventError> {
    let mut last_tail: &[u8] = &[];
    json::records(
        event,
        |scan| record(scan, &mut last_tail),
        |position, record: EventRecord<'a>| record.into_message(position),
        each,
    )
}

/// Does the same using only the JSON parser. This is the reference that the result of [`read`] must equal.
pub fn read_json<'a>(event: &'a [u8], each: impl FnMut(Message<'a>)) -> Result<(), EventError> {
    json::parse(event, 0, |position, record: EventRecord<'a>| record.into_message(position), each)
}

/// Reads a record in the form that Lambda writes; `None` at the first difference. `last_tail` is the end of the previous record.
fn record<'a>(scan: &mut Scan<'a>, last_tail: &mut &'a [u8]) -> Option<Message<'a>> {
    scan.literal(b"{\"messageId\":\"")?;
    let message_id = scan.text().filter(|id| !id.is_empty())?;
    scan.literal(b",\"receiptHandle\":\"")?;
    scan.string()?;
    scan.literal(b",\"body\":\"")?;
    let body = scan.string()?;
    scan.literal(b",\"attributes\":{")?;
    let mut sent_timestamp = None;
    members(scan, |scan, name| {
        scan.literal(b"\"")?;
        match name {
            b"SentTimestamp" => sent_timestamp = Some(scan.text()?.into()),
            _ => drop(scan.text()?),
        }
        Some(())
    })?;
    scan.literal(b",\"messageAttributes\":")?;
    let object = scan.rest;
    scan.literal(b"{")?;
    let (mut attributes, mut are_all_known) = (Attributes::default(), true);
    members(scan, |scan, name| {
        let attribute = match name {
            b"source" => Some(&mut attributes.source),
            b"type" => Some(&mut attributes.type_name),
            b"event_id" => Some(&mut attributes.event_id),
            _ => None,
        };
        scan.literal(b"{\"stringValue\":\"")?;
        let value = scan.text()?;
        // Either both empty lists are present or none.
        if scan.literal(b",\"dataType\":\"String\"}").is_none() {
            scan.literal(b",\"stringListValues\":[],\"binaryListValues\":[],\"dataType\":\"String\"}")?;
        }
        match attribute {
            // If a name is repeated, the JSON parser decides which value counts.
            Some(attribute) => attribute.replace(value.into()).is_none().then_some(()),
            None => {
                are_all_known = false;
                Some(())
            }
        }
    })?;
    if !are_all_known {
        let object = object.get(..object.len() - scan.rest.len())?;
        attributes.all = Some(std::str::from_utf8(object).ok()?.into());
    }
    tail(scan, last_tail)?;
    Some(Message { message_id: message_id.into(), sent_timestamp, body: body.into(), attributes })
}

/// Reads the members of an object after its opening brace, and the closing brace.
#[inline]
fn members<'a>(scan: &mut Scan<'a>, mut value: impl FnMut(&mut Scan<'a>, &'a [u8]) -> Option<()>) -> Option<()> {
    if scan.literal(b"}").is_some() {
        return Some(());
    }
    loop {
        scan.literal(b"\"")?;
        let name = scan.plain()?;
        scan.literal(b":")?;
        value(scan, name)?;
        if scan.literal(b",").is_none() {
            return scan.literal(b"}");
        }
    }
}

/// Reads the rest of a record after the message attributes, including the closing brace. From `eventSource` on, it is the same
/// for all messages of a queue, and is compared with the previous record.
#[inline]
fn tail<'a>(scan: &mut Scan<'a>, last: &mut &'a [u8]) -> Option<()> {
    let mut shared = None;
    while scan.literal(b",").is_some() {
        if !last.is_empty() && scan.literal(last).is_some() {
            return Some(());
        }
        let before = scan.rest;
        scan.literal(b"\"")?;
        let name = scan.plain()?;
        if matches!(name, b"messageId" | b"body" | b"attributes" | b"messageAttributes") {
            return None;
        }
        scan.literal(b":\"")?;
        scan.text()?;
        if name == b"eventSource" {
            shared = Some(before);
        }
    }
    scan.literal(b"}")?;
    if let Some(shared) = shared {
        *last = shared.get(..shared.len() - scan.rest.len())?;
    }
    Some(())
}

/// The members of a record that are used; all others are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord<'a> {
    #[serde(borrow)]
    message_id: Option<Text<'a>>,
    #[serde(borrow)]
    body: Option<Text<'a>>,
    #[serde(borrow, default)]
    attributes: SystemAttributes<'a>,
    #[serde(borrow)]
    message_attributes: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct SystemAttributes<'a> {
    #[serde(borrow, default)]
    sent_timestamp: Option<Text<'a>>,
}

impl<'a> EventRecord<'a> {
    fn into_message(self, position: usize) -> Result<Message<'a>, EventError> {
        let message_id = self.message_id.map(|text| text.0).filter(|id| !id.is_empty());
        Ok(Message {
            message_id: message_id.ok_or(EventError::MessageId(position))?,
            sent_timestamp: self.attributes.sent_timestamp.map(|text| text.0),
            body: self.body.unwrap_or_default().into_bytes(),
            attributes: self.message_attributes.map(Attributes::parse).transpose()?.unwrap_or_default(),
        })
    }
}

/// One message attribute.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttributeValue<'a> {
    #[serde(borrow, default)]
    string_value: Option<Text<'a>>,
    /// In base64.
    #[serde(borrow, default)]
    binary_value: Option<Text<'a>>,
    #[serde(borrow, default)]
    data_type: Option<Text<'a>>,
}

impl<'a> Attributes<'a> {
    /// Reads a JSON object as in an SQS event: name → `{"dataType", "stringValue" | "binaryValue"}`.
    fn parse(object: &'a RawValue) -> Result<Self, serde_json::Error> {
        let (mut attributes, mut are_all_known) = (Attributes::default(), true);
        for (name, value) in members_of(object.get())? {
            let known = match &*name {
                "source" => &mut attributes.source,
                "type" => &mut attributes.type_name,
                "event_id" => &mut attributes.event_id,
                _ => {
                    are_all_known = false;
                    continue;
                }
            };
            let read: AttributeValue<'a> = serde_json::from_str(value.get())?;
            *known = read.string_value.map(|text| text.0);
            // Kept unchanged if it could not be restored from the text alone.
            are_all_known &= known.is_some() && read.data_type.is_some_and(|data_type| &*data_type.0 == "String");
        }
        attributes.all = (!are_all_known).then(|| object.get().into());
        Ok(attributes)
    }

    /// Name → `{"dataType", "stringValue" | "binaryValue"}`, as in an SQS event, sorted by name.
    #[must_use]
    pub fn to_json(&self) -> Box<RawValue> {
        let object = match self.all.as_deref().map(members_of) {
            Some(Ok(all)) => to_raw_value(&all.into_iter().collect::<BTreeMap<_, _>>()),
            _ => {
                let known = [("event_id", &self.event_id), ("source", &self.source), ("type", &self.type_name)];
                let known = known.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
                let text = |value| serde_json::json!({"dataType": "String", "stringValue": value});
                to_raw_value(&known.map(|(name, value)| (name, text(value))).collect::<BTreeMap<_, _>>())
            }
        };
        object.unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

/// The attributes of [`Attributes::all`] that have no column of their own, sorted by name, with binary ones as base64.
#[must_use]
pub fn others(all: &str) -> BTreeMap<Cow<'_, str>, Cow<'_, str>> {
    let members = members_of(all).unwrap_or_default().into_iter();
    let values = members.filter_map(|(name, value)| {
        let value: AttributeValue<'_> = serde_json::from_str(value.get()).ok()?;
        let has_column = matches!(&*name, "source" | "type" | "event_id") && value.string_value.is_some();
        let text = value.string_value.or(value.binary_value).map(|text| text.0).unwrap_or_default();
        (!has_column).then_some((name, text))
    });
    values.collect()
}

/// The members of a JSON object. A name may come several times.
fn members_of(object: &str) -> Result<Vec<(Cow<'_, str>, &RawValue)>, serde_json::Error> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("message attributes")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                members.push((name.0, value));
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(object).deserialize_map(Members)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The messages of an event, or the error, read by the fast path and by the JSON parser alone.
    fn both(event: &[u8]) -> [Result<Vec<Message<'static>>, String>; 2] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let fast = super::read(event, |message| ours.push(owned(&message)));
        let json = read_json(event, |message| theirs.push(owned(&message)));
        [(fast, ours), (json, theirs)]
            .map(|(read, messages)| read.map(|()| messages).map_err(|error| error.to_string()))
    }

    fn owned(message: &Message<'_>) -> Message<'static> {
        let own = |text: &Option<Cow<'_, str>>| text.as_ref().map(|text| Cow::Owned(text.to_string()));
        Message {
            message_id: Cow::Owned(message.message_id.to_string()),
            sent_timestamp: own(&message.sent_timestamp),
            body: Cow::Owned(message.body.to_vec()),
            attributes: Attributes {
                source: own(&message.attributes.source),
                type_name: own(&message.attributes.type_name),
                event_id: own(&message.attributes.event_id),
                all: own(&message.attributes.all),
            },
        }
    }

    /// A record as Lambda writes it.
    fn as_lambda_writes(id: &str, body: &str, attributes: &[(String, String)], tail: &str) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let attributes: Vec<String> = attributes
            .iter()
            .map(|(name, value)| {
                let lists =
                    if value.len().is_multiple_of(2) { r#""stringListValues":[],"binaryListValues":[],"# } else { "" };
                format!(r#"{}:{{"stringValue":{},{lists}"dataType":"String"}}"#, quoted(name), quoted(value))
            })
            .collect();
        format!(
            r#"{{"messageId":{},"receiptHandle":"AQEB","body":{},"attributes":{{"ApproximateReceiveCount":"1","SentTimestamp":"1795183906123"}},"messageAttributes":{{{}}}{tail}}}"#,
            quoted(id),
            quoted(body),
            attributes.join(",")
        )
    }

    #[test]
    fn a_record_as_lambda_writes_it_takes_the_fast_path() {
        let attributes = [("type", "OrderCreated"), ("source", "orders"), ("trace_id", "4bf92f")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let tail = r#","md5OfBody":"d41d","eventSource":"aws:sqs","awsRegion":"eu-west-1""#;
        for tail in [tail, ""] {
            let record = as_lambda_writes("m-1", "AA==", &attributes, tail);
            let both = [&*record, &*record].concat();
            let (mut scan, mut last_tail) = (Scan { rest: both.as_bytes() }, &b""[..]);
            let message = super::record(&mut scan, &mut last_tail).unwrap();
            assert_eq!(last_tail.is_empty(), tail.is_empty());
            assert_eq!(super::record(&mut scan, &mut last_tail), Some(message.clone()));
            assert!(scan.rest.is_empty());
            assert_eq!((&*message.message_id, &*message.body), ("m-1", &b"AA=="[..]));
            assert_eq!(message.sent_timestamp.as_deref(), Some("1795183906123"));
            assert_eq!(message.attributes.type_name.as_deref(), Some("OrderCreated"));
            assert_eq!(message.attributes.event_id, None);
            let others = super::others(message.attributes.all.as_deref().unwrap());
            assert_eq!(others, BTreeMap::from([("trace_id".into(), "4bf92f".into())]));
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[A-Za-z0-9+/=-]{0,20}", 1 => "\\PC{0,6}", 1 => any::<String>()]
    }

    fn record() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            6 => prop::sample::select(vec!["type".to_owned(), "source".to_owned(), "event_id".to_owned()]),
            1 => text(),
        ];
        let tail = prop::sample::select(vec![
            "",
            r#","md5OfBody":"d41d","eventSource":"aws:sqs","awsRegion":"eu-west-1""#,
            r#","md5OfBody":"d41e","eventSource":"aws:sqs","awsRegion":"eu-west-1""#,
            r#","eventSource":"aws:sqs","awsRegion":"eu-west-1","body":"second""#,
            r#","extra":{"a":[1,2,{"b":"}"}]}"#,
            r#","body":"second""#,
            r#","awsRegion":null"#,
        ]);
        let attributes = prop::collection::vec((name, text()), 0..4);
        (text(), text(), attributes, tail, any::<bool>()).prop_map(|(id, body, attributes, tail, pretty)| {
            let record = as_lambda_writes(&id, &body, &attributes, tail);
            match serde_json::from_str::<Value>(&record) {
                Ok(value) if pretty => serde_json::to_string_pretty(&value).unwrap(),
                _ => record,
            }
        })
    }

    fn event() -> impl Strategy<Value = String> {
        (prop::collection::vec(record(), 0..5), any::<bool>()).prop_map(|(records, spaced)| {
            let (open, close) = if spaced { ("{ \"Records\": [", "] }\n") } else { ("{\"Records\":[", "]}") };
            format!("{open}{}{close}", records.join(","))
        })
    }

    proptest! {
        #[test]
        fn the_fast_way_agrees_with_the_json_parser(event in event()) {
            let [ours, theirs] = both(event.as_bytes());
            prop_assert_eq!(ours.ok(), theirs.ok());
        }

        #[test]
        fn whatever_the_json_parser_accepts_is_read_alike(
            event in event(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut event = event.into_bytes();
            for (at, byte) in damage {
                *at.get_mut(&mut event) = byte;
            }
            let [ours, theirs] = both(&event);
            if let Ok(theirs) = theirs {
                prop_assert_eq!(ours, Ok(theirs));
            }
        }
    }
}
