//! AMQP message → SQS message. What SQS would refuse is found here, before it is sent.
//!
//! Sources: "Amazon SQS message attributes" (names, types, ten of them) and "Amazon SQS message quotas" (characters, sizes),
//! Amazon SQS developer guide; `SendMessageBatch`, Amazon SQS API reference.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value as Json, json, value::RawValue};
use sha2::{Digest, Sha256};
use shared::quarantine::{QuarantineRecord, base64, rfc3339};

use crate::{SERVICE, config::Origin};

/// Most bytes of a message and of a batch: body, and names, types and values of the attributes.
pub const MOST_BYTES: usize = 1 << 20;
/// Most attributes of a message.
const MOST_ATTRIBUTES: usize = 10;
/// Most characters of an attribute's name.
const MOST_NAME: usize = 256;
/// The attribute for everything that cannot be an attribute of its own, as JSON.
const REST: &str = "amqp";
/// How often a quorum queue has delivered a message before. It differs between deliveries, so it is no attribute.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// What a message needs in memory beside its body and attributes.
const OVERHEAD: usize = 512;

/// The value of an SQS attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    String(String),
    /// A number in digits.
    Number(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Value {
    const fn data_type(&self) -> &'static str {
        match self {
            Self::String(_) => "String",
            Self::Number(_) => "Number",
            Self::Binary(_) => "Binary",
        }
    }

    const fn len(&self) -> usize {
        match self {
            Self::String(text) | Self::Number(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// Why SQS can never take a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    /// SQS takes no empty body, and an empty body in base64 is empty.
    #[error("the body is empty, which SQS does not take")]
    EmptyBody,
    /// The message is larger than SQS takes.
    #[error("the message has {bytes} bytes in base64 and with its attributes, and SQS takes {MOST_BYTES}")]
    TooLarge {
        /// What SQS would count.
        bytes: usize,
    },
    /// An attribute that identifies the event has characters that SQS does not take.
    #[error("the attribute {0} has characters that SQS does not take")]
    ForbiddenCharacters(&'static str),
    /// SQS refused it all the same.
    #[error("SQS refuses the message: {0}")]
    RefusedBySqs(String),
    /// Sending it failed in each of its deliveries.
    #[error("the message could not be sent in {0} deliveries")]
    TooManyDeliveries(u64),
}

impl Poison {
    /// The reason, as in quarantine records and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::EmptyBody => "empty_body",
            Self::TooLarge { .. } => "too_large",
            Self::ForbiddenCharacters(_) => "forbidden_characters",
            Self::RefusedBySqs(_) => "refused_by_sqs",
            Self::TooManyDeliveries(_) => "too_many_deliveries",
        }
    }
}

/// A message as it came from the broker.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The queue that it was consumed from.
    pub queue: &'a str,
    /// The exchange that it was published to; empty for the default exchange.
    pub exchange: &'a str,
    /// Its routing key.
    pub routing_key: &'a str,
    /// Its properties and headers.
    pub properties: &'a BasicProperties,
    /// Its body.
    pub body: &'a [u8],
}

/// A message as it is sent to SQS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What identifies it in logs and in the quarantine: the `message_id`, or a hash of the body without one.
    pub id: String,
    /// When it was published, in milliseconds since 1970-01-01T00:00:00Z, if it says so.
    pub published_ms: Option<i64>,
    /// How often a quorum queue has delivered it before.
    pub deliveries: u64,
    /// The body in base64.
    pub body: String,
    /// Ten at most.
    pub attributes: BTreeMap<String, Value>,
}

impl Message {
    /// What SQS counts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let attribute = |(name, value): (&String, &Value)| name.len() + value.data_type().len() + value.len();
        self.body.len() + self.attributes.iter().map(attribute).sum::<usize>()
    }

    /// What it needs in memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes() + OVERHEAD
    }

    /// Whether the message has an id of its producer.
    #[must_use]
    pub fn has_event_id(&self) -> bool {
        self.attributes.contains_key("event_id")
    }

    /// The record that keeps the message in the quarantine.
    pub fn quarantined(&self, poison: &Poison) -> Result<QuarantineRecord, serde_json::Error> {
        let attribute = |(name, value): (&String, &Value)| {
            let value = match value {
                Value::String(text) | Value::Number(text) => {
                    json!({"dataType": value.data_type(), "stringValue": text})
                }
                Value::Binary(bytes) => json!({"dataType": "Binary", "binaryValue": base64(bytes)}),
            };
            (name.clone(), value)
        };
        let attributes = Json::Object(self.attributes.iter().map(attribute).collect());
        Ok(QuarantineRecord {
            function: SERVICE.to_owned(),
            reason: poison.reason().to_owned(),
            detail: poison.to_string(),
            id: self.id.clone(),
            sent_at: self.published_ms.and_then(rfc3339),
            attributes: RawValue::from_string(attributes.to_string())?,
            body_base64: self.body.clone(),
        })
    }
}

