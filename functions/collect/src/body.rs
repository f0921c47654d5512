//! Request bodies → hits: decodes base64 and gzip, and parses one hit or many, as forms or JSON. The limits below bound the
//! memory that this needs.
//!
//! What breaks the rules is read as far as it can be, because it is kept as rejected: a hit with its parameters, or a request
//! that has no readable hits as the text of its first bytes.

use std::io::Read as _;

use flate2::bufread::GzDecoder;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::{
    hit::{Hit, HitError, MOST_BYTES},
    validate::{MOST_HIT_BYTES, Protocol},
};

/// Most bytes of a batch. Source: Measurement Protocol, "Batching multiple hits in a single request".
pub const MOST_BATCH_BYTES: usize = 16 * 1_024;
/// Most hits in a batch. Same source.
pub const MOST_HITS: usize = 20;
/// Most bytes of a GA4 request. Source: "Send Measurement Protocol events", Google Analytics developer guides. For `/g/collect`
/// there is no documentation.
pub const MOST_GA4_BYTES: usize = 130_000;
/// Most events of a GA4 request. Same source.
pub const MOST_EVENTS: usize = 25;

/// SHA-256 of a secret.
pub type Digest = [u8; 32];

fn digest(secret: &str) -> Digest {
    Sha256::digest(secret).into()
}

/// What a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes<'a> {
    /// A hit; or lines of GA4, if the query string says that it is version 2.
    Hit,
    /// A hit on each line.
    Batch,
    /// What gtag.js sends: an event on each line, and what they share in the query string.
    Ga4,
    /// A payload of the GA4 Measurement Protocol, with one of these secrets in the query string, unless there is none.
    Payload { secrets: &'a [Digest] },
}

impl Takes<'_> {
    const fn most(self, is_ga4: bool) -> (usize, usize) {
        if is_ga4 || matches!(self, Self::Payload { .. }) {
            (MOST_GA4_BYTES, MOST_EVENTS)
        } else {
            (MOST_BATCH_BYTES, MOST_HITS)
        }
    }
}

/// Why no hit of a request can be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is not base64")]
    Base64,
    #[error("the body starts like gzip and is not")]
    Gzip,
    #[error("{what} is larger than {most} bytes")]
    TooLarge { what: &'static str, most: usize },
    #[error("there are {hits} hits, and a batch holds {most}")]
    TooManyHits { hits: usize, most: usize },
    #[error("{0}")]
    Json(String),
    #[error("there is no hit, neither in the body nor behind the question mark")]
    Empty,
}

impl BodyError {
    /// The reason in answers and in metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Base64 => "invalid_base64",
            Self::Gzip => "invalid_gzip",
            Self::TooLarge { .. } | Self::TooManyHits { .. } => "too_large",
            Self::Json(_) => "invalid_json",
            Self::Empty => "empty",
        }
    }
}

/// One hit of a request, as far as it can be read.
#[derive(Debug)]
pub struct Read {
    pub protocol: Protocol,
    pub hit: Hit,
    /// Why it cannot be parsed as the rules say.
    pub fault: Option<HitError>,
    /// Position in the request, from 0.
    pub position: usize,
    /// Whether it says itself which hit it is: by a cache buster of its own, not one of the whole request.
    pub is_named: bool,
}

/// A request that is refused as a whole.
#[derive(Debug)]
pub struct Refused {
    pub error: BodyError,
    /// What the client would speak, by the path and the query string.
    pub protocol: Protocol,
    /// What could be read of it.
    pub rest: Hit,
}

impl Read {
    fn new(protocol: Protocol, (hit, fault): (Hit, Option<HitError>)) -> Self {
        let is_named = hit.get("z").is_some_and(|z| !z.is_empty());
        Self { protocol, hit, fault, position: 0, is_named }
    }

    /// What could be read of a request that is refused as a whole.
    #[must_use]
    pub fn of_refused(refused: Refused) -> Self {
        Self::new(refused.protocol, (refused.rest, None))
    }

    fn form(raw: &[u8]) -> Self {
        Self::new(Protocol::V1, Hit::read_form(raw))
    }

    fn json(raw: &[u8]) -> Self {
        Self::new(Protocol::V1Json, Hit::read_json(raw))
    }
}

