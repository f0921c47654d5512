"""Lint, tests and benchmarks."""

import shutil

from local import clients, emulator, environment, postgres, stack
from local.command import run_shown
from local.paths import PEERS_REQUIREMENTS, PEERS_VENV, STACK_FILE
from local.progress import Failure

FORMAT = ["cargo", "fmt", "--check"]
CLIPPY = ["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]
# What a clone decides by itself. Advisories come from the network, and a new one must not fail an old commit.
DENY = ["cargo", "deny", "check", "--hide-inclusion-graph", "--allow", "duplicate", "bans", "licenses", "sources"]
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
    """Lint, then every test against a deployed stack. What was not running before is not afterwards."""
    if shutil.which("cargo-nextest") is None:
        raise Failure("cargo-nextest is missing: cargo install --locked cargo-nextest")
    clients.ensure()
    browser = clients.browser()
    if code := lint():
        return code
    keep_stack = emulator.running() is not None
    keep_postgres = keep_stack or postgres.running() is not None
    try:
        deployed = stack.up()
        return run_shown(
            TESTS,
            {
                "LANDFALL_STACK": str(STACK_FILE),
                "LANDFALL_POSTGRES": deployed.postgres_url,
                "LANDFALL_CHROMIUM": browser,
            },
        )
    finally:
        if not keep_stack:
            emulator.stop()
        if not keep_postgres:
            postgres.stop()


def bench() -> int:
    """The benches, with an interpreter for their peers and a Postgres."""
    python = environment.ensure(PEERS_VENV, PEERS_REQUIREMENTS, "Installing the Python peers")
    keep_postgres = postgres.running() is not None
    try:
        return run_shown(BENCHES, {"LANDFALL_PYTHON": str(python), "LANDFALL_POSTGRES": postgres.ensure().url})
    finally:
        if not keep_postgres:
            postgres.stop()
