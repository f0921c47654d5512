//! The rules of GA4: for requests of gtag.js, of which there is no documentation, and for events of the Measurement Protocol.
//!
//! | checked | found | is |
//! |---|---|---|
//! | `v` (gtag.js) | missing · not 2 | error |
//! | `tid` (`measurement_id`, `firebase_app_id`) | missing · not like G-XXXX | error · warning |
//! | `cid` (`client_id`, `app_instance_id`), `uid` (`user_id`) | both missing | error |
//! | `events` | none in a payload | error |
//! | `en` (`name` of an event) | missing | error |
//! | | over 40 characters, or other than letters, digits and `_` after a letter | error in a payload, warning from gtag.js |
//! | | reserved | warning |
//! | `ep.`, `epn.` | more than 25 · a name over 40 characters, a text over 100 | warning |
//! | `up.`, `upn.` | more than 25 · a name over 24 characters, a text over 36 | warning |
//! | `timestamp_micros` | no number · in the future, or older than 72 hours · `null` | error · none: it counts as now, or as 72 hours ago · none: it counts as missing |
//!
//! Google ignores events with reserved names, and what is too long; here they are stored.
//!
//! Source: "Measurement Protocol reference" and "Send Measurement Protocol events", Google Analytics developer guides.

use std::borrow::Cow;

use super::{Check, Protocol};
use crate::{
    hit::{Hit, ParameterValue},
    verdict::{MessageCode, MessageType},
};

const MOST_NAME: usize = 40;
const MOST_PARAMETERS: usize = 25;
const MOST_TEXT: usize = 100;
const MOST_PROPERTY_NAME: usize = 24;
const MOST_PROPERTY_TEXT: usize = 36;

const RESERVED: [&str; 19] = [
    "ad_activeview",
    "ad_click",
    "ad_exposure",
    "ad_query",
    "ad_reward",
    "adunit_exposure",
    "app_background",
    "app_clear_data",
    "app_exception",
    "app_remove",
    "app_store_refund",
    "app_update",
    "app_upgrade",
    "error",
    "first_open",
    "first_visit",
    "os_update",
    "session_start",
    "user_engagement",
];

/// When an event happened, in microseconds since 1970. Some clients write a whole number with a fraction of 0, or as text.
pub(crate) fn micros(hit: &Hit) -> Option<i64> {
    let text = hit.get("timestamp_micros")?;
    text.parse().ok().or_else(|| {
        let number = text.parse().ok().filter(|number: &f64| number.is_finite())?;
        #[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and what is too large counts as now")]
        Some(number as i64)
    })
}

