//! Code, template, events and documentation, kept in step.

mod dashboard;

use std::{collections::BTreeMap, fs, path::Path};

use crate::events::root;

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root().join(folder))
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Folders of all workspace members.
fn members() -> Vec<String> {
    let workspace: toml::Table = text("Cargo.toml").parse().unwrap();
    let mut members = Vec::new();
    for member in workspace["workspace"]["members"].as_array().unwrap() {
        match member.as_str().unwrap().strip_suffix("/*") {
            Some(folder) => members.extend(names(folder).into_iter().map(|name| format!("{folder}/{name}"))),
            None => members.push(member.as_str().unwrap().to_owned()),
        }
    }
    members
}

#[test]
fn every_member_opts_into_the_lints_and_takes_its_versions_from_the_workspace() {
    for member in members() {
        let manifest: toml::Table = text(format!("{member}/Cargo.toml")).parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{member}");
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, dependency) in manifest.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
                let inherits = dependency.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(inherits, Some(true), "{member}: {name}");
            }
        }
    }
}

#[test]
fn every_function_is_a_folder_a_package_a_binary_and_a_readme() {
    for function in names("functions") {
        let manifest: toml::Table = text(format!("functions/{function}/Cargo.toml")).parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some(function.as_str()));
        assert!(text("template.yaml").contains(&format!("Binary: {function}")), "{function} is not in the template");
        assert!(text("README.md").contains(&format!("functions/{function}")), "{function} is not in the README");
        text(format!("functions/{function}/README.md"));
    }
}

/// All Rust files below `folder`, with their paths.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for name in names(folder) {
        let path = format!("{folder}/{name}");
        if root().join(&path).is_dir() {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            let source = text(&path);
            files.push((path, source));
        }
    }
    files
}

/// The code of a function, which for parquet-writer and kafka-roller is partly in a library.
fn code_of(function: &str) -> Vec<(String, String)> {
    let mut files = rust_files(&format!("functions/{function}/src"));
    for library in ["landing", "rolling"] {
        if text(format!("functions/{function}/Cargo.toml")).contains(&format!("\n{library}.")) {
            files.extend(rust_files(&format!("{library}/src")));
        }
    }
    files
}

/// What the documents have to name, by function. A function whose README has a table with this heading has some of it.
fn found(heading: &str, extract: impl Fn(&str) -> Vec<String>) -> Vec<(String, String)> {
    names("functions")
        .into_iter()
        .flat_map(|function| {
            let code = code_of(&function);
            let names: Vec<String> = code.iter().flat_map(|(_, source)| extract(source)).collect();
            let documented = text(format!("functions/{function}/README.md")).contains(&format!("\n| {heading} |"));
            assert_eq!(documented, !names.is_empty(), "{function}: {heading} in the README and in the code: {names:?}");
            names.into_iter().map(move |name| (function.clone(), name))
        })
        .collect()
}

/// Text in quotes, before the tests of a file.
fn literals(source: &str) -> impl Iterator<Item = &str> {
    source.split("#[cfg(test)]").next().unwrap().split('"').skip(1).step_by(2)
}

