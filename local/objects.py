"""Seeded objects for the incoming bucket: data, files that accompany it, and objects without a table.

The same seed gives the same objects.
"""

import csv
import gzip
import io
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb

SAMPLE = "cubic/ods_qlik/EDW.SAMPLE/"
DEVICE = "cubic/ods_qlik/EDW.DEVICE/"
DMAP = "cubic/dmap/agg_sample/"
# Files of another roller: cubic/kafka/ holds only files of kafka-roller, which `landfall audit` checks.
KAFKA = "partner/kafka/sample/"
ORDERS = "shop/orders/"
UNDECLARED = "warehouse/stock levels/"

# The columns of one ODS table are what Qlik says beside each object, those of the other one are declared.
TABLES = [
    {"prefix": SAMPLE, "kind": "ods"},
    {
        "prefix": DEVICE,
        "kind": "ods",
        "columns": [{"name": "ID", "type": "integer"}, {"name": "NAME", "type": "varchar(40)"}],
    },
    {
        "prefix": DMAP,
        "kind": "dmap",
        "columns": [
            {"name": "day", "type": "date"},
            {"name": "station", "type": "text"},
            {"name": "taps", "type": "integer"},
        ],
    },
    {"prefix": KAFKA, "kind": "kafka"},
]
LATE_TABLE = {"name": "orders", "prefix": ORDERS, "kind": "dms"}  # as in examples/tables.toml

SNAPSHOT = "LOAD001.csv.gz"

# The expected result: a load that can be ingested, a load that cannot, or no load.
READY = "ready"
NO_SNAPSHOT = "no_snapshot"
EMPTY = "empty_object"
NO_TABLE = "no table"
NOT_DATA = "not data"

# How loads end. One without a snapshot waits for it for a day.
ARCHIVED = "archived"
ERRORED = "errored"
WAITING = "ready_for_erroring"
# Why some loads cannot be ingested.
INVALID_GZIP = "invalid_gzip"
INVALID_PARQUET = "invalid_parquet"

EARLY_CHANGES = 12
SAMPLE_CHANGES = 28
DEVICE_CHANGES = 20
EXTRACTS = 35
TOPIC_FILES = 60
ORDER_FILES = 48
UNDECLARED_FILES = 22
UNANNOUNCED = {DEVICE: 3, DMAP: 3, KAFKA: 4}

FIRST_DAY = datetime(2026, 11, 1, tzinfo=timezone.utc)
UUID_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
UUID_LENGTH = 22
STATIONS = ["Alewife", "Braintree", "Forest Hills", "Oak Grove", "Wonderland", "Zürich HB"]


@dataclass(frozen=True)
class Incoming:
    """An object, and the expected result of registering it."""

    key: str
    body: bytes
    prefix: str
    """Of its table, declared or not."""
    becomes: str
    announced: bool = True
    """Whether the bucket sends a notification about it."""
    rows: int = 0
    """Rows that fit their columns."""
    misfits: int = 0
    """Rows that do not."""
    fails: str = ""
    """Why it cannot be ingested although it can be registered."""

    @property
    def is_load(self) -> bool:
        """Whether it should be registered as a load."""
        return self.becomes in (READY, NO_SNAPSHOT, EMPTY)

    @property
    def ends(self) -> str:
        """The last status of its load, and the reason."""
        if self.becomes == READY and not self.fails:
            return ARCHIVED
        return f"{WAITING if self.becomes == NO_SNAPSHOT else ERRORED}: {self.fails or self.becomes}"

    @property
    def is_snapshot(self) -> bool:
        """Whether it starts a snapshot."""
        return self.key in (SAMPLE + SNAPSHOT, DEVICE + SNAPSHOT)

    @property
    def is_changes(self) -> bool:
        """Whether it has changes that belong to a snapshot."""
        return self.prefix in (SAMPLE, DEVICE) and self.becomes == READY and not self.is_snapshot


def generate(seed: int) -> list[Incoming]:
    """Objects of every kind."""
    rng = random.Random(seed)
    device, extracts, topic = (UNANNOUNCED[prefix] for prefix in (DEVICE, DMAP, KAFKA))
    return [
        *_snapshot(rng, SAMPLE),
        *_changes(rng, SAMPLE, EARLY_CHANGES, 0, NO_SNAPSHOT),
        *_changes(rng, SAMPLE, SAMPLE_CHANGES, EARLY_CHANGES, READY),
        *_snapshot(rng, DEVICE),
        *_changes(rng, DEVICE, DEVICE_CHANGES, 0, READY),
        *_extracts(rng, DMAP, EXTRACTS, 0, READY),
        Incoming(f"{DMAP}{_day(EXTRACTS + extracts)}.csv", b"", DMAP, EMPTY),
        *_topic(rng, TOPIC_FILES),
        *_orders(rng),
        Incoming(f"{ORDERS}cut off.parquet", b"PAR1", ORDERS, READY, fails=INVALID_PARQUET),
        Incoming(f"{DMAP}cut off.csv.gz", gzip.compress(b"day,station,taps\n")[:-4], DMAP, READY, fails=INVALID_GZIP),
        *_extracts(rng, UNDECLARED, UNDECLARED_FILES, 0, NO_TABLE),
        *_unannounced(change for change in _changes(rng, DEVICE, device, DEVICE_CHANGES, READY) if change.is_load),
        *_unannounced(_extracts(rng, DMAP, extracts, EXTRACTS, READY)),
        *_unannounced(_topic(rng, topic)),
    ]