impl Check<'_> {
    pub(super) fn ga4(&mut self) {
        if self.protocol == Protocol::Ga4 {
            match self.non_empty("v") {
                Some("2") => {}
                None => self.missing("v"),
                Some(_) => self.fault(MessageCode::ValueInvalid, "v", "is not 2"),
            }
        }
        match self.non_empty("tid") {
            Some(id) if id.starts_with("G-") || (self.protocol == Protocol::Ga4Payload && id.contains(':')) => {}
            Some(_) => self.warn(MessageCode::ValueInvalid, self.named("tid", "measurement_id"), "is not like G-XXXX"),
            None => self.missing(self.named("tid", "measurement_id")),
        }
        if self.non_empty("cid").is_none() && self.non_empty("uid").is_none() {
            let client = self.named("cid", "client_id");
            self.push(
                MessageType::Error,
                MessageCode::ValueRequired,
                client,
                Cow::Owned(format!("Either '{client}' or '{}' is required.", self.named("uid", "user_id"))),
            );
        }
        self.event_name();
        let time = self.hit.value("timestamp_micros").filter(|value| *value != ParameterValue::Json("null"));
        if time.is_some() && micros(self.hit).is_none() {
            self.fault(MessageCode::ValueInvalid, "timestamp_micros", "is not a number");
        }
        self.entities("events.params", ["ep.", "epn."], MOST_NAME, MOST_TEXT);
        self.entities("user_properties", ["up.", "upn."], MOST_PROPERTY_NAME, MOST_PROPERTY_TEXT);
    }

    fn event_name(&mut self) {
        let parameter = self.named("en", "events.name");
        if self.protocol == Protocol::Ga4Payload && self.hit.value("en").is_none() && self.hit.value("events").is_some()
        {
            return self.missing("events");
        }
        let Some(name) = self.non_empty("en") else { return self.missing(parameter) };
        let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_word || !name.starts_with(|first: char| first.is_ascii_alphabetic()) || name.len() > MOST_NAME {
            let severity = if self.protocol == Protocol::Ga4Payload { MessageType::Error } else { MessageType::Warn };
            let description = "The name of an event has a letter, then up to 39 letters, digits and underscores.";
            self.push(severity, MessageCode::NameInvalid, parameter, Cow::Borrowed(description));
        } else if self.protocol == Protocol::Ga4Payload && RESERVED.contains(&name) {
            let description = "The name of the event is reserved. Google ignores it; here it is stored.";
            self.push(MessageType::Warn, MessageCode::NameReserved, parameter, Cow::Borrowed(description));
        }
    }

    /// Parameters of the event or properties of the user.
    fn entities(&mut self, path: &'static str, prefixes: [&str; 2], most_name: usize, most_text: usize) {
        let (mut count, mut long_names, mut long_texts) = (0_usize, 0_usize, 0_usize);
        for (name, value) in self.hit.iter() {
            let Some(name) = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)) else { continue };
            count += 1;
            long_names += usize::from(name.len() > most_name);
            long_texts += usize::from(matches!(value, ParameterValue::Text(text) if text.chars().count() > most_text));
        }
        for (is_over, code, what) in [
            (
                count > MOST_PARAMETERS,
                MessageCode::ExceededMaxEntities,
                format!("{count} entries, and {MOST_PARAMETERS} are meant"),
            ),
            (long_names > 0, MessageCode::NameInvalid, format!("names over {most_name} characters")),
            (long_texts > 0, MessageCode::ValueOutOfBounds, format!("texts over {most_text} characters")),
        ] {
            if is_over {
                let description = Cow::Owned(format!("'{path}' has {what}. All is kept."));
                self.push(MessageType::Warn, code, path, description);
            }
        }
    }

    /// The name of a parameter in the protocol that the client speaks.
    fn named(&self, gtag: &'static str, payload: &'static str) -> &'static str {
        if self.protocol == Protocol::Ga4Payload { payload } else { gtag }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        body::{Takes, hits},
        verdict::judge,
    };

    fn messages(body: &str, query: &str, takes: Takes<'_>) -> Vec<String> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let read = hits(body, false, query, takes).unwrap();
        let judged = read.iter().flat_map(judge).map(|message| serde_json::to_value(message).unwrap());
        judged.map(|json| ["messageType", "messageCode", "parameter"].map(|key| text(&json[key])).join(" ")).collect()
    }

    #[test]
    fn requests_of_gtag_need_what_makes_an_event() {
        for (raw, expected) in [
            ("v=2&tid=G-1&cid=5&en=page_view", &[][..]),
            ("v=2&tid=G-1&uid=5&en=a", &[]),
            (
                "v=1&tid=UA-1&en=9",
                &[
                    "ERROR VALUE_INVALID v",
                    "WARN VALUE_INVALID tid",
                    "ERROR VALUE_REQUIRED cid",
                    "WARN NAME_INVALID en",
                ],
            ),
            (
                "en=",
                &[
                    "ERROR VALUE_REQUIRED v",
                    "ERROR VALUE_REQUIRED tid",
                    "ERROR VALUE_REQUIRED cid",
                    "ERROR VALUE_REQUIRED en",
                ],
            ),
        ] {
            assert_eq!(messages("", raw, Takes::Ga4), expected, "{raw}");
        }
    }

    #[test]
    fn payloads_follow_the_measurement_protocol() {
        let takes = Takes::Payload { secrets: &[] };
        let long = "x".repeat(101);
        let many: String = (0..26).map(|at| format!("\"p{at}\":1,")).collect();
        for (body, expected) in [
            (r#"{"client_id":"5","events":[{"name":"a"}]}"#.to_owned(), &[][..]),
            (r#"{"app_instance_id":"5","timestamp_micros":"9","events":[{"name":"a"}]}"#.to_owned(), &[]),
            (r#"{"client_id":"5","timestamp_micros":null,"events":[{"name":"a"}]}"#.to_owned(), &[]),
            (r#"{"client_id":"5","timestamp_micros":1795195100123456.0,"events":[{"name":"a"}]}"#.to_owned(), &[]),
            (r#"{"client_id":null,"user_id":"5","events":[{"name":"a"}]}"#.to_owned(), &[]),
            (r#"{"events":[{"name":"a"}]}"#.to_owned(), &["ERROR VALUE_REQUIRED client_id"]),
            (r#"{"client_id":"5"}"#.to_owned(), &["ERROR VALUE_REQUIRED events"]),
            (r#"{"client_id":"5","events":[]}"#.to_owned(), &["ERROR VALUE_REQUIRED events"]),
            (r#"{"client_id":"5","events":[{}]}"#.to_owned(), &["ERROR VALUE_REQUIRED events.name"]),
            (
                r#"{"client_id":"5","events":[{"name":"a b"},{"name":"1a"}]}"#.to_owned(),
                &["ERROR NAME_INVALID events.name"; 2],
            ),
            (
                r#"{"client_id":"5","events":[{"name":"session_start","timestamp_micros":"x"}]}"#.to_owned(),
                &["WARN NAME_RESERVED events.name", "ERROR VALUE_INVALID timestamp_micros"],
            ),
            (
                format!(r#"{{"client_id":"5","events":[{{"name":"a","params":{{{many}"q":"{long}"}}}}]}}"#),
                &["WARN EXCEEDED_MAX_ENTITIES events.params", "WARN VALUE_OUT_OF_BOUNDS events.params"],
            ),
            (
                format!(
                    r#"{{"client_id":"5","user_properties":{{"{}":{{"value":"{long}"}}}},"events":[{{"name":"a"}}]}}"#,
                    &long[..25]
                ),
                &["WARN NAME_INVALID user_properties", "WARN VALUE_OUT_OF_BOUNDS user_properties"],
            ),
        ] {
            assert_eq!(messages(&body, "measurement_id=G-1", takes), expected, "{body}");
        }
        assert_eq!(
            messages(r#"{"client_id":"5","events":[{"name":"a"}]}"#, "", takes),
            ["ERROR VALUE_REQUIRED measurement_id"]
        );
    }
}
