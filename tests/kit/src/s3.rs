//! Buckets in memory: put if absent, get, head, list, copy, versions, and multipart uploads.
//!
//! What S3 refuses is refused here too, with its error codes. Source: "CreateMultipartUpload", "UploadPart" and
//! "CompleteMultipartUpload", Amazon S3 API reference, and the checksums that S3 was seen to demand of each.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use percent_encoding::percent_decode_str;

use crate::http::{ENDPOINT, HttpRequest, HttpResponse, body, respond};

/// An object, with its metadata by name without `x-amz-meta-`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    pub metadata: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Its version, in a bucket that has versions.
    pub version: Option<String>,
    /// When it was written, in seconds since 1970-01-01T00:00:00Z.
    pub modified: i64,
}

impl Object {
    #[must_use]
    pub fn e_tag(&self) -> String {
        let hash = self.body.iter().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(*byte));
        format!("\"{hash:016x}\"")
    }

    fn modified(&self) -> Zoned {
        Timestamp::from_second(self.modified).unwrap().to_zoned(TimeZone::UTC)
    }

    /// The response to HEAD has no body and the length of the whole object.
    fn response(&self, body: Option<Vec<u8>>) -> HttpResponse {
        let length = body.as_ref().map_or(self.body.len(), Vec::len);
        let headers = [
            ("etag", self.e_tag()),
            ("content-length", length.to_string()),
            ("last-modified", self.modified().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()),
        ];
        let mut response = respond(200, body.unwrap_or_default(), &headers);
        if let Some(version) = &self.version {
            response.headers_mut().insert("x-amz-version-id", version.clone());
        }
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

/// Status and code with which a request is refused.
struct Refused(u16, &'static str);

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
        let is_copy = request.headers().get("x-amz-copy-source").is_some();
        let operation = match request.method() {
            "PUT" if query.contains_key("uploadId") && is_copy => "UploadPartCopy",
            "PUT" if query.contains_key("uploadId") => "UploadPart",
            "PUT" if is_copy => "CopyObject",
            "PUT" => "PutObject",
            "HEAD" => "HeadObject",
            "GET" if query.contains_key("versions") => "ListObjectVersions",
            "GET" if key.is_empty() => "ListObjectsV2",
            "GET" => "GetObject",
            "POST" if query.contains_key("uploads") => "CreateMultipartUpload",
            "POST" if query.contains_key("uploadId") => "CompleteMultipartUpload",
            "POST" if query.contains_key("delete") => "DeleteObjects",
            "DELETE" if query.contains_key("uploadId") => "AbortMultipartUpload",
            "DELETE" if !key.is_empty() => "DeleteObject",
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
/// 2026-11-20T14:11:46Z.
const NOW: i64 = 1_795_183_906;
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
#[derive(Debug)]
pub struct Buckets {
    /// The current objects.
    pub objects: BTreeMap<(String, String), Object>,
    /// Buckets that have versions.
    pub versioned: BTreeSet<String>,
    /// Every version of their objects, the oldest first.
    pub versions: BTreeMap<(String, String), Vec<Object>>,
    /// When objects are written, in seconds since 1970-01-01T00:00:00Z.
    pub now: i64,
    /// By id.
    uploads: BTreeMap<String, Upload>,
    begun: usize,
    /// Conditional writes that are answered with 409 before one succeeds, as happens when several race for a key.
    pub conflicts: usize,
    /// Only writes of keys that begin so have conflicts.
    pub conflict_prefix: &'static str,
    /// Keys in a page of a listing; 1,000 when 0.
    pub page: usize,
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            versioned: BTreeSet::new(),
            versions: BTreeMap::new(),
            now: NOW,
            uploads: BTreeMap::new(),
            begun: 0,
            conflicts: 0,
            conflict_prefix: "",
            page: 0,
        }
    }
}

/// Bucket, key and version that a copy reads.
fn copy_source(request: &HttpRequest) -> ((String, String), Option<String>) {
    let source = request.headers().get("x-amz-copy-source").unwrap();
    let (place, version) = match source.split_once("?versionId=") {
        Some((place, version)) => (place, Some(decoded(version))),
        None => (source, None),
    };
    let (bucket, key) = place.trim_start_matches('/').split_once('/').unwrap();
    ((bucket.to_owned(), decoded(key)), version)
}

impl Buckets {
    /// Writes an object, as a new version where there are versions.
    pub fn write(&mut self, place: (String, String), metadata: BTreeMap<String, String>, body: Vec<u8>) -> Object {
        let mut object = Object { metadata, body, version: None, modified: self.now };
        if self.versioned.contains(&place.0) {
            self.begun += 1;
            object.version = Some(format!("version-{}", self.begun));
            self.versions.entry(place.clone()).or_default().push(object.clone());
        }
        self.objects.insert(place, object.clone());
        object
    }

    /// An object, or one version of it, if it is the one that a request wants.
    fn read(&self, place: &(String, String), version: Option<&str>, e_tag: Option<&str>) -> Result<&Object, Refused> {
        let found = match version {
            None => self.objects.get(place),
            Some("null") => self.objects.get(place).filter(|object| object.version.is_none()),
            Some(id) => {
                self.versions.get(place).and_then(|all| all.iter().find(|one| one.version.as_deref() == Some(id)))
            }
        };
        let Some(object) = found else {
            return Err(Refused(404, if version.is_some() { "NoSuchVersion" } else { "NoSuchKey" }));
        };
        match e_tag {
            Some(wanted) if wanted != object.e_tag() => Err(Refused(412, "PreconditionFailed")),
            _ => Ok(object),
        }
    }

    /// The object that a copy reads, or the part of it.
    fn copied(&self, request: &HttpRequest) -> Result<Object, Refused> {
        let (place, version) = copy_source(request);
        let mut object =
            self.read(&place, version.as_deref(), request.headers().get("x-amz-copy-source-if-match"))?.clone();
        if let Some(range) = request.headers().get("x-amz-copy-source-range") {
            let (first, last) = range["bytes=".len()..].split_once('-').unwrap();
            object.body = object.body[first.parse().unwrap()..=last.parse().unwrap()].to_vec();
        } else if object.body.len() as u64 > 5 << 30 {
            return Err(Refused(400, "InvalidRequest"));
        }
        Ok(object)
    }

    fn copy(&mut self, place: (String, String), request: &HttpRequest) -> HttpResponse {
        match self.copied(request) {
            Err(Refused(status, code)) => refuse(status, code),
            Ok(source) => {
                let e_tag = self.write(place, source.metadata, source.body).e_tag().replace('"', "&quot;");
                respond(200, format!("<CopyObjectResult><ETag>{e_tag}</ETag></CopyObjectResult>"), &[])
            }
        }
    }

    fn copy_part(&mut self, call: &Call, request: &HttpRequest) -> HttpResponse {
        let source = match self.copied(request) {
            Err(Refused(status, code)) => return refuse(status, code),
            Ok(source) => source,
        };
        let Some(upload) = self.uploads.get_mut(call.parameter("uploadId").unwrap()) else {
            return refuse(404, "NoSuchUpload");
        };
        // Without a checksum from the client, S3 computes the one that the upload was begun with.
        let crc32 = upload.algorithm.as_ref().map(|_| format!("crc-of-{}", source.body.len()));
        let e_tag = source.e_tag();
        let checksum =
            crc32.as_ref().map(|crc32| format!("<ChecksumCRC32>{crc32}</ChecksumCRC32>")).unwrap_or_default();
        let answer =
            format!("<CopyPartResult><ETag>{}</ETag>{checksum}</CopyPartResult>", e_tag.replace('"', "&quot;"));
        let part = Part { body: source.body, e_tag, crc32 };
        upload.parts.insert(call.parameter("partNumber").unwrap().parse().unwrap(), part);
        respond(200, answer, &[])
    }

    /// Deletes a version for good, or the current object; where there are versions, they stay.
    fn remove(&mut self, place: &(String, String), call: &Call, request: &HttpRequest) -> HttpResponse {
        if let Some(wanted) = request.headers().get("if-match") {
            // Only the current version is compared, and a condition on what does not exist fails.
            match self.objects.get(place) {
                None => return refuse(404, "NoSuchKey"),
                Some(object) if object.e_tag() != wanted => return refuse(412, "PreconditionFailed"),
                Some(_) => {}
            }
        }
        match call.parameter("versionId") {
            None => drop(self.objects.remove(place)),
            Some(id) => {
                let versions = self.versions.entry(place.clone()).or_default();
                versions.retain(|version| version.version.as_deref() != Some(id));
                let was_current = self.objects.get(place).is_some_and(|object| object.version.as_deref() == Some(id));
                match versions.last().cloned() {
                    Some(previous) if was_current => drop(self.objects.insert(place.clone(), previous)),
                    None if was_current => drop(self.objects.remove(place)),
                    _ => {}
                }
            }
        }
        respond(204, "", &[])
    }

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
            "DeleteObject" => self.remove(&place, call, request),
            "CopyObject" => self.copy(place, request),
            "UploadPartCopy" => self.copy_part(call, request),
            "ListObjectVersions" => self.list_versions(call),
            "ListObjectsV2" => self.list(call),
            operation => match self.read(&place, call.parameter("versionId"), request.headers().get("if-match")) {
                Ok(object) if operation == "HeadObject" => object.response(None),
                Ok(object) => {
                    let range = request.headers().get("range").map(|range| {
                        let (first, last) = range["bytes=".len()..].split_once('-').unwrap();
                        let end = last.parse().map_or(object.body.len(), |last: usize| last + 1);
                        first.parse().unwrap()..object.body.len().min(end)
                    });
                    match object.body.get(range.unwrap_or(0..object.body.len())) {
                        Some(part) => object.response(Some(part.to_vec())),
                        None => refuse(416, "InvalidRange"),
                    }
                }
                // The response to HEAD has no body, and so no code.
                Err(Refused(status, _)) if operation == "HeadObject" => respond(status, "", &[]),
                Err(Refused(status, code)) => refuse(status, code),
            },
        }
    }

    /// Why a conditional write of `place` is refused, if it is.
    fn condition(&mut self, place: &(String, String), request: &HttpRequest) -> Option<HttpResponse> {
        let wanted = request.headers().get("if-match");
        if wanted.is_none() && request.headers().get("if-none-match") != Some("*") {
            return None;
        }
        if self.conflicts > 0 && place.1.starts_with(self.conflict_prefix) {
            self.conflicts -= 1;
            return Some(refuse(409, "ConditionalRequestConflict"));
        }
        match (wanted, self.objects.get(place)) {
            (Some(_), None) => Some(refuse(404, "NoSuchKey")),
            (Some(wanted), Some(object)) => (object.e_tag() != wanted).then(|| refuse(412, "PreconditionFailed")),
            (None, object) => object.map(|_| refuse(412, "PreconditionFailed")),
        }
    }

    fn put(&mut self, place: (String, String), request: &HttpRequest) -> HttpResponse {
        if let Some(refused) = self.condition(&place, request) {
            return refused;
        }
        let object = self.write(place, metadata(request), body(request).to_vec());
        respond(200, "", &[("etag", object.e_tag())])
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
        let metadata = upload.metadata.clone();
        self.uploads.remove(id);
        let e_tag = self.write(place, metadata, whole).e_tag().replace('"', "&quot;");
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

    /// Keys in their order, the newest version first; a page ends after any version.
    fn list_versions(&self, call: &Call) -> HttpResponse {
        let text = |name| call.parameter(name).unwrap_or_default();
        let (bucket, prefix) = (call.bucket.clone(), text("prefix").to_owned());
        let mut all: Vec<(&str, &Object, bool)> = Vec::new();
        let keys = self
            .objects
            .keys()
            .chain(self.versions.keys())
            .filter(|(of, key)| *of == bucket && key.starts_with(&prefix));
        for place in keys.collect::<BTreeSet<_>>() {
            let current = self.objects.get(place);
            let versions = self.versions.get(place).into_iter().flatten().rev();
            let unversioned = current.filter(|object| object.version.is_none());
            all.extend(
                unversioned
                    .into_iter()
                    .chain(versions)
                    .map(|object| (place.1.as_str(), object, Some(object) == current)),
            );
        }
        let id = |object: &Object| object.version.clone().unwrap_or_else(|| "null".to_owned());
        let marker = (text("key-marker"), text("version-id-marker"));
        let begun =
            all.iter().position(|(key, object, _)| (*key, id(object).as_str()) == marker).map_or(0, |at| at + 1);
        let page = if self.page == 0 { 1_000 } else { self.page };
        let mut list = String::from("<ListVersionsResult>");
        for (key, object, is_latest) in all.iter().skip(begun).take(page) {
            list += &format!(
                "<Version><Key>{}</Key><VersionId>{}</VersionId><IsLatest>{is_latest}</IsLatest><LastModified>{}</LastModified>\
                 <ETag>{}</ETag><Size>{}</Size></Version>",
                key.replace('&', "&amp;").replace('<', "&lt;"),
                id(object),
                object.modified().timestamp(),
                object.e_tag().replace('"', "&quot;"),
                object.body.len(),
            );
        }
        if let Some((key, object, _)) = all.get(begun + page - 1).filter(|_| all.len() > begun + page) {
            list += &format!(
                "<IsTruncated>true</IsTruncated><NextKeyMarker>{key}</NextKeyMarker>\
                 <NextVersionIdMarker>{}</NextVersionIdMarker>",
                id(object),
            );
        }
        respond(200, list + "</ListVersionsResult>", &[])
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
        let sizes = keys.map(|((_, key), object)| (entry(key), object));
        let entries: BTreeMap<(String, bool), &Object> = sizes.filter(|((key, _), _)| key.as_str() > after).collect();
        let page = if self.page == 0 { 1_000 } else { self.page };
        let mut list = String::from("<ListBucketResult>");
        for ((key, is_folder), object) in entries.iter().take(page) {
            let key = key.replace('&', "&amp;").replace('<', "&lt;");
            list += &match is_folder {
                true => format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"),
                false => format!(
                    "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>{}</LastModified><ETag>{}</ETag></Contents>",
                    object.body.len(),
                    object.modified().timestamp(),
                    object.e_tag().replace('"', "&quot;"),
                ),
            };
        }
        if let Some(((last, _), _)) = entries.iter().take(page).next_back().filter(|_| entries.len() > page) {
            list += &format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>");
        }
        respond(200, list + "</ListBucketResult>", &[])
    }
}
