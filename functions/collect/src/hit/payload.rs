//! Hits from the payload of the GA4 Measurement Protocol: a JSON object with an array of events.
//!
//! Each event is a hit with the names that the same thing has in a request of gtag.js, so that there is one format to read:
//!
//! | in the payload | in the hit |
//! |---|---|
//! | `client_id` or `app_instance_id`, `user_id` | `cid`, `uid` |
//! | `user_agent`, `ip_override` | `ua`, `uip` |
//! | `user_properties.x.value` | `upn.x` if it is a number, else `up.x` |
//! | `events[].name` | `en` |
//! | `params`: `page_location` `page_referrer` `page_title` `language` `screen_resolution` `currency` `session_id` `engagement_time_msec` | `dl` `dr` `dt` `ul` `sr` `cu` `sid` `_et` |
//! | `params.items` | `items` |
//! | `params.x` | `epn.x` if it is a number, else `ep.x` |
//! | anything else: `timestamp_micros`, `consent`, `non_personalized_ads`, `user_location`, … | under its own name |
//!
//! Source: "Measurement Protocol reference", Google Analytics developer guides.

use serde_json::value::RawValue;

use super::{Hit, HitError, MOST_PARAMETERS, ParameterValue};

impl Hit {
    /// The hits of a payload of at most `most_bytes` and `most_events`, in order; or why it has none. Without an event there is
    /// one hit, of what all would share and `events` as it is.
    pub fn from_payload(
        raw: &[u8],
        most_bytes: usize,
        most_events: usize,
    ) -> Result<Vec<(Self, Option<HitError>)>, HitError> {
        let payload = Self::from_json_within(raw, most_bytes)?;
        let mut shared = Self::default();
        for (name, value) in payload.iter().filter(|(name, _)| *name != "events") {
            match (name, value) {
                ("user_properties", ParameterValue::Json(properties)) => shared.user_properties(properties),
                _ => shared.add(shared_name(name), value),
            }
        }
        let given = payload.value("events").unwrap_or(ParameterValue::Json("[]"));
        let events: Vec<&RawValue> = match given {
            // Of one event, `ga4mp` sends no array.
            ParameterValue::Json(event) if event.starts_with("{\"name\"") => {
                serde_json::from_str(event).into_iter().collect()
            }
            ParameterValue::Json(events) => serde_json::from_str(events).unwrap_or_default(),
            ParameterValue::Text(_) => Vec::new(),
        };
        if events.is_empty() {
            shared.add("events", given);
            return Ok(vec![(Self { bytes: raw.len(), ..shared }, None)]);
        }
        if events.len() > most_events {
            return Err(HitError::TooManyEvents { events: events.len() });
        }
        Ok(events.into_iter().map(|event| of_event(&shared, event.get())).collect())
    }

    /// Adds a parameter unless there is one of that name.
    fn add(&mut self, name: &str, value: ParameterValue<'_>) {
        if self.position(name).is_none() {
            self.push(name, value);
        }
    }

    fn user_properties(&mut self, raw: &str) {
        let Ok(properties) = Self::from_json(raw.as_bytes()) else {
            return self.add("user_properties", ParameterValue::Json(raw));
        };
        for (name, property) in properties.iter() {
            let ParameterValue::Json(text) = property else {
                self.add(&format!("up.{name}"), property);
                continue;
            };
            let members = Self::from_json(text.as_bytes()).ok().filter(|members| members.len() == 1);
            match members.as_ref().and_then(|members| members.value("value")) {
                Some(value) => self.add(&format!("{}.{name}", typed("up", value)), value),
                // It also has its own time.
                None => self.add(&format!("up.{name}"), property),
            }
        }
    }
}

/// The hit of an event, with what all events of its payload share. The event's own values take precedence.
fn of_event(shared: &Hit, raw: &str) -> (Hit, Option<HitError>) {
    let read = || -> Result<Hit, HitError> {
        let event = Hit::from_json(raw.as_bytes())?;
        let mut hit = Hit { bytes: raw.len(), ..Hit::default() };
        for (name, value) in event.iter() {
            match (name, value) {
                ("name", value) => hit.add("en", value),
                ("params", ParameterValue::Json(params)) if params.starts_with('{') => {
                    for (name, value) in Hit::from_json(params.as_bytes())?.iter() {
                        match event_name(name) {
                            Some(name) => hit.add(name, value),
                            None => hit.add(&format!("{}.{name}", typed("ep", value)), value),
                        }
                    }
                }
                (name, value) => hit.add(name, value),
            }
        }
        hit.merge(shared.clone())?;
        if hit.len() > MOST_PARAMETERS { Err(HitError::TooManyParameters) } else { Ok(hit) }
    };
    match read() {
        Ok(hit) => (hit, None),
        Err(error) => {
            let mut hit = Hit::unreadable(raw.as_bytes());
            // Who sent it says how it has to be treated. If that is too large as well, the event stays as it is.
            match hit.merge(shared.clone()) {
                Ok(()) | Err(_) => (hit, Some(error)),
            }
        }
    }
}

fn shared_name(name: &str) -> &str {
    match name {
        "client_id" | "app_instance_id" => "cid",
        "user_id" => "uid",
        "user_agent" => "ua",
        "ip_override" => "uip",
        other => other,
    }
}

/// Parameters of events that have names of their own in requests of gtag.js.
fn event_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "page_location" => "dl",
        "page_referrer" => "dr",
        "page_title" => "dt",
        "language" => "ul",
        "screen_resolution" => "sr",
        "currency" => "cu",
        "session_id" => "sid",
        "engagement_time_msec" => "_et",
        "items" => "items",
        _ => return None,
    })
}

