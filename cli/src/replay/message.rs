//! A quarantined record → the message that it was.

use std::{
    collections::{BTreeMap, HashMap},
    str::FromStr,
};

use aws_sdk_sqs::{primitives::Blob, types::MessageAttributeValue};
use serde::Deserialize;
use shared::quarantine::{QuarantineRecord, base64};

use crate::{queue::Outgoing, stack::CONSUMER};

/// The attribute by which duplicate rows are recognised.
const EVENT_ID: &str = "event_id";
/// Most attributes that SQS takes on a message.
const MOST_ATTRIBUTES: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    #[error("the line is not a quarantine record: {0}")]
    UnreadableLine(String),
    #[error("body_base64 is not base64")]
    DamagedBody,
    #[error("the body is empty")]
    NoBody,
    #[error("the body is not text that SQS takes: it is not UTF-8 or holds control characters")]
    ForbiddenCharacters,
    #[error("the record does not hold the message's attributes")]
    MissingAttributes,
    #[error("attribute {name:?} cannot be sent: {problem}")]
    InvalidAttribute { name: String, problem: &'static str },
    #[error("the message would have {0} attributes, and SQS takes {MOST_ATTRIBUTES}")]
    TooManyAttributes(usize),
    #[error("the message would be {bytes} bytes, and the queue takes {most}")]
    TooLarge { bytes: usize, most: usize },
}

impl Unsendable {
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnreadableLine(_) => "unreadable_line",
            Self::DamagedBody => "damaged_body",
            Self::NoBody => "no_body",
            Self::ForbiddenCharacters => "forbidden_characters",
            Self::MissingAttributes => "missing_attributes",
            Self::InvalidAttribute { .. } => "invalid_attribute",
            Self::TooManyAttributes(_) => "too_many_attributes",
            Self::TooLarge { .. } => "too_large",
        }
    }
}

/// An attribute as Lambda events write it, without the fields that SQS has never implemented.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attribute {
    data_type: Option<String>,
    string_value: Option<String>,
    binary_value: Option<String>,
}

/// An attribute that messages are sent with, whatever they had: `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAttribute {
    name: String,
    value: String,
}

