"""Every test, against a deployed stack, and the benchmarks."""

from rich.console import Console

from local import (
    checks,
    clients,
    consumer,
    consumer_cases,
    ddl,
    emulator,
    environment,
    glue,
    postgres,
    readers,
    replicas,
    stack,
    warehouse,
)
from local.command import run_shown
from local.paths import PEERS_REQUIREMENTS, PEERS_VENV, STACK_FILE

# `python -m local consumer` is the long one.
SMALL = consumer.Plan(messages=1_000, seed=1, broker_kills=1, consumer_kills=2, down_s=2)
BENCHES = ["cargo", "bench", "--locked", "--package", "bench"]


def test() -> int:
    """Lint, then every test against a deployed stack. What was not running before is not afterwards."""
    visitors = clients.ensure()
    if code := checks.lint():
        return code
    keep_stack = emulator.running() is not None
    keep_postgres = keep_stack or postgres.running() is not None
    try:
        deployed = stack.up()
        with deployed.without_ticks(stack.INGESTER):  # or it would take the loads of tests
            code = checks.first_failure(
                checks.all_tests(),
                {"LANDFALL_STACK": str(STACK_FILE), "LANDFALL_POSTGRES": deployed.postgres_url, **visitors},
            )
            code = code or replicas.run(deployed, Console())
        # Two of those tests have just written the files. DuckDB is the reader that is installed anyway.
        if code:
            return code
        return readers.run(["duckdb"]) or ddl.run() or _others()
    finally:
        if not keep_stack:
            emulator.stop()
        if not keep_postgres:
            postgres.stop()


def _others() -> int:
    """What is tested besides the workspace. 0 if all pass."""
    return consumer_cases.run() or consumer.run(SMALL) or warehouse.test() or glue.run()


def bench() -> int:
    """The benches, with an interpreter for their peers and a Postgres."""
    python = environment.ensure(PEERS_VENV, PEERS_REQUIREMENTS, "Installing the Python peers")
    keep_postgres = postgres.running() is not None
    try:
        return run_shown(BENCHES, {"LANDFALL_PYTHON": str(python), "LANDFALL_POSTGRES": postgres.ensure().url})
    finally:
        if not keep_postgres:
            postgres.stop()
