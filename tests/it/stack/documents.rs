//! The commands of the documents, run as they are printed, in a shell that sourced `.local/env`.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    events::root,
    stack::{Deployed, EVENTS},
};

/// Blocks that are not run, by something they contain, with the reason.
const NOT_RUN: &[(&str, &str)] = &[
    ("make demo", "runs this test, or takes as long as all tests together"),
    ("make up", "the stack is up already"),
    ("make lake", "shows what the block before it has sent, which lands when these commands are done"),
    ("sam build", "needs AWS credentials"),
    ("cargo lambda watch", "does not end, and compiles each function by itself"),
    ("cargo bench", "takes twenty minutes"),
    ("cargo fuzz", "needs cargo-fuzz, and does not end by itself"),
    ("LANDFALL_RECORD=1", "overwrites what the tests compare with"),
    ("aws cloudformation deploy", "the emulator has neither Glue nor ECS"),
    (".local/warehouse", "installs dbt, and reads what make warehouse has made"),
    ("landfall backfill", "reads a database that the stack does not have; its tests make one"),
    ("$bucket/manifests", "lists the files for a Redshift, with the bucket that its reader has named"),
];

/// Commands that do not work in a test, left out of the block that contains them.
const LEFT_OUT: &[(&str, &str)] =
    &[("cargo install", "the command is compiled already"), ("cargo run", "the command is compiled already")];

/// A fenced block of commands.
struct Block {
    document: String,
    commands: String,
}

fn documents() -> Vec<PathBuf> {
    let mut documents = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                folders.push(path);
            } else if name.ends_with(".md") {
                documents.push(path);
            }
        }
    }
    documents.sort();
    documents
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let document = path.strip_prefix(root()).unwrap().display().to_string();
        for rest in text.split("```sh\n").skip(1) {
            let commands = rest.split("```").next().unwrap().to_owned();
            blocks.push(Block { document: document.clone(), commands });
        }
    }
    blocks
}

fn run(block: &Block) -> Result<(), String> {
    let left_out = |line: &str| LEFT_OUT.iter().any(|(start, _)| line.starts_with(start));
    let commands: Vec<&str> = block.commands.lines().filter(|line| !left_out(line)).collect();
    let commands = commands.join("\n");
    let script = format!("set -euo pipefail\nsource .local/env\n{commands}");
    let ran = Command::new("bash").arg("-c").arg(&script).current_dir(root()).output().unwrap();
    if ran.status.success() {
        return Ok(());
    }
    let [printed, errors] = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text));
    Err(format!("{}: {commands}\n{printed}{errors}", block.document))
}

/// Several functions have variables of the same names.
#[test]
fn the_shell_of_the_documents_has_the_queue_of_the_events() {
    let deployed = crate::stack::Stack::deployed();
    let names = [("QUEUE_URL", "EventsQueueUrl"), ("DEAD_LETTER_QUEUE_URL", "EventsDeadLetterQueueUrl")];
    for (variable, output) in names {
        let script = format!("source .local/env; printf %s \"${variable}\"");
        let ran = Command::new("bash").arg("-c").arg(&script).current_dir(root()).output().unwrap();
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), deployed.output(output), "{variable}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_works_as_printed() {
    let deployed = Deployed::new().await;
    let blocks = blocks();
    let has_curl = Command::new("curl").arg("--version").output().is_ok();
    if !has_curl {
        eprintln!("curl is not installed, so the commands with curl are not run");
    }
    let runnable = blocks
        .iter()
        .filter(|block| !NOT_RUN.iter().any(|(contained, _)| block.commands.contains(contained)))
        .filter(|block| has_curl || !block.commands.contains("curl "));
    // The commands send to queues, and the emulator loses messages that arrive while its poller receives.
    deployed.set_mapping_enabled(EVENTS, false);
    let results: Vec<Result<(), String>> = runnable.map(run).collect();
    deployed.set_mapping_enabled(EVENTS, true);

    let failed: Vec<String> = results.iter().filter_map(|result| result.clone().err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(!results.is_empty(), "no commands were found, so this test tests nothing");
}
