//! The rules of Measurement Protocol v1 for a hit; `ga4` has those of GA4.
//!
//! A hit with an error is stored as rejected; a hit with warnings is stored like any other. JSON bodies are not part of the protocol: of
//! them only `cid` or `uid` is required, and everything else is a warning.
//!
//! | checked | found | is |
//! |---|---|---|
//! | `v` | missing · not 1 | error |
//! | `tid` | missing · not like UA-XXXX-Y | error · warning |
//! | `cid`, `uid` | both missing | error |
//! | `t` | missing · none of the eight hit types | error |
//! | `ec` `ea` · `cd` `an` · `ti` · `ti` `in` · `sn` `sa` `st` · `utc` `utv` `utt` | missing where the type needs it | error |
//! | `dl`, `dp` | both missing in a page view · `dp` without `dh` | error · warning |
//! | `qt` | no number, or negative · over four hours | error · warning (counted as four) |
//! | `ev`, `utt` | no integer · negative | error · warning |
//! | `uip` | no address | warning |
//! | texts | longer than the protocol's maximum | warning (kept whole) |
//! | the hit | over 8,192 bytes | error |
//!
//! The reference requires `dh` beside `dp`, but Google's own first example and its validator do not, and
//! `universal-analytics` sends hits without it.
//!
//! Source: "Measurement Protocol parameter reference", Google Analytics developer guides.

pub(crate) mod ga4;

use std::{borrow::Cow, net::IpAddr};

use crate::{
    hit::{Hit, ParameterValue},
    verdict::{MessageCode, MessageType, ParserMessage},
};

/// Most bytes of one hit, by the protocol.
pub const MOST_HIT_BYTES: usize = 8_192;

/// Longest queue time (`qt`): four hours.
pub const MOST_QUEUE_MS: i64 = 4 * 60 * 60 * 1_000;

/// How a hit was sent, and so what is required of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Measurement Protocol v1, in a query string or a form.
    V1,
    /// Its parameters in JSON: only a client id or a user id is required.
    V1Json,
    /// What gtag.js sends.
    Ga4,
    /// An event of a payload of the GA4 Measurement Protocol.
    Ga4Payload,
}

impl Protocol {
    /// The name in the stored event.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 | Self::V1Json => "v1",
            Self::Ga4 => "ga4",
            Self::Ga4Payload => "ga4-mp",
        }
    }

    #[must_use]
    pub const fn is_v1(self) -> bool {
        matches!(self, Self::V1 | Self::V1Json)
    }
}

/// Everything that is wrong with a hit. Does not allocate if nothing is.
#[must_use]
pub fn validate(hit: &Hit, protocol: Protocol) -> Vec<ParserMessage> {
    let mut check = Check { hit, protocol, messages: Vec::new() };
    if !protocol.is_v1() {
        check.ga4();
        return check.messages;
    }
    check.size();
    check.version();
    check.property();
    check.identity();
    check.hit_type();
    check.queue_time();
    check.integer("ev");
    if hit.get("uip").is_some_and(|text| !text.is_empty() && text.parse::<IpAddr>().is_err()) {
        check.warn(MessageCode::ValueInvalid, "uip", "is not an IP address");
    }
    check.lengths();
    check.messages
}

struct Check<'a> {
    hit: &'a Hit,
    protocol: Protocol,
    messages: Vec<ParserMessage>,
}

