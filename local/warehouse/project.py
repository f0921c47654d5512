"""dbt and DuckDB, as this project uses them. dbt runs in this process, because a process of its own would need seconds to start."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb

from local.paths import LOGS, STATE, WAREHOUSE
from local.progress import Failure

TARGET = STATE / "warehouse-target"

# What models of the project hold, and so what a rerun must not change. `loaded_at` says which run made a row.
COMPARED = ("cdc", "marts", "events", "stats")
LIVE = "events_live"


def configure(database: Path) -> None:
    """Sets what dbt reads from the environment, for this process."""
    LOGS.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        LANDFALL_WAREHOUSE=str(database),
        DBT_PROJECT_DIR=str(WAREHOUSE),
        DBT_PROFILES_DIR=str(WAREHOUSE),
        DBT_TARGET_PATH=str(TARGET),
        DBT_LOG_PATH=str(LOGS),
        DBT_USE_COLORS="0",
        DBT_SEND_ANONYMOUS_USAGE_STATS="0",
        DO_NOT_TRACK="1",
    )


def dbt(*arguments: str, quiet: bool = True) -> list[Any]:
    """Runs dbt. The results, or a failure that names what failed."""
    from dbt.cli.main import dbtRunner

    level = ["--log-level", "error" if quiet else "info"]
    done = dbtRunner().invoke([*level, *arguments])
    if done.exception is not None:
        raise Failure(f"dbt {arguments[0]} ended with: {done.exception}")
    results = list(getattr(done.result, "results", []))
    failed = [result for result in results if str(result.status) in ("error", "fail", "runtime error")]
    if failed or not done.success:
        named = [(getattr(result, "node", None), result) for result in failed]
        lines = "\n".join(
            f"  {node.name if node else result.unique_id}: {' '.join(str(result.message).split())[:300]}"
            for node, result in named
        )
        raise Failure(f"dbt {arguments[0]} failed:\n{lines}\nAll of it: {LOGS / 'dbt.log'}")
    return results


def printed(*arguments: str) -> str:
    """Runs dbt, and returns what macros print."""
    with redirect_stdout(StringIO()) as output:
        dbt(*arguments)
    return output.getvalue()


@contextmanager
def silent() -> Iterator[None]:
    """Without what dbt prints of its errors, for whoever expects them."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def connected(database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection. dbt holds one of this process, beside which there can only be others that may write, too."""
    connection = duckdb.connect(str(database))
    try:
        connection.execute("set timezone = 'UTC'")
        yield connection
    finally:
        connection.close()


def fingerprints(database: Path, schemas: Sequence[str] = COMPARED) -> dict[str, tuple[int, int]]:
    """Rows of every table and view, and a hash of them that does not depend on their order."""
    with connected(database) as connection:
        found = connection.execute(
            "select table_schema, table_name from information_schema.tables where list_contains(?, table_schema) order by all",
            [list(schemas)],
        ).fetchall()
        return {
            f"{schema}.{name}": connection.execute(
                f"select count(*), coalesce(sum(hash(t)::hugeint), 0) from (select * exclude (loaded_at) from {schema}.{name}) as t"
                if name != "card_balance"
                else f"select count(*), coalesce(sum(hash(t)::hugeint), 0) from {schema}.{name} as t"
            ).fetchall()[0]
            for schema, name in found
        }