/// The message for SQS, and why SQS would not take it, if it would not.
#[must_use]
pub fn convert(incoming: &Incoming<'_>, type_from: &[Origin], source_from: &[Origin]) -> (Message, Option<Poison>) {
    let properties = incoming.properties;
    let mut attributes = BTreeMap::new();
    let named = [
        ("type", first(incoming, type_from)),
        ("source", first(incoming, source_from)),
        ("event_id", text(properties.message_id())),
    ];
    for (name, value) in named {
        value.map(|value| attributes.insert(name.to_owned(), Value::String(value)));
    }
    let forbidden = attributes.iter().find_map(|(name, value)| match value {
        Value::String(text) if !text.chars().all(is_allowed) => {
            ["event_id", "source", "type"].into_iter().find(|known| known == name)
        }
        _ => None,
    });
    add_others(incoming, &mut attributes);
    let id = match text(properties.message_id()) {
        Some(id) => id,
        None => Sha256::digest(incoming.body).iter().fold("sha256-".to_owned(), |id, byte| id + &format!("{byte:02x}")),
    };
    let message = Message {
        id,
        published_ms: properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1_000)),
        deliveries: header(properties, DELIVERY_COUNT).and_then(count).unwrap_or_default(),
        body: base64(incoming.body),
        attributes,
    };
    let bytes = message.bytes();
    let poison = match forbidden {
        _ if incoming.body.is_empty() => Some(Poison::EmptyBody),
        _ if bytes > MOST_BYTES => Some(Poison::TooLarge { bytes }),
        Some(name) => Some(Poison::ForbiddenCharacters(name)),
        None => None,
    };
    (message, poison)
}

/// The characters that SQS takes in bodies and attributes.
#[must_use]
pub const fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// The first of the origins that the message has.
fn first(incoming: &Incoming<'_>, origins: &[Origin]) -> Option<String> {
    let of = |origin: &Origin| match origin {
        Origin::Type => text(incoming.properties.kind()),
        Origin::AppId => text(incoming.properties.app_id()),
        Origin::Header(name) => header(incoming.properties, name).and_then(|value| match attribute(value)? {
            Value::String(text) | Value::Number(text) => Some(text),
            Value::Binary(_) => None,
        }),
        Origin::Queue => Some(incoming.queue.to_owned()),
        Origin::Exchange => Some(incoming.exchange.to_owned()),
        Origin::RoutingKey => Some(incoming.routing_key.to_owned()),
        Origin::Word(number) => incoming.routing_key.split('.').nth(number - 1).map(str::to_owned),
        Origin::Text(text) => Some(text.clone()),
    };
    origins.iter().find_map(|origin| of(origin).filter(|text| !text.is_empty()))
}

