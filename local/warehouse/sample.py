"""A lake for the tests, in three deliveries: what comes first, what comes later, and what comes late or twice.

Its Parquet files have the schema of `warehouse/testdata/events.parquet`, which parquet-writer wrote, and its hits are the lines that
collect wrote for real clients (`tests/golden/collect.expected.ndjson`) with other ids and times. The same seed gives the same lake.
"""

import copy
import csv
import gzip
import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from local.paths import ROOT
from local.warehouse import replica

GOLDEN_EVENTS = ROOT / "warehouse" / "testdata" / "events.parquet"
GOLDEN_HITS = ROOT / "tests" / "golden" / "collect.expected.ndjson"
QLIK = ROOT / "functions" / "load-ingester" / "testdata"
BACKFILL = pa.schema(
    [
        ("source", pa.string()),
        ("type", pa.string()),
        ("event_id", pa.string()),
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("payload", pa.string()),
    ]
)

FIRST_DAY = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 3
DAY_S = 86_400
DELIVERIES = 3
SKUS = 40
NEVER_PRODUCED = 5
REPLICATED_HOURS = 24
REPLICATED_CHANGES = 120
STATUSES = ["CREATED", "PAID", "SHIPPED", "CANCELLED"]

SESSION_GAP_MS = 30 * 60_000
# Milliseconds between two hits of a client, and how often. The three in the middle are at the edge of a session.
PAUSES = [
    (75, lambda rng: rng.randint(800, 240_000)),
    (14, lambda rng: rng.randint(240_000, SESSION_GAP_MS - 2)),
    (1, lambda _: SESSION_GAP_MS - 1),
    (1, lambda _: SESSION_GAP_MS),
    (1, lambda _: SESSION_GAP_MS + 1),
    (6, lambda rng: rng.randint(SESSION_GAP_MS + 2, 12 * SESSION_GAP_MS)),
    (2, lambda rng: rng.randint(8 * 3_600_000, 30 * 3_600_000)),
]

Row = dict[str, Any]