def _unannounced(announced: Iterator[Incoming]) -> Iterator[Incoming]:
    return (replace(incoming, announced=False) for incoming in announced)


def _snapshot(rng: random.Random, prefix: str) -> Iterator[Incoming]:
    rows = [[n, rng.choice(STATIONS)] for n in range(1, 6)]
    return _qlik(prefix, f"{prefix}{SNAPSHOT}", {"ID": "INT4", "NAME": "STRING"}, rows, READY)


def _changes(rng: random.Random, prefix: str, count: int, first: int, becomes: str) -> Iterator[Incoming]:
    header = {"header__change_seq": "STRING", "header__change_oper": "STRING", "header__timestamp": "DATETIME"}
    columns = {**header, "ID": "INT4", "NAME": "STRING"}
    for n in range(first, first + count):
        at = FIRST_DAY + timedelta(minutes=15 * n, milliseconds=rng.randrange(60_000))
        rows = [
            [
                f"{at:%Y%m%d%H%M%S}{row:018}",
                rng.choice("IUD"),
                at.isoformat(" "),
                rng.randrange(100),
                rng.choice(STATIONS),
            ]
            for row in range(rng.randint(1, 4))
        ]
        name = f"{at:%Y%m%d-%H%M%S}{at.microsecond // 1000:03}"
        yield from _qlik(prefix, f"{prefix[:-1]}__ct/{name}.csv.gz", columns, rows, becomes)


def _qlik(prefix: str, key: str, columns: dict[str, str], rows: list[list[Any]], becomes: str) -> Iterator[Incoming]:
    """A file as Qlik writes it, with its description."""
    yield Incoming(key, gzip.compress(_csv(list(columns), rows), mtime=0), prefix, becomes, rows=len(rows))
    described = key.removesuffix(".csv.gz")
    description = {
        "fileInfo": {"name": described.rpartition("/")[2], "extension": "csv.gz", "recordCount": len(rows)},
        "dataInfo": {
            "columns": [{"ordinal": n, "name": name, "type": type_} for n, (name, type_) in enumerate(columns.items(), 1)]
        },
    }
    yield Incoming(f"{described}.dfm", json.dumps(description).encode(), prefix, NOT_DATA)


def _extracts(rng: random.Random, prefix: str, count: int, first: int, becomes: str) -> Iterator[Incoming]:
    """One file per day. Every fifth has a name that S3 encodes in notifications."""
    for n in range(first, first + count):
        rows = [[_day(n), station, rng.randrange(100_000)] for station in STATIONS]
        name = f"{_day(n)} (Nachträge + 100 %)" if n % 5 == 4 else _day(n)
        if misfits := int(n % 7 == 3):
            rows[rng.randrange(len(rows))][2] = "unknown"
        body = _csv(["day", "station", "taps"], rows)
        yield Incoming(f"{prefix}{name}.csv", body, prefix, becomes, rows=len(rows) - misfits, misfits=misfits)


def _topic(rng: random.Random, count: int) -> Iterator[Incoming]:
    for _ in range(count):
        name = "".join(rng.choices(UUID_LETTERS, k=UUID_LENGTH))
        records = [{"device": rng.randrange(1_000), "station": rng.choice(STATIONS)} for _ in range(rng.randint(1, 5))]
        body = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        yield Incoming(f"{KAFKA}{name}.json", body, KAFKA, READY, rows=len(records))


def _orders(rng: random.Random) -> Iterator[Incoming]:
    for n in range(ORDER_FILES):
        at = FIRST_DAY + timedelta(hours=n, milliseconds=rng.randrange(3_600_000))
        rows = [
            {"Op": rng.choice("IU"), "order_id": rng.getrandbits(40), "quantity": rng.randint(1, 50), "updated_at": at}
            for _ in range(rng.randint(1, 5))
        ]
        name = f"{at:%Y/%m/%d/%H/%Y%m%d-%H%M%S}{at.microsecond // 1000:03}"
        yield Incoming(f"{ORDERS}{name}.parquet", _parquet(rows), ORDERS, READY, rows=len(rows))


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        duckdb.sql("select unnest($rows, recursive := true)", params={"rows": rows}).write_parquet(str(path))
        return path.read_bytes()


def _day(number: int) -> str:
    return f"{FIRST_DAY + timedelta(days=number):%Y-%m-%d}"


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue().encode()
