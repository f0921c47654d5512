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
    ("sam build", "needs AWS credentials"),
    ("cargo lambda watch", "does not end, and compiles each function by itself"),
    ("cargo bench", "takes twenty minutes"),
    ("cargo fuzz", "needs cargo-fuzz, and does not end by itself"),
    ("LANDFALL_RECORD=1", "overwrites what the tests compare with"),
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

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_works_as_printed() {
    let deployed = Deployed::new().await;
    let mut run = 0;
    // The commands send to queues, which the emulator cannot take while it delivers from them.
    deployed.set_mapping_enabled(EVENTS, false);
    for Block { document, commands } in blocks() {
        if NOT_RUN.iter().any(|(contained, _)| commands.contains(contained)) {
            continue;
        }
        let commands: Vec<&str> =
            commands.lines().filter(|line| !LEFT_OUT.iter().any(|(start, _)| line.starts_with(start))).collect();
        let script = format!("set -euo pipefail\nsource .local/env\n{}", commands.join("\n"));
        let ran = Command::new("bash").arg("-c").arg(&script).current_dir(root()).output().unwrap();
        assert!(
            ran.status.success(),
            "{document}: {}\n{}{}",
            commands.join("\n"),
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
        run += 1;
    }
    deployed.set_mapping_enabled(EVENTS, true);
    assert!(run >= 5, "only {run} blocks of commands were found");
}
