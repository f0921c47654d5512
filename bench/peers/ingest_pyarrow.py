"""A load → Parquet with pyarrow's own CSV reader, on one thread."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

pa.set_cpu_count(1)
pa.set_io_thread_count(1)

TYPES = {
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "double": pa.float64(),
    "integer": pa.int32(),
    "text": pa.string(),
    "timestamp": pa.timestamp("us"),
}


def type_of(kind: str) -> pa.DataType:
    if kind.startswith("decimal("):
        return pa.decimal128(*map(int, kind.removeprefix("decimal(").removesuffix(")").split(",")))
    return TYPES[kind]


def turn(body: bytes) -> tuple[bytes, list[tuple[str, int]], pa.Table]:
    job = json.loads(body)
    types = {name: type_of(kind) for name, kind in job["columns"]}
    convert = csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=False)
    table = csv.read_csv(job["file"], read_options=csv.ReadOptions(use_threads=False), convert_options=convert)
    pq.write_table(table, job["output"], compression="zstd", compression_level=1)
    return b"", [], table
