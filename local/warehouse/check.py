"""The project on a lake of its own: every test of dbt, and that the marts do not depend on how the files came.

The lake comes in three deliveries with a run after each. What the models hold then is compared with counts in plain Python, with the
views of EVENTS_LIVE as they were before the last run, with a rerun, a full refresh, and a run over everything at once.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from local.paths import ROOT
from local.progress import Failure, step
from local.warehouse import browser, load, masking, project, recount, replica, sample

SEED = 7
EVENTS = 2_000
HITS = 3_000


def run(browser_program: str | None) -> int:
    """0 if everything is as it should be. The report is looked at if there is a browser."""
    folder = Path(tempfile.mkdtemp(prefix="landfall-warehouse-"))
    try:
        _check(folder, browser_program)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _check(folder: Path, browser_program: str | None) -> None:
    _golden_is_current()
    lake, database = folder / "lake", folder / "in_parts.duckdb"
    project.configure(database)
    live: dict[str, tuple[int, int]] = {}
    for delivery in range(sample.DELIVERIES):
        sample.write(lake, delivery, SEED, EVENTS, HITS)
        _load(database, lake)
        last = delivery == sample.DELIVERIES - 1
        if last:
            live = project.fingerprints(database, [project.LIVE])
        with step(
            f"Delivery {delivery + 1} of {sample.DELIVERIES}: {'every model and test' if last else 'the models'}"
        ):
            project.dbt("build" if last else "run")
    counted = compare(database, lake)
    versions = _replicated(database)
    masked = masking.check(database)
    found = project.fingerprints(database)
    if not found or not all(rows for name, (rows, _) in found.items()):
        raise Failure(f"Models without rows prove nothing: {[name for name, (rows, _) in found.items() if not rows]}")
    _same("EVENTS_LIVE before the run", "EVENTS after it", _named(live, project.LIVE), _named(found, "events"))
    with step("A rerun without new files"):
        project.dbt("run")
    _same("a rerun", "the first run", project.fingerprints(database), found)
    with step("A full refresh"):
        project.dbt("run", "--full-refresh")
    _same("a full refresh", "the incremental runs", project.fingerprints(database), found)
    if browser_program:
        with step("Opening the report in a browser"), project.connected(database) as connection:
            browser.check(browser_program, connection, lake, recount.cards(lake))
    at_once = folder / "at_once.duckdb"
    project.configure(at_once)
    _load(at_once, lake)
    with step("A run over everything at once"):
        project.dbt("run")
    _same("a run over everything", "the incremental runs", project.fingerprints(at_once), found)
    print(
        f"warehouse: {len(found)} models the same in every order, {counted} counts as recounted, "
        f"{versions:,} rows of a replicated table as they were after each hour, and {masked} columns masked for readers"
    )


def _golden_is_current() -> None:
    """The sample lake has event types of proto/, as the file does whose schema it takes. Newer types need not be in it."""
    schema = pq.read_schema(sample.GOLDEN_EVENTS)
    columns = [field.name for field in schema if pa.types.is_struct(field.type)]
    if columns != load.event_columns()[: len(columns)]:
        golden = sample.GOLDEN_EVENTS.relative_to(ROOT)
        raise Failure(
            f"{golden} has the event types {columns}: make demo, and put a file of .local/lake/events/ in its place."
        )


def _load(database: Path, lake: Path) -> None:
    with project.connected(database) as connection:
        load.load(connection, lake)


def _replicated(database: Path) -> int:
    """Compares the latest state and every hour of the history with the table. Returns how many rows."""
    columns = replica.COLUMNS
    changes, states = sample.replicated(SEED)
    compared = 0
    with project.connected(database) as connection:
        for number, state in enumerate(states):
            expected = {tuple(row.get(column) for column in columns) for row in state.values()}
            seen_at = changes[number][-1].at.replace(tzinfo=None)
            version = "valid_from <= ? and (valid_to is null or valid_to > ?)"
            query = f"select {', '.join(columns)} from cdc.customers_history where {version}"
            found = set(connection.execute(query, [seen_at, seen_at]).fetchall())
            if found != expected:
                raise Failure(
                    f"After hour {number} the history has {len(found - expected)} rows that the table had not"
                )
            compared += len(found)
        latest = connection.execute(f"select {', '.join(columns)} from cdc.customers_latest").fetchall()
        if set(latest) != expected or len(latest) != len(expected):
            raise Failure("The latest state is not what the table holds")
        qlik = connection.execute(
            "select sample_id, sample_name, station_count from cdc.sample_latest order by all"
        ).fetchall()
    if (
        qlik[:2] != [(1, "Park Street, renamed", 5), (3, None, -1)]
        or (7, "Alewife", 1) not in qlik
        or 2 in {row[0] for row in qlik}
    ):
        raise Failure(f"The changes of Qlik's sample are not applied: {qlik}")
    return compared


def _named(fingerprints: Mapping[str, tuple[int, int]], schema: str) -> dict[str, tuple[int, int]]:
    """Without the schema, and without what EVENTS_LIVE does not have in common with EVENTS."""
    names = ("events", "logs", "pageviews", "product_actions", "purchases", "user_agents")
    return {name: fingerprints[f"{schema}.{name}"] for name in names}


def _same(one: str, other: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    different = [
        f"{name} ({left.get(name)}, {right.get(name)})"
        for name in {**left, **right}
        if left.get(name) != right.get(name)
    ]
    if different:
        raise Failure(f"{one} and {other} differ in {', '.join(different)}")


def compare(database: Path, lake: Path) -> int:
    """Compares what the models hold with `recount`. Returns how many numbers."""
    with step("Counting the files in plain Python"):
        expected = {**recount.cards(lake), **recount.hits(lake)}
    with project.connected(database) as connection:

        def one(query: str) -> Any:
            return connection.execute(query).fetchall()[0][0]

        def pairs(query: str) -> dict[str, Any]:
            return dict(connection.execute(query).fetchall())

        hour = "strftime(period_start, '%Y-%m-%d %H:00')"
        found = {
            "order lines": one("select count(*) from marts.fct_orders"),
            "orders": one("select count(distinct order_id) from marts.fct_orders"),
            "pieces": one("select sum(quantity) from marts.fct_orders"),
            "amount": one("select sum(amount) from marts.fct_orders"),
            "order revenue": one("select sum(revenue) from marts.fct_orders"),
            "purchase revenue": one("select coalesce(sum(transaction_revenue), 0) from events.purchases"),
            "order revenue per day": pairs(
                "select order_date::varchar, sum(revenue) as r from marts.fct_orders group by 1 having r <> 0 order by 1"
            ),
            "cards": one("select count(*) from marts.dim_card"),
            "cards without an entry": one("select count(*) from marts.dim_card where is_inferred"),
            "batches": one("select count(*) from marts.fct_batch_performance"),
            "hits": one("select count(*) from events.events"),
            "rejected": one("select count(*) from events.rejected"),
            "sessions": one("select count(distinct session_id) from events.logs"),
            "page views": one("select count(*) from events.pageviews"),
            "products of actions": one("select count(*) from events.product_actions"),
            "purchases": one("select count(*) from events.purchases"),
            "new sessions per hour": pairs(
                f"select {hour}, new_sessions from stats.overview_1h where new_sessions > 0 order by 1"
            ),
            "page views per hour": pairs(
                f"select {hour}, pageviews from stats.overview_1h where pageviews > 0 order by 1"
            ),
            "purchase revenue per hour": pairs(
                f"select {hour}, transaction_revenue from stats.overview_1h where transaction_revenue <> 0 order by 1"
            ),
        }
    different = [
        f"{name}: {found.get(name)} in the models, {expected[name]} recounted"
        for name in expected
        if found.get(name) != expected[name]
    ]
    if different or found.keys() != expected.keys():
        raise Failure("The models and the recount differ:\n" + "\n".join(different)[:3000])
    return sum(len(value) if isinstance(value, dict) else 1 for value in expected.values())
