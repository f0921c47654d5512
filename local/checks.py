"""Lint, tests and benchmarks."""

import shutil

from local import emulator, protos, stack
from local.command import run_shown
from local.environment import PYTHON
from local.paths import GENERATED_PROTO, STACK_FILE

FORMAT = ["cargo", "fmt", "--check"]
CLIPPY = ["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]
DENY = ["cargo", "deny", "check"]
TEMPLATE = ["sam", "validate", "--lint"]
TESTS = ["cargo", "nextest", "run", "--workspace", "--profile", "stack"]
BENCHES = ["cargo", "bench", "--package", "bench"]


def lint() -> int:
    """The first exit code that is not 0."""
    checks = [FORMAT, TEMPLATE, CLIPPY]
    if shutil.which("cargo-deny"):
        checks.append(DENY)
    return next((code for check in checks if (code := run_shown(check))), 0)


def test() -> int:
    """Lint, then every test against a deployed stack. An emulator that was not running before is not afterwards."""
    if code := lint():
        return code
    was_running = emulator.running() is not None
    try:
        stack.up()
        return run_shown(TESTS, {"LANDFALL_STACK": str(STACK_FILE)})
    finally:
        if not was_running:
            emulator.stop()


def bench() -> int:
    """The benches, which find the peers' interpreter and message classes in their variables."""
    protos.ensure()
    return run_shown(BENCHES, {"LANDFALL_PYTHON": str(PYTHON), "PYTHONPATH": str(GENERATED_PROTO)})
