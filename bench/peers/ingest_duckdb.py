"""A load → Parquet in one statement, on one thread."""

import json

import duckdb

CONNECTION = duckdb.connect(config={"threads": 1})


def turn(body: bytes) -> tuple[bytes, list[tuple[str, int]], dict]:
    job = json.loads(body)
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in job["columns"])
    options = "header = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"', compression = 'gzip'"
    rows = f"SELECT * FROM read_csv('{job['file']}', columns = {{{columns}}}, {options})"
    CONNECTION.execute(f"COPY ({rows}) TO '{job['output']}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")
    return b"", [], job