/// `ep` or `up`, and `epn` or `upn` for numbers.
fn typed(kind: &str, value: ParameterValue<'_>) -> String {
    let is_number = matches!(value, ParameterValue::Json(json) if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()));
    if is_number { format!("{kind}n") } else { kind.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{
        super::tests::{list, pairs},
        *,
    };

    fn read(payload: &Value) -> Vec<(Hit, Option<HitError>)> {
        Hit::from_payload(payload.to_string().as_bytes(), 130_000, 25).unwrap()
    }

    #[test]
    fn each_event_is_a_hit_with_what_all_share() {
        let hits = read(&json!({
            "client_id": "5.7", "user_id": "ann", "timestamp_micros": 1, "consent": {"ad_user_data": "DENIED"},
            "user_properties": {"tier": {"value": "gold"}, "age": {"value": 7}, "late": {"value": 1, "timestamp_micros": 2}},
            "events": [
                {"name": "purchase", "params": {
                    "currency": "EUR", "value": 35.43, "transaction_id": "T-1", "coupon": "a\"b", "free": true, "none": null,
                    "items": [{"item_id": "P1", "price": 2.50}], "page_location": "https://x.org/?a=b",
                }},
                {"name": "login", "timestamp_micros": 9},
            ],
        }));
        let [(purchase, None), (login, None)] = &hits[..] else { panic!("two hits") };
        let shared = [
            ("cid", "5.7"),
            ("consent", r#"json {"ad_user_data":"DENIED"}"#),
            ("up.tier", "gold"),
            ("uid", "ann"),
            ("upn.age", "json 7"),
            ("up.late", r#"json {"timestamp_micros":2,"value":1}"#),
        ];
        let mut expected = vec![
            ("en", "purchase"),
            ("cu", "EUR"),
            ("epn.value", "json 35.43"),
            ("ep.transaction_id", "T-1"),
            ("ep.coupon", "a\"b"),
            ("ep.free", "json true"),
            ("ep.none", "json null"),
            ("items", r#"json [{"item_id":"P1","price":2.5}]"#),
            ("dl", "https://x.org/?a=b"),
            ("timestamp_micros", "json 1"),
        ];
        expected.extend(shared);
        let sorted = |mut list: Vec<(String, String)>| {
            list.sort();
            list
        };
        assert_eq!(sorted(list(purchase)), sorted(pairs(&expected)));
        let mut expected = vec![("en", "login"), ("timestamp_micros", "json 9")];
        expected.extend(shared);
        assert_eq!(sorted(list(login)), sorted(pairs(&expected)));
    }

    #[test]
    fn an_event_that_cannot_be_read_is_one_bad_event() {
        let hits = read(&json!({"client_id": "5", "events": [7, {"name": "a"}, {"name": "b", "params": []}]}));
        assert_eq!(hits.len(), 3);
        assert_eq!((list(&hits[0].0), hits[0].1), (pairs(&[("_raw", "7"), ("cid", "5")]), Some(HitError::NotAnObject)));
        assert_eq!(list(&hits[1].0), pairs(&[("en", "a"), ("cid", "5")]));
        assert_eq!(list(&hits[2].0), pairs(&[("en", "b"), ("params", "json []"), ("cid", "5")]));
        for (none, events) in [
            (json!({"client_id": 5}), "json []"),
            (json!({"client_id": 5, "events": []}), "json []"),
            (json!({"client_id": 5, "events": {}}), "json {}"),
            (json!({"client_id": 5, "events": "x"}), "x"),
        ] {
            let [(hit, None)] = &read(&none)[..] else { panic!("one hit") };
            assert_eq!(list(hit), pairs(&[("cid", "json 5"), ("events", events)]));
        }
        assert_eq!(list(&read(&json!({"events": {"name": "a"}}))[0].0), pairs(&[("en", "a")]));
        assert!(matches!(Hit::from_payload(b"{", 10, 25), Err(HitError::Json { .. })));
        assert_eq!(Hit::from_payload(b"{\"a\": 123}", 9, 25), Err(HitError::TooLarge { bytes: 10 }));
        let many = format!("{{\"events\":[{}]}}", vec!["{}"; 26].join(","));
        assert_eq!(Hit::from_payload(many.as_bytes(), 130_000, 25), Err(HitError::TooManyEvents { events: 26 }));
    }

    proptest! {
        #[test]
        fn no_payload_panics(raw in r#"\{"(events|client_id|user_properties)":[\[\]{}",:a0\-\\u d8]{0,40}\}"#) {
            drop(Hit::from_payload(raw.as_bytes(), 130_000, 25));
        }

        /// What was sent can be had back: by its name and with its type.
        #[test]
        fn every_parameter_of_an_event_is_kept(
            given in prop::collection::btree_map("[a-z_]{1,12}", prop_oneof![
                any::<String>().prop_map(Value::from), any::<i32>().prop_map(Value::from), any::<bool>().prop_map(Value::from),
                prop::collection::vec(any::<u8>(), 0..3).prop_map(Value::from),
            ], 0..12),
        ) {
            let hits = read(&json!({"client_id": "5", "events": [{"name": "e", "params": given}]}));
            let hit = serde_json::to_value(
                hits[0].0.iter().map(|(name, value)| (name.to_owned(), serde_json::to_value(value).unwrap())).collect::<serde_json::Map<_, _>>(),
            ).unwrap();
            prop_assert_eq!(hit.as_object().unwrap().len(), given.len() + 2);
            for (name, value) in &given {
                let prefix = if value.is_number() { "epn" } else { "ep" };
                let found = event_name(name).map_or_else(|| &hit[format!("{prefix}.{name}")], |name| &hit[name]);
                prop_assert_eq!(found, value);
            }
        }
    }
}
