//! Hits become requests.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use clap::ValueEnum;
use http::{Method, Uri, header};
use http_body_util::Full;

use super::{
    dataset::DatasetError,
    hit::{Hit, Kind},
};

/// Most hits of a batch, by the protocol …
const BATCH_HITS: usize = 20;
/// … and its most bytes.
const BATCH_BYTES: usize = 16_384;

/// How a hit is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// POST with a form, as analytics clients do.
    Form,
    /// POST with a JSON object.
    Json,
    /// GET with a query string, as an image does.
    Query,
}

impl Encoding {
    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Json => "json",
            Self::Query => "query",
        }
    }
}

/// Where hits are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Uri);

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| "this is no URL")?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || text.contains('#') {
            return Err("a URL looks like https://abc123.execute-api.eu-west-1.amazonaws.com/collect");
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => Err("a URL with a user name is not understood"),
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

impl Target {
    /// Whether TLS is needed.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// `…/batch` beside `…/collect`. `None` when it ends in neither.
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

    /// The URL with more parameters behind those that it has.
    fn asking(&self, parameters: &str) -> Option<Uri> {
        let query = match self.0.query() {
            Some(query) if !query.is_empty() => format!("{query}&{parameters}"),
            _ => parameters.to_owned(),
        };
        self.with(self.0.path(), Some(&query)).map(|target| target.0)
    }
}

/// What a hit is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Its kind.
    pub kind: Kind,
    /// Its session.
    pub session: u64,
}

/// What is sent at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its hits.
    pub hits: Vec<Counted>,
    content: Content,
    user_agent: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Query(String),
    Body(&'static str, Bytes),
}

impl Request {
    /// One hit.
    pub fn single(hit: &Hit, encoding: Encoding) -> Result<Self, serde_json::Error> {
        let content = match encoding {
            Encoding::Form => Content::Body("application/x-www-form-urlencoded", hit.parameters.to_form().into()),
            Encoding::Json => Content::Body("application/json", serde_json::to_vec(&hit.parameters)?.into()),
            Encoding::Query => Content::Query(hit.parameters.to_form()),
        };
        let counted = Counted { kind: hit.kind, session: hit.session };
        Ok(Self { hits: vec![counted], content, user_agent: Some(hit.user_agent) })
    }

    /// The request as it goes out.
    pub fn to_http(&self, target: &Target) -> Result<http::Request<Full<Bytes>>, http::Error> {
        let mut request = http::Request::builder();
        if let Some(user_agent) = self.user_agent {
            request = request.header(header::USER_AGENT, user_agent);
        }
        match &self.content {
            Content::Query(parameters) => {
                let uri = target.asking(parameters).unwrap_or_else(|| target.0.clone());
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

/// Why hits end early.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The file of hits is wrong.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The hit cannot be written down.
    #[error("a hit cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Hits as requests, one by one or in batches.
#[derive(Debug)]
pub struct Requests<I> {
    hits: I,
    packing: Packing,
    /// What did not fit into the batch before.
    waiting: Option<(Counted, String)>,
    /// The error that ended the hits, behind the last batch.
    error: Option<RequestError>,
}

/// How hits share requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A request each.
    Single(Encoding),
    /// Twenty to a request, written as forms.
    Batch,
}

impl<I: Iterator<Item = Result<Hit, DatasetError>>> Requests<I> {
    /// Requests with the hits.
    pub const fn new(hits: I, packing: Packing) -> Self {
        Self { hits, packing, waiting: None, error: None }
    }

    fn batch(&mut self) -> Option<Result<Request, RequestError>> {
        let (mut hits, mut body) = (Vec::new(), String::new());
        while self.error.is_none() && hits.len() < BATCH_HITS {
            let (counted, line) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => match self.hits.next() {
                    None => break,
                    Some(Err(error)) => {
                        self.error = Some(error.into());
                        break;
                    }
                    Some(Ok(mut hit)) => {
                        // The header names one browser, and a batch has many.
                        hit.parameters.push("ua", hit.user_agent);
                        (Counted { kind: hit.kind, session: hit.session }, hit.parameters.to_form())
                    }
                },
            };
            if !hits.is_empty() && body.len() + 1 + line.len() > BATCH_BYTES {
                self.waiting = Some((counted, line));
                break;
            }
            if !body.is_empty() {
                body.push('\n');
            }
            body += &line;
            hits.push(counted);
        }
        if hits.is_empty() {
            return self.error.take().map(Err);
        }
        let content = Content::Body("application/x-www-form-urlencoded", body.into());
        Some(Ok(Request { hits, content, user_agent: None }))
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
    use crate::pump::{
        hit::tests::{decoded, pairs},
        traffic::Traffic,
    };

    fn target(url: &str) -> Target {
        url.parse().unwrap()
    }

    #[test]
    fn a_url_is_told_from_other_things() {
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
    fn a_hit_is_written_in_three_ways() {
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
    fn what_came_before_an_error_is_sent() {
        let error = || DatasetError::NoColumn { file: "x".into(), column: "y" };
        let hits = Traffic::new(1).take(3).map(Ok).chain([Err(error())]);
        let mut requests = Requests::new(hits, Packing::Batch);
        assert_eq!(requests.next().unwrap().unwrap().hits.len(), 3);
        assert!(requests.next().unwrap().is_err());
        assert!(requests.next().is_none());
    }
}
