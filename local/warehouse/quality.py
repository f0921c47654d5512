"""The rules of data quality, on orders with known faults: dbt has to find those that Python counts, and to stop where it should."""

import copy
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from local.paths import WAREHOUSE
from local.progress import Failure, step
from local.warehouse import load, project, sample

SEED = 11
ORDERS = 250
FAULTY = 900
SKUS = 30
STATUSES = [f"ORDER_STATUS_{status}" for status in sample.STATUSES]
SELECTED = ["--select", "+fct_orders", "+dim_card", "--exclude-resource-type", "unit_test", "--indirect-selection", "cautious"]

Order = dict[str, Any]
Rules = dict[str, Any]

# The rules about rows of orders, and the values that break them: `all_orders` are those of all deliveries.
ROW_RULES: list[tuple[Rules, Callable[[Order, list[Order]], bool]]] = [
    ({"rule": "not_null", "column": "order_id"}, lambda order, _: order["order_id"] is None),
    ({"rule": "range", "column": "quantity", "min": 1, "max": 100}, lambda order, _: not 1 <= order["quantity"] <= 100),
    (
        {"rule": "range", "column": "order_ts", "min": "2026-01-01 00:00:00"},
        lambda order, _: order["order_ts"] < datetime(2026, 1, 1, tzinfo=UTC),
    ),
    (
        {"rule": "accepted", "column": "status", "values": STATUSES},
        lambda order, _: order["status"] is not None and order["status"] not in STATUSES,
    ),
    (
        {"rule": "type", "column": "customer_id", "type": "bigint"},
        lambda order, _: not order["customer_id"].isdigit(),
    ),
    (
        {"rule": "regex", "column": "sku", "pattern": "^SKU-[0-9]{4}$"},
        lambda order, _: not (order["sku"].startswith("SKU-") and len(order["sku"]) == 8 and order["sku"][4:].isdigit()),
    ),
    (
        {"rule": "unique", "column": "customer_id"},
        lambda order, all_orders: sum(order["customer_id"] == other["customer_id"] for other in all_orders) > 1,
    ),
    (
        {"rule": "foreign_key", "column": "sku", "to": "stg_cards", "field": "sku"},
        lambda order, _: order["sku"] not in {f"SKU-{number:04d}" for number in range(SKUS)},
    ),
]
DRIFT = {"rule": "row_count_drift", "runs": 2, "max_drift": 0.5}
FRESHNESS = {"rule": "freshness", "column": "recorded_at", "max_hours": 24}

# Rules of orders that are wrong, and what the error has to say.
MISTAKES: list[tuple[str, list[Rules], list[str]]] = [
    ("parse", [{"rule": "not_empty", "column": "sku"}], ["not_empty", "stg_orders", "not_null, type, range"]),
    ("parse", [{"rule": "range", "column": "quantity", "min": 5, "max": 1}], ["stg_orders", "min is more than max"]),
    ("parse", [{"rule": "range", "column": "quantity"}], ["neither min nor max"]),
    ("parse", [{"rule": "regex", "column": "sku", "patern": "^S"}], ["it has no pattern"]),
    ("parse", [{"rule": "accepted", "column": "sku", "values": ["a"], "value": 1}], ["has no value", "values"]),
    ("build", [{"rule": "not_null", "column": "skuu"}], ["stg_orders", "no column skuu", "customer_id"]),
    ("parse", [{"rule": "not_null", "column": "sku"}] * 2, ["stg_orders", "it is there twice"]),
]


def run() -> int:
    """Checks them. 0 if everything is as it should be."""
    folder = Path(tempfile.mkdtemp(prefix="landfall-quality-"))
    try:
        with step("Data quality: orders with known faults") as s:
            found = _check(folder, s.say)
            s.say("")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"data quality: {found:,} faults found as counted, none in clean orders; a threshold stops the run")
    return 0


