"""A table that changes, as DMS writes its changes to S3, and what the table holds after each of them.

    .local/warehouse/bin/python -m local.warehouse.replica write FOLDER   the files of some hours
    .local/warehouse/bin/python -m local.warehouse.replica check LAKE     whether the models make the table of files under LAKE

The files are those of a replication with an operation, a commit timestamp, before-images of the key and a number of the change:
`shop/customers/2026/11/01/05/….parquet`. The same seed gives the same changes.
"""

import argparse
import random
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from local.progress import Failure
from local.warehouse import load, project

TABLE = Path("shop") / "customers"
SEED = 3
HOURS = 16
CHANGES = 200
COLUMNS = ("customer_id", "name", "email", "balance", "segment")
START = datetime(2026, 11, 1, tzinfo=UTC)
# When DMS moved the rows of the full load, and changes of them were committed already.
TRANSPORTED = START + timedelta(minutes=90)
# The column `segment` is added before this step, and columns that the models do not know before the next.
DRIFT_AT = 8
MORE_DRIFT_AT = 14
EMPTIED_AT = 17
MODELS = ("files", "customers_cdc", "customers_state", "customers_latest")

Row = dict[str, Any]

SCHEMA = [
    ("Op", pa.string()),
    ("committed_at", pa.string()),
    ("change_seq", pa.string()),
    ("customer_id", pa.int64()),
    ("BI_customer_id", pa.int64()),
    ("name", pa.string()),
    ("email", pa.string()),
    ("balance", pa.decimal128(18, 2)),
]


@dataclass
class Change:
    """What happened to the table: `op` is I, U, D or T."""

    op: str
    row: Row
    old_key: int | None = None
    at: datetime = START
    seq: int = 0


@dataclass
class Table:
    """The table at the source."""

    rng: random.Random
    rows: dict[int, Row] = field(default_factory=dict)
    next_key: int = 1
    now: datetime = START
    seq: int = 0

    def step(self, number: int, changes: int) -> list[Change]:
        """Changes the table so many times, and says how. An hour passes."""
        made = []
        for nth in range(changes):
            # Several changes of a row can be committed at once.
            if self.rng.random() < 0.7:
                self.now += timedelta(microseconds=self.rng.randint(1, 3_600_000_000 // (changes + 1)))
            change = self._truncate() if (number, nth) == (EMPTIED_AT, 40) else self._change(number)
            self.seq += 1
            change.at, change.seq = self.now, self.seq
            made.append(change)
        self.now = max(self.now, START + timedelta(hours=number + 1))
        return made

    def _truncate(self) -> Change:
        self.rows.clear()
        return Change("T", {})

    def _change(self, number: int) -> Change:
        kind = self.rng.random()
        if not self.rows or kind < 0.4 or number == 0:
            row = self._row(self.next_key, number)
            self.next_key += 1
            self.rows[row["customer_id"]] = row
            return Change("I", row)
        key = self.rng.choice(list(self.rows))
        if kind < 0.6:
            return Change("D", self.rows.pop(key))
        if kind < 0.65:
            # The key changes, sometimes to that of a row that is gone.
            new = self.rng.randint(1, self.next_key)
            if new not in self.rows:
                self.next_key = max(self.next_key, new + 1)
                row = {**self.rows.pop(key), "customer_id": new}
                self.rows[new] = row
                return Change("U", row, old_key=key)
        row = self._row(key, number)
        self.rows[key] = row
        return Change("U", row, old_key=key)

    def _row(self, key: int, number: int) -> Row:
        row: Row = {
            "customer_id": key,
            "name": self.rng.choice(["Ana", "Bo", "Émile", "", None]),
            "email": f"{self.rng.randrange(10**6)}@shop.example",
            "balance": Decimal(self.rng.randrange(-(10**6), 10**9)).scaleb(-2),
        }
        if number >= DRIFT_AT:
            row["segment"] = self.rng.choice(["gold", "new", None])
        if number >= MORE_DRIFT_AT:
            row["score"] = self.rng.randrange(100)
        return row


def path_of(number: int, name: str = "") -> Path:
    """Where DMS writes the changes of an hour. That of the first one is a full load."""
    at = START + timedelta(hours=number)
    first = "LOAD00000001" if number == 0 else f"{at:%Y%m%d-%H%M%S}000"
    return TABLE / f"{at:%Y/%m/%d/%H}" / f"{first}{name}.parquet"


def write(path: Path, number: int, changes: list[Change]) -> None:
    """A file with the changes of an hour. A full load has no before-images, no numbers, and the time of its transport."""
    columns = list(SCHEMA)
    if number >= DRIFT_AT:
        columns.append(("segment", pa.string()))
    if number >= MORE_DRIFT_AT:
        columns.append(("score", pa.int32()))
    rows = [
        {
            **{column: change.row.get(column) for column, _ in columns},
            "Op": change.op,
            "committed_at": f"{change.at if number else TRANSPORTED:%Y-%m-%d %H:%M:%S.%f}",
            "change_seq": f"{change.seq:035d}" if number else "",
            "BI_customer_id": change.old_key,
        }
        for change in changes
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(columns)), path)


def _hours() -> tuple[list[list[Change]], Table]:
    """The changes of each hour, and the table after them."""
    table = Table(random.Random(SEED))
    return [table.step(number, CHANGES) for number in range(HOURS)], table


def _check(lake: Path) -> int:
    """Runs the models over the files. Returns how many rows the table and its latest state have."""
    _, table = _hours()
    with tempfile.TemporaryDirectory(prefix="landfall-replica-") as folder:
        database = Path(folder) / "replica.duckdb"
        project.configure(database)
        with project.connected(database) as connection:
            load.load(connection, lake, quiet=True)
        project.dbt("run", "--select", *MODELS)
        with project.connected(database) as connection:
            found = connection.execute(f"select {', '.join(COLUMNS)} from cdc.customers_latest").fetchall()
    expected = {tuple(row.get(column) for column in COLUMNS) for row in table.rows.values()}
    if set(found) != expected or len(found) != len(expected):
        raise Failure(f"The latest state is not what the table holds: {len(set(found) ^ expected):,} rows differ.")
    return len(found)


def main() -> int:
    """0 if the models make the table of the files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("write", "check"))
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    if chosen.command == "write":
        for number, changes in enumerate(_hours()[0]):
            write(chosen.folder / path_of(number), number, changes)
        return 0
    try:
        print(f"{HOURS * CHANGES:,} changes made the {_check(chosen.folder):,} rows that the table holds")
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
