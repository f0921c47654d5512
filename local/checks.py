"""What is checked without a deployed stack. Only the standard library, so that `check` needs no private environment."""

import shutil
import sys
from collections.abc import Mapping, Sequence

from local import breaking, environment
from local.command import run_shown
from local.paths import SCAN_REQUIREMENTS, SCAN_VENV

FORMAT = ["cargo", "fmt", "--check"]
COST = [sys.executable, "-m", "local", "cost", "--check"]
CLIPPY = ["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]
# `sam validate --lint` is the same cfn-lint, without the rules that only inform.
TEMPLATES = [
    *("template.yaml", "glue/template.yaml", "consumer/template.yaml"),
    *("warehouse/reader.yaml", "warehouse/dms/template.yaml", "warehouse/schedule/template.yaml"),
]
TEMPLATE = ["cfn-lint", "--include-checks", "I", "--", *TEMPLATES]
# After cfn-lint, because checkov passes a template that it cannot read. What it would download is the names that a
# commercial platform has for its checks.
CHECKOV = str(SCAN_VENV / "bin" / "checkov")
SCANNED = ["--file", *(template for template in TEMPLATES if template != "consumer/template.yaml")]
SCAN = [CHECKOV, "--framework", "cloudformation", *SCANNED, "--skip-download", "--quiet", "--compact"]
# What buf says of proto/ as it is, and of its changes since the last release.
PROTO_STYLE = [str(breaking.BUF), "lint", "proto"]
PROTO_CHANGES = [sys.executable, "-m", "local", "proto-check"]
# What a clone decides by itself. Advisories come from the network, and a new one must not fail an old commit.
DENY = ["cargo", "deny", "check", "--hide-inclusion-graph", "--allow", "duplicate", "bans", "licenses", "sources"]
DENY_VERSION = "0.20.2"

# They need buf, which `check` does not install.
PROTO_TESTS = [sys.executable, "-m", "unittest", "local.breaking_test"]
NEXTEST = ["cargo", "nextest", "run", "--locked", "--workspace"]
CARGO_TEST = ["cargo", "test", "--locked", "--quiet"]
# They need Node, clients and a Chromium, which `check` does not install.
BROWSER = [*CARGO_TEST, "--package", "collect", "--test", "browser", "--", "--ignored"]
GA4_CLIENTS = [*CARGO_TEST, "--package", "tests", "--test", "it", "--", "--ignored", "collect::clients::"]
# nextest does not run the examples of documentation.
EXAMPLES = [*CARGO_TEST, "--workspace", "--doc"]
# Tests that need the deployed stack or Postgres, and the one that restarts the Postgres which the others use.
# `.config/nextest.toml` has the same for nextest.
SHARING_THE_STACK = ["stack::", "replay::"]
SHARING_POSTGRES = ["load_registrar::", "load_ingester::", "dmap_fetch::", "backfill::"]
RESTARTING_POSTGRES = "load_registrar::a_restart_of_postgres"


def lint() -> int:
    """Format, the computed page, the template, the event types, clippy, licences."""
    environment.ensure(SCAN_VENV, SCAN_REQUIREMENTS, "Installing checkov", "--no-deps")
    breaking.ensure()
    checks = [FORMAT, COST, TEMPLATE, SCAN, PROTO_STYLE, PROTO_CHANGES, CLIPPY]
    if shutil.which("cargo-deny"):
        checks.append(DENY)
    code = first_failure(checks)
    if DENY not in checks:
        install = f"cargo install --locked cargo-deny@{DENY_VERSION}"
        print(f"Licences, bans and sources were not checked, because cargo-deny is missing: {install}")
    return code


def check() -> int:
    """Format, the computed page, clippy, and every test that needs nothing but the code: the inner loop."""
    return first_failure([FORMAT, COST, CLIPPY, *_tests_of_code()])


def _tests_of_code() -> list[list[str]]:
    if shutil.which("cargo-nextest"):
        return [NEXTEST, EXAMPLES]
    # Modules of other packages have these names too, so they are skipped in one package only.
    skipped = [word for name in (*SHARING_THE_STACK, *SHARING_POSTGRES) for word in ("--skip", name)]
    return [
        [*CARGO_TEST, "--workspace", "--exclude", "tests"],
        [*CARGO_TEST, "--package", "tests", "--", *skipped],
    ]


def all_tests() -> list[list[str]]:
    """With nextest in one run; without it in five, so that tests which disturb each other do not run together."""
    return [PROTO_TESTS, BROWSER, GA4_CLIENTS, *_tests_with_the_stack()]


def _tests_with_the_stack() -> list[list[str]]:
    if shutil.which("cargo-nextest"):
        return [[*NEXTEST, "--profile", "stack"], EXAMPLES]
    together = [*CARGO_TEST, "--package", "tests", "--test", "it", "--"]
    return [
        *_tests_of_code(),
        [*together, *SHARING_THE_STACK, "--test-threads=1"],
        [*together, *SHARING_POSTGRES, "--skip", RESTARTING_POSTGRES],
        [*together, RESTARTING_POSTGRES],
    ]


def first_failure(commands: Sequence[Sequence[str]], extra_env: Mapping[str, str] | None = None) -> int:
    """Runs the commands until one fails. Its exit code, or 0."""
    return next((code for command in commands if (code := run_shown(command, extra_env))), 0)
