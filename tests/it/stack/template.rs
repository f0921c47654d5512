//! What CloudFormation makes of the template with other parameters.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Command, Stdio},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::events::root;

/// The address of a database, which a stack is created without connecting to.
const DATABASE: &str = "postgres://landfall:secret@db.example:5432/landfall";

/// Where DMAP is, and the secret with its key.
const DMAP: &str = "https://dmap.example/api";
const DMAP_SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:dmap-AbCdEf";

/// What a script of `tests/clients` says to sets of parameters.
fn run<T: DeserializeOwned>(script: &str, sets: &[Value]) -> Vec<T> {
    let mut python = Command::new("bash")
        .args(["-c", &format!("source .local/env && python3 tests/clients/{script}")])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(json!(sets).to_string().as_bytes()).unwrap();
    serde_json::from_slice(&python.wait_with_output().unwrap().stdout).unwrap()
}

/// For each set of parameters why the deployed stack cannot be updated to it, if so.
fn refusals(sets: &[Value]) -> Vec<Option<String>> {
    run("change_sets.py", sets)
}

/// A stack that was created and deleted again.
#[derive(Debug, Deserialize)]
struct Created {
    status: String,
    /// Logical name → type.
    resources: BTreeMap<String, String>,
    /// Physical names, some of which are ARNs or URLs that end in the name.
    names: Vec<String>,
    /// Its body.
    dashboard: Option<String>,
}

impl Created {
    fn count(&self, of: &str) -> usize {
        self.resources.values().filter(|kind| *kind == of).count()
    }

