"""The Lambda people write today: json, base64, the official protobuf package and pyarrow."""

import base64
import hashlib
import io
import json
import time
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from landfall.events.v1.cards_pb2 import CardCatalogCreated
from landfall.events.v1.manufacturing_pb2 import ManufacturingBatch
from landfall.events.v1.orders_pb2 import OrderCreated, OrderStatus

MICROS = pa.timestamp("us", tz="UTC")
DECIMAL = pa.struct([("units", pa.int64()), ("scale", pa.int64())])
CARD = pa.struct(
    [
        ("sku", pa.string()),
        ("card_name", pa.string()),
        ("sport", pa.string()),
        ("player_name", pa.string()),
        ("team_name", pa.string()),
        ("parallel", pa.string()),
        ("print_run", pa.int32()),
    ]
)
BATCH = pa.struct(
    [
        ("batch_id", pa.string()),
        ("sku", pa.string()),
        ("production_date", MICROS),
        ("quantity_produced", pa.int64()),
        ("defect_rate_estimate", DECIMAL),
    ]
)
ORDER = pa.struct(
    [
        ("order_id", pa.string()),
        ("order_ts", MICROS),
        ("customer_id", pa.string()),
        ("sku", pa.string()),
        ("quantity", pa.int32()),
        ("price", DECIMAL),
        ("status", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("message_id", pa.string()),
        ("source", pa.string()),
        ("type", pa.string()),
        ("sent_at", MICROS),
        ("payload_sha256", pa.binary()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("_raw", pa.binary()),
        ("card_catalog_created", CARD),
        ("manufacturing_batch", BATCH),
        ("order_created", ORDER),
    ]
)


def card(payload: bytes) -> dict:
    message = CardCatalogCreated.FromString(payload)
    return {
        "sku": message.sku,
        "card_name": message.card_name,
        "sport": message.sport,
        "player_name": message.player_name,
        "team_name": message.team_name,
        "parallel": message.parallel if message.HasField("parallel") else None,
        "print_run": message.print_run if message.HasField("print_run") else None,
    }


def batch(payload: bytes) -> dict:
    message = ManufacturingBatch.FromString(payload)
    return {
        "batch_id": message.batch_id,
        "sku": message.sku,
        "production_date": micros(message.production_date) if message.HasField("production_date") else None,
        "quantity_produced": message.quantity_produced,
        "defect_rate_estimate": decimal(message.defect_rate_estimate)
        if message.HasField("defect_rate_estimate")
        else None,
    }


def order(payload: bytes) -> dict:
    message = OrderCreated.FromString(payload)
    return {
        "order_id": message.order_id,
        "order_ts": micros(message.order_ts) if message.HasField("order_ts") else None,
        "customer_id": message.customer_id,
        "sku": message.sku,
        "quantity": message.quantity,
        "price": decimal(message.price) if message.HasField("price") else None,
        "status": OrderStatus.Name(message.status),
    }


def micros(timestamp) -> int:
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1_000


def decimal(message) -> dict:
    return {"units": message.units, "scale": message.scale}


COLUMNS = {
    "CardCatalogCreated": ("card_catalog_created", card),
    "CardCatalogEntryInserted": ("card_catalog_created", card),
    "ManufacturingBatch": ("manufacturing_batch", batch),
    "OrderCreated": ("order_created", order),
}


@dataclass
class Encoded:
    """A file, and what each stage of making it took."""

    file: bytes
    nanoseconds: list[tuple[str, int]]


def turn(body: bytes) -> tuple[bytes, list[tuple[str, int]], dict]:
    """The event as the Runtime API sends it → a file, what each stage took, and what is left to be freed."""
    event, json_nanoseconds = read(body)
    encoded = encode(event)
    return encoded.file, [("json", json_nanoseconds), *encoded.nanoseconds], event


def read(body: bytes) -> tuple[dict, int]:
    """The event as the Runtime API sends it, and the nanoseconds that reading took."""
    started = time.perf_counter_ns()
    event = json.loads(body)
    return event, time.perf_counter_ns() - started


def encode(event: dict) -> Encoded:
    """SQS event → Parquet."""
    started = time.perf_counter_ns()
    rows = [row(record) for record in event["Records"]]
    decoded = time.perf_counter_ns()
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    built = time.perf_counter_ns()
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", compression_level=1)
    written = time.perf_counter_ns()
    stages = [
        ("protobuf", decoded - started),
        ("columns", built - decoded),
        ("parquet", written - built),
    ]
    return Encoded(file.getvalue(), stages)


OWN = {"type", "source", "event_id"}  # attributes with a column of their own


def row(record: dict) -> dict:
    attributes = record["messageAttributes"]
    payload = base64.b64decode(record["body"], validate=True)
    name = attributes["type"]["stringValue"]
    row = {
        "event_id": attributes["event_id"]["stringValue"] if "event_id" in attributes else record["messageId"],
        "message_id": record["messageId"],
        "source": attributes["source"]["stringValue"] if "source" in attributes else None,
        "type": name,
        "sent_at": int(record["attributes"]["SentTimestamp"]) * 1_000,
        "payload_sha256": hashlib.sha256(payload).digest(),
        "attributes": [(n, v.get("stringValue", v.get("binaryValue"))) for n, v in attributes.items() if n not in OWN] or None,
    }
    if name in COLUMNS:
        column, read = COLUMNS[name]
        row[column] = read(payload)
    else:
        row["_raw"] = payload
    return row
