"""A bucket of S3 on this machine, in a folder: what a program that writes each object once needs, and no more.

What it does not know it refuses, and so it does with what S3 refuses: a conditional write of a key that exists, and a write in pieces
that are checked as they come, which nobody here sends.
"""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

METADATA = "x-amz-meta-"


class Bucket:
    """Serves `folder` until the block ends. Objects are files; their metadata is kept in memory and beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.metadata: dict[str, dict[str, str]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        handler = type("Handler", (_Handler,), {"bucket": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Bucket":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def listed(self) -> list[str]:
        """The keys of all objects, in order."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and not path.name.endswith("~"))
        return sorted(path.relative_to(self.folder).as_posix() for path in files)

    def hashes(self) -> dict[str, str]:
        """A hash of each object by its key."""
        return {key: hashlib.sha256((self.folder / key).read_bytes()).hexdigest() for key in self.listed()}

    def put(self, key: str, body: bytes, metadata: dict[str, str]) -> bool:
        """Writes an object as a whole, unless its key exists."""
        path = self.folder / key
        with self.lock:
            if path.exists():
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            begun = path.with_name(path.name + "~")
            begun.write_bytes(body)
            self.metadata[key] = metadata
            begun.rename(path)
            return True


class _Handler(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _key(self) -> tuple[str, dict[str, list[str]]]:
        """The key behind the name of the bucket, and the query."""
        target = urlsplit(self.path)
        _, _, key = unquote(target.path).lstrip("/").partition("/")
        return key, parse_qs(target.query, keep_blank_values=True)

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode(), {"content-type": "application/xml"})

    def do_PUT(self) -> None:
        """PutObject with `If-None-Match: *`."""
        key, query = self._key()
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if query.keys() - {"x-id"} or "aws-chunked" in self.headers.get("content-encoding", ""):
            self._refuse(501, "NotImplemented")
        elif self.headers.get("if-none-match") != "*":
            self._refuse(403, "AccessDenied")
        else:
            names = [name for name in self.headers if name.lower().startswith(METADATA)]
            metadata = {name.lower(): self.headers[name] for name in names}
            if self.bucket.put(key, body, metadata):
                self._answer(200, headers={"etag": f'"{hashlib.md5(body).hexdigest()}"'})
            else:
                self._refuse(412, "PreconditionFailed")

    def do_HEAD(self) -> None:
        """HeadObject."""
        key, _ = self._key()
        path = self.bucket.folder / key
        if not path.is_file():
            self._answer(404)
            return
        headers = {"content-length": str(path.stat().st_size), "etag": '"-"', **self.bucket.metadata.get(key, {})}
        self._answer(200, headers=headers)

    def do_GET(self) -> None:
        """GetObject, and ListObjectsV2 in one page."""
        key, query = self._key()
        if key:
            path = self.bucket.folder / key
            if path.is_file():
                self._answer(200, path.read_bytes(), {"etag": '"-"'})
            else:
                self._refuse(404, "NoSuchKey")
            return
        prefix = query.get("prefix", [""])[0]
        found = [key for key in self.bucket.listed() if key.startswith(prefix)]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{(self.bucket.folder / key).stat().st_size}</Size></Contents>"
            for key in found
        )
        listing = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        self._answer(200, listing.encode(), {"content-type": "application/xml"})
