"""Counts in plain Python what the models compute in SQL. It reads the files of a lake itself, and shares no code with the models."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SESSION_GAP_MS = 30 * 60 * 1000
GA4_ACTIONS = {
    "select_item": "click",
    "view_item": "detail",
    "add_to_cart": "add",
    "remove_from_cart": "remove",
    "begin_checkout": "checkout",
    "purchase": "purchase",
    "refund": "refund",
}


def cards(lake: Path) -> dict[str, Any]:
    """Orders and revenue, cards and batches."""
    orders = _unique(lake, "order_created", {"OrderCreated"})
    entries = _unique(lake, "card_catalog_created", {"CardCatalogCreated", "CardCatalogEntryInserted"})
    batches = _unique(lake, "manufacturing_batch", {"ManufacturingBatch"})
    per_day: dict[str, Decimal] = defaultdict(Decimal)
    amount = Decimal()
    for order in orders:
        value = _decimal(order["price"]) * order["quantity"]
        amount += value
        if order["status"] != "ORDER_STATUS_CANCELLED":
            per_day[order["order_ts"].date().isoformat()] += value
    skus = {event["sku"] for event in [*orders, *entries, *batches] if event["sku"]}
    return {
        "order lines": len(orders),
        "orders": len({order["order_id"] for order in orders}),
        "pieces": sum(order["quantity"] for order in orders),
        "amount": amount,
        "order revenue": sum(per_day.values(), Decimal()),
        "order revenue per day": {day: value for day, value in sorted(per_day.items()) if value},
        "cards": len(skus),
        "cards without an entry": len(skus - {entry["sku"] for entry in entries}),
        "batches": len({batch["batch_id"] for batch in batches}),
    }


def _decimal(message: dict[str, int] | None) -> Decimal:
    return Decimal(message["units"]).scaleb(-message["scale"]) if message else Decimal()


def _unique(lake: Path, column: str, types: set[str]) -> list[dict[str, Any]]:
    """Of what has an id one of each, of the rest one of each payload that nothing with an id has."""
    with_id: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    without: dict[str, dict[str, Any]] = {}
    for event_id, order, payload in _delivered(lake, column, types):
        if event_id is None:
            without.setdefault(_canonical(payload), payload)
        elif event_id not in with_id or order < with_id[event_id][0]:
            with_id[event_id] = (order, payload)
    payloads = [payload for _, payload in with_id.values()]
    known = {_canonical(payload) for payload in payloads}
    return payloads + [payload for text, payload in without.items() if text not in known]


def _canonical(payload: dict[str, Any]) -> str:
    return json.dumps(payload, sort_keys=True, default=str)


def _delivered(
    lake: Path, column: str, types: set[str]
) -> Iterator[tuple[str | None, tuple[Any, ...], dict[str, Any]]]:
    for rank, folder in enumerate(("events", "events_backfill")):
        for path in (lake / folder).rglob("*.parquet"):
            columns = ["event_id", "message_id", "sent_at", column]
            for row in pq.read_table(path, columns=columns, partitioning=None).to_pylist():
                if row[column] is not None:
                    own = row["event_id"] if row["event_id"] != row["message_id"] else None
                    yield own, (rank, row["sent_at"], row["message_id"]), row[column]
    for path in (lake / "backfill").rglob("*.parquet"):
        schema = _fields(lake, column)
        for row in pq.read_table(path, partitioning=None).to_pylist():
            if row["type"] in types:
                parsed = json.loads(row["payload"])
                yield (
                    row["event_id"],
                    (1, row["occurred_at"]),
                    {name: _typed(name, parsed.get(name)) for name in schema},
                )


def _fields(lake: Path, column: str) -> list[str]:
    first = next((lake / "events").rglob("*.parquet"))
    return [field.name for field in pq.read_schema(first).field(column).type]


def _typed(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {"units": int(value["units"]), "scale": int(value["scale"])}
    if name in ("order_ts", "production_date"):
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    return value


def hits(lake: Path) -> dict[str, Any]:
    """Sessions, page views, purchases and revenue, in all and by hour."""
    unique: dict[str, dict[str, Any]] = {}
    for line in lines(lake):
        known = unique.get(line["event_id"])
        if known is None or _when(line) < _when(known):
            unique[line["event_id"]] = line
    accepted, rejected = [], 0
    for line in unique.values():
        body = line["request"]["body"]
        is_rejected = line["service"]["id"] == "api.collect.rejected"
        if not is_rejected and (line["hit"]["type"] or body.get("t") or body.get("en")):
            accepted.append(line)
        else:
            rejected += 1
    clients: dict[str, list[int]] = defaultdict(list)
    for line in accepted:
        client = line["context"]["client_id"] or line["context"]["user_id"]
        if client:
            clients[client].append(line["hit"]["time"])
    begun: list[int] = []
    for times in clients.values():
        times.sort()
        begun += [
            at
            for before, at in zip([None, *times[:-1]], times, strict=True)
            if before is None or at - before > SESSION_GAP_MS
        ]
    purchases: dict[str, dict[str, Any]] = {}
    for line in sorted(accepted, key=lambda line: (line["hit"]["time"], line["event_id"])):
        body = line["request"]["body"]
        transaction = _either(body, "ti", "transaction_id")
        if transaction and _action(body) == "purchase":
            purchases.setdefault(transaction, line)
    views = [line["hit"]["time"] for line in accepted if _is_view(line)]
    actions = sum(len(line["products"]) for line in accepted if _action(line["request"]["body"]))
    revenue: dict[str, Decimal] = defaultdict(Decimal)
    for line in purchases.values():
        body = line["request"]["body"]
        revenue[_hour(line["hit"]["time"])] += Decimal(_either(body, "tr", "value") or 0)
    return {
        "hits": len(accepted),
        "rejected": rejected,
        "sessions": len(begun),
        "page views": len(views),
        "products of actions": actions,
        "purchases": len(purchases),
        "purchase revenue": sum(revenue.values(), Decimal()),
        "new sessions per hour": _per_hour(begun),
        "page views per hour": _per_hour(views),
        "purchase revenue per hour": {hour: value for hour, value in sorted(revenue.items()) if value},
    }


def lines(lake: Path) -> Iterator[dict[str, Any]]:
    """The lines of the files of collect."""
    for path in (lake / "collect").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
            yield from map(json.loads, text.decode().rstrip("\n").split("\n"))


def _either(body: dict[str, Any], v1: str, ga4: str) -> str | None:
    """A parameter of version 1, or else of GA4, as text or as a number."""
    given = (body.get(name) for name in (v1, f"ep.{ga4}", f"epn.{ga4}"))
    return next((str(value) for value in given if value not in (None, "")), None)


def _action(body: dict[str, Any]) -> str | None:
    """What was done with the products of a hit, in the words of version 1 of the protocol."""
    if body.get("pa"):
        return str(body["pa"]).lower()
    if str(body.get("t")).lower() == "transaction":
        return "purchase"
    return GA4_ACTIONS.get(str(body.get("en")).lower())


def _when(line: dict[str, Any]) -> tuple[int, int]:
    return line["hit"]["time"], line["request"]["timestamp"]


def _is_view(line: dict[str, Any]) -> bool:
    return line["hit"]["type"] == "pageview" or (
        not line["hit"]["type"] and line["request"]["body"].get("en") == "page_view"
    )


def _hour(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:00")


def _per_hour(times: list[int]) -> dict[str, int]:
    hours: dict[str, int] = defaultdict(int)
    for at in times:
        hours[_hour(at)] += 1
    return dict(sorted(hours.items()))