    /// A dashboard of everything that the stack has, and of nothing else.
    fn assert_is_on_its_dashboard(&self) {
        let body = self.dashboard.as_deref().unwrap();
        assert!(!body.replace("${PROP(", "").contains("${"), "a variable is left: {body}");
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let properties = body["widgets"].as_array().unwrap().iter().map(|widget| &widget["properties"]);
        let is_there = |name: &str| {
            self.names
                .iter()
                .any(|known| known.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/')))
        };
        let mut alarms = BTreeSet::new();
        for widget in properties {
            for alarm in widget["alarms"].as_array().into_iter().flatten() {
                let name = alarm.as_str().unwrap().rsplit(':').next().unwrap();
                assert!(is_there(name) && alarms.insert(name), "the alarm {name}");
            }
            for metric in widget["metrics"].as_array().into_iter().flatten() {
                let names: Vec<&str> = metric.as_array().unwrap().iter().filter_map(Value::as_str).collect();
                let is_known = match names[..] {
                    ["Landfall", .., function] => self.names.iter().any(|name| name.ends_with(&format!("-{function}"))),
                    [.., name] => is_there(name),
                    [] => true,
                };
                assert!(is_known, "{names:?} of {:?}", self.names);
            }
        }
        assert_eq!(alarms.len(), self.count("AWS::CloudWatch::Alarm"));
    }
}

/// What a stack with one function alone must have, and nothing of the others.
#[test]
fn a_stack_has_nothing_of_the_functions_that_it_leaves_out() {
    // load-ingester and dmap-fetch come with load-registrar.
    let parts = ["ParquetWriter", "Collect", "KafkaRoller", "LoadRegistrar", "LoadIngester", "DmapFetch"];
    let only = |part: &str| {
        let mut set = json!({});
        for other in &parts[..3] {
            set[*other] = json!((*other == part).to_string());
        }
        let is_dmap = part == "DmapFetch";
        set["DatabaseUrl"] = json!(if part.starts_with("Load") || is_dmap { DATABASE } else { "" });
        set["DmapBaseUrl"] = json!(if is_dmap { DMAP } else { "" });
        set["DmapSecretArn"] = json!(if is_dmap { DMAP_SECRET } else { "" });
        set["LoadIngester"] = json!((part == "LoadIngester").to_string());
        set
    };
    // Types of the resources of which each part has its own, and how many.
    let own = [
        ("AWS::SQS::Queue", [2, 2, 0, 2, 4, 2]),
        ("AWS::Kinesis::Stream", [0, 1, 1, 0, 0, 0]),
        ("AWS::KinesisFirehose::DeliveryStream", [0, 1, 0, 0, 0, 0]),
        ("AWS::ApiGatewayV2::Api", [0, 1, 0, 0, 0, 0]),
        ("AWS::Lambda::Function", [1, 1, 1, 1, 2, 2]),
        ("AWS::Lambda::EventSourceMapping", [1, 1, 1, 1, 2, 1]),
        ("AWS::Events::Rule", [1, 0, 1, 1, 2, 2]),
        ("AWS::S3::Bucket", [1, 1, 1, 2, 2, 2]),
        ("AWS::CloudWatch::Alarm", [9, 10, 13, 11, 18, 17]),
        ("AWS::CloudWatch::Dashboard", [1, 1, 1, 1, 1, 1]),
    ];
    let created: Vec<Created> = run("subsets.py", &parts.map(only));
    for (at, (part, created)) in parts.iter().zip(created).enumerate() {
        assert_eq!(created.status, "CREATE_COMPLETE", "{part}");
        for (kind, counts) in own {
            assert_eq!(created.count(kind), counts[at], "{part}: {kind} of {:?}", created.resources);
        }
        created.assert_is_on_its_dashboard();
    }
}

#[test]
fn a_dashboard_shows_everything_that_its_stack_has() {
    let sets = [json!({}), json!({"CollectToLake": "false"}), json!({"Dashboard": "false"})].map(|mut set| {
        set["DatabaseUrl"] = json!(DATABASE);
        set["LoadIngester"] = json!("true");
        set["DmapBaseUrl"] = json!(DMAP);
        set["DmapSecretArn"] = json!(DMAP_SECRET);
        set
    });
    let created: Vec<Created> = run("subsets.py", &sets);
    for (set, created) in sets.iter().zip(&created) {
        assert_eq!(created.status, "CREATE_COMPLETE", "{set}");
        if set.get("Dashboard").is_none() {
            created.assert_is_on_its_dashboard();
        } else {
            assert_eq!(created.dashboard, None, "{set}");
        }
    }
}

#[test]
fn parameters_that_cannot_work_are_refused() {
    let secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db";
    let consumer = "arn:aws:kinesis:eu-west-1:123456789012:stream/s/consumer/c:1";
    let sets = [
        (json!({"WriterConcurrency": "1"}), "WriterConcurrency must be 0 (no limit) or at least 2"),
        (json!({"DatabaseSecretArn": secret}), "Give DatabaseSecretArn or DatabaseUrl, not both"),
        (
            json!({"DatabaseIamUser": "landfall", "DatabaseResourceId": "db-A1", "DatabaseHost": "db.example"}),
            "With DatabaseIamUser, leave",
        ),
        (
            json!({"DatabaseUrl": "", "DatabaseIamUser": "landfall", "DatabaseHost": "db.example"}),
            "DatabaseIamUser, DatabaseResourceId and DatabaseHost",
        ),
        (
            json!({"DatabaseUrl": "", "DatabaseIamUser": "landfall", "DatabaseResourceId": "db-A1"}),
            "DatabaseIamUser, DatabaseResourceId and DatabaseHost",
        ),
        (json!({"DatabaseResourceId": "arn:aws:rds:eu-west-1:123456789012:db:x"}), "DatabaseResourceId"),
        (json!({"DmapBaseUrl": DMAP}), "DmapBaseUrl and DmapSecretArn"),
        (json!({"DmapSecretArn": DMAP_SECRET}), "DmapBaseUrl and DmapSecretArn"),
        (json!({"DmapBaseUrl": "http://dmap.example", "DmapSecretArn": DMAP_SECRET}), "DmapBaseUrl"),
        (json!({"DatabaseUrl": "", "DmapBaseUrl": DMAP, "DmapSecretArn": DMAP_SECRET}), "DmapBaseUrl needs a database"),
        (json!({"RegistrarInventoryBucket": "inventories"}), "RegistrarInventoryBucket and RegistrarInventoryPrefix"),
        (
            json!({"RegistrarInventoryBucket": "inventories", "RegistrarInventoryPrefix": "all"}),
            "RegistrarInventoryPrefix",
        ),
        (json!({"RegistrarDataSuffixes": "csv"}), "RegistrarDataSuffixes"),
        (json!({"RegistrarSubnetIds": "subnet-0a1b2c3d"}), "RegistrarSubnetIds and RegistrarSecurityGroupIds"),
        (json!({"RegistrarSecurityGroupIds": "sg-0a1b2c3d"}), "RegistrarSubnetIds and RegistrarSecurityGroupIds"),
        (json!({"RegistrarSubnetIds": "eu-west-1a", "RegistrarSecurityGroupIds": "sg-0a1b2c3d"}), "RegistrarSubnetIds"),
        (json!({"Release": "the newest"}), "Release"),
        (json!({"RollerStreamArn": consumer}), "RollerStreamArn"),
        (json!({"RegistrarConcurrency": "1"}), "RegistrarConcurrency"),
        (json!({"RollerTable": "", "RollerTablePointer": ""}), "RollerTable or RollerTablePointer"),
        (json!({"CollectAllowedOrigins": "shop.example"}), "CollectAllowedOrigins"),
        (json!({"CollectStoreHeaders": "x-shop-lane, Cookie"}), "CollectStoreHeaders"),
        (json!({"CollectStoreHeaders": "X-Api-Key"}), "CollectStoreHeaders"),
        (json!({"WriterDrainTargetBytes": "1000000"}), "WriterDrainTargetBytes"),
        (json!({"WriterDrainTargetBytes": "16777216", "FunctionMemoryMb": "256"}), "at least 512"),
        (json!({"WriterDrainTargetBytes": "134217728", "FunctionMemoryMb": "512"}), "at least 1024"),
        (json!({"WriterDrainTargetBytes": "268435456", "FunctionMemoryMb": "1024"}), "at least 1769"),
        (json!({"WriterDrainTargetBytes": "536870912", "FunctionMemoryMb": "1769"}), "at least 3008"),
        (json!({"WriterDrainTargetBytes": "1073741824", "FunctionMemoryMb": "4096"}), "at least 5120"),
        (json!({"WriterDrainTargetBytes": "2147483648", "FunctionMemoryMb": "8192"}), "of 10240"),
    ];
    let parameters: Vec<Value> = sets.iter().map(|(set, _)| set.clone()).collect();
    for ((set, expected), refusal) in sets.iter().zip(refusals(&parameters)) {
        let refusal = refusal.unwrap_or_else(|| panic!("{set} is accepted"));
        assert!(refusal.contains(expected), "{set}: {refusal}");
    }
}

#[test]
fn parameters_that_work_are_accepted() {
    let vpc = json!({
        "RegistrarSubnetIds": "subnet-0a1b2c3d,subnet-0a1b2c3d4e5f67890",
        "RegistrarSecurityGroupIds": "sg-0a1b2c3d4e5f67890",
    });
    let key = "arn:aws:kms:eu-west-1:123456789012:key/6a1f6a0e-0000-0000-0000-000000000000";
    let stream = "arn:aws:kinesis:eu-west-1:123456789012:stream/topics";
    let layer = "arn:aws:lambda:eu-west-1:123456789012:layer:rds-ca:3";
    let sets = [
        vpc,
        json!({"WriterDrainTargetBytes": "2147483648", "FunctionMemoryMb": "10240"}),
        json!({"WriterDrainTargetBytes": "268435456", "FunctionMemoryMb": "1769"}),
        json!({"KeyArn": key, "RollerStreamArn": stream, "RollerStreamKeyArn": key, "DatabaseCaLayerArn": layer}),
        json!({"RegistrarReservesConcurrency": "true", "RegistrarConcurrency": "50", "WriterConcurrency": "2"}),
        json!({"DatabaseUrl": "", "WriterNotify": "s3", "CollectToLake": "false"}),
        json!({"DmapBaseUrl": DMAP, "DmapSecretArn": DMAP_SECRET, "DmapHosts": "files.example, files.example:8443"}),
        json!({"Tracing": "true", "Release": "v1.2.0-3-gabc1234"}),
        json!({"CollectStoreHeaders": "X-Shop-Lane, x-geo"}),
        json!({"CollectShards": "2", "RollerShards": "1", "CollectConcurrency": "20", "QuarantineDays": "90"}),
    ];
    for (set, refusal) in sets.iter().zip(refusals(&sets)) {
        assert_eq!(refusal, None, "{set}");
    }
}