impl Check<'_> {
    fn size(&mut self) {
        if self.hit.bytes() > MOST_HIT_BYTES {
            self.messages.push(ParserMessage {
                message_type: MessageType::Error,
                description: Cow::Owned(format!(
                    "The hit has {} bytes, and at most {MOST_HIT_BYTES} are allowed.",
                    self.hit.bytes()
                )),
                message_code: Some(MessageCode::ValueOutOfBounds),
                parameter: None,
            });
        }
    }

    fn version(&mut self) {
        match self.hit.value("v") {
            Some(ParameterValue::Text("1") | ParameterValue::Json("1")) => {}
            None if self.protocol == Protocol::V1Json => {}
            None => self.missing("v"),
            Some(_) => self.fault(MessageCode::ValueInvalid, "v", "is not 1, the only version there is"),
        }
    }

    fn property(&mut self) {
        match self.non_empty("tid") {
            Some(id) if is_property(id) => {}
            Some(_) => self.warn(MessageCode::ValueInvalid, "tid", "is not like UA-XXXX-Y"),
            None if self.protocol == Protocol::V1Json => {}
            None => self.missing("tid"),
        }
    }

    fn identity(&mut self) {
        if self.non_empty("cid").is_none() && self.non_empty("uid").is_none() {
            self.messages.push(ParserMessage {
                message_type: MessageType::Error,
                description: Cow::Borrowed("Either parameter 'cid' or parameter 'uid' is required."),
                message_code: Some(MessageCode::ValueRequired),
                parameter: Some(Cow::Borrowed("cid")),
            });
        }
    }

    fn hit_type(&mut self) {
        let required: &[&'static str] = match self.non_empty("t") {
            Some("pageview") => return self.page(),
            Some("event") => &["ec", "ea"],
            Some("screenview") => &["cd", "an"],
            Some("transaction") => &["ti"],
            Some("item") => &["ti", "in"],
            Some("social") => &["sn", "sa", "st"],
            Some("timing") => &["utc", "utv", "utt"],
            Some("exception") => &[],
            None if self.protocol == Protocol::V1Json => return,
            None => return self.missing("t"),
            Some(_) => {
                return self.fault(
                    MessageCode::ValueInvalid,
                    "t",
                    "is none of pageview, screenview, event, transaction, item, social, exception, timing",
                );
            }
        };
        for parameter in required {
            if self.non_empty(parameter).is_none() {
                self.missing(parameter);
            }
        }
        if required.contains(&"utt") {
            self.integer("utt");
        }
    }

    fn page(&mut self) {
        if self.non_empty("dl").is_some() {
            return;
        }
        if self.non_empty("dp").is_none() {
            self.missing("dl");
        } else if self.non_empty("dh").is_none() {
            self.warn(MessageCode::ValueRequired, "dh", "is missing: a page view has 'dl', or 'dh' and 'dp'");
        }
    }

    fn queue_time(&mut self) {
        let Some(given) = self.non_empty("qt") else { return };
        match given.parse::<f64>() {
            Ok(ms) if ms.is_nan() => self.fault(MessageCode::ValueInvalid, "qt", "is not a number"),
            Err(_) => self.fault(MessageCode::ValueInvalid, "qt", "is not a number"),
            Ok(ms) if ms < 0.0 => self.fault(MessageCode::ValueOutOfBounds, "qt", "is negative"),
            Ok(ms) if ms > MOST_QUEUE_MS as f64 => {
                self.warn(MessageCode::ValueModified, "qt", "is over four hours and counts as four");
            }
            Ok(_) => {}
        }
    }

    fn integer(&mut self, parameter: &'static str) {
        let Some(given) = self.non_empty(parameter) else { return };
        let digits = given.strip_prefix('-').unwrap_or(given);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            self.fault(MessageCode::ValueInvalid, parameter, "is not an integer");
        } else if digits.len() < given.len() {
            self.warn(MessageCode::ValueOutOfBounds, parameter, "is negative");
        }
    }

    fn lengths(&mut self) {
        for (name, value) in self.hit.iter() {
            if let ParameterValue::Text(text) = value
                && text.len() > LEAST_MAXIMUM
                && let Some(most) = maximum(name).filter(|most| text.len() > *most)
            {
                self.messages.push(ParserMessage {
                    message_type: MessageType::Warn,
                    description: Cow::Owned(format!(
                        "The value of parameter '{name}' has {} bytes, and at most {most} are meant. It is kept whole.",
                        text.len()
                    )),
                    message_code: Some(MessageCode::ValueOutOfBounds),
                    parameter: Some(Cow::Owned(name.to_owned())),
                });
            }
        }
    }

    fn non_empty(&self, parameter: &str) -> Option<&str> {
        self.hit.get(parameter).filter(|value| !value.is_empty())
    }

    fn missing(&mut self, parameter: &'static str) {
        let description = Cow::Owned(format!("Parameter '{parameter}' is required for this hit."));
        self.push(self.severity(), MessageCode::ValueRequired, parameter, description);
    }

    fn fault(&mut self, code: MessageCode, parameter: &'static str, what: &str) {
        self.push(self.severity(), code, parameter, describe(parameter, what));
    }

    fn warn(&mut self, code: MessageCode, parameter: &'static str, what: &str) {
        self.push(MessageType::Warn, code, parameter, describe(parameter, what));
    }

    const fn severity(&self) -> MessageType {
        match self.protocol {
            Protocol::V1Json => MessageType::Warn,
            Protocol::V1 | Protocol::Ga4 | Protocol::Ga4Payload => MessageType::Error,
        }
    }

    fn push(
        &mut self,
        message_type: MessageType,
        code: MessageCode,
        parameter: &'static str,
        description: Cow<'static, str>,
    ) {
        self.messages.push(ParserMessage {
            message_type,
            description,
            message_code: Some(code),
            parameter: Some(Cow::Borrowed(parameter)),
        });
    }
}

