"""A RabbitMQ node of our own, on free ports of 127.0.0.1, with the programs of Debian's package `rabbitmq-server`."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from local.progress import Failure, step

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
START_S = 60
STOP_S = 15


def missing() -> str | None:
    """Why no node can be started here, or None."""
    if not (PROGRAMS / "rabbitmq-server").is_file() or shutil.which("erl") is None:
        return "RabbitMQ is not installed. On Debian and Ubuntu: apt-get install --no-install-recommends rabbitmq-server"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "a RabbitMQ node does not run as root here, and setpriv is missing: install util-linux"
    if shutil.which("openssl") is None:
        return "openssl is missing, which makes the broker's certificate: install openssl"
    return None


class Node:
    """A node with its data in a temporary folder. `with Node() as node` stops it and deletes its data."""

    def __init__(self, *, tls: bool = False) -> None:
        """Chooses the ports and writes the configuration; with `tls` also a certificate for localhost and the CA that signed it."""
        if reason := missing():
            raise Failure(reason)
        self.home = Path(tempfile.mkdtemp(prefix="landfall-rabbitmq-"))
        self.port, self.tls_port, self._dist_port, self._epmd_port = free_ports(4)
        self.ca = self.home / "ca.pem"
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "loopback_users": "none",
            "vm_memory_high_watermark.absolute": "1GB",
            "disk_free_limit.absolute": "50MB",
        }
        if tls:
            _make_certificates(self.home)
            settings |= {
                "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
                "ssl_options.cacertfile": str(self.ca),
                "ssl_options.certfile": str(self.home / "server.pem"),
                "ssl_options.keyfile": str(self.home / "server.key"),
            }
        (self.home / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (self.home / "plugins").write_text("[].\n")
        # Erlang compares the processes' shared secret, which has to be a file that only its user can read.
        cookie = self.home / ".erlang.cookie"
        cookie.write_text(os.urandom(16).hex())
        cookie.chmod(0o400)
        self._give()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2f"

    @property
    def tls_url(self) -> str:
        """The same with TLS. The certificate is of localhost."""
        return f"amqps://guest:guest@localhost:{self.tls_port}/%2f"

    def start(self) -> None:
        """Starts the node and waits until it takes connections."""
        if self._epmd is None:
            epmd = shutil.which("epmd") or str(next(Path("/usr/lib/erlang").rglob("epmd")))
            self._epmd = self._spawn([epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"])
        self._process = self._spawn([str(PROGRAMS / "rabbitmq-server")])
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"RabbitMQ did not start. See {self.home}/out and {self.home}/log")
            time.sleep(0.1)

    def kill(self) -> None:
        """Ends the node at once with SIGKILL, as a power failure would. The whole session: the server is a child of a shell."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(STOP_S)
            deadline = time.monotonic() + STOP_S
            while self._answers() and time.monotonic() < deadline:
                time.sleep(0.05)
            self._process = None

    def stop(self) -> None:
        """Ends the node and deletes its data."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(STOP_S)
            self._epmd = None
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> "Node":
        with step("Starting RabbitMQ") as s:
            try:
                self.start()
            except BaseException:
                self.stop()
                raise
            s.say(f"127.0.0.1:{self.port}")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        """Whether it speaks AMQP: a wrong protocol header is answered with the right one."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                client.sendall(b"AMQP\x00\x00\x00\x00")
                return client.recv(8).startswith(b"AMQP")
        except OSError:
            return False

    def _spawn(self, argv: list[str]) -> "subprocess.Popen[bytes]":
        log = (self.home / "out").open("ab")
        return subprocess.Popen(
            [*_as_nobody(), *argv],
            env=self._env(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _env(self) -> dict[str, str]:
        """None of the user's variables."""
        return {
            "PATH": f"/usr/bin:/bin:{PROGRAMS}",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "RABBITMQ_NODENAME": f"landfall{self.port}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "plugins"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def _give(self) -> None:
        """Makes the folder the server's user's own."""
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (self.home, *self.home.rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)


def _make_certificates(home: Path) -> None:
    """A CA of our own, and what it signed."""

    def openssl(*arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=home, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"openssl {arguments[0]} failed:\n{done.stderr}")

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new, "-days", "2", "-subj", "/CN=Landfall test CA", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (home / "names").write_text("subjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")


def _as_nobody() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