/// Adds the routing, the properties and the headers: as attributes while there are fewer than ten, and everything else as JSON
/// in one attribute.
fn add_others(incoming: &Incoming<'_>, attributes: &mut BTreeMap<String, Value>) {
    let properties = incoming.properties;
    let own = [
        ("exchange", Some(incoming.exchange.to_owned()).filter(|text| !text.is_empty()).map(Value::String)),
        ("routing_key", Some(incoming.routing_key.to_owned()).filter(|text| !text.is_empty()).map(Value::String)),
        ("timestamp", properties.timestamp().map(|seconds| Value::Number(seconds.to_string()))),
        ("content_type", text(properties.content_type()).map(Value::String)),
        ("content_encoding", text(properties.content_encoding()).map(Value::String)),
        ("correlation_id", text(properties.correlation_id()).map(Value::String)),
        ("app_id", text(properties.app_id()).map(Value::String)),
        ("user_id", text(properties.user_id()).map(Value::String)),
        ("reply_to", text(properties.reply_to()).map(Value::String)),
        ("expiration", text(properties.expiration()).map(Value::String)),
        ("priority", properties.priority().map(|priority| Value::Number(priority.to_string()))),
        // Where it is not what `type` comes from.
        ("amqp_type", text(properties.kind()).filter(|kind| !is_type(attributes, kind)).map(Value::String)),
    ];
    let own: Vec<(&str, Value)> = own.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let headers: Vec<(&str, &AMQPValue)> = properties
        .headers()
        .iter()
        .flat_map(|headers| headers.inner().iter().map(|(name, value)| (name.as_str(), value)))
        .filter(|(name, _)| *name != DELIVERY_COUNT)
        .collect();
    let (mut rest, mut rest_headers) = (Map::new(), Map::new());
    let mut fitting = Vec::new();
    for (name, value) in own {
        match value {
            Value::String(text) if !text.chars().all(is_allowed) => drop(rest.insert(name.to_owned(), json!(text))),
            value => fitting.push((name, value, None)),
        }
    }
    for (name, value) in headers {
        let is_taken = attributes.contains_key(name) || fitting.iter().any(|(taken, ..)| *taken == name);
        match attribute(value).filter(|value| is_name(name) && !is_taken && is_sendable(value)) {
            Some(sendable) => fitting.push((name, sendable, Some(value))),
            None => drop(rest_headers.insert(name.to_owned(), json_of(value))),
        }
    }
    let room = MOST_ATTRIBUTES - attributes.len();
    let is_rest_empty = rest.is_empty() && rest_headers.is_empty();
    let keep = if is_rest_empty && fitting.len() <= room { fitting.len() } else { room - 1 };
    for (name, value, original) in fitting.split_off(keep.min(fitting.len())) {
        match original {
            Some(header) => drop(rest_headers.insert(name.to_owned(), json_of(header))),
            None => drop(rest.insert(name.to_owned(), plain(value))),
        }
    }
    attributes.extend(fitting.into_iter().map(|(name, value, _)| (name.to_owned(), value)));
    if !rest_headers.is_empty() {
        rest.insert("headers".to_owned(), Json::Object(rest_headers));
    }
    if !rest.is_empty() {
        attributes.insert(REST.to_owned(), Value::String(escaped(&Json::Object(rest).to_string())));
    }
}

fn is_type(attributes: &BTreeMap<String, Value>, kind: &str) -> bool {
    matches!(attributes.get("type"), Some(Value::String(text)) if text == kind)
}

/// Whether SQS takes this name. [`REST`] is ours.
fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let lower = name.to_ascii_lowercase();
    let is_reserved = lower.starts_with("aws.")
        || lower.starts_with("amazon.")
        || ["type", "source", "event_id", REST].contains(&name);
    let has_stray_dot = name.starts_with('.') || name.ends_with('.') || name.contains("..");
    (1..=MOST_NAME).contains(&name.len()) && name.bytes().all(is_allowed) && !is_reserved && !has_stray_dot
}

/// Whether SQS takes this value: no empty ones, and no control characters.
fn is_sendable(value: &Value) -> bool {
    let is_text = match value {
        Value::String(text) => text.chars().all(is_allowed),
        Value::Number(_) | Value::Binary(_) => true,
    };
    value.len() > 0 && is_text
}

/// A header as an attribute; `None` if it is no scalar.
fn attribute(value: &AMQPValue) -> Option<Value> {
    Some(match value {
        AMQPValue::Boolean(is) => Value::String(is.to_string()),
        AMQPValue::ShortString(text) => Value::String(text.to_string()),
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => Value::Binary(text.as_bytes().to_vec()),
        },
        AMQPValue::ByteArray(bytes) => Value::Binary(bytes.as_slice().to_vec()),
        AMQPValue::Timestamp(seconds) => Value::Number(seconds.to_string()),
        // SQS takes numbers of 38 digits between -10^128 and 10^126, so not every float; as text it takes all of them.
        AMQPValue::Float(number) => Value::String(number.to_string()),
        AMQPValue::Double(number) => Value::String(number.to_string()),
        AMQPValue::DecimalValue(number) => Value::String(format!("{}e-{}", number.value, number.scale)),
        AMQPValue::ShortShortInt(number) => Value::Number(number.to_string()),
        AMQPValue::ShortShortUInt(number) => Value::Number(number.to_string()),
        AMQPValue::ShortInt(number) => Value::Number(number.to_string()),
        AMQPValue::ShortUInt(number) => Value::Number(number.to_string()),
        AMQPValue::LongInt(number) => Value::Number(number.to_string()),
        AMQPValue::LongUInt(number) => Value::Number(number.to_string()),
        AMQPValue::LongLongInt(number) => Value::Number(number.to_string()),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) | AMQPValue::Void => return None,
    })
}

