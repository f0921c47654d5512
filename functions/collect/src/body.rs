//! Request bodies → hits: decodes base64 and gzip, and parses one hit or many, as forms or JSON. The limits below bound the
//! memory that this needs.
//!
//! What breaks the rules is read as far as it can be, because it is kept as rejected: a hit with its parameters, or a request
//! that has no readable hits as the text of its first bytes.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;

use crate::{
    hit::{Hit, HitError, MOST_BYTES},
    validate::{MOST_HIT_BYTES, Rules},
};

/// Most bytes of a batch. Source: Measurement Protocol, "Batching multiple hits in a single request".
pub const MOST_BATCH_BYTES: usize = 16 * 1_024;
/// Most hits in a batch. Same source.
pub const MOST_HITS: usize = 20;

/// Why no hit of a request can be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is not base64")]
    Base64,
    #[error("the body starts like gzip and is not")]
    Gzip,
    #[error("{what} is larger than {most} bytes")]
    TooLarge { what: &'static str, most: usize },
    #[error("there are {0} hits, and a batch holds {MOST_HITS}")]
    TooManyHits(usize),
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
            Self::TooLarge { .. } | Self::TooManyHits(_) => "too_large",
            Self::Json(_) => "invalid_json",
            Self::Empty => "empty",
        }
    }
}

/// One hit of a request, as far as it can be read.
#[derive(Debug)]
pub struct Read {
    pub rules: Rules,
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
    /// What could be read of it.
    pub rest: Hit,
}

impl Read {
    fn new(rules: Rules, (hit, fault): (Hit, Option<HitError>)) -> Self {
        let is_named = hit.get("z").is_some_and(|z| !z.is_empty());
        Self { rules, hit, fault, position: 0, is_named }
    }

    /// What could be read of a request that is refused as a whole.
    #[must_use]
    pub fn of_refused(rest: Hit) -> Self {
        Self::new(Rules::Protocol, (rest, None))
    }

    fn form(raw: &[u8]) -> Self {
        Self::new(Rules::Protocol, Hit::read_form(raw))
    }

    fn json(raw: &[u8]) -> Self {
        Self::new(Rules::Json, Hit::read_json(raw))
    }
}

/// The hits of a request, in order. With `batch`, each line of a form is a hit.
pub fn hits(body: &str, is_base64: bool, query: &str, batch: bool) -> Result<Vec<Read>, Refused> {
    let refused = |error, rest| Refused { error, rest };
    let (query, fault) = if query.is_empty() { (Hit::default(), None) } else { Hit::read_form(query.as_bytes()) };
    // The query string may say how the rest has to be treated.
    let with_query = |mut rest: Hit| match rest.merge(query.clone()) {
        // If that is too large, the rest stays as it is.
        Ok(()) | Err(_) => rest,
    };
    let bytes = match plain(body, is_base64) {
        Ok(bytes) => bytes,
        Err((error, rest)) => return Err(refused(error, with_query(Hit::unreadable(&rest)))),
    };
    let payload = bytes.trim_ascii();
    let read = match payload.first() {
        None if query.is_empty() && fault.is_none() => return Err(refused(BodyError::Empty, Hit::default())),
        None => Ok(vec![Read::new(Rules::Protocol, (Hit::default(), None))]),
        Some(b'{') => json_hit(payload).map(|read| vec![read]),
        Some(b'[') => json_hits(payload),
        Some(_) if batch => form_hits(payload),
        Some(_) => Ok(vec![Read::form(payload)]),
    };
    let mut hits = read.map_err(|error| refused(error, with_query(Hit::unreadable(payload))))?;
    for (position, read) in hits.iter_mut().enumerate() {
        read.position = position;
        let merged = if query.is_empty() { Ok(()) } else { read.hit.merge(query.clone()) };
        read.fault = read.fault.or(fault).or(merged.err());
    }
    match &mut hits[..] {
        // Alone, a hit that is too large is a request that is too large.
        [only] if payload.len().max(query.bytes()) > MOST_HIT_BYTES => {
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
fn plain(body: &str, is_base64: bool) -> Result<Vec<u8>, (BodyError, Vec<u8>)> {
    let bytes = match is_base64 {
        true => base64_simd::STANDARD
            .decode_to_vec(body.as_bytes())
            .map_err(|_| (BodyError::Base64, body.as_bytes().to_vec()))?,
        false => body.as_bytes().to_vec(),
    };
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return match fits("the body", bytes.len(), MOST_BATCH_BYTES) {
            Ok(()) => Ok(bytes),
            Err(error) => Err((error, bytes)),
        };
    }
    let mut plain = Vec::with_capacity(4 * bytes.len().min(MOST_BATCH_BYTES));
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    // A client may have compressed each hit by itself: gzip members one after the other are one body.
    match MultiGzDecoder::new(&*bytes).take(most).read_to_end(&mut plain) {
        Err(_) => Err((BodyError::Gzip, plain)),
        Ok(_) => match fits("the body", plain.len(), MOST_BATCH_BYTES) {
            Ok(()) => Ok(plain),
            Err(error) => Err((error, plain)),
        },
    }
}

fn form_hits(payload: &[u8]) -> Result<Vec<Read>, BodyError> {
    let lines: Vec<&[u8]> =
        payload.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect();
    if lines.len() > MOST_HITS {
        return Err(BodyError::TooManyHits(lines.len()));
    }
    Ok(lines.into_iter().map(Read::form).collect())
}

fn json_hits(payload: &[u8]) -> Result<Vec<Read>, BodyError> {
    let items: Vec<&RawValue> = serde_json::from_slice(payload).map_err(|error| BodyError::Json(error.to_string()))?;
    if items.is_empty() {
        return Err(BodyError::Empty);
    }
    if items.len() > MOST_HITS {
        return Err(BodyError::TooManyHits(items.len()));
    }
    items.into_iter().map(|item| json_hit(item.get().as_bytes())).collect()
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

    fn read(body: &str, query: &str, batch: bool) -> Result<Vec<Vec<(String, String)>>, BodyError> {
        let hits = hits(body, false, query, batch).map_err(|refused| refused.error)?;
        assert!(hits.iter().all(|read| read.fault.is_none()));
        Ok(hits.iter().map(|read| texts(&read.hit)).collect())
    }

    fn texts(hit: &Hit) -> Vec<(String, String)> {
        hit.iter().map(|(name, _)| (name.to_owned(), hit.get(name).unwrap_or_default().to_owned())).collect()
    }

    fn error(body: &str, is_base64: bool) -> (BodyError, Vec<(String, String)>) {
        let Refused { error, rest } = hits(body, is_base64, "", false).unwrap_err();
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
        assert_eq!(read(&"v=1\n".repeat(21), "", true), Err(BodyError::TooManyHits(21)));
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
        let Refused { error, rest } = hits(&many, false, "z=1", true).unwrap_err();
        assert_eq!((error, texts(&rest)), (BodyError::TooManyHits(21), pairs(&[("_raw", many.trim()), ("z", "1")])));
        let query = format!("cid=5&dt={}", "a".repeat(MOST_HIT_BYTES));
        let Refused { error, rest } = hits("", false, &query, false).unwrap_err();
        assert_eq!((error, rest.get("cid")), (too_large("the query string"), Some("5")));
        assert_eq!(hits("", false, "", false).unwrap_err().rest.len(), 0);
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
            if let Ok(hits) = hits(&text, base64, &query, batch) {
                prop_assert!((1..=MOST_HITS).contains(&hits.len()));
            }
        }
    }
}
