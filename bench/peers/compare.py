"""Reads Parquet files back and compares them row by row. Fails at the first difference.

    compare.py <file> <file> …
"""

import sys

import pyarrow as pa
import pyarrow.parquet as pq


def main(paths: list[str]) -> None:
    tables = [(path, read(path)) for path in paths]
    # The peers have a column for each event type that they know; ours has one for every type in `proto/`.
    known = min((table.column_names for _, table in tables), key=len)
    for path, table in tables:
        if unknown := [name for name in table.column_names if name not in known and table[name].null_count < len(table)]:
            raise SystemExit(f"{path} has values in {', '.join(unknown)}, which not every file has")
    (first_path, first), *others = [(path, table.select(known)) for path, table in tables]
    for path, table in others:
        if names_and_types(table) != names_and_types(first):
            raise SystemExit(f"{path} has other columns than {first_path}:\n{table.schema}\n\n{first.schema}")
        if table.num_rows != first.num_rows:
            raise SystemExit(f"{path} has {table.num_rows} rows, {first_path} has {first.num_rows}")
        if table.equals(first):
            continue
        for n, (row, expected) in enumerate(zip(table.to_pylist(), first.to_pylist(), strict=True)):
            if row != expected:
                raise SystemExit(f"row {n} of {path} differs from {first_path}:\n{row}\n\n{expected}")
    print(first.num_rows)


def read(path: str) -> pa.Table:
    table = pq.ParquetFile(path).read()
    if "event_id" not in table.column_names:
        return table
    # The order of events is ours to promise, not the peers'.
    return table.sort_by([("sent_at", "ascending"), ("event_id", "ascending")])


def names_and_types(table: pa.Table) -> list[tuple[str, str]]:
    return [(field.name, str(field.type).replace(" not null", "")) for field in table.schema]


main(sys.argv[1:])