impl FromStr for SetAttribute {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((name, value)) = text.split_once('=') else {
            return Err("write an attribute as NAME=VALUE, such as type=OrderCreated");
        };
        // Source: SendMessage, Amazon SQS API reference.
        let is_allowed_in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let reserved = ["aws.", "amazon."].iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
        let dots = name.starts_with('.') || name.ends_with('.') || name.contains("..");
        if name.is_empty() || name.len() > 256 || !name.bytes().all(is_allowed_in_name) || reserved || dots {
            return Err(
                "SQS takes names of 1 to 256 letters, digits, '_', '-' and single '.', not beginning with AWS. or Amazon.",
            );
        }
        if value.is_empty() || !value.chars().all(is_allowed) {
            return Err("SQS takes no empty value, and no control characters");
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// The message that the record was, with the attributes that are `set`, and the record's id as `event_id` if there is none.
///
/// A record of the consumer has the bytes that come to SQS in base64. Its id may be a hash of them, which other messages have too,
/// and so is no `event_id`.
pub fn of_record(
    record: &QuarantineRecord,
    set: &[SetAttribute],
    max_message_bytes: usize,
) -> Result<Outgoing, Unsendable> {
    let is_of_consumer = record.function == CONSUMER;
    let body = record.body().ok_or(Unsendable::DamagedBody)?;
    let body = if is_of_consumer { base64(&body).into_bytes() } else { body };
    let body = String::from_utf8(body).map_err(|_| Unsendable::ForbiddenCharacters)?;
    if body.is_empty() {
        return Err(Unsendable::NoBody);
    }
    if !body.chars().all(is_allowed) {
        return Err(Unsendable::ForbiddenCharacters);
    }
    let mut attributes = attributes(record)?;
    for SetAttribute { name, value: text } in set {
        attributes.insert(name.clone(), value(name, string(text))?);
    }
    let mut message = Outgoing { body, attributes };
    if is_of_consumer {
        check_attributes(&message)?;
    } else {
        identify(&mut message, &record.id)?;
    }
    check_size(&message, max_message_bytes)?;
    Ok(message)
}

/// Gives a message its original id as `event_id` if it has none. As a new message it gets another id, and its row could not be
/// told from others.
pub fn identify(message: &mut Outgoing, id: &str) -> Result<(), Unsendable> {
    let attributes = &mut message.attributes;
    if !attributes.contains_key(EVENT_ID) {
        attributes.insert(EVENT_ID.to_owned(), value(EVENT_ID, string(id))?);
    }
    check_attributes(message)
}

fn check_attributes(message: &Outgoing) -> Result<(), Unsendable> {
    match message.attributes.len() {
        too_many if too_many > MOST_ATTRIBUTES => Err(Unsendable::TooManyAttributes(too_many)),
        _ => Ok(()),
    }
}

/// Refuses a message that is larger than the queue takes.
pub fn check_size(message: &Outgoing, most: usize) -> Result<(), Unsendable> {
    let bytes = message.bytes();
    if bytes > most { Err(Unsendable::TooLarge { bytes, most }) } else { Ok(()) }
}

fn attributes(record: &QuarantineRecord) -> Result<HashMap<String, MessageAttributeValue>, Unsendable> {
    let all: BTreeMap<String, Attribute> =
        serde_json::from_str(record.attributes.get()).map_err(|_| Unsendable::MissingAttributes)?;
    all.into_iter().map(|(name, attribute)| Ok((name.clone(), value(&name, attribute)?))).collect()
}

fn string(text: &str) -> Attribute {
    Attribute { data_type: Some("String".to_owned()), string_value: Some(text.to_owned()), binary_value: None }
}

fn value(name: &str, attribute: Attribute) -> Result<MessageAttributeValue, Unsendable> {
    let invalid = |problem| Unsendable::InvalidAttribute { name: name.to_owned(), problem };
    let data_type = attribute.data_type.ok_or_else(|| invalid("it has no data type"))?;
    let builder = MessageAttributeValue::builder().data_type(&data_type);
    // A type may carry a label of the sender's, as in `Number.int`.
    let builder = match (data_type.split('.').next(), attribute.string_value, attribute.binary_value) {
        (Some("String" | "Number"), Some(text), _) => {
            if text.is_empty() {
                return Err(invalid("its value is empty"));
            }
            if !text.chars().all(is_allowed) {
                return Err(invalid("its value holds characters that SQS refuses"));
            }
            builder.string_value(text)
        }
        (Some("Binary"), _, Some(base64)) => {
            let bytes = base64_simd::STANDARD.decode_to_vec(base64).map_err(|_| invalid("its value is not base64"))?;
            if bytes.is_empty() {
                return Err(invalid("its value is empty"));
            }
            builder.binary_value(Blob::new(bytes))
        }
        (Some("String" | "Number" | "Binary"), ..) => return Err(invalid("it has no value of its data type")),
        _ => return Err(invalid("its data type is not String, Number or Binary")),
    };
    builder.build().map_err(|_| invalid("it has no data type"))
}

/// SQS takes the characters of XML 1.0. Source: SendMessage, Amazon SQS API reference.
const fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{json, value::to_raw_value};

    const MOST: usize = 1 << 20;

    fn record(body: &[u8], attributes: &serde_json::Value) -> QuarantineRecord {
        QuarantineRecord {
            function: "parquet-writer".into(),
            reason: "invalid_base64".into(),
            detail: "the body is not standard base64 with padding".into(),
            id: "b7a4c1f0-0000-4000-8000-000000000001".into(),
            sent_at: None,
            attributes: to_raw_value(attributes).unwrap(),
            body_base64: base64(body),
        }
    }

    fn reason(record: &QuarantineRecord) -> &'static str {
        of_record(record, &[], MOST).unwrap_err().reason()
    }

    #[test]
    fn a_record_becomes_the_message_that_it_was() {
        let attributes = json!({
            "type": {"dataType": "String", "stringValue": "OrderCreated", "stringListValues": [], "binaryListValues": []},
            "retries": {"dataType": "Number.int", "stringValue": "3"},
            "trace": {"dataType": "Binary", "binaryValue": "AP8="},
            "event_id": {"dataType": "String", "stringValue": "order-1"},
        });
        let message = of_record(&record(b"not base64!", &attributes), &[], MOST).unwrap();
        assert_eq!(message.body, "not base64!");
        assert_eq!(message.attributes.len(), 4);
        assert_eq!(message.attributes["type"].string_value(), Some("OrderCreated"));
        assert_eq!(message.attributes["retries"].data_type(), "Number.int");
        assert_eq!(message.attributes["trace"].binary_value().unwrap().as_ref(), [0, 255]);
        assert_eq!(message.attributes["event_id"].string_value(), Some("order-1"));
    }

    #[test]
    fn an_attribute_that_is_set_replaces_that_of_the_record() {
        let attributes = json!({
            "type": {"dataType": "Binary", "binaryValue": "AP8="},
            "source": {"dataType": "String", "stringValue": "orders"},
        });
        let set = ["type=OrderCreated".parse().unwrap(), "note=a=b".parse().unwrap()];
        let message = of_record(&record(b"x", &attributes), &set, MOST).unwrap();
        let text = |name: &str| message.attributes[name].string_value().unwrap();
        assert_eq!([text("type"), text("source"), text("note")], ["OrderCreated", "orders", "a=b"]);
        assert_eq!(message.attributes["type"].data_type(), "String");
    }

