//! Request bodies → hits: decodes base64 and gzip, and parses one hit or many, as forms or JSON. The limits below bound the
//! memory that this needs.

use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::value::RawValue;

use crate::{
    hit::{Hit, HitError},
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

/// One hit of a request, or why it cannot be parsed.
pub type Read = (Rules, Result<Hit, HitError>);

/// The hits of a request, in order. With `batch`, each line of a form is a hit.
pub fn hits(body: &str, is_base64: bool, query: &str, batch: bool) -> Result<Vec<Read>, BodyError> {
    let bytes = plain(body, is_base64)?;
    let payload = bytes.trim_ascii();
    let mut hits = match payload.first() {
        None if query.is_empty() => return Err(BodyError::Empty),
        None => vec![(Rules::Protocol, Ok(Hit::default()))],
        Some(b'{') => vec![(Rules::Json, json_hit(payload)?)],
        Some(b'[') => json_hits(payload)?,
        Some(_) if batch => form_hits(payload)?,
        Some(_) => {
            fits("the hit", payload.len(), MOST_HIT_BYTES)?;
            vec![(Rules::Protocol, Hit::from_form(payload))]
        }
    };
    if !query.is_empty() {
        fits("the query string", query.len(), MOST_HIT_BYTES)?;
        match Hit::from_form(query.as_bytes()) {
            Ok(query) => hits.iter_mut().for_each(|(_, hit)| {
                if let Ok(read) = hit
                    && let Err(error) = read.merge(query.clone())
                {
                    *hit = Err(error);
                }
            }),
            Err(error) => hits.iter_mut().for_each(|(_, hit)| *hit = Err(error)),
        }
    }
    Ok(hits)
}

fn fits(what: &'static str, bytes: usize, most: usize) -> Result<(), BodyError> {
    if bytes > most { Err(BodyError::TooLarge { what, most }) } else { Ok(()) }
}

/// The bytes of the body, decoded and decompressed.
fn plain(body: &str, is_base64: bool) -> Result<Vec<u8>, BodyError> {
    let bytes = match is_base64 {
        true => {
            fits("the body", body.len() / 4 * 3, MOST_BATCH_BYTES + 2)?;
            base64_simd::STANDARD.decode_to_vec(body.as_bytes()).map_err(|_| BodyError::Base64)?
        }
        false => {
            fits("the body", body.len(), MOST_BATCH_BYTES)?;
            body.as_bytes().to_vec()
        }
    };
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        fits("the body", bytes.len(), MOST_BATCH_BYTES)?;
        return Ok(bytes);
    }
    let mut plain = Vec::with_capacity(4 * bytes.len().min(MOST_BATCH_BYTES));
    let most = u64::try_from(MOST_BATCH_BYTES).unwrap_or(u64::MAX);
    GzDecoder::new(&*bytes).take(most + 1).read_to_end(&mut plain).map_err(|_| BodyError::Gzip)?;
    fits("the body", plain.len(), MOST_BATCH_BYTES)?;
    Ok(plain)
}

fn form_hits(payload: &[u8]) -> Result<Vec<Read>, BodyError> {
    let lines: Vec<&[u8]> =
        payload.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect();
    if lines.len() > MOST_HITS {
        return Err(BodyError::TooManyHits(lines.len()));
    }
    lines
        .into_iter()
        .map(|line| {
            fits("a hit", line.len(), MOST_HIT_BYTES)?;
            Ok((Rules::Protocol, Hit::from_form(line)))
        })
        .collect()
}

fn json_hits(payload: &[u8]) -> Result<Vec<Read>, BodyError> {
    let items: Vec<&RawValue> = serde_json::from_slice(payload).map_err(|error| BodyError::Json(error.to_string()))?;
    if items.is_empty() {
        return Err(BodyError::Empty);
    }
    if items.len() > MOST_HITS {
        return Err(BodyError::TooManyHits(items.len()));
    }
    items.into_iter().map(|item| Ok((Rules::Json, json_hit(item.get().as_bytes())?))).collect()
}

/// One JSON value. If it is not an object, only this hit is invalid; if it is not JSON, the whole request is.
fn json_hit(payload: &[u8]) -> Result<Result<Hit, HitError>, BodyError> {
    fits("a hit", payload.len(), MOST_HIT_BYTES)?;
    match Hit::from_json(payload) {
        Err(error @ HitError::Json { .. }) => Err(BodyError::Json(error.to_string())),
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
        let hits = hits(body, false, query, batch)?;
        let texts = |hit: Hit| {
            let names: Vec<String> = hit.iter().map(|(name, _)| name.to_owned()).collect();
            names.into_iter().map(|name| (name.clone(), hit.get(&name).unwrap_or_default().to_owned())).collect()
        };
        Ok(hits.into_iter().map(|(_, hit)| texts(hit.unwrap())).collect())
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
        let long = format!("v=1\nv={}", "a".repeat(MOST_HIT_BYTES));
        assert_eq!(read(&long, "", true), Err(BodyError::TooLarge { what: "a hit", most: MOST_HIT_BYTES }));
    }

    #[test]
    fn base64_and_gzip_are_decoded() {
        let gzip = |plain: &[u8]| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(plain).unwrap();
            base64_simd::STANDARD.encode_to_string(gzip.finish().unwrap())
        };
        let plain = base64_simd::STANDARD.encode_to_string(b"v=1");
        for body in [plain, gzip(b"v=1")] {
            let hits = hits(&body, true, "", false).unwrap();
            assert_eq!(hits[0].1.as_ref().unwrap().get("v"), Some("1"));
        }
        let bomb = gzip(&vec![b'a'; 10 << 20]);
        assert!(bomb.len() < MOST_BATCH_BYTES);
        let too_large = Err(BodyError::TooLarge { what: "the body", most: MOST_BATCH_BYTES });
        assert_eq!(hits(&bomb, true, "", false).map(|hits| hits.len()), too_large);
        assert_eq!(hits("H4sIAAAA", true, "", false).map(|hits| hits.len()), Err(BodyError::Gzip));
        assert_eq!(hits("not base64!", true, "", false).map(|hits| hits.len()), Err(BodyError::Base64));
    }

    #[test]
    fn an_empty_request_is_an_error() {
        assert_eq!(read("", "", false), Err(BodyError::Empty));
        assert_eq!(read(" \n", "", true), Err(BodyError::Empty));
        assert_eq!(read("[]", "", true), Err(BodyError::Empty));
        assert!(matches!(read("{", "", false), Err(BodyError::Json(_))));
        assert_eq!(hits("[1]", false, "", false).unwrap()[0].1.as_ref().err(), Some(&HitError::NotAnObject));
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
