//! The roles of the functions, as `template.yaml` grants them. The services in memory refuse a call that the role of the
//! function under test does not allow, as AWS would.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Mutex, OnceLock},
};

use crate::events::root;

/// What Lambda and Firehose do with a role, not the function's code.
const BY_THE_SERVICE: [&str; 19] = [
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
    // Lambda sends the traces.
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
    // Every service that encrypts uses the key on behalf of the caller.
    "kms:Decrypt",
    "kms:GenerateDataKey",
];

/// A statement of a role: actions, and resources of which some end in `*`.
#[derive(Debug)]
struct Statement {
    actions: Vec<String>,
    resources: Vec<String>,
    /// Whether a condition decides which of the resources it is.
    is_either: bool,
}

#[derive(Debug)]
pub(crate) struct Role {
    logical_name: &'static str,
    statements: Vec<Statement>,
    /// What was allowed so far: action and the resource as the template writes it.
    used: Mutex<BTreeSet<(String, String)>>,
}

static WRITER: OnceLock<Role> = OnceLock::new();
static COLLECT: OnceLock<Role> = OnceLock::new();
static ROLLER: OnceLock<Role> = OnceLock::new();
static REGISTRAR: OnceLock<Role> = OnceLock::new();
static INGESTER: OnceLock<Role> = OnceLock::new();
static DMAP: OnceLock<Role> = OnceLock::new();

pub(crate) fn writer() -> &'static Role {
    WRITER.get_or_init(|| Role::of("ParquetWriterRole"))
}

pub(crate) fn collect() -> &'static Role {
    COLLECT.get_or_init(|| Role::of("CollectRole"))
}

pub(crate) fn roller() -> &'static Role {
    ROLLER.get_or_init(|| Role::of("KafkaRollerRole"))
}

pub(crate) fn registrar() -> &'static Role {
    REGISTRAR.get_or_init(|| Role::of("LoadRegistrarRole"))
}

pub(crate) fn ingester() -> &'static Role {
    INGESTER.get_or_init(|| Role::of("LoadIngesterRole"))
}

pub(crate) fn dmap() -> &'static Role {
    DMAP.get_or_init(|| Role::of("DmapFetchRole"))
}

impl Role {
    fn of(logical_name: &'static str) -> Self {
        let template = fs::read_to_string(root().join("template.yaml")).unwrap();
        let (_, role) = template.split_once(&format!("\n  {logical_name}:\n")).unwrap();
        let (role, _) = role.split_once("\n\n").unwrap();
        let statements = role.split("- Sid: ").skip(1).map(Statement::parse).collect();
        Self { logical_name, statements, used: Mutex::default() }
    }