/// The hits of a request, in order.
pub fn hits(body: &str, is_base64: bool, query: &str, takes: Takes<'_>) -> Result<Vec<Read>, Refused> {
    let (mut query, mut fault) =
        if query.is_empty() { (Hit::default(), None) } else { Hit::read_form(query.as_bytes()) };
    // It is stored nowhere, whatever the path.
    let secret = query.take("api_secret");
    if let Takes::Payload { secrets } = takes {
        let is_known = secrets.is_empty() || secret.is_some_and(|secret| secrets.contains(&digest(&secret)));
        fault = fault.or((!is_known).then_some(HitError::ApiSecret));
        query.rename("measurement_id", "tid");
        query.rename("firebase_app_id", "tid");
    }
    let is_ga4 = takes == Takes::Ga4 || (takes == Takes::Hit && query.get("v") == Some("2"));
    let (most_bytes, most_hits) = takes.most(is_ga4);
    let protocol = match takes {
        Takes::Payload { .. } => Protocol::Ga4Payload,
        _ if is_ga4 => Protocol::Ga4,
        _ => Protocol::V1,
    };
    let refused = |error, rest| Refused { error, protocol, rest };
    // The query string may say how the rest has to be treated.
    let with_query = |mut rest: Hit| match rest.merge(query.clone()) {
        // If that is too much, it has of the query string what says that.
        Ok(()) | Err(_) => rest,
    };
    let bytes = match plain(body, is_base64, most_bytes) {
        Ok(bytes) => bytes,
        Err((error, rest)) => return Err(refused(error, with_query(rest))),
    };
    let payload = bytes.trim_ascii();
    // A byte order mark, as some programs on Windows write it.
    let payload = payload.strip_prefix(b"\xef\xbb\xbf").map_or(payload, <[u8]>::trim_ascii);
    let read = match (takes, payload.first()) {
        (_, None) if query.is_empty() && fault.is_none() => return Err(refused(BodyError::Empty, Hit::default())),
        (Takes::Payload { .. }, _) => payload_hits(payload),
        (_, None) => Ok(vec![Read::new(Protocol::V1, (Hit::default(), None))]),
        (_, Some(b'{')) => json_hit(payload).map(|read| vec![read]),
        (_, Some(b'[')) => json_hits(payload, most_hits),
        (_, Some(_)) if is_ga4 || takes == Takes::Batch => form_hits(payload, most_hits),
        (_, Some(_)) => Ok(vec![Read::form(payload)]),
    };
    let mut hits = read.map_err(|error| refused(error, with_query(Hit::unreadable(payload))))?;
    for (position, read) in hits.iter_mut().enumerate() {
        read.position = position;
        let merged = if query.is_empty() { Ok(()) } else { read.hit.merge(query.clone()) };
        read.fault = read.fault.or(fault).or(merged.err());
        let is_ga4 = takes == Takes::Ga4 || (read.protocol == Protocol::V1 && read.hit.get("v") == Some("2"));
        if is_ga4 {
            read.protocol = Protocol::Ga4;
        }
    }
    match &mut hits[..] {
        // Alone, a hit that is too large is a request that is too large.
        [only] if only.protocol.is_v1() && payload.len().max(query.bytes()) > MOST_HIT_BYTES => {
            let what = if payload.len() > MOST_HIT_BYTES { "the hit" } else { "the query string" };
            let error = BodyError::TooLarge { what, most: MOST_HIT_BYTES };
            Err(refused(error, std::mem::take(&mut only.hit)))
        }
        _ => Ok(hits),
    }
}

fn fits(what: &'static str, bytes: usize, most: usize) -> Result<(), BodyError> {
    if bytes > most { Err(BodyError::TooLarge { what, most }) } else { Ok(()) }
}

/// The bytes of the body, decoded and decompressed; or why not, and what there is of it.
fn plain(body: &str, is_base64: bool, most: usize) -> Result<Vec<u8>, (BodyError, Hit)> {
    let bytes = match is_base64 {
        true => base64_simd::STANDARD
            .decode_to_vec(body.as_bytes())
            .map_err(|_| (BodyError::Base64, Hit::unreadable(body.as_bytes())))?,
        false => body.as_bytes().to_vec(),
    };
    let is_compressed = bytes.starts_with(&GZIP);
    let plain = if is_compressed { decompressed(&bytes, most, body)? } else { bytes };
    match fits("the body", plain.len(), most) {
        Ok(()) => Ok(plain),
        // Nobody has seen the rest.
        Err(error) if is_compressed => Err((error, Hit::unreadable(&plain).denied())),
        Err(error) => Err((error, Hit::unreadable(&plain))),
    }
}

