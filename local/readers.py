"""The files of a schema history, read by name by every reader at once, and compared row by row with what was sent.

A test of the event types writes the history: twelve versions of the schema, each with a file or several, and the rows that a
reader has to find in them.
"""

import importlib.metadata
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from rich.console import Console
from rich.table import Table

from local import build, environment
from local.progress import Failure, step

# What is installed for a reader when it is missing. DuckDB is in the environment.
PACKAGES = {
    "pyarrow": (
        "pyarrow==25.0.1 ; python_full_version < '3.11'",
        "pyarrow==26.0.1 ; python_full_version >= '3.11'",
    ),
    "polars": (
        "polars==2.0.0 ; python_full_version < '3.11'",
        "polars==2.1.0 ; python_full_version >= '3.11'",
        "polars-runtime-32==2.0.0 ; python_full_version < '3.11'",
        "polars-runtime-32==2.1.0 ; python_full_version >= '3.11'",
    ),
    "pyspark": ("pyspark==4.3.0", "py4j==0.10.9.9"),
}
LAYOUTS = ("together", "by-type")
MAKE = "cargo nextest run --workspace -E 'test(a_history_of_twelve_changes)'"

Row = dict[str, Any]


@dataclass(frozen=True)
class Expected:
    """What the files hold: the only column of an event type that a row has, and its value, by the id of the message."""

    rows: dict[str, Row]
    types: list[str]


class Counts(NamedTuple):
    """Of the rows that a reader finds."""

    rows: int
    equal: int
    different: int
    missing: int


@dataclass(frozen=True)
class Refused:
    """A reader does not read the files at all."""

    reason: str


def install(names: Iterable[str]) -> None:
    """Installs the readers that are missing."""
    missing = [name for name in names if name in PACKAGES and importlib.util.find_spec(name) is None]
    if missing:
        environment.install(*(package for name in missing for package in PACKAGES[name]))


def run(names: Iterable[str]) -> int:
    """0 when these readers find exactly the expected rows in both layouts, and every file of a type has the same columns."""
    history = build.target() / "tmp" / "schema-history"
    expected = _expected(history / "expected.ndjson")
    files = {layout: sorted((history / layout).rglob("*.parquet")) for layout in LAYOUTS}
    if not all(files.values()):
        raise Failure(f"There are no files of the schema history. This makes them: {MAKE}")
    names = list(names)
    if "pyspark" in names and "JAVA_HOME" not in os.environ and shutil.which("java") is None:
        raise Failure("Spark needs Java: there is no java on the PATH. On Debian: apt-get install openjdk-17-jre-headless")
    install(names)

    table = Table("reader", "layout", title="Twelve versions of the schema, read together by name")
    for heading in ("files", "rows", "as expected", "different", "missing"):
        table.add_column(heading, justify="right", no_wrap=True)
    exact, refusals = True, []
    for name in names:
        for layout, paths in files.items():
            with step(f"Reading {layout} with {name}"):
                found = _read(READERS[name], paths)
            if isinstance(found, Refused):
                refusals.append(f"{name} cannot read {layout}: {found.reason}")
                found = []
            counts = _compare(found, expected)
            exact = exact and counts == Counts(len(expected.rows), len(expected.rows), 0, 0)
            cells = (f"{count:,}" for count in (len(paths), *counts))
            table.add_row(f"{name} {importlib.metadata.version(name)}", layout, *cells)
    in_place = _in_place(files["by-type"])

    console = Console()
    console.print(table)
    for refusal in refusals:
        console.print(refusal, style="red", markup=False)
    console.print(f"{len(files['by-type'])} files of {len(expected.types)} types:", end=" ")
    if in_place:
        console.print("the columns of a type are the same in the same order.", style="green")
    else:
        console.print("a type has files with different columns, or in a different order.", style="red")
    if exact:
        console.print("Every reader finds every row exactly as expected.", style="green")
    else:
        console.print("The readers do not find what is expected.", style="red")
    return 0 if exact and in_place else 1


