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

use super::{Hit, HitError, MOST_PARAMETERS, ParameterValue, is_number};

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
        // All of it is copied to each event, and counts as a part of each.
        shared.bytes = shared.iter().map(|(name, value)| name.len() + length(value)).sum();
        if events.len() > most_events {
            return Err(HitError::TooManyEvents { events: events.len() });
        }
        Ok(events.into_iter().map(|event| of_event(&shared, event.get())).collect())
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
            // If all of it is too large as well, only who sent it and how it has to be treated is added.
            match hit.merge(shared.clone()) {
                Ok(()) | Err(_) => (hit, Some(error)),
            }
        }
    }
}

const fn length(value: ParameterValue<'_>) -> usize {
    let (ParameterValue::Text(text) | ParameterValue::Json(text)) = value;
    text.len()
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
    if matches!(value, ParameterValue::Json(json) if is_number(json)) { format!("{kind}n") } else { kind.to_owned() }
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

    #[test]
    fn what_all_events_share_counts_as_a_part_of_each() {
        let long = "a".repeat(20_000);
        let payload = |event: &str| {
            json!({
                "client_id": "5", "user_id": "ann", "consent": {"ad_user_data": "DENIED"}, "user_properties": {"long": {"value": long}},
                "events": vec![json!({"name": "a", "params": {"text": event}}); 6],
            })
        };
        assert!(read(&payload("")).iter().all(|(hit, error)| hit.bytes() > 20_000 && error.is_none()));
        let hits = read(&payload(&long[..13_000]));
        assert_eq!(hits.len(), 6);
        for (hit, error) in hits {
            assert!(matches!(error, Some(HitError::TooLarge { .. })));
            let names: Vec<&str> = hit.iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["_raw", "cid", "consent", "uid"], "who sent it and what they want is kept");
        }
    }

    #[test]
    fn null_is_no_value() {
        let null = json!({
            "client_id": null, "app_instance_id": "5", "timestamp_micros": 7, "events": [{"name": "a", "timestamp_micros": null}],
        });
        assert_eq!(list(&read(&null)[0].0), pairs(&[("en", "a"), ("timestamp_micros", "json 7"), ("cid", "5")]));
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
