"""The demo of load-ingester: what was registered becomes files under springboard/, counted by DuckDB, and is archived."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from local import lake, loads, objects, queues
from local.lake import LakeFile
from local.loads import Load
from local.objects import Incoming
from local.progress import Failure, Step, step
from local.stack import INGESTER, Stack

TICKS = 20
FINISHED = (objects.ARCHIVED, objects.ERRORED)


def run(stack: Stack, incoming: Sequence[Incoming], console: Console) -> list[str]:
    """Runs it. Returns what is wrong."""
    with step("Ingesting and archiving the loads") as s:
        ingest(stack, s)
    with step("Fetching the lake to .local/lake"):
        fetched = lake.fetch(stack)
    with step("Reading the loads"):
        tables = stack.ask("tables_list")["tables"]
        registered = list(loads.every(stack))
    rows = {table["prefix"]: _rows(fetched, table["prefix"]) for table in tables}
    misfits = Counter(
        record["attributes"]["table"] for record in lake.quarantined(fetched) if record["function"] == "load-ingester"
    )
    console.print(_table(tables, registered, rows, misfits))

    dead = queues.depth(stack, queues.LOADS.dead_letters).all
    wrong = [
        *_other_ends(incoming, registered),
        *_other_rows(incoming, tables, rows, misfits),
        *_not_moved(stack, incoming, fetched),
        *([f"{dead:,} messages about loads are in the dead-letter queue."] if dead else []),
    ]
    for sentence in wrong:
        console.print(sentence, style="red", highlight=False, soft_wrap=True)
    if not wrong:
        ends = Counter(load["status"] for load in registered)
        console.print(
            f"{len(registered):,} loads = {ends[objects.ARCHIVED]:,} archived + {ends[objects.ERRORED]:,} errored + "
            f"{ends[objects.WAITING]:,} waiting for a snapshot; {sum(rows.values()):,} rows in springboard/ and "
            f"{misfits.total():,} in the quarantine, each row once.",
            style="green",
            highlight=False,
            soft_wrap=True,
        )
    return wrong


def ingest(stack: Stack, step: Step) -> None:
    """Lets time pass until every load has ended. The function is paused while it queues, since the emulator loses messages."""
    for _ in range(TICKS):
        with queues.paused(stack, queues.LOADS):
            stack.tick(INGESTER, datetime.now(timezone.utc))
            queued = queues.depth(stack, queues.LOADS.queue).all
        if not queued:
            return
        queues.wait_until_empty(stack, queues.LOADS, queued, step)
    raise Failure(f"After {TICKS} ticks there are still loads to take further.")


def _rows(fetched: Sequence[LakeFile], prefix: str) -> int:
    """The rows of a table in springboard/, with those of its changes."""
    folders = tuple(f"springboard/{folder}" for folder in (prefix, f"{prefix.removesuffix('/')}__ct/"))
    files = [str(file.path) for file in fetched if file.key.startswith(folders)]
    if not files:
        return 0
    ((rows,),) = duckdb.read_parquet(files, union_by_name=True).aggregate("count(*)").fetchall()
    return rows


def _table(
    tables: Sequence[dict[str, Any]], registered: Sequence[Load], rows: dict[str, int], misfits: Counter[str]
) -> Table:
    shown = Table(title="Loads, ingested", caption="waiting: for a snapshot; misfits: rows in the quarantine")
    shown.add_column("table", no_wrap=True)
    statuses = (objects.ARCHIVED, objects.ERRORED, objects.WAITING)
    for heading in ("archived", "errored", "waiting", "rows", "misfits"):
        shown.add_column(heading, justify="right")
    shown.add_column("reasons")
    for table in tables:
        name = table["name"]
        of_table = [load for load in registered if load["table"] == name]
        number = Counter(load["status"] for load in of_table)
        reasons = sorted({load["status_reason"] for load in of_table} - {None})
        numbers = (*(number[status] for status in statuses), rows[table["prefix"]], misfits[name])
        shown.add_row(name, *(f"{one:,}" for one in numbers), "\n".join(reasons))
    return shown


def _end(load: Load) -> str:
    return load["status"] + (f": {load['status_reason']}" if load["status_reason"] else "")


def _other_ends(incoming: Sequence[Incoming], registered: Sequence[Load]) -> Iterator[str]:
    ended = {load["s3_key"]: _end(load) for load in registered}
    other = [one for one in incoming if one.is_load and ended.get(one.key) != one.ends]
    if other:
        first = other[0]
        yield f"{len(other):,} loads did not end as they should, such as {first.key}: {ended.get(first.key)}, not {first.ends}."


def _other_rows(
    incoming: Sequence[Incoming], tables: Sequence[dict[str, Any]], rows: dict[str, int], misfits: Counter[str]
) -> Iterator[str]:
    expected: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in incoming:
        if one.ends == objects.ARCHIVED:
            expected[one.prefix][0] += one.rows
            expected[one.prefix][1] += one.misfits
    for table in tables:
        (fit, unfit), prefix = expected[table["prefix"]], table["prefix"]
        if (rows[prefix], misfits[table["name"]]) != (fit, unfit):
            yield (
                f"{table['name']} should have {fit:,} rows and {unfit:,} in the quarantine, "
                f"but has {rows[prefix]:,} and {misfits[table['name']]:,}."
            )


def _not_moved(stack: Stack, incoming: Sequence[Incoming], fetched: Sequence[LakeFile]) -> Iterator[str]:
    """Objects of finished loads that are still where they were, or nowhere."""
    pages = stack.client("s3").get_paginator("list_objects_v2").paginate(Bucket=stack.outputs["IncomingBucketName"])
    left = {thing["Key"] for page in pages for thing in page.get("Contents", [])}
    kept = Counter(file.etag for file in fetched if file.key.startswith(("archive/", "error/")))
    finished = [one for one in incoming if one.is_load and one.ends.startswith(FINISHED)]
    if staying := [one.key for one in finished if one.key in left]:
        yield f"{len(staying):,} objects are still in the incoming bucket, such as {min(staying)}."
    if lost := Counter(_etag(one) for one in finished) - kept:
        yield f"{lost.total():,} objects of {len(finished):,} are neither under archive/ nor under error/."


def _etag(one: Incoming) -> str:
    return hashlib.md5(one.body, usedforsecurity=False).hexdigest()