def _check(folder: Path, say: Callable[[str], None]) -> int:
    lake, database = folder / "lake", folder / "quality.duckdb"
    project.configure(database)
    rng = random.Random(SEED)

    say("a clean delivery")
    clean = [good_order(number) for number in range(ORDERS)]
    write(lake, clean, "clean", catalog=True)
    _build(database, lake, _warn())
    _expect("the quarantine of clean orders", _quarantine(database), Counter())
    _expect("the results of clean orders", _statuses(database, 1), {"pass": len(ROW_RULES) + 2})

    say("a delivery with faults")
    faulty = [good_order(ORDERS + number) for number in range(FAULTY)]
    for order in faulty:
        _spoil(order, rng, clean)
    write(lake, faulty, "faulty")
    _build(database, lake, _warn())
    expected = _counted(faulty, clean + faulty)
    if min(_by_rule(expected).values()) < 5 or len(_by_rule(expected)) != len(ROW_RULES):
        raise Failure(f"A rule that nothing breaks is not tested: {_by_rule(expected)}")
    _expect("the quarantine", _quarantine(database), expected)
    _expect("what the results say was checked and failed", _results(database, 2), _per_rule(expected, FAULTY))
    _expect("the results of two runs", _runs(database), {1: len(ROW_RULES) + 2, 2: len(ROW_RULES) + 2})

    say("a run without new files")
    _build(database, lake, _warn())
    _expect("the quarantine after another run", _quarantine(database), expected)
    _expect("what a run without new rows checked", _results(database, 3), _per_rule(Counter(), 0))
    _expect("the drift of no rows after many", _of_table(database, 3), {"row_count_drift": "warn", "freshness": "pass"})

    say("a threshold that is exceeded")
    more = [good_order(ORDERS + FAULTY + number) for number in range(ORDERS)]
    for order in more[:20]:
        order["quantity"] = -1
    write(lake, more, "more")
    stopping = _warn()
    _of(stopping, "range")["severity"] = "error"
    for attempt in (4, 5):  # and again, since nothing has changed
        _of(stopping, "range")["max_failed"] = 19
        said = _fails("build", database, lake, stopping)
        if "meets_its_rules_stg_orders" not in said:
            raise Failure(f"The run did not stop at the rules of orders, but at: {said}")
        _expect("orders behind a broken rule", _orders(database), ORDERS + FAULTY)
        _expect("the results of a stopped run", _results(database, attempt)["range", "quantity"], (ORDERS, 20))
    expected += _counted(more, clean + faulty + more)
    _expect("the quarantine after two stopped runs", _quarantine(database), expected)
    _of(stopping, "range")["max_failed"] = 20
    _of(stopping, "freshness")["max_hours"] = 0
    _build(database, lake, stopping)
    _expect("orders when the rule allows them", _orders(database), ORDERS + FAULTY + ORDERS)
    _expect("the freshness of what is older than allowed", _of_table(database, 6)["freshness"], "warn")

    say("warehouse/run.py")
    _stands_alone(folder, database)

    for number, (command, rules, words) in enumerate(MISTAKES, 1):
        say(f"mistake {number} of {len(MISTAKES)} in the rules")
        wrong = _warn()
        wrong["stg_orders"]["rules"] = [{"severity": "warn", **rule} for rule in rules]
        said = _fails(command, database, lake, wrong)
        if missing := [word for word in words if word not in said]:
            raise Failure(f"The error of {rules} does not say {missing}: {said}")
    return expected.total()


