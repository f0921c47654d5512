//! Buckets in memory: put if absent, get, head, list, and multipart uploads.
//!
//! What S3 refuses is refused here too, with its error codes. Source: "CreateMultipartUpload", "UploadPart" and
//! "CompleteMultipartUpload", Amazon S3 API reference, and the checksums that S3 was seen to demand of each.

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

    /// The response to HEAD has no body and the length of the whole object.
    fn response(&self, body: Option<Vec<u8>>) -> HttpResponse {
        let length = body.as_ref().map_or(self.body.len(), Vec::len);
        let headers = [("etag", self.e_tag()), ("content-length", length.to_string())];
        let mut response = respond(200, body.unwrap_or_default(), &headers);
        for (name, value) in &self.metadata {
            response.headers_mut().insert(format!("x-amz-meta-{name}"), value.clone());
        }
        response
    }
}

/// The user-defined metadata of an object that a request writes.
fn metadata(request: &HttpRequest) -> BTreeMap<String, String> {
    let headers = request.headers().iter().filter_map(|(name, value)| Some((name.strip_prefix("x-amz-meta-")?, value)));
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The text of the first element with this name.
fn member(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.replace("&quot;", "\""))
}

/// An error of S3, such as `InvalidPart`.
#[must_use]
pub fn refuse(status: u16, code: &str) -> HttpResponse {
    respond(status, format!("<Error><Code>{code}</Code></Error>"), &[])
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
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let query: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
        let operation = match request.method() {
            "PUT" if query.contains_key("uploadId") => "UploadPart",
            "PUT" => "PutObject",
            "HEAD" => "HeadObject",
            "GET" if key.is_empty() => "ListObjectsV2",
            "GET" => "GetObject",
            "POST" if query.contains_key("uploads") => "CreateMultipartUpload",
            "POST" if query.contains_key("uploadId") => "CompleteMultipartUpload",
            "POST" if query.contains_key("delete") => "DeleteObjects",
            "DELETE" if query.contains_key("uploadId") => "AbortMultipartUpload",
            _ => return None,
        };
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

const MAX_KEY_BYTES: usize = 1_024;
const MAX_METADATA_BYTES: usize = 2 << 10;
/// Of every object.
const LAST_MODIFIED: &str = "<LastModified>2026-11-20T14:11:46.000Z</LastModified>";
/// In one DeleteObjects.
const MAX_DELETED: usize = 1_000;
/// S3 accepts a smaller part only as the last one.
const MIN_PART_BYTES: usize = 5 << 20;

/// A multipart upload in progress.
#[derive(Debug)]
struct Upload {
    metadata: BTreeMap<String, String>,
    /// The checksum algorithm that it was begun with, such as `CRC32`.
    algorithm: Option<String>,
    parts: BTreeMap<u32, Part>,
}

#[derive(Debug)]
struct Part {
    body: Vec<u8>,
    e_tag: String,
    /// What the client sent as `x-amz-checksum-crc32`.
    crc32: Option<String>,
}

/// Every object, by bucket and key.
#[derive(Debug, Default)]
pub struct Buckets {
    pub objects: BTreeMap<(String, String), Object>,
    /// By id.
    uploads: BTreeMap<String, Upload>,
    begun: usize,
    /// Conditional writes that are answered with 409 before one succeeds, as happens when several race for a key.
    pub conflicts: usize,
    /// Keys in a page of a listing; 1,000 when 0.
    pub page: usize,
}

impl Buckets {
    /// Does what is asked for, as S3 would.
    pub fn answer(&mut self, call: &Call, request: &HttpRequest) -> HttpResponse {
        if call.key.len() > MAX_KEY_BYTES {
            return refuse(400, "KeyTooLongError");
        }
        if metadata(request).iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_METADATA_BYTES {
            return refuse(400, "MetadataTooLarge");
        }
        let place = (call.bucket.clone(), call.key.clone());
        match call.operation {
            "PutObject" => self.put(place, request),
            "CreateMultipartUpload" => self.begin(request),
            "UploadPart" => self.part(call, request),
            "CompleteMultipartUpload" => self.complete(place, call, request),
            "AbortMultipartUpload" => match self.uploads.remove(call.parameter("uploadId").unwrap()) {
                Some(_) => respond(204, "", &[]),
                None => refuse(404, "NoSuchUpload"),
            },
            "DeleteObjects" => self.delete(call, request),
            "ListObjectsV2" => self.list(call),
            operation => match self.objects.get(&place) {
                Some(object) if operation == "HeadObject" => object.response(None),
                Some(object) => {
                    let range = request.headers().get("range").map(|range| {
                        let (first, last) = range["bytes=".len()..].split_once('-').unwrap();
                        first.parse().unwrap()..object.body.len().min(last.parse::<usize>().unwrap() + 1)
                    });
                    match object.body.get(range.unwrap_or(0..object.body.len())) {
                        Some(part) => object.response(Some(part.to_vec())),
                        None => refuse(416, "InvalidRange"),
                    }
                }
                None if operation == "HeadObject" => respond(404, "", &[]),
                None => refuse(404, "NoSuchKey"),
            },
        }
    }

    /// Why a conditional write of `place` is refused, if it is.
    fn condition(&mut self, place: &(String, String), request: &HttpRequest) -> Option<HttpResponse> {
        if request.headers().get("if-none-match") != Some("*") {
            return None;
        }
        if self.conflicts > 0 {
            self.conflicts -= 1;
            return Some(refuse(409, "ConditionalRequestConflict"));
        }
        self.objects.contains_key(place).then(|| refuse(412, "PreconditionFailed"))
    }

    fn put(&mut self, place: (String, String), request: &HttpRequest) -> HttpResponse {
        if let Some(refused) = self.condition(&place, request) {
            return refused;
        }
        let object = Object { metadata: metadata(request), body: body(request).to_vec() };
        let response = respond(200, "", &[("etag", object.e_tag())]);
        self.objects.insert(place, object);
        response
    }

    fn begin(&mut self, request: &HttpRequest) -> HttpResponse {
        self.begun += 1;
        let id = format!("upload-{}", self.begun);
        let algorithm = request.headers().get("x-amz-checksum-algorithm").map(str::to_owned);
        let upload = Upload { metadata: metadata(request), algorithm, parts: BTreeMap::new() };
        self.uploads.insert(id.clone(), upload);
        let answer =
            format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
        respond(200, answer, &[])
    }

    fn part(&mut self, call: &Call, request: &HttpRequest) -> HttpResponse {
        let Some(upload) = self.uploads.get_mut(call.parameter("uploadId").unwrap()) else {
            return refuse(404, "NoSuchUpload");
        };
        let crc32 = request.headers().get("x-amz-checksum-crc32").map(str::to_owned);
        if upload.algorithm.as_deref() == Some("CRC32") && crc32.is_none() {
            return refuse(400, "InvalidRequest");
        }
        let body = body(request).to_vec();
        let e_tag = Object { body: body.clone(), ..Object::default() }.e_tag();
        let checksum = crc32.clone().map(|crc32| ("x-amz-checksum-crc32", crc32));
        let headers: Vec<_> = [("etag", e_tag.clone())].into_iter().chain(checksum).collect();
        upload.parts.insert(call.parameter("partNumber").unwrap().parse().unwrap(), Part { body, e_tag, crc32 });
        respond(200, "", &headers)
    }

    fn complete(&mut self, place: (String, String), call: &Call, request: &HttpRequest) -> HttpResponse {
        let id = call.parameter("uploadId").unwrap();
        if !self.uploads.contains_key(id) {
            return refuse(404, "NoSuchUpload");
        }
        if let Some(refused) = self.condition(&place, request) {
            // After 409, S3 wants the upload begun anew.
            if refused.status().as_u16() == 409 {
                self.uploads.remove(id);
            }
            return refused;
        }
        let upload = &self.uploads[id];
        let list = std::str::from_utf8(body(request)).unwrap();
        let listed: Vec<&str> = list.split("<Part>").skip(1).collect();
        let numbers: Vec<u32> =
            listed.iter().map(|entry| member(entry, "PartNumber").unwrap().parse().unwrap()).collect();
        if !numbers.is_sorted_by(|a, b| a < b) {
            return refuse(400, "InvalidPartOrder");
        }
        let mut whole = Vec::new();
        for (position, entry) in listed.iter().enumerate() {
            let Some(part) = upload.parts.get(&numbers[position]) else { return refuse(400, "InvalidPart") };
            let (e_tag, crc32) = (member(entry, "ETag"), member(entry, "ChecksumCRC32"));
            match (&upload.algorithm, crc32) {
                // A checksum in the list is compared with that of the part, which has none without an algorithm.
                (None, Some(_)) => return refuse(400, "InvalidPart"),
                (Some(_), None) => return refuse(400, "InvalidRequest"),
                (Some(_), Some(crc32)) if Some(&crc32) != part.crc32.as_ref() => return refuse(400, "InvalidPart"),
                _ => {}
            }
            if e_tag.as_ref() != Some(&part.e_tag) {
                return refuse(400, "InvalidPart");
            }
            if part.body.len() < MIN_PART_BYTES && position + 1 < listed.len() {
                return refuse(400, "EntityTooSmall");
            }
            whole.extend_from_slice(&part.body);
        }
        let object = Object { metadata: upload.metadata.clone(), body: whole };
        self.uploads.remove(id);
        let e_tag = object.e_tag().replace('"', "&quot;");
        self.objects.insert(place, object);
        let answer = format!("<CompleteMultipartUploadResult><ETag>{e_tag}</ETag></CompleteMultipartUploadResult>");
        respond(200, answer, &[])
    }

    fn delete(&mut self, call: &Call, request: &HttpRequest) -> HttpResponse {
        let list = std::str::from_utf8(body(request)).unwrap();
        let headers = request.headers();
        if !headers.iter().any(|(name, _)| name.starts_with("x-amz-checksum-") || name == "content-md5") {
            return refuse(400, "InvalidRequest");
        }
        if list.matches("<Object>").count() > MAX_DELETED {
            return refuse(400, "MalformedXML");
        }
        for object in list.split("<Object>").skip(1) {
            self.objects.remove(&(call.bucket.clone(), member(object, "Key").unwrap()));
        }
        respond(200, "<DeleteResult></DeleteResult>", &[])
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
                false => format!("<Contents><Key>{key}</Key><Size>{bytes}</Size>{LAST_MODIFIED}</Contents>"),
            };
        }
        if let Some(((last, _), _)) = entries.iter().take(page).next_back().filter(|_| entries.len() > page) {
            list += &format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>");
        }
        respond(200, list + "</ListBucketResult>", &[])
    }
}