fn describe(parameter: &str, what: &str) -> Cow<'static, str> {
    Cow::Owned(format!("The value provided for parameter '{parameter}' {what}."))
}

/// `UA-`, at least four digits, `-`, digits.
fn is_property(id: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    id.strip_prefix("UA-")
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(account, property)| account.len() >= 4 && digits(account) && digits(property))
}

/// The smallest of all maximums.
const LEAST_MAXIMUM: usize = 20;

/// The most bytes of a parameter's text.
fn maximum(name: &str) -> Option<usize> {
    Some(match name {
        "dl" | "dr" | "dp" | "cd" | "st" => 2_048,
        "dt" => 1_500,
        "ck" | "cc" | "ea" | "el" | "ti" | "ta" | "in" | "ic" | "iv" | "utv" | "utl" => 500,
        "ec" | "aid" | "aiid" | "utc" | "exd" => 150,
        "cn" | "cs" | "ci" | "dh" | "an" | "av" => 100,
        "cm" | "sn" | "sa" => 50,
        "xid" => 40,
        "sr" | "vp" | "de" | "sd" | "ul" | "fl" => 20,
        _ => return indexed_maximum(name),
    })
}

/// Custom dimensions and texts of products.
fn indexed_maximum(name: &str) -> Option<usize> {
    let (kind, rest) = name.split_at_checked(2)?;
    let field = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    match (kind, field) {
        (_, field) if field.len() == rest.len() => None,
        ("cd", "") => Some(150),
        ("pr", "id" | "nm" | "br" | "ca" | "va" | "cc") => Some(500),
        ("pr", field) if field.starts_with("cd") => Some(150),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "v=1&tid=UA-12345-1&cid=555";

    fn messages(raw: &str) -> Vec<String> {
        codes(&validate(&Hit::from_form(raw.as_bytes()).unwrap(), Protocol::V1))
    }

    fn messages_for_json(raw: &str) -> Vec<String> {
        codes(&validate(&Hit::from_json(raw.as_bytes()).unwrap(), Protocol::V1Json))
    }

    fn codes(all: &[ParserMessage]) -> Vec<String> {
        let text = |value: serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        all.iter()
            .map(|message| {
                let json = serde_json::to_value(message).unwrap();
                ["messageType", "messageCode", "parameter"].map(|key| text(json[key].clone())).join(" ")
            })
            .collect()
    }

    #[test]
    fn hits_of_real_clients_are_valid() {
        for rest in [
            "&t=pageview&dl=https%3A%2F%2Fx%2F",
            "&t=pageview&dh=x&dp=%2F",
            "&t=event&ec=c&ea=a&el=l&ev=7",
            "&t=screenview&cd=s&an=a",
            "&t=transaction&ti=1",
            "&t=item&ti=1&in=x",
            "&t=social&sn=n&sa=a&st=t",
            "&t=exception",
            "&t=timing&utc=c&utv=v&utt=5",
            "&t=exception&qt=0",
            "&t=exception&qt=14400000",
            "&t=exception&qt=560.5",
            "&t=exception&uip=2001:db8::1",
        ] {
            assert_eq!(messages(&format!("{GOOD}{rest}")), Vec::<String>::new(), "{rest}");
        }
        assert_eq!(messages("v=1&tid=UA-12345-1&uid=u&t=exception"), Vec::<String>::new());
    }

    #[test]
    fn each_fault_of_a_form_is_reported() {
        let missing = "ERROR VALUE_REQUIRED";
        for (raw, expected) in [
            ("", ["v", "tid", "cid", "t"].iter().map(|name| format!("{missing} {name}")).collect::<Vec<_>>()),
            ("v=2&tid=UA-12345-1&cid=5&t=exception", vec!["ERROR VALUE_INVALID v".into()]),
            ("v=1&tid=UA-1-1&cid=5&t=exception", vec!["WARN VALUE_INVALID tid".into()]),
            ("v=1&tid=G-C5VLPRS4QY&cid=5&t=exception", vec!["WARN VALUE_INVALID tid".into()]),
            ("v=1&tid=UA-12345-1&cid=&uid=&t=exception", vec![format!("{missing} cid")]),
        ] {
            assert_eq!(messages(raw), expected, "{raw}");
        }
        for (rest, expected) in [
            ("t=pageviews", &["ERROR VALUE_INVALID t"][..]),
            ("t=pageview", &["ERROR VALUE_REQUIRED dl"]),
            ("t=pageview&dh=x", &["ERROR VALUE_REQUIRED dl"]),
            ("t=pageview&dp=%2F", &["WARN VALUE_REQUIRED dh"]),
            ("t=event", &["ERROR VALUE_REQUIRED ec", "ERROR VALUE_REQUIRED ea"]),
            ("t=event&ec=c&ea=", &["ERROR VALUE_REQUIRED ea"]),
            ("t=event&ec=c&ea=a&ev=1.5", &["ERROR VALUE_INVALID ev"]),
            ("t=event&ec=c&ea=a&ev=-", &["ERROR VALUE_INVALID ev"]),
            ("t=event&ec=c&ea=a&ev=-4", &["WARN VALUE_OUT_OF_BOUNDS ev"]),
            ("t=screenview&cd=s", &["ERROR VALUE_REQUIRED an"]),
            ("t=transaction", &["ERROR VALUE_REQUIRED ti"]),
            ("t=item&ti=1", &["ERROR VALUE_REQUIRED in"]),
            ("t=social&sn=n&sa=a", &["ERROR VALUE_REQUIRED st"]),
            ("t=timing&utc=c&utv=v", &["ERROR VALUE_REQUIRED utt"]),
            ("t=timing&utc=c&utv=v&utt=x", &["ERROR VALUE_INVALID utt"]),
            ("t=exception&qt=-1", &["ERROR VALUE_OUT_OF_BOUNDS qt"]),
            ("t=exception&qt=x", &["ERROR VALUE_INVALID qt"]),
            ("t=exception&qt=NaN", &["ERROR VALUE_INVALID qt"]),
            ("t=exception&qt=1e99", &["WARN VALUE_MODIFIED qt"]),
            ("t=exception&qt=inf", &["WARN VALUE_MODIFIED qt"]),
            ("t=exception&qt=14400001", &["WARN VALUE_MODIFIED qt"]),
            ("t=exception&uip=here", &["WARN VALUE_INVALID uip"]),
        ] {
            assert_eq!(messages(&format!("{GOOD}&{rest}")), expected, "{rest}");
        }
    }

    #[test]
    fn long_texts_are_warnings_and_large_hits_are_errors() {
        for (name, most) in
            [("dl", 2_048), ("dt", 1_500), ("exd", 150), ("cd12", 150), ("pr3nm", 500), ("pr3cd7", 150), ("ul", 20)]
        {
            let hit = |length: usize| format!("{GOOD}&t=exception&{name}={}", "x".repeat(length));
            assert_eq!(messages(&hit(most)), Vec::<String>::new(), "{name}");
            assert_eq!(messages(&hit(most + 1)), [format!("WARN VALUE_OUT_OF_BOUNDS {name}")]);
        }
        for name in ["pr3pr", "prxnm", "c", "cdé", "none"] {
            assert_eq!(maximum(name), None, "{name}");
        }
        let start = format!("{GOOD}&t=exception&none=");
        let hit = |bytes: usize| format!("{start}{}", "x".repeat(bytes - start.len()));
        assert_eq!(messages(&hit(8_192)), Vec::<String>::new());
        assert_eq!(messages(&hit(8_193)), ["ERROR VALUE_OUT_OF_BOUNDS -"]);
    }

    #[test]
    fn json_needs_only_a_client_or_user_id() {
        assert_eq!(messages_for_json(r#"{"cid":"5"}"#), Vec::<String>::new());
        assert_eq!(messages_for_json(r#"{"cid":5,"v":1,"ev":7}"#), Vec::<String>::new());
        assert_eq!(messages_for_json(r#"{"uid":"x","tid":"any"}"#), ["WARN VALUE_INVALID tid"]);
        assert_eq!(messages_for_json("{}"), ["ERROR VALUE_REQUIRED cid"]);
        assert_eq!(messages_for_json(r#"{"cid":null,"uid":[]}"#), ["ERROR VALUE_REQUIRED cid"]);
        assert_eq!(
            messages_for_json(r#"{"cid":"5","v":"2","t":"event","ec":"c","qt":-1}"#),
            ["WARN VALUE_INVALID v", "WARN VALUE_REQUIRED ea", "WARN VALUE_OUT_OF_BOUNDS qt"]
        );
    }
}
