//! The incoming bucket in memory, behind the HTTP interface of the real SDK client: HEAD (of versions too), listings, and
//! a secret. Requests about other buckets go to [`Aws`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    sync::{Arc, Mutex, MutexGuard},
};

use aws_config::SdkConfig;
use flate2::{Compression, write::GzEncoder};
use jiff::{Timestamp, tz::TimeZone};
use kit::{
    http::{self, HttpRequest, HttpResponse, Reply, respond, respond_json},
    s3::{Buckets, Call, Object},
};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use shared::s3_key;

use crate::{aws::Aws, roles};

/// Name of the bucket that S3 puts inventories into.
pub(crate) const INVENTORIES: &str = "inventories";
/// What is in front of the time in the key of a manifest.
pub(crate) const INVENTORY: &str = "all/landfall-incoming-000000000000-us-east-1/daily/";

/// Name of the bucket, in every test and sample event.
pub(crate) const INCOMING: &str = "landfall-incoming-000000000000-us-east-1";

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) key: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub(crate) modified: i64,
    pub(crate) size: u64,
    pub(crate) e_tag: String,
    pub(crate) version: Option<String>,
}

impl Version {
    pub(crate) fn new(key: &str, modified: i64, size: u64) -> Self {
        let e_tag = format!("{:032x}", u128::from(size) << 64 | u128::from(modified.unsigned_abs()));
        Self { key: key.to_owned(), modified, size, e_tag, version: None }
    }

    /// The notification that S3 sends for its put.
    pub(crate) fn record(&self) -> Value {
        let mut object = json!({
            "key": s3_key::encode(&self.key), "size": self.size, "eTag": self.e_tag, "sequencer": "0066F3",
        });
        if let Some(version) = &self.version {
            object["versionId"] = json!(version);
        }
        json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
            "eventTime": Timestamp::from_second(self.modified).unwrap().to_string(),
            "eventName": "ObjectCreated:Put",
            "s3": {"s3SchemaVersion": "1.0", "configurationId": "all",
                "bucket": {"name": INCOMING, "arn": format!("arn:aws:s3:::{INCOMING}")}, "object": object},
        })
    }
}

/// An SQS event of one message for each put.
pub(crate) fn sqs_event<'a>(puts: impl IntoIterator<Item = &'a Version>) -> Value {
    let records: Vec<Value> = puts
        .into_iter()
        .enumerate()
        .map(|(at, put)| {
            json!({
                "messageId": format!("message-{at}"), "receiptHandle": "receipt", "eventSource": "aws:sqs",
                "body": json!({"Records": [put.record()]}).to_string(),
                "attributes": {"SentTimestamp": (put.modified * 1_000).to_string()}, "messageAttributes": {},
            })
        })
        .collect();
    json!({"Records": records})
}

#[derive(Default)]
pub(crate) struct State {
    /// Every version, in the order of the puts.
    pub(crate) versions: Vec<Version>,
    /// Keys that have been deleted.
    pub(crate) deleted: BTreeSet<String>,
    /// Keys and prefixes for which S3 answers 503.
    pub(crate) unavailable: BTreeSet<String>,
    /// Keys for which S3 never answers, and prefixes that it never lists.
    pub(crate) silent: BTreeSet<String>,
    /// The bucket of inventories, and how many requests it got.
    pub(crate) inventories: Buckets,
    /// The value of the secret in Secrets Manager.
    pub(crate) secret: String,
    /// Requests by operation.
    pub(crate) calls: BTreeMap<&'static str, usize>,
}

/// The bucket. A clone is another handle on the same one.
#[derive(Clone)]
pub(crate) struct Incoming {
    state: Arc<Mutex<State>>,
    /// Answers requests that are not about the incoming bucket.
    pub(crate) lake: Aws,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { state: Arc::default(), lake: Aws::for_role(roles::registrar()) }
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

impl Incoming {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn put<'a>(&self, versions: impl IntoIterator<Item = &'a Version>) {
        self.state().versions.extend(versions.into_iter().cloned());
    }

    pub(crate) async fn config(&self) -> SdkConfig {
        let services = self.clone();
        http::config(http::client(move |request| services.answer(request))).await
    }

    fn answer(&self, request: &HttpRequest) -> Reply {
        let role = roles::registrar();
        if http::target(request) == Some("secretsmanager.GetSecretValue") {
            role.assert_allows("secretsmanager:GetSecretValue", "DatabaseSecretArn");
            return respond_json(200, &json!({"SecretString": self.state().secret})).into();
        }
        let inventories = Call::of(request).filter(|call| call.bucket == INVENTORIES);
        if let Some(call) = inventories {
            role.assert_allows_s3(call.operation, "inventories", &call.key);
            let mut state = self.state();
            *state.calls.entry("inventories").or_default() += 1;
            return state.inventories.answer(&call, request).into();
        }
        let call = Call::of(request).filter(|call| call.bucket == INCOMING);
        if let Some(call) = &call {
            role.assert_allows_s3(call.operation, "incoming", &call.key);
            if call.parameter("versionId").is_some() {
                role.assert_allows_s3("GetObjectVersion", "incoming", &call.key);
            }
        }
        match call {
            None => self.lake.answer(request),
            Some(call) if call.operation == "HeadObject" && self.state().silent.contains(&call.key) => Reply::Hang,
            Some(call) if call.operation == "HeadObject" => self.state().head(&call).into(),
            Some(call) if self.state().silent.contains(call.parameter("prefix").unwrap_or_default()) => Reply::Hang,
            Some(call) if call.operation == "ListObjectsV2" => self.state().list(&call).into(),
            Some(call) => panic!("{call:?} is not part of this bucket"),
        }
    }
}

