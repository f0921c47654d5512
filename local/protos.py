"""The event types as Python classes, generated from `proto/` by the official compiler."""

import hashlib
import shutil
import sys

from local.command import run_logged
from local.paths import GENERATED_PROTO, PROTO
from local.progress import step

MADE_FROM = GENERATED_PROTO / ".made-from"


def ensure() -> None:
    """Generates the classes when `proto/` has changed, and makes them importable as `landfall.events.v1`."""
    sources = sorted(PROTO.rglob("*.proto"))
    wanted = hashlib.sha256(b"".join(bytes(path) + path.read_bytes() for path in sources)).hexdigest()
    if not MADE_FROM.is_file() or MADE_FROM.read_text() != wanted:
        shutil.rmtree(GENERATED_PROTO, ignore_errors=True)
        GENERATED_PROTO.mkdir(parents=True)
        with step("Compiling proto/ for Python") as s:
            protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}"]
            run_logged([*protoc, f"--python_out={GENERATED_PROTO}", *sources], s, "protoc")
        MADE_FROM.write_text(wanted)
    sys.path.insert(0, str(GENERATED_PROTO))