/// Environment variables that `source` reads: the literals of the modules that read settings.
fn variables(source: &str) -> Vec<String> {
    if !source.contains("SettingError") {
        return Vec::new();
    }
    let stack = source.contains("settings.stack()").then_some("STACK_NAME");
    literals(source)
        .chain(stack)
        .filter(|text| text.contains('_') && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .filter(|name| !name.starts_with("AWS_"))
        .map(str::to_owned)
        .collect()
}

/// Metrics that `source` puts.
fn metrics(source: &str) -> Vec<String> {
    let calls = source.split(".put(").skip(1).chain(source.split("(stack, FUNCTION, ").skip(1));
    let literals = calls.filter_map(|arguments| arguments.trim_start().strip_prefix('"'));
    literals.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// Reasons that `source` gives for a quarantine or a rejection.
fn reasons(source: &str) -> Vec<String> {
    let body = source.split_once("fn reason(").and_then(|(_, rest)| rest.split_once("\n    }\n"));
    body.map(|(body, _)| literals(body).map(str::to_owned).collect()).unwrap_or_default()
}

fn assert_in_readme(function: &str, name: &str) {
    let readme = text(format!("functions/{function}/README.md"));
    assert!(readme.contains(&format!("`{name}`")), "{name} of {function} is not in its README");
}

#[test]
fn every_variable_is_in_the_template_and_in_the_readme() {
    let template = text("template.yaml");
    for (function, variable) in found("variable", variables) {
        assert!(template.contains(&format!("{variable}:")), "{variable} of {function} is not in the template");
        assert_in_readme(&function, &variable);
    }
}

/// What the template lets through, the function must take: one name that it refuses fails every init.
#[test]
fn the_template_refuses_the_headers_that_collect_refuses() {
    let words = collect::config::CREDENTIALS;
    let pattern = format!("(?i)(?!.*({}))([a-z0-9_-]+(, ?[a-z0-9_-]+)*)?", words.join("|"));
    let template = text("template.yaml");
    let (_, parameter) = template.split_once("\n  CollectStoreHeaders:").unwrap();
    let (_, found) = parameter.split_once("AllowedPattern: '").unwrap();
    assert_eq!(found.split_once('\'').unwrap().0, pattern);
    for word in words {
        assert_in_readme("collect", word);
    }
}

#[test]
fn every_metric_is_in_the_readme() {
    for (function, metric) in found("metric", metrics) {
        assert_in_readme(&function, &metric);
    }
}

#[test]
fn every_reason_is_in_the_readme() {
    for (function, reason) in found("reason", reasons) {
        assert_in_readme(&function, &reason);
    }
}

/// The consumer is no function, and has a template of its own.
#[test]
fn everything_that_the_consumer_reads_prints_and_refuses_is_in_its_readme_and_its_template() {
    let code = rust_files("consumer/src");
    let (readme, template) = (text("consumer/README.md"), text("consumer/template.yaml"));
    let all = |extract: fn(&str) -> Vec<String>| code.iter().flat_map(|(_, source)| extract(source)).collect();
    let found: [Vec<String>; 3] = [all(variables), all(metrics), all(reasons)];
    for names in &found {
        assert!(names.len() > 3, "{names:?}");
    }
    for name in found.iter().flatten() {
        assert!(readme.contains(&format!("`{name}`")), "{name} is not in the README");
    }
    for variable in &found[0] {
        assert!(template.contains(&format!("Name: {variable},")), "{variable} is not in the template");
    }
    for alarm in template.split("Namespace: Landfall\n").skip(1) {
        let metric = property(alarm, "MetricName");
        assert!(found[1].iter().any(|printed| printed == metric) || metric == "records_quarantined", "{metric}");
        assert!(alarm.contains("{Name: function, Value: consumer}"), "{alarm}");
    }
}

/// The table of everyday changes names files, and a file that was moved or deleted misleads its reader.
#[test]
fn every_path_of_the_architecture_exists() {
    let page = text("ARCHITECTURE.md");
    let paths: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| text.contains('/') && text.bytes().all(|byte| byte.is_ascii_graphic()))
        .filter(|text| !text.contains(['*', '<', '{', '$', ':']))
        .collect();
    assert!(!paths.is_empty(), "nothing is found in ARCHITECTURE.md, so this test tests nothing");
    for path in paths.into_iter().filter(|path| !matches!(*path, "staging/" | "staged/")) {
        assert!(root().join(path).exists(), "{path} is in ARCHITECTURE.md only");
    }
}

/// `objects::quarantine::keep` writes an object, and reads the metadata of one that exists already.
#[test]
fn whoever_may_write_to_the_quarantine_may_read_there() {
    let template = text("template.yaml");
    let statements: Vec<&str> = template.split("- Sid: ").filter(|part| part.contains("/quarantine/")).collect();
    assert!(!statements.is_empty(), "nothing is found in template.yaml, so this test tests nothing");
    for statement in statements {
        let action = statement.lines().find(|line| line.trim_start().starts_with("Action:")).unwrap();
        assert!(action.contains("s3:PutObject") && action.contains("s3:GetObject"), "{statement}");
    }
}

/// The alarms of the template: their names and their text.
fn alarms() -> Vec<(String, String)> {
    let template = text("template.yaml");
    let heads: Vec<(usize, &str)> = template.match_indices(":\n    Type: AWS::CloudWatch::Alarm\n").collect();
    assert!(heads.len() > 20, "{} alarms are found", heads.len());
    let alarm = |(at, _): (usize, &str)| {
        let name = template[..at].rsplit('\n').next().unwrap().trim();
        let body = template[at..].split("\n\n").next().unwrap();
        (name.to_owned(), body.to_owned())
    };
    heads.into_iter().map(alarm).collect()
}

/// The value of a property, in whichever of the two places an alarm can have it.
fn property<'a>(alarm: &'a str, name: &str) -> &'a str {
    let line = alarm.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("{name} is not in {alarm}"))
}

