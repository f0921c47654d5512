"""Builds what the local stack runs: every function and every command, unoptimised, in one cargo invocation.

`sam build` compiles one function after the other with link-time optimisation, which takes many times as long and changes
nothing that can be seen here. This does the rest of what `sam build` does: it copies the template with each `CodeUri`
pointing to a folder that holds the function's binary. `make package` builds what AWS runs.
"""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_dump, yaml_parse

from local.command import run_logged
from local.paths import BUILD, FUNCTIONS, PROGRAMS, ROOT, TEMPLATE
from local.progress import Failure, step

COMMANDS = ("landfall", "pump")  # those of people; the demo needs the second one only
TEMPLATE_FILE = BUILD / "template.yaml"


def functions() -> list[str]:
    """The names of all functions, which are also the names of their packages and binaries."""
    return sorted(folder.name for folder in FUNCTIONS.iterdir() if (folder / "Cargo.toml").is_file())


def binary(name: str) -> Path:
    """The compiled binary of a function or command."""
    return target() / "debug" / name


@cache
def metadata() -> dict[str, Any]:
    """What cargo knows of the workspace and all its dependencies."""
    asked = ["cargo", "metadata", "--format-version", "1", "--locked"]
    done = subprocess.run(asked, check=False, capture_output=True, cwd=ROOT, text=True)
    if done.returncode != 0:
        raise Failure(f"cargo metadata failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout)


def target() -> Path:
    """Cargo's target folder, which `CARGO_TARGET_DIR` or the user's configuration may have moved."""
    return Path(metadata()["target_directory"])


def compile(*commands: str) -> None:
    """Compiles the functions and these commands, as far as they have changed, and links the commands into `.local/bin`."""
    packages = [word for name in (*functions(), *commands) for word in ("--package", name)]
    with step(" and ".join(["Compiling the functions", *commands])) as s:
        run_logged(["cargo", "build", "--locked", "--bins", *packages], s, "compile")
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    for name in commands:
        link = PROGRAMS / name
        link.unlink(missing_ok=True)
        link.symlink_to(binary(name))


def with_linked(*commands: str) -> list[str]:
    """These commands, and those that `.local/bin` has, which would otherwise stay as they were built before."""
    return [name for name in COMMANDS if name in commands or (PROGRAMS / name).is_symlink()]


def pack() -> None:
    """Makes the folder that `sam deploy` deploys from: the template, and a folder with `bootstrap` for each function."""
    with step("Packing the functions"):
        template = yaml_parse(TEMPLATE.read_text())
        for name, resource in template["Resources"].items():
            if resource.get("Metadata", {}).get("BuildMethod") == "rust-cargolambda":
                _copy_stripped(binary(resource["Metadata"]["BuildProperties"]["Binary"]), BUILD / name / "bootstrap")
                resource["Properties"]["CodeUri"] = name
        TEMPLATE_FILE.write_text(yaml_dump(template))


def _copy_stripped(source: Path, destination: Path) -> None:
    """Debug information is most of an unoptimised binary, and every deployment would compress and upload it."""
    if destination.is_file() and destination.stat().st_mtime >= source.stat().st_mtime:
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    if shutil.which("strip") is None:
        shutil.copy(source, destination)
        return
    done = subprocess.run(
        ["strip", "--strip-all", "-o", destination, source], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise Failure(f"{source.name} could not be stripped: {done.stderr.strip()}")
