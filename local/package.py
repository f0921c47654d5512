"""Builds what AWS runs: a zip of every function for each architecture, checksums, and a software bill of materials."""

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

from local import build, environment
from local.command import run_logged
from local.paths import PACKAGE_REQUIREMENTS, PACKAGE_VENV, ROOT
from local.progress import Failure, step

# What Lambda calls an architecture, and the Rust target of its Amazon Linux 2023.
ARCHITECTURES = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
GLIBC = "2.34"  # of Amazon Linux 2023
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same binary gives the same zip


def run() -> int:
    """Packages every function for every architecture whose Rust target is installed."""
    python = environment.ensure(
        PACKAGE_VENV, PACKAGE_REQUIREMENTS, "Installing cargo-lambda, zig and the CycloneDX library", "--no-deps"
    )
    path = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    folder = build.target() / "package"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    packed = []
    for architecture, rust_target in ARCHITECTURES.items():
        if not _is_installed(rust_target):
            print(f"{architecture} is skipped: rustup target add {rust_target}")
            continue
        packages = [word for name in build.functions() for word in ("--package", name)]
        with step(f"Compiling every function for {architecture}") as s:
            target = f"{rust_target}.{GLIBC}"
            compile_ = ["cargo", "lambda", "build", "--release", "--locked", "--target", target, *packages]
            run_logged(compile_, s, f"package-{architecture}", path)
        for name in build.functions():
            packed.append(_zip(build.target() / "lambda" / name / "bootstrap", folder / f"{name}-{architecture}.zip"))
    if not packed:
        raise Failure(f"No Rust target of Lambda is installed: rustup target add {ARCHITECTURES['x86_64']}")
    with step("Writing the bill of materials"):
        bill = folder / "landfall.cdx.json"
        describe = [python, "-m", "local.sbom", bill]
        done = subprocess.run(describe, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"The bill of materials could not be written:\n{done.stderr}")
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in [*packed, bill])
    (folder / "SHA256SUMS").write_text(sums)
    for file in sorted(folder.iterdir()):
        print(f"{file.stat().st_size:>12,}  {_shown(file)}")
    return 0


def _is_installed(rust_target: str) -> bool:
    found = subprocess.run(
        ["rustc", "--print", "target-libdir", "--target", rust_target], check=False, capture_output=True, text=True
    )
    return found.returncode == 0 and any(Path(found.stdout.strip()).glob("libstd-*"))


def _zip(binary: Path, destination: Path) -> Path:
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("bootstrap", ZIP_TIME)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, binary.read_bytes())
    return destination


def _shown(file: Path) -> str:
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