/// What gzip begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Decompresses all members one after the other: a client may have compressed each hit by itself. What comes after them and is none is
/// left out, as by gzip itself. Stops when there is more than is stored or read of a body.
fn decompressed(bytes: &[u8], most: usize, body: &str) -> Result<Vec<u8>, (BodyError, Hit)> {
    let mut plain = Vec::with_capacity(4 * bytes.len().min(most));
    let more = most.max(MOST_BYTES).saturating_add(1);
    let mut rest = bytes;
    while rest.starts_with(&GZIP) && plain.len() < more {
        let mut member = GzDecoder::new(rest);
        let left = u64::try_from(more - plain.len()).unwrap_or(u64::MAX);
        if member.by_ref().take(left).read_to_end(&mut plain).is_err() {
            // Nobody can search what cannot be decompressed.
            let readable = if plain.is_empty() { body.as_bytes() } else { &plain };
            return Err((BodyError::Gzip, Hit::unreadable(readable).denied()));
        }
        rest = member.into_inner();
    }
    Ok(plain)
}

fn form_hits(payload: &[u8], most: usize) -> Result<Vec<Read>, BodyError> {
    let lines = payload.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    few(lines.clone().count(), most)?;
    Ok(lines.map(Read::form).collect())
}

fn few(hits: usize, most: usize) -> Result<(), BodyError> {
    if hits > most { Err(BodyError::TooManyHits { hits, most }) } else { Ok(()) }
}

fn json_hits(payload: &[u8], most: usize) -> Result<Vec<Read>, BodyError> {
    let items: Vec<&RawValue> = serde_json::from_slice(payload).map_err(|error| BodyError::Json(error.to_string()))?;
    if items.is_empty() {
        return Err(BodyError::Empty);
    }
    few(items.len(), most)?;
    items.into_iter().map(|item| json_hit(item.get().as_bytes())).collect()
}

/// The events of a payload.
fn payload_hits(payload: &[u8]) -> Result<Vec<Read>, BodyError> {
    let hits = match Hit::from_payload(payload, MOST_GA4_BYTES, MOST_EVENTS) {
        Err(error @ HitError::Json { .. }) => return Err(BodyError::Json(error.to_string())),
        Err(HitError::TooManyEvents { events }) => few(events, MOST_EVENTS).map(|()| Vec::new())?,
        Err(error) => vec![(Hit::unreadable(payload), Some(error))],
        Ok(hits) => hits,
    };
    Ok(hits.into_iter().map(|hit| Read::new(Protocol::Ga4Payload, hit)).collect())
}