/// A row of an inventory, which says whether it is the current version and a delete marker.
pub(crate) fn inventory_row(version: &Version, is_latest: bool, is_delete_marker: bool) -> String {
    let Version { modified, size, e_tag, .. } = version;
    let (key, modified) = (s3_key::encode(&version.key), Timestamp::from_second(*modified).unwrap());
    let modified = modified.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string();
    let [is_latest, is_delete_marker] = [is_latest, is_delete_marker].map(|is| is.to_string());
    let size = size.to_string();
    let columns = [INCOMING, &key, "", &is_latest, &is_delete_marker, &size, &modified, e_tag, "STANDARD"];
    columns.map(|column| format!("\"{column}\"")).join(",")
}

impl State {
    /// Puts an inventory of some files of rows, and returns the address of its manifest. Source: "Amazon S3 Inventory manifest",
    /// Amazon S3 user guide.
    pub(crate) fn inventory(&mut self, time: &str, files: &[Vec<String>]) -> String {
        let mut listed = Vec::new();
        for (number, rows) in files.iter().enumerate() {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all((rows.join("\n") + "\n").as_bytes()).unwrap();
            let body = packed.finish().unwrap();
            let md5: String = Md5::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
            let key = format!("{INVENTORY}data/{time}-{number}.csv.gz");
            listed.push(json!({"key": key, "size": body.len(), "MD5checksum": md5}));
            self.inventories.objects.insert((INVENTORIES.to_owned(), key), Object { body, ..Object::default() });
        }
        let manifest = json!({
            "sourceBucket": INCOMING, "destinationBucket": format!("arn:aws:s3:::{INVENTORIES}"), "version": "2016-11-30",
            "creationTimestamp": "1795140000000", "fileFormat": "CSV", "files": listed,
            "fileSchema":
                "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass",
        });
        let key = format!("{INVENTORY}{time}/manifest.json");
        let body = manifest.to_string().into_bytes();
        self.inventories.objects.insert((INVENTORIES.to_owned(), key.clone()), Object { body, ..Object::default() });
        format!("s3://{INVENTORIES}/{key}")
    }

    fn head(&mut self, call: &Call) -> HttpResponse {
        let key = call.key.as_str();
        *self.calls.entry("HeadObject").or_default() += 1;
        if self.unavailable.contains(key) {
            return respond(503, "", &[]);
        }
        let wanted = call.parameter("versionId");
        let found = self
            .versions
            .iter()
            .rev()
            .find(|version| version.key == key && (wanted.is_none() || version.version.as_deref() == wanted));
        match found.filter(|_| wanted.is_some() || !self.deleted.contains(key)) {
            None => respond(404, "", &[]),
            Some(version) => {
                let modified = Timestamp::from_second(version.modified).unwrap().to_zoned(TimeZone::UTC);
                let headers = [
                    ("etag", format!("\"{}\"", version.e_tag)),
                    ("content-length", version.size.to_string()),
                    ("last-modified", modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()),
                ];
                respond(200, "", &headers)
            }
        }
    }

    fn list(&mut self, call: &Call) -> HttpResponse {
        *self.calls.entry("ListObjectsV2").or_default() += 1;
        let parameter = |name| call.parameter(name).unwrap_or_default();
        let (prefix, after) = (parameter("prefix"), parameter("start-after"));
        if self.unavailable.contains(prefix) {
            return respond(503, "<Error><Code>SlowDown</Code></Error>", &[]);
        }
        // Without the encoding, XML cannot hold every key.
        assert_eq!(parameter("encoding-type"), "url");
        let current: BTreeMap<&String, &Version> = self
            .versions
            .iter()
            .map(|version| (&version.key, version))
            .filter(|(key, _)| !self.deleted.contains(*key))
            .filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after)
            .collect();
        let mut body = format!(
            "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{}</IsTruncated>",
            current.len() > 1_000
        );
        for version in current.values().take(1_000) {
            let key = s3_key::encode(&version.key);
            let modified = Timestamp::from_second(version.modified).unwrap();
            write!(
                body,
                "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><ETag>\"{}\"</ETag>\
                 <Size>{}</Size></Contents>",
                version.e_tag, version.size
            )
            .unwrap();
        }
        respond(200, body + "</ListBucketResult>", &[])
    }
}
