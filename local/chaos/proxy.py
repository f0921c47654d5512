"""A proxy between the functions and the emulator. It answers with errors, loses answers, and falls silent."""

import http.client
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# Longer than the functions wait for any answer.
SILENCE_S = 15.0
OUTAGE_S = (3.0, 6.0)
BETWEEN_OUTAGES_S = (15.0, 40.0)
# These describe one connection, and the proxy has two.
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}

# What becomes of a request. The emulator carries out the last two, and the function does not learn of it.
INTERNAL_ERROR = "500"
UNAVAILABLE = "503"
LOST = "answer lost"
SILENT = "no answer"
FAULTS = (INTERNAL_ERROR, UNAVAILABLE, LOST, SILENT)

XML = "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>chaos</Message></Error>"
SNS_XML = "<ErrorResponse><Error><Type>Receiver</Type><Code>{code}</Code><Message>chaos</Message></Error></ErrorResponse>"
JSON = '{{"__type": "{code}", "message": "chaos"}}'


@dataclass(frozen=True)
class Service:
    """One of the services, and how it says that it is out of order."""

    share: float
    """Of requests that meet a fault."""
    content_type: str
    body: str
    unavailable: str


# The fewer requests a function makes to a service, the more of them fail. SQS is asked for ten messages at a time.
SERVICES = {
    "s3": Service(0.05, "application/xml", XML, "SlowDown"),
    "sqs": Service(0.01, "application/x-amz-json-1.0", JSON, "ServiceUnavailable"),
    "sns": Service(0.4, "text/xml", SNS_XML, "ServiceUnavailable"),
    "kinesis": Service(0.05, "application/x-amz-json-1.1", JSON, "ServiceUnavailableException"),
}


class Outages:
    """Times during which every request to a service fails, long enough that an SDK gives up."""

    def __init__(self, rng: random.Random) -> None:
        """The first one begins some seconds after the first request."""
        self._random = rng
        self._begins = self._ends = 0.0

    def is_one(self) -> bool:
        """Whether there is one now."""
        now = time.monotonic()
        if now >= self._ends:
            self._begins = now + self._random.uniform(*BETWEEN_OUTAGES_S)
            self._ends = self._begins + self._random.uniform(*OUTAGE_S)
        return now >= self._begins


class Proxy:
    """Serves each service on a free port of 127.0.0.1 until the process ends. Faults happen while `armed` is set."""

    def __init__(self, endpoint_url: str, seed: int) -> None:
        """`endpoint_url` is where requests go. Each service has a sequence of faults that follows from the seed."""
        self._upstream = urlsplit(endpoint_url).netloc
        self._random = {name: random.Random(f"{seed} {name}") for name in SERVICES}
        self._outages = {name: Outages(random.Random(f"{seed} outages of {name}")) for name in SERVICES}
        self._lock = threading.Lock()
        self.armed = threading.Event()
        self.requests: Counter[str] = Counter()
        self.faults: Counter[tuple[str, str]] = Counter()
        self._servers = {name: ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self, name)) for name in SERVICES}
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def variables(self) -> dict[str, str]:
        """The variables that lead an AWS SDK here."""
        return {
            f"AWS_ENDPOINT_URL_{name.upper()}": f"http://127.0.0.1:{server.server_port}"
            for name, server in self._servers.items()
        }

    def fate(self, service: str) -> str | None:
        """What happens to the next request of a service, or nothing."""
        with self._lock:
            self.requests[service] += 1
            if not self.armed.is_set():
                return None
            rng = self._random[service]
            if self._outages[service].is_one():
                fault = rng.choice((INTERNAL_ERROR, UNAVAILABLE))
            elif rng.random() < SERVICES[service].share:
                fault = rng.choice(FAULTS)
            else:
                return None
            self.faults[service, fault] += 1
            return fault

    def forward(self, request: "_Handler", body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """The emulator's answer."""
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_HEADERS}
        connection.request(request.command, request.path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response, answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, proxy: Proxy, service: str, *connection: Any) -> None:
        self._proxy = proxy
        self._service = service
        super().__init__(*connection)

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self._proxy.fate(self._service)
        if fault in (INTERNAL_ERROR, UNAVAILABLE):
            self._refuse(SERVICES[self._service], fault)
            return
        response, answer = self._proxy.forward(self, body)
        if fault is None:
            self._send(response.status, response.getheaders(), answer)
            return
        if fault == SILENT:
            time.sleep(SILENCE_S)
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def _refuse(self, service: Service, fault: str) -> None:
        code = "InternalError" if fault == INTERNAL_ERROR else service.unavailable
        self._send(int(fault), [("Content-Type", service.content_type)], service.body.format(code=code).encode())

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        is_head = self.command == "HEAD"
        for name, value in headers:
            if name.lower() not in HOP_HEADERS or (is_head and name.lower() == "content-length"):
                self.send_header(name, value)
        if not is_head:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not is_head:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the requests are counted."""

    def handle(self) -> None:
        """A function that was killed leaves its connection, and nobody is there to tell."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True
