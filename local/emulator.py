"""The emulator process: MiniStack as it is shipped, on a free port of 127.0.0.1."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from local.environment import REGION
from local.paths import EMULATOR_FILE, ENV_FILE, LOGS, STACK_FILE, STATE, VENV
from local.progress import Failure, step

START_S = 30
STOP_S = 15


@dataclass(frozen=True)
class Emulator:
    """A started emulator, as kept in `.local/emulator.json`."""

    pid: int
    port: int

    @property
    def endpoint_url(self) -> str:
        """Not `localhost`: for an address, the SDKs put the bucket into the path and need no DNS."""
        return f"http://127.0.0.1:{self.port}"

    def alive(self) -> bool:
        """Whether the process is running and is the emulator, not another process that reuses its PID."""
        try:
            return b"ministack" in Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False

    def healthy(self) -> bool:
        """Whether it answers."""
        try:
            urllib.request.urlopen(f"{self.endpoint_url}/_ministack/health", timeout=5).close()
        except OSError:
            return False
        return True

    def reset(self) -> None:
        """Makes it forget everything and ends its functions."""
        urllib.request.urlopen(
            urllib.request.Request(f"{self.endpoint_url}/_ministack/reset", method="POST"), timeout=60
        ).close()


def running() -> Emulator | None:
    """The emulator that an earlier command left running, if it still works."""
    found = _recorded()
    return found if found and found.alive() and found.healthy() else None


def ensure() -> Emulator:
    """The running emulator, or a new one."""
    found = running()
    if found is None:
        stop()
        found = _start()
    os.environ["AWS_ENDPOINT_URL"] = found.endpoint_url
    return found


def stop() -> bool:
    """Ends the emulator and its functions. Whether there was one."""
    found = _recorded()
    for described in (EMULATOR_FILE, STACK_FILE, ENV_FILE):
        described.unlink(missing_ok=True)
    if found is None or not found.alive():
        return False
    with step("Stopping the emulator"):
        _end(found)
    return True


def _recorded() -> Emulator | None:
    try:
        return Emulator(**json.loads(EMULATOR_FILE.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _start() -> Emulator:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    scratch = STATE / "tmp"
    for folder in (scratch, LOGS):
        folder.mkdir(parents=True, exist_ok=True)
    # Functions inherit the emulator's variables, so it gets these and none of the user's. Lambda itself would give them
    # the log format of the template.
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
    }
    with step("Starting the emulator") as s, (LOGS / "emulator.log").open("w") as log:
        process = subprocess.Popen(
            [VENV / "bin" / "ministack"],
            env=env,
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        emulator = Emulator(pid=process.pid, port=port)
        EMULATOR_FILE.write_text(json.dumps(asdict(emulator)))
        deadline = time.monotonic() + START_S
        while not emulator.healthy():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failure("The emulator did not start. See .local/logs/emulator.log")
            time.sleep(0.1)
        s.say(emulator.endpoint_url)
    return emulator


def _end(emulator: Emulator) -> None:
    """Asks, waits, then insists: the emulator lets running functions finish, and they are of its process group."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(emulator.pid, sent)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + STOP_S
        while _group_exists(emulator.pid) and time.monotonic() < deadline:
            time.sleep(0.1)


def _group_exists(group: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(group, os.WNOHANG)  # a child that has ended is there until it is asked for
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
