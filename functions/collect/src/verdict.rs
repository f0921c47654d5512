//! The result of validating a hit, in the formats of Google's validators: of hits, and of events of GA4.
//!
//! Source: "Validating hits" and "Verify implementation" (of the GA4 Measurement Protocol), Google Analytics developer guides.

use std::borrow::Cow;

use serde::Serialize;

use crate::{
    body::{BodyError, Read},
    hit::HitError,
    validate::validate,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MessageType {
    /// The hit is rejected.
    Error,
    /// The hit is accepted.
    Warn,
    /// Not about a hit.
    Info,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MessageCode {
    /// A parameter is missing.
    ValueRequired,
    /// A value has the wrong type or format.
    ValueInvalid,
    /// A value is too small, too large or too long.
    ValueOutOfBounds,
    /// Another value is used instead.
    ValueModified,
    /// The name of an event or of a parameter breaks the rules for names.
    NameInvalid,
    /// The name of an event or of a parameter is reserved.
    NameReserved,
    /// There are too many events, parameters or user properties.
    ExceededMaxEntities,
}

/// One message of the validator. It never contains a value, because that may be personal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParserMessage {
    pub message_type: MessageType,
    pub description: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_code: Option<MessageCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<Cow<'static, str>>,
}

/// What is wrong with one hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HitParsingResult {
    /// Whether `/collect` would accept it.
    pub valid: bool,
    pub parser_message: Vec<ParserMessage>,
    /// The hit as it was parsed: the path, `?` and the parameters.
    pub hit: String,
}

impl HitParsingResult {
    #[must_use]
    pub fn new(path: &str, read: &Read) -> Self {
        let messages = judge(read);
        let hit = if read.fault.is_some() { path.to_owned() } else { format!("{path}?{}", read.hit.to_form()) };
        Self { valid: is_valid(&messages), parser_message: messages, hit }
    }
}

/// Everything that is wrong with a hit. What cannot be parsed is not checked any further.
#[must_use]
pub fn judge(read: &Read) -> Vec<ParserMessage> {
    match read.fault {
        Some(error) => vec![error.into()],
        None => validate(&read.hit, read.protocol),
    }
}

impl From<&BodyError> for ParserMessage {
    fn from(error: &BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge { .. } | BodyError::TooManyHits { .. } => MessageCode::ValueOutOfBounds,
            BodyError::Base64 | BodyError::Gzip | BodyError::Json(_) => MessageCode::ValueInvalid,
            BodyError::Empty => MessageCode::ValueRequired,
        };
        Self {
            message_type: MessageType::Error,
            description: Cow::Owned(error.to_string()),
            message_code: Some(code),
            parameter: None,
        }
    }
}

impl From<HitError> for ParserMessage {
    fn from(error: HitError) -> Self {
        Self {
            message_type: MessageType::Error,
            description: Cow::Owned(error.to_string()),
            message_code: Some(match error {
                HitError::TooLarge { .. }
                | HitError::TooManyParameters
                | HitError::TooManyEvents { .. }
                | HitError::TooDeep { .. } => MessageCode::ValueOutOfBounds,
                HitError::Escape { .. }
                | HitError::Utf8 { .. }
                | HitError::Json { .. }
                | HitError::Surrogate { .. }
                | HitError::NotAnObject
                | HitError::ApiSecret => MessageCode::ValueInvalid,
            }),
            parameter: None,
        }
    }
}

/// Whether the hit is accepted, which it is if no message is an error.
#[must_use]
pub fn is_valid(messages: &[ParserMessage]) -> bool {
    messages.iter().all(|message| message.message_type != MessageType::Error)
}

/// The answer of `/debug/mp/collect`, as JSON: what is wrong with any of the events.
#[must_use]
pub fn validation_document(judged: &[Vec<ParserMessage>]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        validation_messages: Vec<Message<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Message<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        field_path: Option<&'a str>,
        description: &'a str,
        validation_code: Option<MessageCode>,
    }
    fn message(message: &ParserMessage) -> Message<'_> {
        Message {
            field_path: message.parameter.as_deref(),
            description: &message.description,
            validation_code: message.message_code,
        }
    }
    let document = Document { validation_messages: judged.iter().flatten().map(message).collect() };
    // Serialising strings and arrays of them cannot fail.
    serde_json::to_string(&document).unwrap_or_default()
}

/// The answer of `/debug/collect`, as JSON.
#[must_use]
pub fn debug_document(results: &[HitParsingResult]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        hit_parsing_result: &'a [HitParsingResult],
        parser_message: [ParserMessage; 1],
    }
    let found = if results.len() == 1 { "hit" } else { "hits" };
    let message = ParserMessage {
        message_type: MessageType::Info,
        description: Cow::Owned(format!("Found {} {found} in the request.", results.len())),
        message_code: None,
        parameter: None,
    };
    let document = Document { hit_parsing_result: results, parser_message: [message] };
    // Serialising strings, booleans and arrays of them cannot fail.
    serde_json::to_string(&document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hit::Hit, validate::Protocol};

    fn result(raw: &[u8]) -> HitParsingResult {
        let (hit, fault) = Hit::read_form(raw);
        let read = Read { protocol: Protocol::V1, hit, fault, position: 0, is_named: false };
        HitParsingResult::new("/debug/collect", &read)
    }

    #[test]
    fn the_debug_document_has_googles_format() {
        let found = result(b"v=1&tid=fake&t=exception");
        let document: serde_json::Value = serde_json::from_str(&debug_document(&[found])).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "hitParsingResult": [{
                    "valid": false,
                    "parserMessage": [
                        {
                            "messageType": "WARN",
                            "description": "The value provided for parameter 'tid' is not like UA-XXXX-Y.",
                            "messageCode": "VALUE_INVALID",
                            "parameter": "tid",
                        },
                        {
                            "messageType": "ERROR",
                            "description": "Either parameter 'cid' or parameter 'uid' is required.",
                            "messageCode": "VALUE_REQUIRED",
                            "parameter": "cid",
                        },
                    ],
                    "hit": "/debug/collect?v=1&tid=fake&t=exception",
                }],
                "parserMessage": [{"messageType": "INFO", "description": "Found 1 hit in the request."}],
            })
        );
        let broken = result(b"v=1&t=event&ec=%");
        let document: serde_json::Value = serde_json::from_str(&debug_document(&[broken.clone(), broken])).unwrap();
        assert_eq!(document["hitParsingResult"][1]["valid"], false);
        assert_eq!(
            document["hitParsingResult"][1]["parserMessage"][0]["description"],
            "parameter 3 has a % that starts no escape"
        );
        assert_eq!(document["parserMessage"][0]["description"], "Found 2 hits in the request.");
    }
}
