"""Seeded events of a maker of trading cards, good, odd and bad. The same seed gives the same events."""

import base64
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from google.protobuf import message as protobuf
from landfall.events.v1.cards_pb2 import CardCatalogCreated
from landfall.events.v1.decimal_pb2 import Decimal
from landfall.events.v1.manufacturing_pb2 import ManufacturingBatch
from landfall.events.v1.orders_pb2 import OrderCreated, OrderStatus

from local import queues

SOURCES = {"CardCatalogCreated": "cards", "ManufacturingBatch": "manufacturing", "OrderCreated": "orders"}
ALIASES = {"CardCatalogCreated": "CardCatalogEntryInserted"}
UNREGISTERED_TYPE = "CardGraded"

BAD_SHARE = 0.005
ODD_SHARE = 0.0005
TYPE_WEIGHTS = {"OrderCreated": 90, "CardCatalogCreated": 9, "ManufacturingBatch": 1}

FIRST_DAY = 1_793_491_200  # 2026-11-01T00:00:00Z
DAYS = 3
DAY_S = 86_400

SPORTS = {
    "Baseball": ["Harbor Gulls", "Iron Valley Miners"],
    "Basketball": ["Lakeside Herons", "Northgate Comets"],
    "Football": ["Prairie Bison", "Redwood Rams"],
    "Hockey": ["Glacier Bay Orcas", "Summit Wolves"],
}
PLAYERS = ["Ana Ruiz", "Bo Lindqvist", "Chidi Okafor", "Dana O’Neil", "Émile Tremblay", "Jūratė Petrauskė", "佐藤 健"]
PARALLELS = ["Gold", "Holo", "Prism", "Refractor"]


@dataclass(frozen=True)
class Event(queues.Message):
    """A message, and what should become of it."""

    kind: str
    """`good`, or what is odd or bad about it."""
    lands: bool


def generate(count: int, seed: int) -> list[Event]:
    """`count` events, of which 0.5 % are bad and a few are odd but have to land."""
    rng = random.Random(seed)
    special = rng.sample(range(count), round(count * BAD_SHARE) + round(count * ODD_SHARE))
    bad_at = special[: round(count * BAD_SHARE)]
    kinds = {at: BAD[n % len(BAD)] for n, at in enumerate(bad_at)}
    kinds.update({at: ODD[n % len(ODD)] for n, at in enumerate(special[len(bad_at) :])})
    return [kinds.get(at, _good)(rng) for at in range(count)]


def encode(message: protobuf.Message) -> str:
    """The body of a message."""
    return _base64(message.SerializeToString())


def _base64(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


def _event(rng: random.Random, name: str, body: str, kind: str = "good", lands: bool = True) -> Event:
    event_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return Event(event_id, SOURCES[name], name, body, kind, lands)


def _order(rng: random.Random) -> OrderCreated:
    order = OrderCreated(
        order_id=f"O-{rng.getrandbits(40):010x}",
        customer_id=f"C-{min(int(rng.paretovariate(1.2) * 40), 99_999):05d}",
        sku=_sku(rng),
        quantity=min(int(rng.paretovariate(2.0)), 50),
        price=Decimal(units=rng.choice([99, 199, 299, 499, 999, 2499, 9999]), scale=2),
        status=rng.choices(
            [
                OrderStatus.ORDER_STATUS_CREATED,
                OrderStatus.ORDER_STATUS_PAID,
                OrderStatus.ORDER_STATUS_SHIPPED,
                OrderStatus.ORDER_STATUS_CANCELLED,
            ],
            weights=[20, 35, 40, 5],
        )[0],
    )
    order.order_ts.FromMicroseconds(FIRST_DAY * 1_000_000 + rng.randrange(DAYS * DAY_S * 1_000_000))
    return order


def _card(rng: random.Random) -> CardCatalogCreated:
    sport = rng.choice(list(SPORTS))
    player = rng.choice(PLAYERS)
    card = CardCatalogCreated(
        sku=_sku(rng), card_name=f"2026 {player}", sport=sport, player_name=player, team_name=rng.choice(SPORTS[sport])
    )
    if rng.random() < 0.3:
        card.parallel = rng.choice(PARALLELS)
        card.print_run = rng.choice([1, 10, 25, 99, 499])
    return card


def _batch(rng: random.Random) -> ManufacturingBatch:
    batch = ManufacturingBatch(
        batch_id=f"B-{rng.randrange(10**6):06d}",
        sku=_sku(rng),
        quantity_produced=rng.randrange(1_000, 5_000_000),
        defect_rate_estimate=Decimal(units=rng.randrange(0, 500), scale=5),
    )
    batch.production_date.FromSeconds(FIRST_DAY + rng.randrange(DAYS) * DAY_S)
    return batch


def _sku(rng: random.Random) -> str:
    return f"SKU-{min(int(rng.paretovariate(1.1) * 10), 9_999):04d}"


MAKERS: dict[str, Callable[[random.Random], protobuf.Message]] = {
    "OrderCreated": _order,
    "CardCatalogCreated": _card,
    "ManufacturingBatch": _batch,
}


def _good(rng: random.Random) -> Event:
    (name,) = rng.choices(list(TYPE_WEIGHTS), weights=list(TYPE_WEIGHTS.values()))
    event = _event(rng, name, encode(MAKERS[name](rng)))
    return replace(event, type=ALIASES[name]) if name in ALIASES and rng.random() < 0.25 else event


def _unregistered_type(rng: random.Random) -> Event:
    event = _event(rng, "CardCatalogCreated", encode(_card(rng)), "unregistered type")
    return replace(event, type=UNREGISTERED_TYPE)


def _unknown_field(rng: random.Random) -> Event:
    unknown = b"\xfa\x7f\x03new"  # field 2047, a string
    payload = _order(rng).SerializeToString() + unknown
    return _event(rng, "OrderCreated", _base64(payload), "unknown field")


def _bad_base64(rng: random.Random) -> Event:
    return _event(rng, "OrderCreated", "*" + encode(_order(rng))[1:], "bad base64", lands=False)


def _garbage(rng: random.Random) -> Event:
    return _event(rng, "OrderCreated", "Is this thing on?", "garbage", lands=False)


def _truncated(rng: random.Random) -> Event:
    payload = _order(rng).SerializeToString()[:-1]
    return _event(rng, "OrderCreated", _base64(payload), "truncated protobuf", lands=False)


def _wrong_wire_type(rng: random.Random) -> Event:
    order_id = b"\x08\x01"  # field 1, a string, as a number
    payload = _order(rng).SerializeToString() + order_id
    return _event(rng, "OrderCreated", _base64(payload), "wrong wire type", lands=True)


def _invalid_utf8(rng: random.Random) -> Event:
    order_id = b"\x0a\x02\xc3\x28"
    payload = _order(rng).SerializeToString() + order_id
    return _event(rng, "OrderCreated", _base64(payload), "invalid UTF-8", lands=False)


def _no_type(rng: random.Random) -> Event:
    event = _event(rng, "OrderCreated", encode(_order(rng)), "no type", lands=False)
    return replace(event, type=None)


BAD = [_bad_base64, _garbage, _truncated, _invalid_utf8, _no_type]
ODD = [_unregistered_type, _unknown_field, _wrong_wire_type]