    /// Panics if the role does not allow the action on the resource, such as `s3:PutObject` on `LakeBucket/events/…`.
    pub(crate) fn assert_allows(&self, action: &str, resource: &str) {
        let allowing = self.statements.iter().filter(|statement| statement.actions.iter().any(|it| it == action));
        let pattern =
            allowing.flat_map(|statement| &statement.resources).find(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => resource.starts_with(prefix),
                None => resource == pattern.as_str(),
            });
        let pattern = pattern.unwrap_or_else(|| panic!("{} does not allow {action} on {resource}", self.logical_name));
        self.used.lock().unwrap().insert((action.to_owned(), pattern.clone()));
    }

    /// The same for an operation of S3.
    pub(crate) fn assert_allows_s3(&self, operation: &str, bucket: &str, key: &str) {
        let bucket = match bucket {
            "lake" => "LakeBucket",
            "incoming" => "IncomingBucket",
            "inventories" => "RegistrarInventoryBucket",
            other => panic!("{other} is no bucket of the template"),
        };
        let object = format!("{bucket}/{key}");
        match operation {
            "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => {
                self.assert_allows("s3:PutObject", &object);
            }
            "AbortMultipartUpload" => self.assert_allows("s3:AbortMultipartUpload", &object),
            // Without the permission to list, S3 answers 403 for a key that does not exist.
            "GetObject" | "HeadObject" => {
                self.assert_allows("s3:GetObject", &object);
                self.assert_allows("s3:ListBucket", bucket);
            }
            "GetObjectVersion" => {
                self.assert_allows("s3:GetObjectVersion", &object);
                self.assert_allows("s3:ListBucketVersions", bucket);
            }
            "DeleteObjectVersion" => self.assert_allows("s3:DeleteObjectVersion", &object),
            // A condition reads.
            "DeleteObject" => {
                self.assert_allows("s3:DeleteObject", &object);
                self.assert_allows("s3:GetObject", &object);
            }
            "DeleteObjects" => self.assert_allows("s3:DeleteObject", &object),
            "ListObjectVersions" => self.assert_allows("s3:ListBucketVersions", bucket),
            "ListObjectsV2" => self.assert_allows("s3:ListBucket", bucket),
            other => panic!("nobody has said which permission {other} needs"),
        }
    }

    /// Panics if something is allowed that no test of this process has done.
    pub(crate) fn assert_everything_is_used(&self) {
        let used = self.used.lock().unwrap();
        let mut unused = Vec::new();
        // Lambda itself writes what it gives up.
        let of_lambda = |it: &String| it.ends_with("/aws/lambda/*");
        let by_code = |statement: &&Statement| {
            !statement.resources.iter().any(of_lambda)
                || statement.actions.iter().any(|action| action == "s3:GetObject")
        };
        for Statement { actions, resources, is_either } in self.statements.iter().filter(by_code) {
            for action in actions.iter().filter(|action| !BY_THE_SERVICE.contains(&action.as_str())) {
                // Of resources that depend on a condition, one is enough.
                let is_used = |resource: &&String| used.contains(&(action.clone(), (*resource).clone()));
                let count = resources.iter().filter(is_used).count();
                if count < resources.len() && !(*is_either && count > 0) {
                    unused.push(format!("{action} on {resources:?}"));
                }
            }
        }
        assert!(unused.is_empty(), "{} allows what nobody does: {unused:#?}", self.logical_name);
    }
}

impl Statement {
    fn parse(text: &str) -> Self {
        assert!(text.contains("Effect: Allow\n"), "a role only allows: {text}");
        let (actions, resources) = text.split_once("Resource:").unwrap();
        let (_, actions) = actions.split_once("Action:").unwrap();
        let is_action = |word: &&str| word.contains(':') && !word.starts_with(':');
        let actions = actions.split([' ', ',', '[', ']', '\n']).map(str::trim).filter(is_action);
        let resources = resources.split("Condition:").next().unwrap();
        let names = resources.split([' ', ',', '[', ']', '\n', '\'']).filter_map(|word| {
            if let Some((name, path)) = word.strip_prefix("${").and_then(|word| word.split_once(".Arn}")) {
                return Some(format!("{name}{path}"));
            }
            // An ARN that ends in parameters, which stand for what they name.
            if let Some((_, path)) = word
                .strip_prefix("arn:")
                .and_then(|arn| arn.split_once(":::${").or_else(|| arn.split_once(":dbuser:${")))
            {
                return Some(path.replace("${", "").replace('}', ""));
            }
            let name = word.strip_suffix(".Arn").unwrap_or(word);
            let is_name = name.starts_with(char::is_uppercase) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            (is_name && !name.starts_with("Has") && !name.starts_with("Owns")).then(|| name.to_owned())
        });
        let is_either = resources.trim_start().starts_with("!If");
        Self { actions: actions.map(str::to_owned).collect(), resources: names.collect(), is_either }
    }
}

#[test]
fn a_role_is_read_from_the_template() {
    let roller = Role::of("KafkaRollerRole");
    roller.assert_allows("s3:DeleteObject", "LakeBucket/staging/a");
    let refused = std::panic::catch_unwind(|| {
        Role::of("KafkaRollerRole").assert_allows("s3:DeleteObject", "LakeBucket/events/a")
    });
    assert!(refused.is_err());
    assert!(registrar().statements.len() >= 6, "{:?}", registrar().statements);
}