def _expected(file: Path) -> Expected:
    if not file.is_file():
        raise Failure(f"There is no schema history. This makes it: {MAKE}")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    rows = {line["message_id"]: _without_nulls({line["column"]: line["value"]}) for line in lines}
    return Expected(rows, list(dict.fromkeys(line["column"] for line in lines)))


def _read(read: Callable[[list[Path]], list[Row]], paths: list[Path]) -> list[Row] | Refused:
    try:
        return read(paths)
    except Exception as error:  # Whatever stops a reader is what there is to say about it.
        return Refused(f"{type(error).__name__}: {error}")


def _compare(rows: list[Row], expected: Expected) -> Counts:
    found = [(row["message_id"], _without_nulls({name: row.get(name) for name in expected.types})) for row in rows]
    equal = sum(expected.rows.get(message_id) == row for message_id, row in found)
    missing = len(expected.rows.keys() - {message_id for message_id, _ in found})
    return Counts(len(rows), equal, len(rows) - equal, missing)


def _without_nulls(value: Any) -> Any:
    """A struct without its null members. One that is null is not the same as one that has none left."""
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    return [_without_nulls(element) for element in value] if isinstance(value, list) else value


def _in_place(paths: list[Path]) -> bool:
    """Whether every file has the same envelope, and behind it nothing but the struct of its type, the name of its folder."""
    described = [(path.parent.name, duckdb.read_parquet(str(path))) for path in paths]
    columns = [(type_name, list(zip(read.columns, read.types, strict=True))) for type_name, read in described]
    envelope = columns[0][1][:-1]
    return all(
        all_columns[:-1] == envelope and all_columns[-1][0] == type_name and all_columns[-1][1].id == "struct"
        for type_name, all_columns in columns
    )


def _read_duckdb(paths: list[Path]) -> list[Row]:
    # Without `union_by_name` the columns and the members of structs are those of the first file, and the others are not read.
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    table = connection.read_parquet([str(path) for path in paths], union_by_name=True)
    return [dict(zip(table.columns, row, strict=True)) for row in table.fetchall()]


def _read_pyarrow(paths: list[Path]) -> list[Row]:
    import pyarrow.dataset  # installed by `run`
    import pyarrow.parquet

    # Without a schema the columns and the members of structs are those of the first file, and the others are not read.
    # "permissive" makes int32 and int64 an int64, also inside of structs.
    schemas = [pyarrow.parquet.read_schema(path) for path in paths]
    schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
    table = pyarrow.dataset.dataset(paths, schema=schema).to_table()
    return table.to_pylist(maps_as_pydicts="strict")


def _read_polars(paths: list[Path]) -> list[Row]:
    import polars  # installed by `run`

    # Without a schema a scan has the columns of the first file, and refuses whatever another file has more or has retyped.
    # The schema of all files is that of their relaxed concatenation, which could be collected as well.
    schema = polars.concat([polars.scan_parquet(path) for path in paths], how="diagonal_relaxed").collect_schema()
    casts = polars.ScanCastOptions(integer_cast="upcast", missing_struct_fields="insert")
    return polars.scan_parquet(paths, schema=schema, missing_columns="insert", cast_options=casts).collect().to_dicts()


def _read_spark(paths: list[Path]) -> list[Row]:
    from functools import reduce

    from pyspark.sql import SparkSession  # installed by `run`

    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    spark = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    # `mergeSchema` adds what only some files have, but refuses a field that is an int in one file and a bigint in another.
    # With a schema that says bigint, as a table in a catalog would, all files are read. Here it is that of their union,
    # which would not do for a field of a message in a list or a map.
    each = (spark.read.parquet(str(path)) for path in paths)
    schema = reduce(lambda some, more: some.unionByName(more, allowMissingColumns=True), each).schema
    rows = spark.read.schema(schema).parquet(*map(str, paths)).collect()
    spark.stop()
    return [row.asDict(recursive=True) for row in rows]


READERS: dict[str, Callable[[list[Path]], list[Row]]] = {
    "duckdb": _read_duckdb,
    "pyarrow": _read_pyarrow,
    "polars": _read_polars,
    "pyspark": _read_spark,
}