/// A header as JSON.
fn json_of(value: &AMQPValue) -> Json {
    match value {
        AMQPValue::Boolean(is) => json!(is),
        AMQPValue::FieldArray(array) => array.as_slice().iter().map(json_of).collect(),
        AMQPValue::FieldTable(table) => {
            Json::Object(table.inner().iter().map(|(name, value)| (name.to_string(), json_of(value))).collect())
        }
        AMQPValue::Void => Json::Null,
        scalar => attribute(scalar).map_or(Json::Null, plain),
    }
}

fn plain(value: Value) -> Json {
    match value {
        Value::String(text) => Json::String(text),
        Value::Number(digits) => serde_json::from_str(&digits).unwrap_or(Json::String(digits)),
        Value::Binary(bytes) => json!({"base64": base64(&bytes)}),
    }
}

/// JSON without the characters that SQS does not take and JSON does.
fn escaped(json: &str) -> String {
    json.replace('\u{FFFE}', "\\uFFFE").replace('\u{FFFF}', "\\uFFFF")
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref().map(FieldTable::inner)?.get(name)
}

fn count(value: &AMQPValue) -> Option<u64> {
    match attribute(value)? {
        Value::Number(digits) => digits.parse().ok(),
        Value::String(_) | Value::Binary(_) => None,
    }
}