def write(lake: Path, delivery: int, seed: int, events: int, hits: int) -> None:
    """Adds the files of one delivery, 0 to 2."""
    stream, landed, backfill = _events(random.Random(seed), events)
    lines = list(traffic(golden_lines(), random.Random(seed), hits))
    rng = random.Random(f"{seed} {delivery}")
    write_events(lake, _part(stream, delivery), f"{delivery}")
    write_events(lake, _part(landed, delivery), f"public.events-{delivery:06}-0", "events_backfill")
    write_backfill(lake, _part(backfill, delivery), f"{delivery}")
    write_hits(lake, _part(lines, delivery), delivery)
    _write_changes(lake, delivery, seed)
    if delivery == DELIVERIES - 1:
        # What came before comes again: files of another name, messages in another mix, hits that were sent twice.
        write_events(lake, rng.sample(stream, len(stream) // 3), "again")
        write_backfill(lake, rng.sample(backfill, len(backfill) // 4), "again")
        write_hits(lake, rng.sample(lines, len(lines) // 4), delivery + 1)


def _part(things: list[Any], delivery: int) -> list[Any]:
    """Most in the order of time, and some of each delivery from all of it: those are late."""
    late = [thing for number, thing in enumerate(things) if number % 10 == delivery]
    usual = [thing for number, thing in enumerate(things) if number % 10 >= DELIVERIES]
    third = -(-len(usual) // DELIVERIES)
    return usual[delivery * third : (delivery + 1) * third] + late


def _events(rng: random.Random, count: int) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows of the stream, in the order of their files, of `landfall backfill`, and of a backfill in JSON. The first day is in all."""
    stream: list[Row] = []
    landed: list[Row] = []
    backfill: list[Row] = []
    for number in range(count):
        at = FIRST_DAY + timedelta(seconds=DAYS * DAY_S * number / count, microseconds=rng.randrange(1_000_000))
        column, name, payload = _payload(rng, number, at)
        has_id = rng.random() < 0.8
        message = f"m-{number:06d}"
        row = {
            "event_id": f"e-{number:06d}" if has_id else message,
            "message_id": message,
            "source": name[0].lower(),
            "type": "CardCatalogEntryInserted" if name == "CardCatalogCreated" and number % 3 == 0 else name,
            "sent_at": at + timedelta(seconds=2),
            "payload_sha256": hashlib.sha256(message.encode()).digest(),
            "attributes": [("shop", "3")] if number % 50 == 0 else None,
            column: payload,
        }
        if number % 97 == 0:
            # It landed before its type was known, and was replayed when it was.
            stream.append({**row, column: None, "_raw": b"\x0a\x00", "sent_at": row["sent_at"] - timedelta(seconds=1)})
        stream.append(row)
        if number % 13 == 0:
            # The producer sent it again.
            stream.append(
                {**row, "message_id": f"{message}-2", "event_id": row["event_id"] if has_id else f"{message}-2"}
            )
        if at < FIRST_DAY + timedelta(days=1):
            known = has_id and rng.random() < 0.5
            backfill.append(exported(row, name, payload, row["event_id"] if known else None))
            own = f"public.events/{number}"
            landed.append({**row, "message_id": own, "event_id": row["event_id"] if known else own, "attributes": None})
    return stream, landed, backfill


def exported(row: Row, name: str, payload: Row, event_id: str | None) -> Row:
    """A row of the table of the old system. Its JSON is protobuf's, where a 64-bit integer is text."""

    def value(thing: Any) -> Any:
        if isinstance(thing, datetime):
            return thing.isoformat().replace("+00:00", "Z")
        if isinstance(thing, dict):
            return {"units": str(thing["units"]), "scale": thing["scale"]}
        return thing

    fields = {field: value(thing) for field, thing in reversed(payload.items()) if thing is not None}
    return {
        "source": row["source"],
        "type": name,
        "event_id": event_id,
        "occurred_at": row["sent_at"] - timedelta(seconds=3),
        "payload": json.dumps(fields),
    }


def _payload(rng: random.Random, number: int, at: datetime) -> tuple[str, str, Row]:
    sku = f"SKU-{rng.randrange(SKUS):04d}"
    kind = rng.random()
    if kind < 0.85:
        price = rng.choice([(1999, 2), (5, 0), (123456789, 8), (250, 3), (0, 0)])
        order: Row = {
            "order_id": f"O-{number // 2:06d}",
            "order_ts": at,
            "customer_id": f"C-{rng.randrange(200):04d}",
            "sku": sku,
            "quantity": rng.randint(1, 9),
            "price": {"units": price[0], "scale": price[1]} if rng.random() < 0.98 else None,
            "status": f"ORDER_STATUS_{rng.choice(STATUSES)}",
        }
        return "order_created", "OrderCreated", order
    if kind < 0.95:
        card: Row = {
            "sku": sku,
            "card_name": f"Card {number}",
            "sport": rng.choice(["Hockey", "Baseball"]),
            "player_name": "Émile Tremblay",
            "team_name": "Summit Wolves",
            "parallel": rng.choice([None, "Gold"]),
            "print_run": rng.choice([None, 99]),
        }
        return "card_catalog_created", "CardCatalogCreated", card
    batch: Row = {
        "batch_id": f"B-{rng.randrange(60):04d}",
        "sku": f"SKU-{rng.randrange(SKUS - NEVER_PRODUCED):04d}",
        "production_date": at.replace(hour=0, minute=0, second=0, microsecond=0),
        "quantity_produced": rng.randint(100_000, 900_000),
        "defect_rate_estimate": {"units": rng.randrange(500), "scale": 5},
    }
    return "manufacturing_batch", "ManufacturingBatch", batch


def replicated(seed: int) -> tuple[list[list[replica.Change]], list[dict[int, Row]]]:
    """The changes of each hour of a table, and what it holds after each."""
    table = replica.Table(random.Random(seed))
    changes, states = [], []
    for number in range(REPLICATED_HOURS):
        changes.append(table.step(number, REPLICATED_CHANGES))
        states.append(dict(table.rows))
    return changes, states


def _write_changes(lake: Path, delivery: int, seed: int) -> None:
    """The hours of a third of the time, of which every fifth comes last, and some come again."""
    changes, _ = replicated(seed)
    for number, of_hour in enumerate(changes):
        is_late = number % 5 == 3
        if delivery == (DELIVERIES - 1 if is_late else number * DELIVERIES // len(changes)):
            replica.write(_replicated_path(lake, number), number, of_hour)
        if delivery == DELIVERIES - 1 and number % 7 == 2:
            replica.write(_replicated_path(lake, number, "-again"), number, of_hour)
    source = QLIK / ("EDW.SAMPLE" if delivery == 0 else "EDW.SAMPLE__ct")
    if delivery < 2:
        _write_qlik(lake, source)


def _replicated_path(lake: Path, number: int, name: str = "") -> Path:
    """Where DMS writes it, or load-ingester, which keeps nothing of its name."""
    if number % 4 == 0:
        return lake / "springboard" / replica.TABLE / f"{100 + number}-0{name}.parquet"
    return lake / "cdc" / replica.path_of(number, name)


def _write_qlik(lake: Path, source: Path) -> None:
    """The sample of Qlik Replicate in the columns and the place that load-ingester gives it."""
    (file,) = source.glob("*.csv")
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    columns = [(name, pa.string()) for name in rows[0]]
    types = {"header__change_seq": pa.decimal128(35, 0), "header__timestamp": pa.timestamp("us")}
    types |= {"SAMPLE_ID": pa.int64(), "STATION_COUNT": pa.int32()}
    schema = pa.schema([(name, types.get(name, type_)) for name, type_ in columns])
    values = [{name: _qlik(value, schema.field(name).type) for name, value in row.items()} for row in rows]
    path = lake / "springboard" / "cubic" / "ods_qlik" / source.name / "snapshot=20220101T204020Z" / "1-0.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(values, schema=schema), path)


def _qlik(value: str, type_: pa.DataType) -> Any:
    if not value:
        return None
    if pa.types.is_decimal(type_):
        return Decimal(value)
    if pa.types.is_timestamp(type_):
        return datetime.fromisoformat(value)
    return int(value) if pa.types.is_integer(type_) else value


def golden_lines() -> list[Row]:
    """What collect wrote for requests of real clients."""
    with GOLDEN_HITS.open() as file:
        return [record["data"] for line in file for record in json.loads(line).get("records", [])]


def traffic(lines: Iterable[Row], rng: random.Random, count: int, clients: int = 0) -> Iterator[Row]:
    """`count` hits made of these lines, in the order in which they happened.

    Clients come back after pauses that are near the end of a session, after hours, and across midnight. Some hits have no client, some
    no type, some the names of version 2 of the protocol, and some purchases are those of a page of thanks that was loaded again.
    """
    templates = list(lines)
    number_of_clients = clients or max(count // 25, 1)
    clocks = [rng.randint(0, DAYS * DAY_S * 1000) for _ in range(number_of_clients)]
    weights = [weight for weight, _ in PAUSES]
    start_ms = int(FIRST_DAY.timestamp() * 1000)
    made = []
    bought: list[Row] = []
    for number in range(count):
        client = rng.randrange(number_of_clients)
        ((_, pause),) = rng.choices(PAUSES, weights)
        clocks[client] += pause(rng)
        line = copy.deepcopy(templates[number] if clients else rng.choice(templates))
        body = line["request"]["body"]
        if body.get("pa") == "purchase" and not clients:
            body["ti"] = f"T-{number}"
            body["tr"] = f"{rng.randrange(100, 99_999) / 100:.2f}"
        elif body.get("en") == "purchase" and not clients:
            for name in ("ep.transaction_id", "epn.transaction_id", "ep.value", "epn.value"):
                body.pop(name, None)
            value = f"{rng.randrange(100, 99_999) / 100:.2f}"
            # Payloads have numbers where others have text, and the other way around.
            if number % 2:
                body |= {"epn.transaction_id": number, "ep.value": value}
            else:
                body |= {"ep.transaction_id": f"T-{number}", "epn.value": float(value)}
        if bought and rng.random() < 0.01:
            line = copy.deepcopy(rng.choice(bought))
        elif body.get("pa") == "purchase" or body.get("en") == "purchase":
            bought.append(line)
        _as_hit(line, rng, f"{number:032x}", f"client-{client}", start_ms + clocks[client])
        made.append(line)
    yield from sorted(made, key=lambda line: (line["request"]["timestamp"], line["event_id"]))


def _as_hit(line: Row, rng: random.Random, event_id: str, client: str, at_ms: int) -> None:
    line["event_id"] = event_id
    line["context"]["client_id"] = client if rng.random() < 0.98 else None
    line["context"]["user_id"] = None
    line["hit"]["time"] = at_ms
    # A hit that waited in its client (`qt`) is received later than it happened.
    line["request"]["timestamp"] = at_ms + (
        rng.randint(1_000, 3_600_000) if rng.random() < 0.02 else rng.randint(0, 900)
    )
    odd = rng.random()
    if odd < 0.005:
        line["hit"]["type"] = None
        line["request"]["body"].pop("t", None)
        line["request"]["body"].pop("en", None)
    elif odd < 0.015:
        line["hit"]["type"] = None
        line["request"]["body"] = {"cid": client, "en": "page_view", "v": "2"}
        line["products"] = []


def write_events(lake: Path, rows: list[Row], name: str, folder: str = "events") -> None:
    """A file for each day, as parquet-writer and `landfall backfill` write them."""
    schema = pq.read_schema(GOLDEN_EVENTS)
    by_day: dict[date, list[Row]] = {}
    for row in rows:
        by_day.setdefault(row["sent_at"].date(), []).append(row)
    for day, of_day in sorted(by_day.items()):
        columns = [pa.array([row.get(field.name) for row in of_day], field.type) for field in schema]
        path = lake / folder / f"{day:%Y/%m/%d}" / f"{day:%Y%m%d}T000000000Z-{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="zstd")


def write_backfill(lake: Path, rows: list[Row], name: str) -> None:
    """A file of the export of the old system."""
    path = lake / "backfill" / f"export-{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=BACKFILL), path)


def write_hits(lake: Path, lines: list[Row], delivery: int) -> None:
    """By the hour in which they were received, compressed as Firehose does it, and some not, as the emulator."""
    by_hour: dict[str, list[Row]] = {}
    for line in lines:
        at = datetime.fromtimestamp(line["request"]["timestamp"] / 1000, UTC)
        by_hour.setdefault(f"{at:%Y/%m/%d/%H}", []).append(line)
    for number, (hour, some) in enumerate(sorted(by_hour.items())):
        text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in some).encode()
        compressed = number % 5 > 0
        path = lake / "collect" / hour / f"landfall-clicks-1-{delivery}{'.gz' if compressed else ''}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text, mtime=0) if compressed else text)
