//! Lines that say where their records come from.

use memchr::memmem;
use serde::{
    Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};
use shared::{json::Text, quarantine::rfc3339};

use crate::shard::ShardId;

/// The members that are added to a line. A record that has one of them itself becomes a member of its own, `_value`.
const NAMES: [&str; 7] = ["_stream", "_shard", "_sequence", "_sub_sequence", "_partition_key", "_arrived_at", "_value"];

/// Where a record comes from.
#[derive(Debug, Serialize)]
pub(crate) struct Origin<'a> {
    #[serde(rename = "_stream")]
    stream: &'a str,
    #[serde(rename = "_shard")]
    shard: &'a str,
    /// Its sequence number, or that of the aggregate that it was packed into.
    #[serde(rename = "_sequence")]
    sequence: &'a str,
    /// Its place in the aggregate, counted from 0.
    #[serde(rename = "_sub_sequence")]
    sub_sequence: u64,
    /// Its partition key.
    #[serde(rename = "_partition_key")]
    partition_key: &'a str,
    /// When it arrived in the stream, in RFC 3339.
    #[serde(rename = "_arrived_at")]
    arrived_at: Option<String>,
}

impl<'a> Origin<'a> {
    /// `arrived_ms` is in milliseconds since 1970-01-01T00:00:00Z.
    pub(crate) fn new(
        shard: &'a ShardId,
        (sequence, sub_sequence): (&'a str, u64),
        partition_key: &'a str,
        arrived_ms: i64,
    ) -> Self {
        let (stream, shard) = (shard.stream.as_str(), shard.shard.as_str());
        Self { stream, shard, sequence, sub_sequence, partition_key, arrived_at: rfc3339(arrived_ms) }
    }

    /// A line with these members behind its own. `line` is JSON without line breaks or white space around it.
    pub(crate) fn added_to(&self, line: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        let mut with = Vec::with_capacity(line.len() + 256);
        let own = line.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
        match own.filter(|_| !has_one_of_ours(line)) {
            Some(own) if own.trim_ascii().is_empty() => {}
            Some(own) => [&b"{"[..], own].into_iter().for_each(|part| with.extend_from_slice(part)),
            None => [&b"{\"_value\":"[..], line].into_iter().for_each(|part| with.extend_from_slice(part)),
        }
        let at = with.len();
        serde_json::to_writer(&mut with, self)?;
        // Its opening brace, unless it is that of the line.
        if let Some(brace) = with.get_mut(at).filter(|_| at > 0) {
            *brace = b',';
        }
        Ok(with)
    }
}

/// Whether an object has a member that would be added to it. Its names may be written with escapes.
fn has_one_of_ours(object: &[u8]) -> bool {
    let may_have = memmem::find(object, b"\"_").is_some() || memmem::find(object, b"\\u").is_some();
    may_have && serde_json::Deserializer::from_slice(object).deserialize_map(Names).unwrap_or(true)
}

/// Whether one of the names of an object is one of [`NAMES`].
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some((Text(name), IgnoredAny)) = map.next_entry()? {
            found |= NAMES.contains(&&*name);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::line::tests::json;

    fn added_to(line: &str) -> String {
        let shard = ShardId { stream: "clicks".parse().unwrap(), shard: "shardId-0".parse().unwrap() };
        let origin = Origin::new(&shard, ("4959", 2), "a \"key\"", 1_795_183_906_123);
        String::from_utf8(origin.added_to(line.as_bytes()).unwrap()).unwrap()
    }

    const ADDED: &str = r#""_stream":"clicks","_shard":"shardId-0","_sequence":"4959","_sub_sequence":2,"_partition_key":"a \"key\"","_arrived_at":"2026-11-20T14:11:46.123Z"}"#;

    #[test]
    fn an_object_keeps_its_members_and_gets_ours() {
        assert_eq!(added_to(r#"{"a": 1.10, "b":{}}"#), format!("{{\"a\": 1.10, \"b\":{{}},{ADDED}"));
        assert_eq!(added_to("{ }"), format!("{{{ADDED}"));
        assert_eq!(
            added_to(r#"{"a":{"_stream":1},"_streams":2}"#),
            format!("{{\"a\":{{\"_stream\":1}},\"_streams\":2,{ADDED}")
        );
    }

    #[test]
    fn what_has_no_room_for_them_becomes_a_member() {
        for line in ["1", "[{}]", "\"x\"", "null", r#"{"_shard":1}"#, r#"{"a":1,"\u005fstream":2}"#, r#"{"_value":{}}"#]
        {
            assert_eq!(added_to(line), format!("{{\"_value\":{line},{ADDED}"));
        }
    }

    proptest! {
        #[test]
        fn a_line_with_an_origin_is_json_that_still_has_the_record(value in json()) {
            let with: Value = serde_json::from_str(&added_to(&value.to_string())).unwrap();
            let mut rest = with.as_object().unwrap().clone();
            for name in &NAMES[..6] {
                prop_assert!(rest.remove(*name).is_some());
            }
            let (rest, wrapped) = (Value::Object(rest), json!({"_value": value}));
            prop_assert!(rest == value || rest == wrapped, "{}", with);
        }
    }
}
