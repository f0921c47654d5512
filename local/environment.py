"""The private Python environment, and process variables that cannot reach a real AWS account."""

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from local.command import run_logged
from local.paths import REQUIREMENTS, STATE, VENV
from local.progress import Failure, step

REGION = "us-east-1"
PYTHON = VENV / "bin" / "python"
INSTALLED = VENV / ".installed"


def isolate() -> None:
    """Removes every AWS setting of the user and puts fake ones, for this process and all that it starts."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION=REGION,
        AWS_REGION=REGION,
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        SAM_CLI_TELEMETRY="0",
        NO_PROXY="127.0.0.1",
        no_proxy="127.0.0.1",
        PATH=f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    )


def entered() -> bool:
    """Whether this process runs in the private environment."""
    return Path(sys.prefix) == VENV


def enter(arguments: list[str]) -> None:
    """Starts this command again in the private environment, which is made when it is missing or out of date."""
    wanted = _fingerprint()
    if not INSTALLED.is_file() or INSTALLED.read_text() != wanted:
        _create()
        INSTALLED.write_text(wanted)
    os.execv(PYTHON, [str(PYTHON), "-m", "local", *arguments])


def install(*requirements: str) -> None:
    """Adds packages to the environment, without their dependencies."""
    with step(f"Installing {', '.join(requirements)}") as s:
        run_logged([*_installer(), "--no-deps", *requirements], s, "install")


def _fingerprint() -> str:
    python = ".".join(map(str, sys.version_info[:2]))
    return f"{python} {hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()}"


def _installer() -> list[str]:
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", str(PYTHON)]
    return [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]


def _create() -> None:
    uv = shutil.which("uv")
    if uv is None and importlib.util.find_spec("ensurepip") is None:
        raise Failure("This Python has no ensurepip. On Debian and Ubuntu: apt-get install python3-venv")
    STATE.mkdir(exist_ok=True)
    with step("Creating the private Python environment (.local/venv)") as s:
        shutil.rmtree(VENV, ignore_errors=True)
        make = [uv, "venv", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
        run_logged([*make, str(VENV)], s, "venv")
    with step("Installing the pinned tools: SAM CLI, cargo-lambda, zig, MiniStack, DuckDB …") as s:
        run_logged([*_installer(), "--no-deps", "-r", str(REQUIREMENTS)], s, "install")