/// The dimensions of an alarm, as names and values.
fn dimensions(alarm: &str) -> Vec<(&str, &str)> {
    let pairs = alarm.lines().filter_map(|line| line.trim().strip_prefix("- {Name: ")?.strip_suffix('}'));
    pairs.map(|pair| pair.split_once(", Value: ").unwrap()).collect()
}

/// Metrics of AWS that alarms watch or the dashboard shows: namespace, name, dimension.
///
/// Source: the pages "metrics" of each service's developer guide.
const METRICS_OF_AWS: &[(&str, &str, &str)] = &[
    ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName"),
    ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "QueueName"),
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName"),
    ("AWS/SQS", "NumberOfMessagesDeleted", "QueueName"),
    ("AWS/SQS", "NumberOfMessagesReceived", "QueueName"),
    ("AWS/SQS", "NumberOfMessagesSent", "QueueName"),
    ("AWS/Lambda", "ConcurrentExecutions", "FunctionName"),
    ("AWS/Lambda", "DestinationDeliveryFailures", "FunctionName"),
    ("AWS/Lambda", "Duration", "FunctionName"),
    ("AWS/Lambda", "Errors", "FunctionName"),
    ("AWS/Lambda", "Invocations", "FunctionName"),
    ("AWS/Lambda", "OnFailureDestinationDeliveredEventCount", "EventSourceMappingUUID"),
    ("AWS/Lambda", "PolledEventCount", "EventSourceMappingUUID"),
    ("AWS/Lambda", "Throttles", "FunctionName"),
    ("AWS/ApiGateway", "4xx", "ApiId"),
    ("AWS/ApiGateway", "5xx", "ApiId"),
    ("AWS/ApiGateway", "Count", "ApiId"),
    ("AWS/ApiGateway", "Latency", "ApiId"),
    ("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", "StreamName"),
    ("AWS/Kinesis", "IncomingBytes", "StreamName"),
    ("AWS/Kinesis", "IncomingRecords", "StreamName"),
    ("AWS/Kinesis", "WriteProvisionedThroughputExceeded", "StreamName"),
    ("AWS/Firehose", "DataReadFromKinesisStream.Bytes", "DeliveryStreamName"),
    ("AWS/Firehose", "DeliveryToS3.DataFreshness", "DeliveryStreamName"),
    ("AWS/Firehose", "DeliveryToS3.Records", "DeliveryStreamName"),
    ("AWS/Logs", "IncomingBytes", "LogGroupName"),
];

/// Whether the code of a function puts the metric.
fn prints(function: &str, metric: &str) -> bool {
    code_of(function).iter().any(|(_, source)| metrics(source).iter().any(|printed| printed == metric))
}

/// An alarm whose metric nobody prints, or prints with other dimensions, never rings.
#[test]
fn every_alarm_can_ring() {
    for (name, alarm) in alarms() {
        let (namespace, metric, dimensions) =
            (property(&alarm, "Namespace"), property(&alarm, "MetricName"), dimensions(&alarm));
        if namespace == "Landfall" {
            let [("stack", "!Ref AWS::StackName"), ("function", function)] = dimensions[..] else {
                panic!("{name}: {dimensions:?}")
            };
            assert!(prints(function, metric), "{name}: {function} prints no {metric}");
        } else {
            let [(dimension, _)] = dimensions[..] else { panic!("{name}: {dimensions:?}") };
            let known = METRICS_OF_AWS.contains(&(namespace, metric, dimension));
            assert!(known, "{name}: {namespace} {metric} {dimension}");
        }
        assert!(alarm.contains("AlarmActions: !If [HasAlarmTopic"), "{name} notifies nobody");
    }
}

