//! Hits → HTTP requests.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use clap::ValueEnum;
use http::{Method, Uri, header};
use http_body_util::Full;
use serde::{Serialize, Serializer};

use crate::{
    dataset::DatasetError,
    hit::{Hit, Kind},
};

/// Limits of a batch, by the protocol.
const MAX_BATCH_HITS: usize = 20;
const MAX_BATCH_BYTES: usize = 16_384;

const FORM: &str = "application/x-www-form-urlencoded";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// POST with a form, as analytics clients do.
    Form,
    /// POST with a JSON object.
    Json,
    /// GET with a query string, as an image does.
    Query,
}

/// The URL that hits are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Uri);

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| "this is not a URL")?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || text.contains('#') {
            return Err("a URL looks like https://abc123.execute-api.eu-west-1.amazonaws.com/collect");
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => Err("user names in URLs are not supported"),
            Some(authority) if !authority.host().is_empty() => Ok(Self(uri)),
            _ => Err("the URL names no host"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Target {
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// `…/batch` beside `…/collect`. `None` when the path ends in neither.
    #[must_use]
    pub fn batch(&self) -> Option<Self> {
        let (folder, last) = self.0.path().rsplit_once('/')?;
        match last {
            "batch" => Some(self.clone()),
            "collect" => self.with(&format!("{folder}/batch"), self.0.query()),
            _ => None,
        }
    }

    fn with(&self, path: &str, query: Option<&str>) -> Option<Self> {
        let path_and_query = match query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let mut parts = self.0.clone().into_parts();
        parts.path_and_query = Some(path_and_query.parse().ok()?);
        Uri::from_parts(parts).ok().map(Self)
    }

    /// The URL with `parameters` appended to its query string.
    fn with_parameters(&self, parameters: &str) -> Option<Uri> {
        let query = match self.0.query() {
            Some(query) if !query.is_empty() => format!("{query}&{parameters}"),
            _ => parameters.to_owned(),
        };
        self.with(self.0.path(), Some(&query)).map(|target| target.0)
    }
}

/// One request, of one hit or of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Kind and session of its hits.
    pub hits: Vec<(Kind, u64)>,
    content: Content,
    user_agent: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Query(String),
    /// Content type and body.
    Body(&'static str, Bytes),
}

impl Request {
    pub fn single(hit: &Hit, encoding: Encoding) -> Result<Self, serde_json::Error> {
        let content = match encoding {
            Encoding::Form => Content::Body(FORM, hit.parameters.to_form().into()),
            Encoding::Json => Content::Body("application/json", serde_json::to_vec(&hit.parameters)?.into()),
            Encoding::Query => Content::Query(hit.parameters.to_form()),
        };
        Ok(Self { hits: vec![(hit.kind, hit.session)], content, user_agent: Some(hit.user_agent) })
    }

    pub fn to_http(&self, target: &Target) -> Result<http::Request<Full<Bytes>>, http::Error> {
        let mut request = http::Request::builder();
        if let Some(user_agent) = self.user_agent {
            request = request.header(header::USER_AGENT, user_agent);
        }
        match &self.content {
            Content::Query(parameters) => {
                let uri = target.with_parameters(parameters).unwrap_or_else(|| target.0.clone());
                request.method(Method::GET).uri(uri).body(Full::default())
            }
            Content::Body(content_type, bytes) => request
                .method(Method::POST)
                .uri(target.0.clone())
                .header(header::CONTENT_TYPE, *content_type)
                .body(Full::new(bytes.clone())),
        }
    }
}

/// Why there is no next request although not all hits were sent.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("a hit cannot be encoded as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// How hits are distributed over requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Single(Encoding),
    /// Up to 20 hits in a request, as forms.
    Batch,
}

/// An iterator over the requests that carry the hits of another iterator.
#[derive(Debug)]
pub struct Requests<I> {
    hits: I,
    packing: Packing,
    /// The hit that did not fit into the previous batch.
    pending: Option<((Kind, u64), String)>,
    /// The error that ended the hits. It is returned after the last batch.
    error: Option<RequestError>,
}

impl<I: Iterator<Item = Result<Hit, DatasetError>>> Requests<I> {
    pub const fn new(hits: I, packing: Packing) -> Self {
        Self { hits, packing, pending: None, error: None }
    }

    /// The next line of a batch.
    fn line(&mut self) -> Option<((Kind, u64), String)> {
        if self.pending.is_some() || self.error.is_some() {
            return self.pending.take();
        }
        match self.hits.next()? {
            Ok(mut hit) => {
                // The header names one browser, but the hits of a batch come from many.
                hit.parameters.push("ua", hit.user_agent);
                Some(((hit.kind, hit.session), hit.parameters.to_form()))
            }
            Err(error) => {
                self.error = Some(error.into());
                None
            }
        }
    }

    fn batch(&mut self) -> Option<Result<Request, RequestError>> {
        let (mut hits, mut body) = (Vec::new(), String::new());
        while hits.len() < MAX_BATCH_HITS
            && let Some((hit, line)) = self.line()
        {
            if !hits.is_empty() {
                if body.len() + 1 + line.len() > MAX_BATCH_BYTES {
                    self.pending = Some((hit, line));
                    break;
                }
                body.push('\n');
            }
            body += &line;
            hits.push(hit);
        }
        if hits.is_empty() {
            return self.error.take().map(Err);
        }
        Some(Ok(Request { hits, content: Content::Body(FORM, body.into()), user_agent: None }))
    }
}

impl<I: Iterator<Item = Result<Hit, DatasetError>>> Iterator for Requests<I> {
    type Item = Result<Request, RequestError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.packing {
            Packing::Batch => self.batch(),
            Packing::Single(encoding) => {
                let hit = self.hits.next()?;
                Some(hit.map_err(RequestError::from).and_then(|hit| Ok(Request::single(&hit, encoding)?)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hit::tests::{decoded, pairs},
        traffic::Traffic,
    };

    fn target(url: &str) -> Target {
        url.parse().unwrap()
    }

    #[test]
    fn only_http_urls_are_accepted() {
        for url in ["http://127.0.0.1:4601/_aws/execute-api/x/$default/collect", "https://x.example/collect?key=1"] {
            assert_eq!(target(url).to_string(), url);
        }
        for other in ["", "collect", "/collect", "ftp://x/collect", "http://", "https://me:pw@x/collect", "http://x/#a"]
        {
            assert!(other.parse::<Target>().is_err(), "{other}");
        }
    }

    #[test]
    fn the_batch_is_beside_the_collect() {
        let batch = |url| target(url).batch().map(|target| target.to_string());
        assert_eq!(batch("http://x/a/collect?k=1").as_deref(), Some("http://x/a/batch?k=1"));
        assert_eq!(batch("http://x/batch").as_deref(), Some("http://x/batch"));
        assert_eq!(batch("http://x/a"), None);
    }

    #[test]
    fn a_hit_has_three_encodings() {
        let hit = Traffic::new(1).next().unwrap();
        let http = |encoding, url| Request::single(&hit, encoding).unwrap().to_http(&target(url)).unwrap();
        let query = http(Encoding::Query, "http://x/collect?key=1");
        let (key, rest) = query.uri().query().unwrap().split_once('&').unwrap();
        assert_eq!((query.method(), key, decoded(rest)), (&Method::GET, "key=1", pairs(&hit.parameters)));
        assert_eq!(query.headers()["user-agent"], hit.user_agent);
        for (encoding, content_type) in
            [(Encoding::Form, "application/x-www-form-urlencoded"), (Encoding::Json, "application/json")]
        {
            let request = http(encoding, "http://x/collect");
            assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/collect"));
            assert_eq!(request.headers()["content-type"], content_type);
        }
        let json = Request::single(&hit, Encoding::Json).unwrap().content;
        let Content::Body(_, json) = json else { panic!("{json:?}") };
        let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["cid"], hit.parameters.get("cid").unwrap());
        assert_eq!(json.len(), pairs(&hit.parameters).len());
    }

    #[test]
    fn batches_keep_the_limits_and_every_hit() {
        let hits = 3_333;
        let mut sent = Vec::new();
        let mut largest = 0;
        for request in Requests::new(Traffic::new(5).take(hits).map(Ok), Packing::Batch) {
            let Request { hits, content: Content::Body(_, body), user_agent: None } = request.unwrap() else {
                panic!()
            };
            assert!(hits.len() <= 20 && body.len() <= 16_384);
            largest = largest.max(hits.len());
            let lines: Vec<String> = str::from_utf8(&body).unwrap().lines().map(str::to_owned).collect();
            assert_eq!(lines.len(), hits.len());
            assert!(lines.iter().all(|line| line.len() <= 8_192));
            sent.extend(lines.iter().map(|line| decoded(line)));
        }
        assert_eq!(largest, 20);
        let expected: Vec<_> = Traffic::new(5)
            .take(hits)
            .map(|mut hit| {
                hit.parameters.push("ua", hit.user_agent);
                pairs(&hit.parameters)
            })
            .collect();
        assert_eq!(sent, expected);
    }

    #[test]
    fn hits_before_an_error_are_sent() {
        let error = || DatasetError::MissingColumn { file: "x".into(), column: "y" };
        let hits = Traffic::new(1).take(3).map(Ok).chain([Err(error())]);
        let mut requests = Requests::new(hits, Packing::Batch);
        assert_eq!(requests.next().unwrap().unwrap().hits.len(), 3);
        assert!(requests.next().unwrap().is_err());
        assert!(requests.next().is_none());
    }
}
