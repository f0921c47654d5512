"""The script that people write for a backfill: psycopg, protobuf and pyarrow, as handler.py decodes. Files go to a folder, not to S3.

Arguments: the URL of the database, the table, the folder, and how many rows to read at most (0: all).
"""

import hashlib
import json
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import DecodeError
from handler import COLUMNS, SCHEMA

ROWS_AT_A_TIME = 50_000


def main(url: str, table: str, folder: Path, limit: int) -> None:
    """Writes a file for each day of each batch, and prints what it did as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    read = landed = number = 0
    with psycopg.connect(url) as connection, connection.cursor("backfill", binary=True) as cursor:
        query = f"select id, source, type, payload, created_at, event_id from {table} order by id"
        cursor.execute(query + (f" limit {limit}" if limit else ""))
        while rows := cursor.fetchmany(ROWS_AT_A_TIME):
            days = defaultdict(list)
            for id_, source, name, payload, created_at, event_id in rows:
                read += 1
                if name is None:
                    continue
                row = {
                    "event_id": str(event_id) if event_id else f"{table}/{id_}",
                    "message_id": f"{table}/{id_}",
                    "source": source,
                    "type": name,
                    "sent_at": created_at,
                    "payload_sha256": hashlib.sha256(payload).digest(),
                }
                if name in COLUMNS:
                    column, decode = COLUMNS[name]
                    try:
                        row[column] = decode(payload)
                    except DecodeError:
                        continue
                else:
                    row["_raw"] = payload
                days[created_at.date()].append(row)
            for day, of_day in days.items():
                table_of_day = pa.Table.from_pylist(of_day, schema=SCHEMA)
                path = folder / f"{day}-{number:05}.parquet"
                pq.write_table(table_of_day, path, compression="zstd", compression_level=1)
                landed += len(of_day)
            number += 1
    print(
        json.dumps(
            {
                "read": read,
                "landed": landed,
                "seconds": time.monotonic() - started,
                "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
