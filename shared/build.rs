//! Compiles `proto/` to a descriptor set, which includes our options and from which columns are made, and to Rust types. A
//! mistake in `proto/` fails the build here.

use std::{env, error::Error, fs, path::PathBuf, process::ExitCode};

#[path = "src/event/compiling.rs"]
mod compiling;
#[path = "src/event/registry.rs"]
#[expect(dead_code, unreachable_pub, reason = "the build only asks whether there is an error")]
mod registry;

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let lines = error.to_string();
            lines.lines().for_each(|line| println!("cargo::error={line}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a build script is configured by its environment")]
fn build() -> Result<(), Box<dyn Error>> {
    let proto = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", proto.display());
    println!("cargo::rerun-if-changed=src/event/registry.rs");
    println!("cargo::rerun-if-changed=src/event/compiling.rs");

    let compiler = compiled(&proto)?;
    let descriptors = compiler.encode_file_descriptor_set();
    registry::Registry::new(&descriptors, &fs::read_to_string(proto.join("columns.txt"))?)?;
    fs::write(out.join("descriptors.bin"), descriptors)?;
    prost_build::Config::new().out_dir(&out).compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn compiled(proto: &PathBuf) -> Result<protox::Compiler, Box<dyn Error>> {
    let explained = |error: protox::Error| compiling::explained(&error);
    let mut compiler = protox::Compiler::new([proto]).map_err(explained)?;
    compiler.include_imports(true).open_files(proto_files(proto)?).map_err(explained)?;
    Ok(compiler)
}

/// Every `.proto` file below `folder`, sorted, so that the descriptor set does not depend on the file system.
fn proto_files(folder: &PathBuf) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