def _stands_alone(folder: Path, database: Path) -> None:
    """The command for those without a scheduler: dbt, its project and a database are all that it needs."""
    temporary = folder / "tmp"
    temporary.mkdir()
    # This process keeps its own open, which no other could open then.
    copied = folder / "alone.duckdb"
    _ask(database, "checkpoint")
    shutil.copy(database, copied)
    alone = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(temporary),
        "LANDFALL_WAREHOUSE": str(copied),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
    }

    def run(*steps: str, **more: str) -> tuple[int, str]:
        command = [sys.executable, str(WAREHOUSE / "run.py"), *steps]
        done = subprocess.run(command, env={**alone, **more}, check=False, capture_output=True, text=True, cwd=folder)
        return done.returncode, done.stdout + done.stderr

    code, said = run("freshness")
    _expect("a step that passes", (code, "All of freshness passed." in said), (0, True))
    code, said = run("freshness", "run", LANDFALL_WAREHOUSE=str(folder / "empty.duckdb"))
    _expect("a step that fails", (code, "The step freshness failed" in said, "== run" in said), (1, True, False))
    code, said = run("refresh")
    _expect("a step that does not exist", (code, "there is no step refresh, but freshness, run, test, docs" in said), (2, True))
    with (temporary / f"landfall-warehouse-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = run("freshness")
    _expect("a run beside another", (code, "Another run has not ended yet" in said), (75, True))


def _warn() -> Rules:
    """The rules of the project, with those of the test for orders. dbt lets a foreign key stop only what reads both tables."""
    rules = copy.deepcopy(yaml.safe_load((WAREHOUSE / "dbt_project.yml").read_text())["vars"]["dq"])
    mine = [*(rule for rule, _ in ROW_RULES), DRIFT, FRESHNESS]
    for model in ("stg_orders", "fct_orders"):
        other = [rule for rule in rules[model]["rules"] if rule["rule"] != "foreign_key"]
        rules[model]["rules"] = [
            *({**rule, "severity": "warn"} for rule in mine if (rule["rule"] == "foreign_key") == (model == "fct_orders")),
            *(other if model == "fct_orders" else []),
        ]
    return rules


def _of(rules: Rules, name: str) -> Rules:
    return next(rule for rule in rules["stg_orders"]["rules"] if rule["rule"] == name)


def good_order(number: int) -> Order:
    """A correct one, of now."""
    return {
        "order_id": f"O-{number:06d}",
        "order_ts": datetime.now(UTC).replace(microsecond=0),
        "customer_id": f"{number:08d}",
        "sku": f"SKU-{number % SKUS:04d}",
        "quantity": 1 + number % 100,
        "price": {"units": 1999, "scale": 2},
        "status": STATUSES[number % len(STATUSES)],
    }


def _spoil(order: Order, rng: random.Random, earlier: list[Order]) -> None:
    """Most orders get no fault, some one, and some several."""
    faults: list[Mapping[str, Any]] = [
        {"order_id": None},
        {"quantity": rng.choice([0, -7, 101, 2**31 - 1])},
        {"order_ts": datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)},
        {"status": rng.choice(["ORDER_STATUS_LOST", "paid"])},
        {"status": None},
        {"customer_id": rng.choice(["12x", "O'Hara", "1e99x"])},
        {"customer_id": rng.choice(earlier)["customer_id"]},
        {"sku": rng.choice(["sku-0001", "SKU-00011", "SKU-0999", "SKU-0998"])},
    ]
    for fault in faults:
        if rng.random() < 0.04:
            order.update(fault)


def write(lake: Path, orders: list[Order], name: str, catalog: bool = False) -> None:
    """Files with these orders, sent now, and with the entries of their cards."""
    sent_at = datetime.now(UTC)

    def row(number: int, kind: str, column: str, payload: Mapping[str, Any]) -> sample.Row:
        return {
            "event_id": f"{name}-{column}-{number}",
            "message_id": f"m-{name}-{column}-{number}",
            "source": "orders",
            "type": kind,
            "sent_at": sent_at,
            "payload_sha256": b"\0" * 32,
            column: payload,
        }

    rows = [row(number, "OrderCreated", "order_created", order) for number, order in enumerate(orders)]
    for number, order in enumerate(orders):
        order["key"] = f"id:{rows[number]['event_id']}"
    if catalog:
        entries = [{"sku": f"SKU-{number:04d}", "card_name": f"Card {number}"} for number in range(SKUS)]
        rows += [row(number, "CardCatalogCreated", "card_catalog_created", entry) for number, entry in enumerate(entries)]
    sample.write_events(lake, [{**each, "order_created": _without_key(each.get("order_created"))} for each in rows], name)


def _without_key(order: Mapping[str, Any] | None) -> Order | None:
    return order and {member: value for member, value in order.items() if member != "key"}