#[test]
fn every_alarm_has_a_runbook() {
    let page = text("docs/operations.md");
    let (_, page) = page.split_once("\n## Alarms\n").unwrap();
    let named: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    // parquet-writer is ParquetWriter.
    let pascal = |name: &str| name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>();
    let functions: Vec<String> = names("functions").iter().map(|name| pascal(name)).collect();
    let endings: Vec<&str> = named.iter().filter_map(|name| name.strip_prefix('…')).collect();
    let of_each = functions.iter().flat_map(|function| endings.iter().map(move |ending| format!("{function}{ending}")));
    let mut documented: Vec<String> = of_each.collect();
    documented.extend(named.iter().filter(|name| !name.starts_with('…')).map(|name| (*name).to_owned()));
    let mut alarms: Vec<String> = alarms().into_iter().map(|(name, _)| name).collect();
    documented.sort();
    alarms.sort();
    assert_eq!(documented, alarms);
}

/// The resources of the template: name, type and text.
fn resources() -> Vec<(String, String, String)> {
    let template = text("template.yaml");
    let (_, resources) = template.split_once("\nResources:\n").unwrap();
    let (resources, _) = resources.split_once("\nOutputs:\n").unwrap();
    let heads: Vec<(usize, &str)> = resources.match_indices(":\n    Type: AWS::").collect();
    let resource = |(position, (at, _)): (usize, &(usize, &str))| {
        let name = resources[..*at].rsplit('\n').next().unwrap().trim().to_owned();
        let end = heads.get(position + 1).map_or(resources.len(), |(next, _)| *next);
        let body = &resources[*at..end];
        (name, property(body, "Type").to_owned(), body.to_owned())
    };
    heads.iter().enumerate().map(resource).collect()
}

/// What the emulator accepts without these, and what a real account then loses or refuses.
#[test]
fn the_template_has_what_only_aws_asks_for() {
    let mut kept = Vec::new();
    for (name, kind, body) in resources() {
        let has = |text: &str| assert!(body.contains(text), "{name} does not have {text}");
        match kind.as_str() {
            // Data outlives the stack, but a first deployment that fails leaves nothing that blocks the next.
            "AWS::S3::Bucket" | "AWS::Kinesis::Stream" => kept.push((name.clone(), body.clone())),
            "AWS::SQS::Queue" if name.starts_with("Events") => kept.push((name.clone(), body.clone())),
            // Bucket and function may both publish, or notices are lost while one takes over from the other.
            "AWS::SNS::TopicPolicy" => {
                has("Sid: BucketMayPublish");
                assert!(!body.contains("BucketAnnounces"), "{name} depends on who announces");
            }
            "AWS::IAM::Role" if name == "ClicksToLakeRole" => has("s3:GetObject"),
            "AWS::Lambda::EventSourceMapping" => has("ScalingConfig:"),
            "AWS::Serverless::Function" => {
                if body.contains("Type: Schedule") {
                    has("EventInvokeConfig: {MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60}");
                }
                if body.contains("Type: SQS") {
                    has("ScalingConfig:");
                }
                if body.contains("Type: Kinesis") {
                    has("MaximumRetryAttempts: -1");
                    has("MaximumRecordAgeInSeconds: -1");
                }
            }
            _ => {}
        }
        let is_encrypted = ["S3::Bucket", "SQS::Queue", "SNS::Topic", "Kinesis::Stream", "Logs::LogGroup"];
        if is_encrypted.iter().any(|encrypted| kind == format!("AWS::{encrypted}")) {
            has("!Ref KeyArn");
        }
    }
    assert_eq!(kept.len(), 6, "two buckets, two queues, two streams");
    for (name, body) in kept {
        assert!(body.contains("DeletionPolicy: RetainExceptOnCreate"), "{name} is deleted with the stack");
        assert!(body.contains("UpdateReplacePolicy: Retain"), "{name} is deleted when it is replaced");
    }
}

/// CloudFormation publishes a version when its description changes, and Lambda does so only of a function that has changed.
#[test]
fn each_release_publishes_a_version_and_sends_the_load_to_it() {
    let bodies: BTreeMap<String, String> = resources().into_iter().map(|(name, _, body)| (name, body)).collect();
    let users: [(&str, &[&str]); 2] = [
        ("ParquetWriter", &["ParquetWriterFunctionEvents"]),
        ("Collect", &["CollectIntegration", "CollectPermission"]),
    ];
    for (part, users) in users {
        assert!(bodies[&format!("{part}Function")].contains("${Release}'"), "{part}");
        assert!(bodies[&format!("{part}Version")].contains("Description: !Ref Release #"), "{part}");
        for user in users {
            assert!(bodies[*user].contains(&format!("!Ref {part}Alias, ")), "{user}");
        }
    }
}

