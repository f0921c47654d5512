"""Real retail transactions to the marts: the older ones are history in Postgres, the newer ones come through the queue.

A day is in both, and some messages are sent twice. The marts have to hold what SQL over the transactions themselves says.
"""

import os
import random
import subprocess
import tempfile
from base64 import b64decode
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from local import build, lake, postgres, protos, queues, retail, stack, warehouse
from local.paths import LAKE, WAREHOUSE_FILE
from local.progress import Failure, step

TWICE = 500
SEED = 1
TABLE = "history.events"
COLUMNS = "(id bigint primary key, source text, type text, payload bytea, created_at timestamptz, event_id text)"

# What was bought, by the transactions alone. A price is the value of a line by its quantity, as the events have it.
TRUTH = """
select count(distinct basket_id), count(*), sum(quantity), sum(value)::varchar from (
  select basket_id, quantity::int as quantity,
    round(sales_value * 10 ** {scale} / greatest(quantity, 1))::bigint * quantity::int as value
  from '{file}' limit {count}
)
"""
MARTS = "select count(distinct order_id), count(*), sum(quantity), sum(amount) from marts.fct_orders"


@dataclass(frozen=True)
class Counted:
    """What was bought."""

    orders: int
    lines: int
    pieces: int
    amount: Decimal


def run(count: int) -> int:
    """0 when the marts hold every transaction once."""
    protos.ensure()
    file = retail.transactions()
    deployed = stack.up(fresh=True)
    with step(f"Encoding {count:,} real transactions"):
        sales = retail.sales(file, count)
        days = sorted({_day(sale) for sale in sales})
        shared = days[len(days) // 2]
        older = [sale for sale in sales if _day(sale) <= shared]
        newer = [sale for sale in sales if _day(sale) >= shared]
    with step(f"Filling {TABLE} with {len(older):,} rows"):
        _fill(postgres.ensure(), older)
    with step("Landing them from Postgres"):
        _backfill(deployed)
    sent = newer + random.Random(SEED).sample(newer, min(TWICE, len(newer)))
    with step(f"Sending {len(newer):,} to the events queue, {len(sent) - len(newer):,} of them twice") as s:
        with queues.paused(deployed, queues.EVENTS):
            queues.send(deployed, sent, s)
        queues.wait_until_empty(deployed, queues.EVENTS, len(sent), s)
    with step("Fetching the lake to .local/lake") as s:
        s.say(f"{len(lake.fetch(deployed)):,} files")
    if code := warehouse.run("compare", "--lake", str(LAKE), "--fresh"):
        return code
    return _compare(file, count, len(older) + len(newer) - count)


def _day(sale: retail.Sale) -> str:
    return str(sale.row["order_created"]["order_ts"].date())


def _fill(database: postgres.Postgres, sales: list[retail.Sale]) -> None:
    """In the order of time, as an old system would have inserted them."""
    database.psql(f"drop schema if exists history cascade; create schema history; create table {TABLE} {COLUMNS}")
    with tempfile.NamedTemporaryFile("w+", suffix=".tsv") as file:
        ordered = sorted(sales, key=lambda sale: sale.row["order_created"]["order_ts"])
        for number, sale in enumerate(ordered, 1):
            payload = "\\\\x" + b64decode(sale.body).hex()
            at = sale.row["order_created"]["order_ts"].isoformat()
            file.write("\t".join([str(number), sale.source, str(sale.type), payload, at, sale.event_id]) + "\n")
        file.flush()
        with open(file.name, "rb") as lines:
            database.psql(f"copy {TABLE} from stdin", stdin=lines)


def _backfill(deployed: stack.Stack) -> None:
    argv = [build.binary("landfall"), "backfill", "--from", deployed.postgres_url, "--table", TABLE, "--verify"]
    env = {**os.environ, "AWS_ENDPOINT_URL": deployed.endpoint_url}
    done = subprocess.run(argv, capture_output=True, check=False, env=env, text=True)
    if done.returncode:
        raise Failure(f"landfall backfill ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _compare(file: Path, count: int, in_both: int) -> int:
    with duckdb.connect() as connection:
        truth = connection.execute(TRUTH.format(file=file, count=count, scale=retail.PRICE_SCALE)).fetchall()[0]
    with duckdb.connect(str(WAREHOUSE_FILE), read_only=True) as connection:
        marts = connection.execute(MARTS).fetchall()[0]
    table = Table("", "orders", "lines", "pieces", "amount", title=f"{count:,} transactions, {in_both:,} of them in both")
    expected = Counted(*truth[:3], Decimal(truth[3]).scaleb(-retail.PRICE_SCALE))
    found = Counted(*marts)
    for name, counted in (("the transactions", expected), ("marts.fct_orders", found)):
        table.add_row(name, f"{counted.orders:,}", f"{counted.lines:,}", f"{counted.pieces:,}", f"{counted.amount:,.4f}")
    console = Console()
    console.print(table)
    if found != expected:
        console.print("The marts do not hold every transaction once.", style="red")
        return 1
    console.print("The marts hold every transaction once, to the last digit.", style="green")
    return 0