fn text(property: &Option<lapin::types::ShortString>) -> Option<String> {
    property.as_ref().map(ToString::to_string).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use lapin::types::{ByteArray, FieldArray};
    use proptest::prelude::*;

    use super::*;

    fn converted(properties: &BasicProperties, body: &[u8]) -> (Message, Option<Poison>) {
        let incoming = Incoming { queue: "orders", exchange: "shop", routing_key: "order.created", properties, body };
        convert(&incoming, &[Origin::Type, Origin::Header("event".into())], &[Origin::Word(1)])
    }

    fn names(message: &Message) -> Vec<&str> {
        message.attributes.keys().map(String::as_str).collect()
    }

    fn rest(message: &Message) -> Json {
        match message.attributes.get(REST) {
            Some(Value::String(text)) => serde_json::from_str(text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn table(headers: impl IntoIterator<Item = (String, AMQPValue)>) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.into(), value);
        }
        table
    }

    #[test]
    fn type_source_and_id_are_attributes_and_the_body_is_base64() {
        let properties = BasicProperties::default()
            .with_type("OrderCreated".into())
            .with_message_id("o-1".into())
            .with_timestamp(1_795_183_906);
        let (message, poison) = converted(&properties, b"\x0a\x03O-1");
        assert_eq!(poison, None);
        assert_eq!(message.body, "CgNPLTE=");
        assert_eq!(message.published_ms, Some(1_795_183_906_000));
        assert_eq!(names(&message), ["event_id", "exchange", "routing_key", "source", "timestamp", "type"]);
        assert_eq!(message.attributes["source"], Value::String("order".into()));
        assert_eq!(message.attributes["timestamp"], Value::Number("1795183906".into()));
    }

    #[test]
    fn a_message_without_an_id_gets_none_and_is_quarantined_under_the_hash_of_its_body() {
        let (message, poison) = converted(&BasicProperties::default(), b"");
        assert!(!message.has_event_id());
        assert_eq!(poison, Some(Poison::EmptyBody));
        assert_eq!(message.id, "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn what_does_not_fit_into_ten_attributes_is_json_in_one() {
        let headers = table((0..9).map(|number| (format!("h{number}"), AMQPValue::LongInt(number))));
        let properties = BasicProperties::default().with_headers(headers).with_message_id("1".into());
        let (message, poison) = converted(&properties, b"x");
        assert_eq!((poison, message.attributes.len()), (None, MOST_ATTRIBUTES));
        assert_eq!(message.attributes["h4"], Value::Number("4".into()));
        assert_eq!(rest(&message), json!({"headers": {"h5": 5, "h6": 6, "h7": 7, "h8": 8}}));
    }

    #[test]
    fn headers_that_can_be_no_attributes_are_kept() {
        let headers = [
            ("AWS.trace", AMQPValue::LongString("1".into())),
            ("a b", AMQPValue::LongString("2".into())),
            ("control", AMQPValue::LongString("\u{1}\u{FFFF}".into())),
            ("empty", AMQPValue::LongString("".into())),
            ("list", AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Boolean(true), AMQPValue::Void]))),
            ("raw", AMQPValue::ByteArray(ByteArray::from(&[0_u8, 255][..]))),
            ("type", AMQPValue::LongString("mine".into())),
            ("x-delivery-count", AMQPValue::LongLongInt(3)),
        ];
        let headers = table(headers.map(|(name, value)| (name.to_owned(), value)));
        let properties = BasicProperties::default().with_headers(headers).with_type("OrderCreated".into());
        let (message, poison) = converted(&properties, b"x");
        assert_eq!((poison, message.deliveries), (None, 3));
        assert_eq!(message.attributes["type"], Value::String("OrderCreated".into()));
        assert_eq!(message.attributes["raw"], Value::Binary(vec![0, 255]));
        let expected = json!({"AWS.trace": "1", "a b": "2", "control": "\u{1}\u{FFFF}", "empty": "", "list": [true, null], "type": "mine"});
        assert_eq!(rest(&message), json!({"headers": expected}));
    }

    #[test]
    fn what_sqs_can_never_take_says_why() {
        let (_, poison) = converted(&BasicProperties::default(), &vec![0; MOST_BYTES]);
        assert!(matches!(poison, Some(Poison::TooLarge { bytes }) if bytes > MOST_BYTES));
        let properties = BasicProperties::default().with_type("Order\u{1}Created".into());
        assert_eq!(converted(&properties, b"x").1, Some(Poison::ForbiddenCharacters("type")));
    }

    #[test]
    fn a_quarantined_message_has_its_bytes_and_its_attributes() {
        let properties = BasicProperties::default().with_message_id("o-1".into()).with_timestamp(1_795_183_906);
        let (message, _) = converted(&properties, b"\xff\x00");
        let record = message.quarantined(&Poison::RefusedBySqs("no".into())).unwrap();
        assert_eq!((record.reason.as_str(), record.id.as_str()), ("refused_by_sqs", "o-1"));
        assert_eq!(record.body().unwrap(), b"\xff\x00");
        assert_eq!(record.sent_at.unwrap(), "2026-11-20T14:11:46.000Z");
        let attributes: Json = serde_json::from_str(record.attributes.get()).unwrap();
        assert_eq!(attributes["event_id"], json!({"dataType": "String", "stringValue": "o-1"}));
    }

    fn value() -> impl Strategy<Value = AMQPValue> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            any::<f64>().prop_map(AMQPValue::Double),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            any::<String>().prop_map(|text| AMQPValue::LongString(text.into())),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
            Just(AMQPValue::Void),
        ];
        scalar.prop_recursive(2, 8, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|values| AMQPValue::FieldArray(values.into())),
                prop::collection::vec(("[a-z]{1,4}", inner), 0..4)
                    .prop_map(|pairs| AMQPValue::FieldTable(table(pairs))),
            ]
        })
    }

    proptest! {
        /// Whatever a producer sends: what is not quarantined, SQS takes, and no header is lost.
        #[test]
        fn every_message_is_one_that_sqs_takes_or_poison(
            body in prop::collection::vec(any::<u8>(), 0..40),
            kind in prop::option::of(".{0,20}"),
            id in prop::option::of(".{0,20}"),
            app in prop::option::of(".{0,20}"),
            headers in prop::collection::btree_map("[a-zA-Z. _-]{1,12}|aws\\.x|.{1,6}", value(), 0..14),
        ) {
            let mut properties = BasicProperties::default();
            if let Some(kind) = kind { properties = properties.with_type(kind.into()); }
            if let Some(id) = id { properties = properties.with_message_id(id.into()); }
            if let Some(app) = app { properties = properties.with_app_id(app.into()); }
            if !headers.is_empty() { properties = properties.with_headers(table(headers.clone())); }
            let (message, poison) = converted(&properties, &body);
            prop_assert!(message.attributes.len() <= MOST_ATTRIBUTES);
            for (name, value) in &message.attributes {
                let ours = ["type", "source", "event_id", REST].contains(&name.as_str());
                prop_assert!(ours || is_name(name), "{name}");
                let known = poison.is_some() && ours;
                prop_assert!(known || is_sendable(value), "{name}: {value:?}");
            }
            let rest = message.attributes.get(REST).map(|_| rest(&message));
            for name in headers.keys().filter(|name| *name != DELIVERY_COUNT) {
                let in_rest = rest.as_ref().is_some_and(|rest| rest["headers"].get(name).is_some());
                prop_assert!(in_rest || message.attributes.contains_key(name), "{name} is lost");
            }
            prop_assert_eq!(poison == Some(Poison::EmptyBody), body.is_empty());
        }
    }
}