    #[test]
    fn an_attribute_that_sqs_refuses_cannot_be_set() {
        for text in ["type", "=x", "type=", "a b=x", "AWS.x=y", "amazon.x=y", ".a=x", "a..b=x", "a=\u{0}"] {
            assert!(text.parse::<SetAttribute>().is_err(), "{text}");
        }
        assert!(format!("{}=x", "a".repeat(257)).parse::<SetAttribute>().is_err());
        assert!("a.b-C_9=x".parse::<SetAttribute>().is_ok());
    }

    #[test]
    fn a_record_without_event_id_keeps_its_message_id_as_one() {
        let message = of_record(&record(b"x", &json!({})), &[], MOST).unwrap();
        assert_eq!(message.attributes["event_id"].string_value(), Some("b7a4c1f0-0000-4000-8000-000000000001"));
        assert_eq!(message.bytes(), 1 + 8 + 6 + 36);
    }

    #[test]
    fn a_record_of_the_consumer_becomes_what_it_would_have_sent() {
        let attributes = json!({"type": {"dataType": "String", "stringValue": "OrderCreated"}});
        let of_consumer = |body: &[u8]| QuarantineRecord { function: "consumer".into(), ..record(body, &attributes) };
        let message = of_record(&of_consumer(&[0xff, 0, 1]), &[], MOST).unwrap();
        assert_eq!((message.body.as_str(), message.attributes.len()), ("/wAB", 1));
        assert_eq!(reason(&of_consumer(b"")), "no_body");
        assert_eq!(reason(&of_consumer(&vec![0; MOST * 3 / 4])), "too_large");
        let eleven: Vec<SetAttribute> = (0..10).map(|n| format!("a{n}=x").parse().unwrap()).collect();
        let refused = of_record(&of_consumer(b"x"), &eleven, MOST).unwrap_err();
        assert_eq!(refused.reason(), "too_many_attributes");
    }

    #[test]
    fn what_sqs_would_refuse_is_told_apart() {
        let none = json!({});
        assert_eq!(reason(&record(b"", &none)), "no_body");
        assert_eq!(reason(&record(b"a\0b", &none)), "forbidden_characters");
        assert_eq!(reason(&record("a\u{ffff}".as_bytes(), &none)), "forbidden_characters");
        assert_eq!(reason(&record(&[0xff], &none)), "forbidden_characters");
        assert_eq!(reason(&record(b"x", &json!(null))), "missing_attributes");
        assert_eq!(reason(&record(&vec![b'x'; MOST - 40], &none)), "too_large");
        assert_eq!(reason(&QuarantineRecord { body_base64: "%".into(), ..record(b"", &none) }), "damaged_body");
        let ten: serde_json::Map<_, _> =
            (0..10).map(|n| (n.to_string(), json!({"dataType": "String", "stringValue": "x"}))).collect();
        assert_eq!(reason(&record(b"x", &ten.into())), "too_many_attributes");
        for attribute in [
            json!({"stringValue": "x"}),
            json!({"dataType": "String"}),
            json!({"dataType": "String", "stringValue": ""}),
            json!({"dataType": "String", "stringValue": "\u{0}"}),
            json!({"dataType": "Binary", "stringValue": "x"}),
            json!({"dataType": "Binary", "binaryValue": "%"}),
            json!({"dataType": "Binary", "binaryValue": ""}),
            json!({"dataType": "Text", "stringValue": "x"}),
        ] {
            assert_eq!(reason(&record(b"x", &json!({"a": attribute}))), "invalid_attribute", "{attribute}");
        }
    }

    #[test]
    fn a_message_may_fill_the_queue_s_limit_exactly() {
        let overhead = 8 + 6 + 36;
        assert!(of_record(&record(b"abc", &json!({})), &[], overhead + 3).is_ok());
        assert_eq!(
            of_record(&record(b"abc", &json!({})), &[], overhead + 2),
            Err(Unsendable::TooLarge { bytes: overhead + 3, most: overhead + 2 })
        );
    }

    proptest! {
        #[test]
        fn text_comes_back_as_it_was(body in "[\\t\\n\\r -\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]{1,60}") {
            prop_assert_eq!(of_record(&record(body.as_bytes(), &json!({})), &[], MOST).unwrap().body, body);
        }

        #[test]
        fn no_record_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..40), attributes in any::<String>()) {
            drop(of_record(&record(&body, &json!({"a": {"dataType": attributes.clone(), "stringValue": attributes}})), &[], MOST));
        }
    }
}
