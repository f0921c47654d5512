"""The real clients of the tests: npm packages of Google Analytics, curl, and a browser."""

import hashlib
import re
import shutil
import subprocess

from local.command import run_logged
from local.paths import CLIENTS
from local.progress import Failure, step

# Under the names that packages of Linux and Google give it.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NEEDED = "Node 20.19, 22.12 or newer is needed for the tests of real clients"


def ensure() -> None:
    """Installs what the lock file names, when it is missing or the lock file has changed."""
    _check_node()
    installed = CLIENTS / "node_modules" / ".installed"
    wanted = hashlib.sha256((CLIENTS / "package-lock.json").read_bytes()).hexdigest()
    if installed.is_file() and installed.read_text() == wanted:
        return
    with step("Installing the Google Analytics clients of the tests") as s:
        run_logged(["npm", "ci", "--prefix", str(CLIENTS)], s, "install-clients")
    installed.write_text(wanted)


def browser() -> str:
    """A Chromium on the PATH."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise Failure(
            "Chromium is needed for the test of the example page, and there is none on the PATH: "
            "apt-get install chromium on Debian, or your system's package of Chromium or Chrome."
        )
    return found


def _check_node() -> None:
    """The clients are CommonJS and need a package that is not, which older versions cannot load."""
    for program in ("node", "npm", "curl"):
        if shutil.which(program) is None:
            missing = "curl is needed for the tests of real clients" if program == "curl" else NEEDED
            raise Failure(f"{missing}: there is no {program} on the PATH.")
    said = subprocess.run(["node", "--version"], check=False, capture_output=True, text=True).stdout.strip()
    numbers = re.match(r"v(\d+)\.(\d+)", said)
    version = tuple(map(int, numbers.groups())) if numbers else (0, 0)
    if version < (20, 19) or (21, 0) <= version < (22, 12):
        raise Failure(f"{NEEDED}: this is {said or 'none that tells its version'}.")