def _dbt(command: str, rules: Rules) -> None:
    selected = SELECTED if command == "build" else []
    project.dbt(command, *selected, "--vars", json.dumps({"dq": rules}))


def _build(database: Path, lake: Path, rules: Rules) -> None:
    with project.connected(database) as connection:
        load.load(connection, lake, quiet=True)
    _dbt("build", rules)


def _fails(command: str, database: Path, lake: Path, rules: Rules) -> str:
    """Runs what has to fail. What it says."""
    with project.connected(database) as connection:
        load.load(connection, lake, quiet=True)
    try:
        with project.silent():
            _dbt(command, rules)
    except Failure as failure:
        return str(failure)
    raise Failure(f"dbt {command} passes although it should fail, with the rules {rules['stg_orders']}")


def _counted(orders: list[Order], all_orders: list[Order]) -> Counter[tuple[Any, ...]]:
    """Each fault, by rule, column, key and value. Of `all_orders` each value of a column counts."""
    return Counter(
        (rule["rule"], rule["column"], order["key"], _text(order[rule["column"]]))
        for rule, breaks in ROW_RULES
        for order in orders
        if breaks(order, all_orders)
    )


def _text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return None if value is None else str(value)


def _by_rule(faults: Counter[tuple[Any, ...]]) -> Counter[tuple[str, str]]:
    return Counter(fault[:2] for fault in faults.elements())


def _per_rule(faults: Counter[tuple[Any, ...]], checked: int) -> dict[tuple[str, str], tuple[int, int]]:
    failed = _by_rule(faults)
    return {(key := (rule["rule"], rule["column"])): (checked, failed[key]) for rule, _ in ROW_RULES}


def _expect(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        if isinstance(found, Counter):
            found, expected = found - expected, expected - found
        raise Failure(f"Data quality: {what} should be {str(expected)[:1500]}\nand is {str(found)[:1500]}")


def _ask(database: Path, query: str) -> list[tuple[Any, ...]]:
    with project.connected(database) as connection:
        return connection.execute(query).fetchall()


MINE = "(model_name = 'stg_orders' or model_name = 'fct_orders' and rule_name = 'foreign_key')"
RUNS = f"(select *, dense_rank() over (order by run_at) as run from dq.dq_results where {MINE})"


def _quarantine(database: Path) -> Counter[tuple[Any, ...]]:
    return Counter(_ask(database, f"select rule_name, column_name, row_key, failed_value from dq.quarantine where {MINE}"))


def _results(database: Path, run: int) -> dict[tuple[str, str], tuple[int, int]]:
    rows = _ask(
        database,
        f"select rule_name, column_name, checked, failed from {RUNS} where run = {run} "
        "and rule_name not in ('freshness', 'row_count_drift')",
    )
    return {(rule, column): (checked, failed) for rule, column, checked, failed in rows}


def _of_table(database: Path, run: int) -> dict[str, str]:
    query = f"select rule_name, status from {RUNS} where run = {run} and rule_name in ('freshness', 'row_count_drift')"
    return dict(_ask(database, query))


def _statuses(database: Path, run: int) -> dict[str, int]:
    return dict(_ask(database, f"select status, count(*) from {RUNS} where run = {run} group by all"))


def _runs(database: Path) -> dict[int, int]:
    return dict(_ask(database, f"select run, count(*) from {RUNS} group by all order by all"))


def _orders(database: Path) -> int:
    return _ask(database, "select count(*) from marts.fct_orders")[0][0]


def _fill(database: Path, lake: Path, without_number: int) -> None:
    """Adds correct orders to the raw tables, and so many without a number. For the test of the DAG."""
    first = _ask(database, "select count(*) from raw.events")[0][0] if database.is_file() else 0
    orders = [good_order(first + number) for number in range(ORDERS)]
    for each in orders[:without_number]:
        each["order_id"] = None
    write(lake, orders, f"from-{first}", catalog=not first)
    with project.connected(database) as connection:
        load.load(connection, lake, quiet=True)


if __name__ == "__main__":
    _fill(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
