"""What runs cost by size: fills the raw tables with made rows, without files, and times the models.

    .local/warehouse/bin/python -m local.warehouse.scale DATABASE.duckdb --days 100 --orders 100000 --hits 100000

It prints the seconds of the first run, and of one after one more day. The rows of a day are those of a file for each hour.
"""

import argparse
import os
import resource
import sys
import time
from pathlib import Path

from local.warehouse import load, project

# Every client has 25 hits a day, two minutes apart, and comes back in the evening.
ORDERS = """
insert into raw.events by name
select
  'order-' || day || '-' || n as event_id, 'message-' || day || '-' || n as message_id, 'orders' as source, 'OrderCreated' as type,
  moment as sent_at, 'hash'::blob as payload_sha256, 'events/' || day || '/' || hour(moment) as _file,
  json_object(
    'order_id', 'O-' || day || '-' || n // 2, 'order_ts', moment::varchar, 'customer_id', 'C-' || n % 10007, 'sku', 'SKU-' || n % 997,
    'quantity', 1 + n % 5, 'price', json_object('units', 100 + n % 9900, 'scale', 2), 'status', 'ORDER_STATUS_PAID') as order_created
from (
  select {day} as day, n, timestamptz '2026-01-01 00:00:00Z' + to_days({day}) + to_microseconds(86400000000 // {count} * n) as moment
  from range({count}) as r(n)
)
"""
HITS = """
insert into raw.collect by name
select
  'collect/' || day || '/' || at_ms // 3600000 % 24 as _file,
  json_object(
    'event_id', 'hit-' || day || '-' || n, 'hit', json_object('type', 'pageview', 'time', at_ms),
    'context', json_object('client_id', 'client-' || n // 25), 'products', json_array(),
    'request', json_object('timestamp', at_ms, 'body', json_object('t', 'pageview', 'dp', '/p' || n % 500))) as data
from (
  select {day} as day, n, epoch_ms(timestamp '2026-01-01' + to_days({day})) + n // 25 % 43200 * 1000 + n % 25 * 120000
    + if(n % 25 > 19, 36000000, 0) as at_ms
  from range({count}) as r(n)
)
"""


def main() -> int:
    """Fills, runs, adds a day, and runs again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database", type=Path)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--hits", type=int, default=100_000)
    chosen = parser.parse_args()
    chosen.database.unlink(missing_ok=True)
    project.configure(chosen.database)
    with project.connected(chosen.database) as database:
        database.execute(f"set memory_limit = '{os.environ.get('LANDFALL_WAREHOUSE_MEMORY', '4GB')}'")
        database.execute("set preserve_insertion_order = false")
        load.create(database)
        for day in range(chosen.days):
            _fill(database, day, chosen.orders, chosen.hits)
    first = _run()
    with project.connected(chosen.database) as database:
        _fill(database, chosen.days, chosen.orders, chosen.hits)
    more, again = _run(), _run()
    with project.connected(chosen.database) as database:
        rows = [
            database.execute(f"select count(*) from {table}").fetchall()[0][0]
            for table in ("marts.fct_orders", "events.logs")
        ]
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    size = chosen.database.stat().st_size / 1e9
    print(
        f"{chosen.days} days: first run {first:.1f} s, one more day {more:.1f} s, nothing new {again:.1f} s; "
        f"{rows[0]:,} orders, {rows[1]:,} hits in sessions, {gigabytes:.1f} GiB of memory at most, {size:.1f} GB on disk"
    )
    return 0


def _fill(database, day: int, orders: int, hits: int) -> None:
    if orders:
        database.execute(ORDERS.format(day=day, count=orders))
    if hits:
        database.execute(HITS.format(day=day, count=hits))


def _run() -> float:
    started = time.monotonic()
    project.dbt("run")
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