/// One JSON value. If it is not an object, only this hit is invalid; if it is not JSON, the whole request is.
fn json_hit(payload: &[u8]) -> Result<Read, BodyError> {
    match Read::json(payload) {
        Read { fault: Some(error @ HitError::Json { .. }), .. } => Err(BodyError::Json(error.to_string())),
        read => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    /// The hits of `/batch` or `/collect`.
    fn hits(body: &str, is_base64: bool, query: &str, batch: bool) -> Result<Vec<Read>, Refused> {
        super::hits(body, is_base64, query, if batch { Takes::Batch } else { Takes::Hit })
    }

    fn read(body: &str, query: &str, batch: bool) -> Result<Vec<Vec<(String, String)>>, BodyError> {
        let hits = hits(body, false, query, batch).map_err(|refused| refused.error)?;
        assert!(hits.iter().all(|read| read.fault.is_none()));
        Ok(hits.iter().map(|read| texts(&read.hit)).collect())
    }

    fn texts(hit: &Hit) -> Vec<(String, String)> {
        hit.iter().map(|(name, _)| (name.to_owned(), hit.get(name).unwrap_or_default().to_owned())).collect()
    }

    fn error(body: &str, is_base64: bool) -> (BodyError, Vec<(String, String)>) {
        let Refused { error, rest, .. } = hits(body, is_base64, "", false).unwrap_err();
        (error, texts(&rest))
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_hit_is_parsed_from_every_encoding() {
        let hit = vec![pairs(&[("v", "1"), ("cid", "a b")])];
        for body in ["v=1&cid=a+b", " v=1&cid=a%20b\n", r#"{"v": "1", "cid": "a b"}"#, r#"[{"v": "1", "cid": "a b"}]"#]
        {
            assert_eq!(read(body, "", false).unwrap(), hit, "{body}");
        }
        assert_eq!(read("", "v=1&cid=a+b", false).unwrap(), hit);
    }

    #[test]
    fn parameters_of_the_body_take_precedence_over_the_query_string() {
        let [hit] = &read("v=1&t=event", "t=pageview&z=7", false).unwrap()[..] else { panic!("one hit") };
        let value = |name: &str| hit.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!((value("v"), value("t"), value("z")), (Some("1"), Some("event"), Some("7")));
    }

    #[test]
    fn each_line_of_a_batch_is_a_hit() {
        assert_eq!(read("v=1\n\nv=2\r\nv=3", "", true).unwrap().len(), 3);
        assert_eq!(read(&"v=1\n".repeat(20), "", true).unwrap().len(), 20);
        assert_eq!(read(&"v=1\n".repeat(21), "", true), Err(BodyError::TooManyHits { hits: 21, most: MOST_HITS }));
    }

    #[test]
    fn a_hit_that_is_too_large_is_one_bad_hit_of_a_batch() {
        let long = format!("v=1&t=event\nv={}\nv=3", "a".repeat(MOST_HIT_BYTES));
        let hits = hits(&long, false, "cid=5", true).unwrap();
        assert_eq!(hits.iter().map(|read| read.position).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(hits[1].hit.bytes() > MOST_HIT_BYTES && hits.iter().all(|read| read.hit.get("cid") == Some("5")));
    }

    #[test]
    fn what_is_refused_is_read_as_far_as_it_can_be() {
        let too_large = |what| BodyError::TooLarge { what, most: MOST_HIT_BYTES };
        let long = format!("cid=5&dt={}", "a".repeat(MOST_HIT_BYTES));
        let (found, rest) = error(&long, false);
        assert_eq!((found, &rest[0]), (too_large("the hit"), &pairs(&[("cid", "5")])[0]));
        assert_eq!(error("{\"cid\": 5", false).1, pairs(&[("_raw", "{\"cid\": 5")]));
        let many = "cid=5\n".repeat(21);
        let Refused { error, rest, .. } = hits(&many, false, "z=1", true).unwrap_err();
        assert_eq!(
            (error, texts(&rest)),
            (BodyError::TooManyHits { hits: 21, most: MOST_HITS }, pairs(&[("_raw", many.trim()), ("z", "1")]))
        );
        let query = format!("cid=5&dt={}", "a".repeat(MOST_HIT_BYTES));
        let Refused { error, rest, .. } = hits("", false, &query, false).unwrap_err();
        assert_eq!((error, rest.get("cid")), (too_large("the query string"), Some("5")));
        assert_eq!(hits("", false, "", false).unwrap_err().rest.len(), 0);
    }

    #[test]
    fn what_is_too_large_to_be_read_is_still_treated_as_its_query_string_says() {
        let long = format!("cid=5&dt={}", "a".repeat(MOST_BYTES));
        let query = "tid=UA-1-1&gcs=G100&dt=x&uid=user-1234567";
        let alone = hits(&long, false, query, false).unwrap_err().rest;
        let line = super::hits(&format!("en=a\n{long}"), false, query, Takes::Ga4).unwrap().remove(1).hit;
        for hit in [alone, line] {
            let found = ["tid", "gcs", "uid", "dt"].map(|name| hit.get(name));
            assert_eq!(found, [Some("UA-1-1"), Some("G100"), Some("user-1234567"), None]);
        }
    }

    #[test]
    fn a_cache_buster_names_its_own_hit_and_not_all_of_a_request() {
        let named =
            |body, query| hits(body, false, query, true).unwrap().iter().map(|read| read.is_named).collect::<Vec<_>>();
        assert_eq!(named("v=1&z=7\nv=1&z=\nv=1", "z=8"), [true, false, false]);
    }

    #[test]
    fn base64_and_gzip_are_decoded() {
        let member = |plain: &[u8]| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(plain).unwrap();
            gzip.finish().unwrap()
        };
        let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
        for body in [base64(b"v=1"), base64(&member(b"v=1"))] {
            let hits = hits(&body, true, "", false).unwrap();
            assert_eq!(hits[0].hit.get("v"), Some("1"));
        }
        let members = [member(b"v=1&z=1\n"), member(b"v=1&z=2\n"), member(b""), member(b"v=1&z=3")].concat();
        let concatenated = hits(&base64(&members), true, "", true).unwrap();
        assert_eq!(concatenated.iter().map(|read| read.hit.get("z").unwrap()).collect::<Vec<_>>(), ["1", "2", "3"]);
        let bomb = base64(&member(&vec![b'a'; 10 << 20]));
        assert!(bomb.len() < MOST_BATCH_BYTES);
        assert_eq!(error(&bomb, true).0, BodyError::TooLarge { what: "the body", most: MOST_BATCH_BYTES });
        let torn = [member(b"v=1&cid=5\n"), member(b"v=1")[..12].to_vec()].concat();
        assert_eq!(error(&base64(&torn), true), (BodyError::Gzip, pairs(&[("_raw", "v=1&cid=5\nv")])));
        assert_eq!(error("not base64!", true), (BodyError::Base64, pairs(&[("_raw", "not base64!")])));
        let trailing = [member(b"v=1&cid=5"), b"\0".to_vec()].concat();
        assert_eq!(hits(&base64(&trailing), true, "", false).unwrap()[0].hit.get("cid"), Some("5"));
    }

    #[test]
    fn what_cannot_be_decompressed_counts_as_that_of_a_visitor_who_denies_consent() {
        let broken = base64_simd::STANDARD.encode_to_string([0x1f, 0x8b, 0xff, 1, 2, 3]);
        let Refused { error, rest, .. } = hits(&broken, true, "tid=UA-1-1", false).unwrap_err();
        assert_eq!((error, texts(&rest)), (BodyError::Gzip, pairs(&[("_raw", &broken), ("tid", "UA-1-1")])));
        assert!(rest.wish().is_some_and(|wish| wish.denies_consent));
        let text = hits("{", false, "", false).unwrap_err().rest;
        assert!(text.wish().is_some_and(|wish| !wish.denies_consent));
        // Consent may be denied after what is decompressed.
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&vec![b'a'; MOST_BATCH_BYTES + 1]).unwrap();
        let large = gzip.finish().unwrap();
        for bytes in [&large[..], &large[..large.len() - 9]] {
            let rest = hits(&base64_simd::STANDARD.encode_to_string(bytes), true, "", true).unwrap_err().rest;
            assert!(rest.wish().is_some_and(|wish| wish.denies_consent));
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_hit() {
        for body in
            ["\u{feff}v=1&cid=5", "\u{feff}{\"v\": 1, \"cid\": \"5\"}", " \u{feff} [{\"v\": 1, \"cid\": \"5\"}]"]
        {
            assert_eq!(read(body, "", false).unwrap(), [pairs(&[("v", "1"), ("cid", "5")])], "{body:?}");
        }
    }

    #[test]
    fn what_the_client_speaks_is_known_by_the_path() {
        let payload = Takes::Payload { secrets: &[] };
        let protocol = |body: &str, query: &str, takes| match super::hits(body, false, query, takes) {
            Ok(hits) => hits[0].protocol,
            Err(refused) => Read::of_refused(refused).protocol,
        };
        for (body, query, takes, expected) in [
            (r#"{"v": "2", "cid": "5"}"#, "", Takes::Ga4, Protocol::Ga4),
            (r#"[{"en": "a"}]"#, "v=2", Takes::Ga4, Protocol::Ga4),
            (r#"{"v": "2", "cid": "5"}"#, "", Takes::Hit, Protocol::V1Json),
            ("{", "", Takes::Ga4, Protocol::Ga4),
            ("{", "v=2", Takes::Hit, Protocol::Ga4),
            ("{", "", payload, Protocol::Ga4Payload),
            ("{", "", Takes::Hit, Protocol::V1),
        ] {
            assert_eq!(protocol(body, query, takes), expected, "{body} {query} {takes:?}");
        }
    }

    #[test]
    fn lines_of_ga4_share_the_query_string() {
        for takes in [Takes::Ga4, Takes::Hit] {
            let body = "en=page_view&_et=1\r\nen=scroll&epn.percent=90&sid=own";
            let read = super::hits(body, false, "v=2&tid=G-1&cid=5&sid=7", takes).unwrap();
            let texts: Vec<_> = read.iter().map(|read| texts(&read.hit)).collect();
            let shared = [("v", "2"), ("tid", "G-1"), ("cid", "5")];
            assert_eq!(texts[0], pairs(&[&[("en", "page_view"), ("_et", "1")], &shared[..], &[("sid", "7")]].concat()));
            assert_eq!(
                texts[1],
                pairs(&[&[("en", "scroll"), ("epn.percent", "90"), ("sid", "own")], &shared[..]].concat())
            );
            assert!(read.iter().all(|read| read.protocol == Protocol::Ga4));
        }
        let alone = super::hits("", false, "v=2&en=a", Takes::Ga4).unwrap();
        assert_eq!((alone.len(), alone[0].protocol), (1, Protocol::Ga4));
        let long = format!("en={}", "a".repeat(9_000));
        assert!(super::hits(&long, false, "v=2", Takes::Ga4).is_ok(), "the limit of 8,192 bytes is that of version 1");
        let many = "en=a\n".repeat(26);
        assert_eq!(
            super::hits(&many, false, "v=2", Takes::Ga4).unwrap_err().error,
            BodyError::TooManyHits { hits: 26, most: MOST_EVENTS }
        );
    }

    #[test]
    fn a_secret_is_checked_and_dropped() {
        let payload = r#"{"client_id": "5", "events": [{"name": "a"}, {"name": "b"}]}"#;
        let secrets = [digest("first"), digest("second")];
        let takes = Takes::Payload { secrets: &secrets };
        for (query, fault) in [
            ("measurement_id=G-1&api_secret=second", None),
            ("measurement_id=G-1&api_secret=wrong", Some(HitError::ApiSecret)),
            ("measurement_id=G-1", Some(HitError::ApiSecret)),
        ] {
            let read = super::hits(payload, false, query, takes).unwrap();
            assert_eq!(read.iter().map(|read| read.fault).collect::<Vec<_>>(), [fault, fault], "{query}");
            assert_eq!(texts(&read[1].hit), pairs(&[("en", "b"), ("cid", "5"), ("tid", "G-1")]));
        }
        let any =
            super::hits(payload, false, "api_secret=x&firebase_app_id=1:2:android:3", Takes::Payload { secrets: &[] });
        assert_eq!(texts(&any.unwrap()[0].hit), pairs(&[("en", "a"), ("cid", "5"), ("tid", "1:2:android:3")]));
        assert_eq!(
            texts(&hits("v=1", false, "api_secret=x&t=event", false).unwrap()[0].hit),
            pairs(&[("v", "1"), ("t", "event")])
        );
    }

    #[test]
    fn an_empty_request_is_an_error() {
        assert_eq!(read("", "", false), Err(BodyError::Empty));
        assert_eq!(read(" \n", "", true), Err(BodyError::Empty));
        assert_eq!(read("[]", "", true), Err(BodyError::Empty));
        assert!(matches!(read("{", "", false), Err(BodyError::Json(_))));
        assert_eq!(hits("[1]", false, "", false).unwrap()[0].fault, Some(HitError::NotAnObject));
    }

    proptest! {
        #[test]
        fn any_body_is_parsed_or_rejected(
            body in proptest::collection::vec(any::<u8>(), 0..2_000), base64: bool, query in ".{0,40}", batch: bool,
        ) {
            let text = if base64 {
                base64_simd::STANDARD.encode_to_string(&body)
            } else {
                String::from_utf8_lossy(&body).into_owned()
            };
            for takes in [if batch { Takes::Batch } else { Takes::Hit }, Takes::Ga4, Takes::Payload { secrets: &[] }] {
                if let Ok(hits) = super::hits(&text, base64, &query, takes) {
                    prop_assert!((1..=MOST_EVENTS).contains(&hits.len()));
                }
            }
        }
    }
}
