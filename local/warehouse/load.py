"""Files of the lake → the raw tables in DuckDB, which Snowpipe or COPY fills in a warehouse.

A file is loaded once: its key is noted in the transaction that inserts its rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import duckdb

from local.paths import PROTO
from local.progress import Failure, step

FILES_AT_A_TIME = 2_000
GZIP = b"\x1f\x8b"

ENVELOPE = {
    "event_id": "VARCHAR NOT NULL",
    "message_id": "VARCHAR NOT NULL",
    "source": "VARCHAR",
    "type": "VARCHAR NOT NULL",
    "sent_at": "TIMESTAMPTZ NOT NULL",
    "payload_sha256": "BLOB NOT NULL",
    "attributes": "JSON",
    "_raw": "BLOB",
}
BACKFILL = {
    "source": "VARCHAR",
    "type": "VARCHAR NOT NULL",
    "event_id": "VARCHAR",
    "occurred_at": "TIMESTAMPTZ NOT NULL",
    "payload": "JSON NOT NULL",
}
HITS = {"data": "JSON NOT NULL"}
CHANGES = {"data": "JSON NOT NULL", "_row": "BIGINT NOT NULL"}
FILE = {"_file": "VARCHAR NOT NULL"}

# The raw tables, the folders of the lake that their files are in, and how the files end.
FOLDERS = {
    "events": (["events", "events_backfill"], ".parquet"),
    "events_backfill": (["backfill"], ".parquet"),
    "collect": (["collect"], ""),
    "changes": (["cdc", "springboard"], ".parquet"),
}


def event_columns() -> list[str]:
    """The columns of the event types, in the order of the files."""
    lines = (PROTO / "columns.txt").read_text().splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def create(database: duckdb.DuckDBPyConnection) -> None:
    """Creates the raw tables that are missing, and the columns of event types that were added since."""
    database.execute("create schema if not exists raw")
    database.execute("create table if not exists raw.loaded (table_name varchar, file varchar)")
    types = dict.fromkeys(event_columns(), "JSON")
    tables = {"events": {**ENVELOPE, **types}, "events_backfill": BACKFILL, "collect": HITS, "changes": CHANGES}
    for name, columns in tables.items():
        declared = ", ".join(f'"{column}" {type_}' for column, type_ in {**columns, **FILE}.items())
        database.execute(f"create table if not exists raw.{name} ({declared})")
    for column in types:
        database.execute(f'alter table raw.events add column if not exists "{column}" JSON')


def files(lake: Path) -> dict[str, list[Path]]:
    """The files of each raw table."""
    return {
        table: sorted(path for folder in folders for path in (lake / folder).rglob(f"*{suffix}") if path.is_file())
        for table, (folders, suffix) in FOLDERS.items()
    }


def gone(database: duckdb.DuckDBPyConnection, lake: Path) -> int:
    """How many files were loaded that are not in the lake."""
    create(database)
    known = {file for (file,) in database.execute("select file from raw.loaded").fetchall()}
    return len(known - {path.relative_to(lake).as_posix() for some in files(lake).values() for path in some})


def load(database: duckdb.DuckDBPyConnection, lake: Path, quiet: bool = False) -> dict[str, int]:
    """Loads the files that are new. Returns how many, by table. Quietly, for whoever shows a step already."""
    create(database)
    loaders: dict[str, Callable[[Any, Sequence[Path], int], None]] = {
        "events": _events,
        "events_backfill": _backfill,
        "collect": _hits,
        "changes": _changes,
    }
    loaded = {}
    found = files(lake)
    for table, (folders, _) in FOLDERS.items():
        known = {
            file for (file,) in database.execute("select file from raw.loaded where table_name = ?", [table]).fetchall()
        }
        new = [path for path in found[table] if path.relative_to(lake).as_posix() not in known]
        loaded[table] = len(new)
        if not new:
            continue
        shown = nullcontext() if quiet else step(f"Loading {', '.join(folders)} into raw.{table}")
        with shown as s:
            done = 0
            for some in _chunks(new):
                keys = [(table, path.relative_to(lake).as_posix()) for path in some]
                database.begin()
                try:
                    loaders[table](database, some, len(str(lake)) + 2)
                    database.executemany("insert into raw.loaded values (?, ?)", keys)
                except duckdb.Error as error:
                    database.rollback()
                    raise Failure(
                        f"A file under {', '.join(folders)} in {lake} cannot be loaded, so none of its batch was: {error}"
                    ) from None
                database.commit()
                done += len(some)
                if s is not None:
                    s.count(done, len(new), "files")
    return loaded


def _chunks(files: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(files), FILES_AT_A_TIME):
        yield files[start : start + FILES_AT_A_TIME]


def _events(database: duckdb.DuckDBPyConnection, files: Sequence[Path], key_at: int) -> None:
    """By name, because files of the layout `by-type` have one event type each."""
    source = f"read_parquet({_list(files)}, union_by_name = true, filename = true)"
    present = {row[0] for row in database.execute(f"describe select * from {source}").fetchall()}
    envelope = [f"to_json({name}) as {name}" if name == "attributes" else name for name in ENVELOPE]
    types = [f'to_json("{name}") as "{name}"' for name in event_columns() if name in present]
    columns = ", ".join([*envelope, *types, f"substring(filename, {key_at}) as _file"])
    database.execute(f"insert into raw.events by name select {columns} from {source}")


def _backfill(database: duckdb.DuckDBPyConnection, files: Sequence[Path], key_at: int) -> None:
    source = f"read_parquet({_list(files)}, union_by_name = true, filename = true)"
    columns = "source, type, event_id, occurred_at, cast(payload as json) as payload"
    database.execute(
        f"insert into raw.events_backfill by name select {columns}, substring(filename, {key_at}) as _file from {source}"
    )


def _hits(database: duckdb.DuckDBPyConnection, files: Sequence[Path], key_at: int) -> None:
    """Firehose compresses; the emulator gives the files the same names and does not."""
    by_kind: dict[str, list[Path]] = {"gzip": [], "uncompressed": []}
    for path in files:
        by_kind["gzip" if _begins(path) == GZIP else "uncompressed"].append(path)
    for kind, some in by_kind.items():
        if some:
            source = f"read_ndjson_objects({_list(some)}, compression = '{kind}', filename = true)"
            database.execute(
                f"insert into raw.collect by name select json as data, substring(filename, {key_at}) as _file from {source}"
            )


def _changes(database: duckdb.DuckDBPyConnection, files: Sequence[Path], key_at: int) -> None:
    """File by file, because each table has columns of its own, and more of them with time.

    A decimal is text in the JSON: DuckDB would read one of 35 digits as a floating-point number.
    """
    for path in files:
        source = f"read_parquet({_list([path])}, filename = true, file_row_number = true)"
        columns = [row[:2] for row in database.execute(f"describe select * from {source}").fetchall()]
        values = []
        for name, type_ in columns:
            if name not in ("filename", "file_row_number"):
                value = f"cast({_quoted(name)} as varchar)" if type_.startswith("DECIMAL") else _quoted(name)
                values.append(f"{_quoted(name)} := {value}")
        database.execute(
            f"insert into raw.changes by name select to_json(struct_pack({', '.join(values)})) as data, "
            f"file_row_number as _row, substring(filename, {key_at}) as _file from {source}"
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(GZIP))


def _list(files: Sequence[Path]) -> str:
    return "[" + ", ".join("'" + str(path).replace("'", "''") + "'" for path in files) + "]"