/// Without its reason, nobody can tell whether an exception is still needed.
#[test]
fn every_exception_of_a_scanner_has_its_reason() {
    let template = text("template.yaml");
    let of_checkov: Vec<&str> = template.lines().filter(|line| line.contains("id: CKV")).collect();
    assert!(!of_checkov.is_empty(), "nothing is found in template.yaml, so this test tests nothing");
    for line in of_checkov {
        let reason = line.split_once("comment: ").map_or("", |(_, reason)| reason.trim_end_matches(['}', '\'']));
        assert!(reason.ends_with('.'), "no sentence after `comment:` in {line}");
    }
    for line in template.lines().filter(|line| line.contains("ignore_checks")) {
        assert!(line.contains("} # "), "no comment in {line}");
    }
}

/// Alarms that the documents name, after the word "alarm".
#[test]
fn every_alarm_that_a_document_names_exists() {
    let alarms: Vec<String> = alarms().into_iter().map(|(name, _)| name).collect();
    let mut documents: Vec<String> =
        names("functions").iter().map(|name| format!("functions/{name}/README.md")).collect();
    documents.extend(["README.md", "cli/README.md", "CHANGELOG.md", "ARCHITECTURE.md"].map(str::to_owned));
    let mut named = 0;
    for document in documents {
        let page = text(&document);
        for after in page.split("alarm `").skip(1) {
            let name = after.split('`').next().unwrap();
            assert!(alarms.iter().any(|alarm| alarm == name), "{document} names the alarm {name}");
            named += 1;
        }
    }
    assert!(named > 0, "no document names an alarm, so this test tests nothing");
}

#[test]
fn the_readme_of_collect_lists_the_headers_that_are_stored() {
    let source = text("functions/collect/src/headers.rs");
    let (_, body) = source.split_once("fn is_stored(").unwrap();
    let (exact, prefixes) = body.split_once("name.starts_with").unwrap();
    let prefixes = literals(prefixes).map(|prefix| format!("{prefix}*"));
    let mut stored: Vec<String> = literals(exact).map(str::to_owned).chain(prefixes).collect();
    let readme = text("functions/collect/README.md");
    let (_, table) = readme.split_once("\n| headers | |\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let mut listed: Vec<String> = table.split('`').skip(1).step_by(2).map(str::to_lowercase).collect();
    stored.sort();
    listed.sort();
    assert_eq!(listed, stored);
}

#[test]
fn every_event_mapping_reports_partial_failures() {
    let template = text("template.yaml");
    let kinds = ["Type: SQS\n", "Type: Kinesis\n", "Type: AWS::Lambda::EventSourceMapping\n"];
    let mappings: usize = kinds.iter().map(|kind| template.matches(kind).count()).sum();
    assert!(mappings > 0);
    assert_eq!(template.matches("ReportBatchItemFailures").count(), mappings);
}

#[test]
fn every_sample_event_is_used_by_a_test_and_named_in_a_readme() {
    for event in names("events") {
        let function = names("functions").into_iter().find(|function| event.starts_with(&format!("{function}-")));
        let function = function.unwrap_or_else(|| panic!("{event} belongs to no function"));
        let tests = text(format!("tests/it/{}.rs", function.replace('-', "_")));
        assert!(tests.contains(&event), "no test uses {event}");
        let module = format!("mod {};", function.replace('-', "_"));
        assert!(text("tests/it/main.rs").contains(&module), "tests/it/main.rs does not have {module}");
        assert!(text(format!("functions/{function}/README.md")).contains(&event), "{event} is not in the README");
    }
}

#[test]
fn every_make_target_in_the_readme_exists() {
    let (readme, makefile) = (text("README.md"), text("Makefile"));
    let targets: Vec<&str> = readme
        .split("make ")
        .skip(1)
        .map(|rest| rest.split(|character: char| !character.is_ascii_lowercase()).next().unwrap())
        .filter(|target| !target.is_empty())
        .collect();
    assert!(targets.contains(&"demo") && targets.contains(&"test"), "{targets:?}");
    for line in readme.lines().filter(|line| line.contains("`make ")) {
        for target in line.split("`make ").skip(1).map(|rest| rest.split(['`', ' ']).next().unwrap()) {
            assert!(makefile.contains(&format!("\n{target}:")), "make {target} is in the README only");
        }
    }
}
