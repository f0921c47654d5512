//! Buckets in memory: put if absent, get, head, list.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::http::{ENDPOINT, HttpRequest, HttpResponse, body, respond};

/// An object, with its metadata by name without `x-amz-meta-`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    pub metadata: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Object {
    #[must_use]
    pub fn e_tag(&self) -> String {
        let hash = self.body.iter().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(*byte));
        format!("\"{hash:016x}\"")
    }

    fn response(&self, body: Vec<u8>) -> HttpResponse {
        let headers = [("etag", self.e_tag()), ("content-length", self.body.len().to_string())];
        let mut response = respond(200, body, &headers);
        for (name, value) in &self.metadata {
            response.headers_mut().insert(format!("x-amz-meta-{name}"), value.clone());
        }
        response
    }
}

/// What a request to S3 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The operation, such as `PutObject`.
    pub operation: &'static str,
    pub bucket: String,
    /// Empty for a listing.
    pub key: String,
    query: BTreeMap<String, String>,
}

impl Call {
    /// Understands a request that addresses its bucket in the path; `None` when it is for another service.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Option<Self> {
        let target = request.uri().strip_prefix(ENDPOINT)?.strip_prefix('/')?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let operation = match request.method() {
            "PUT" => "PutObject",
            "HEAD" => "HeadObject",
            "GET" if key.is_empty() => "ListObjectsV2",
            "GET" => "GetObject",
            _ => return None,
        };
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let query = pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
        Some(Self { operation, bucket: bucket.to_owned(), key: decoded(key), query })
    }

    /// A parameter of the query.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

/// Every object, by bucket and key.
#[derive(Debug, Default)]
pub struct Buckets {
    pub objects: BTreeMap<(String, String), Object>,
    /// Keys in a page of a listing; 1,000 when 0.
    pub page: usize,
}

impl Buckets {
    /// Does what is asked for, as S3 would.
    pub fn answer(&mut self, call: &Call, request: &HttpRequest) -> HttpResponse {
        let place = (call.bucket.clone(), call.key.clone());
        match call.operation {
            "PutObject" => self.put(place, request),
            "ListObjectsV2" => self.list(call),
            operation => match self.objects.get(&place) {
                Some(object) if operation == "HeadObject" => object.response(Vec::new()),
                Some(object) => object.response(object.body.clone()),
                None if operation == "HeadObject" => respond(404, "", &[]),
                None => respond(404, "<Error><Code>NoSuchKey</Code></Error>", &[]),
            },
        }
    }

    fn put(&mut self, place: (String, String), request: &HttpRequest) -> HttpResponse {
        let headers = request.headers();
        if headers.get("if-none-match") == Some("*") && self.objects.contains_key(&place) {
            return respond(412, "<Error><Code>PreconditionFailed</Code></Error>", &[]);
        }
        let metadata = headers.iter().filter_map(|(name, value)| Some((name.strip_prefix("x-amz-meta-")?, value)));
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let object = Object { metadata, body: body(request).to_vec() };
        let response = respond(200, "", &[("etag", object.e_tag())]);
        self.objects.insert(place, object);
        response
    }

    fn list(&self, call: &Call) -> HttpResponse {
        let text = |name| call.parameter(name).unwrap_or_default();
        let (prefix, delimiter) = (text("prefix"), call.parameter("delimiter"));
        let after = call.parameter("continuation-token").unwrap_or(text("start-after"));
        // A key, or the folder that stands for all keys in it.
        let entry = |key: &str| match delimiter.and_then(|delimiter| key[prefix.len()..].find(delimiter)) {
            Some(end) => (key[..=prefix.len() + end].to_owned(), true),
            None => (key.to_owned(), false),
        };
        let keys = self.objects.iter().filter(|((bucket, key), _)| *bucket == call.bucket && key.starts_with(prefix));
        let sizes = keys.map(|((_, key), object)| (entry(key), object.body.len()));
        let entries: BTreeMap<(String, bool), usize> = sizes.filter(|((key, _), _)| key.as_str() > after).collect();
        let page = if self.page == 0 { 1_000 } else { self.page };
        let mut list = String::from("<ListBucketResult>");
        for ((key, is_folder), bytes) in entries.iter().take(page) {
            let key = key.replace('&', "&amp;").replace('<', "&lt;");
            list += &match is_folder {
                true => format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"),
                false => format!("<Contents><Key>{key}</Key><Size>{bytes}</Size></Contents>"),
            };
        }
        if let Some(((last, _), _)) = entries.iter().take(page).next_back().filter(|_| entries.len() > page) {
            list += &format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>");
        }
        respond(200, list + "</ListBucketResult>", &[])
    }
}
