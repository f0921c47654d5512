"""The private Python environment, and environment variables that cannot reach a real AWS account."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from local.command import run_logged
from local.paths import BUF_CACHE, REQUIREMENTS, ROOT, UV_REQUIREMENTS, UV_VENV, VENV
from local.progress import Failure, step

REGION = "us-east-1"
FAKE_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


def isolate() -> None:
    """Replaces every AWS setting of the user by a fake one, for this process and its children."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(FAKE_ACCOUNT, SAM_CLI_TELEMETRY="0", BUF_CACHE_DIR=str(BUF_CACHE))
    os.environ["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def entered() -> bool:
    """Whether this process runs in the private environment."""
    return Path(sys.prefix) == VENV


def enter(arguments: list[str]) -> None:
    """Starts this command again in the private environment. Its requirements are complete, so nothing is resolved."""
    title = "Installing the pinned tools: SAM CLI, cargo-lambda, MiniStack, Postgres, DuckDB …"
    python = ensure(VENV, REQUIREMENTS, title, "--no-deps")
    os.execv(python, [str(python), "-m", "local", *arguments])


def ensure(venv: Path, requirements: Path, title: str, *flags: str) -> Path:
    """The Python of an environment, which is created again when it is missing or has other requirements."""
    python, installed = venv / "bin" / "python", venv / ".installed"
    version = ".".join(map(str, sys.version_info[:2]))
    wanted = f"{version} {hashlib.sha256(requirements.read_bytes()).hexdigest()}"
    if not installed.is_file() or installed.read_text() != wanted:
        _create(venv)
        with step(title) as s:
            run_logged([*_installer(python), *flags, "-r", str(requirements)], s, f"install-{venv.name}")
        installed.write_text(wanted)
    return python


def install(*requirements: str) -> None:
    """Adds packages to this environment, without their dependencies."""
    with step(f"Installing {', '.join(requirements)}") as s:
        run_logged([*_installer(Path(sys.executable)), "--no-deps", *requirements], s, "install")


def _installer(python: Path) -> list[str]:
    # uv reads its own configuration only, so it is given the mirror that pip is configured with.
    pip = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    mirror = subprocess.run(pip, check=False, capture_output=True)
    index = ["--default-index", mirror.stdout.decode().strip()] if mirror.returncode == 0 else []
    return [_uv(), "pip", "install", *index, "--python", str(python)]


def _create(venv: Path) -> None:
    uv = _uv()
    with step(f"Creating a private Python environment ({venv.relative_to(ROOT)})") as s:
        shutil.rmtree(venv, ignore_errors=True)
        run_logged([uv, "venv", "--python", sys.executable, str(venv)], s, f"create-{venv.name}")


def _uv() -> str:
    """uv of the machine, or else in `.local/`. pip takes several times as long to install everything."""
    if found := shutil.which("uv"):
        return found
    program = UV_VENV / "bin" / "uv"
    if not program.is_file():
        if importlib.util.find_spec("ensurepip") is None:
            raise Failure("This Python has no ensurepip. On Debian and Ubuntu: apt-get install python3-venv")
        python = UV_VENV / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off", "--no-compile"]
        with step("Installing uv, which installs the rest") as s:
            run_logged([sys.executable, "-m", "venv", str(UV_VENV)], s, "create-uv")
            run_logged([*pip, "--require-hashes", "-r", str(UV_REQUIREMENTS)], s, "install-uv")
    return str(program)
