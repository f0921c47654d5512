"""The demo: seeded events and objects through the whole stack, counted at the other end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from local import build, hits, ingesting, lake, loads, objects, protos, queues, stack, topics
from local.paths import LAKE, ROOT
from local.progress import step

NO_TYPE = "(none)"
PORTION = 5_000  # each delete of the emulator reads the whole queue, so a short queue is much faster
QUERY = f"""\
select
  order_created.order_ts::date as day,
  order_created.status as status,
  count(*) as orders,
  sum(order_created.quantity) as cards,
  sum(order_created.quantity * order_created.price.units
    / 10 ** order_created.price.scale)::decimal(18, 2) as revenue
from '{LAKE.relative_to(ROOT)}/events/**/*.parquet'
where type = 'OrderCreated'
group by all
order by all
"""


@dataclass(frozen=True)
class Landed:
    """What the files contain."""

    rows: int
    event_ids: set[str]
    rows_by_type: dict[str, int]
    rows_kept_raw: int


def run(count: int, seed: int) -> int:
    """Runs the demo. 0 if nothing is lost, duplicated or in the wrong place."""
    protos.ensure()
    deployed = stack.up(commands=build.with_linked("pump"), fresh=True)
    console = Console()
    incoming = objects.generate(seed)
    with deployed.without_ticks(stack.INGESTER):  # or loads would be taken further while they are counted
        wrong = [
            *_events(deployed, count, seed, console),
            *loads.run(deployed, seed, incoming, console),
            *ingesting.run(deployed, incoming, console),
            *hits.run(deployed, seed, console),
            *topics.run(deployed, seed, console),
        ]
    lake.note_loads(deployed)
    running = (
        "`make warehouse` shows what landed as tables and a report. The stack is still running: `source .local/env` points a shell "
        "at it, `make down` stops it."
    )
    console.print(running, highlight=False, soft_wrap=True)
    return 1 if wrong else 0


def _events(deployed: stack.Stack, count: int, seed: int, console: Console) -> list[str]:
    """Returns what is wrong: events that are not in exactly one of lake and quarantine, and files without a notice."""
    from local.events import generate  # needs the generated classes

    subscriber = queues.Subscriber(deployed, "landfall-demo-subscriber")
    with step(f"Making {count:,} events (seed {seed})"):
        events = generate(count, seed)
    ids: dict[str, str] = {}
    with step(f"Sending and landing them, {PORTION:,} at a time") as s:
        for start in range(0, count, PORTION):
            with queues.paused(deployed, queues.EVENTS):
                ids |= queues.send(deployed, events[start : start + PORTION], s, landed=start, of=count)
            queues.wait_until_empty(deployed, queues.EVENTS, len(ids), s, of=count)
    with step("Fetching the lake to .local/lake"):
        fetched = lake.fetch(deployed)
        files = lake.events(fetched)
        landed = _read(files)
        reasons = [(ids.get(record["id"], record["id"]), record["reason"]) for record in lake.quarantined(fetched)]
    with step("Receiving the notices"):
        notices = subscriber.receive(len(files))
    dead = queues.depth(deployed, queues.EVENTS.dead_letters).all

    by_id = {event.event_id: event for event in events}
    quarantined = [event_id for event_id, _ in reasons]
    console.print(
        _events_table(
            sent=Counter(event.type or NO_TYPE for event in events),
            landed=landed.rows_by_type,
            quarantined=Counter(by_id[event_id].type or NO_TYPE for event_id in quarantined if event_id in by_id),
        ),
        _quarantine_table(
            Counter((by_id[event_id].kind if event_id in by_id else "?", reason) for event_id, reason in reasons)
        ),
        _files_table(files, notices, landed, dead),
        Syntax(QUERY, "sql", background_color="default"),
    )
    duckdb.sql(QUERY).show(max_rows=40)

    wrong = [
        *_lost_or_duplicated([event.event_id for event in events], landed, quarantined),
        *_misplaced({event.event_id for event in events if event.lands}, landed.event_ids),
        *_unannounced(files, notices),
        *([f"{dead:,} events are in the dead-letter queue."] if dead else []),
    ]
    for sentence in wrong:
        console.print(sentence, style="red", highlight=False, soft_wrap=True)
    if not wrong:
        console.print(
            f"{count:,} sent = {landed.rows:,} landed + {len(quarantined):,} quarantined, each event once; "
            f"files: {len(files):,}, all announced.",
            style="green",
            highlight=False,
            soft_wrap=True,
        )
    return wrong


def _read(files: Sequence[lake.LakeFile]) -> Landed:
    if not files:
        return Landed(0, set(), {}, 0)
    read = duckdb.read_parquet([str(file.path) for file in files])
    rows, raw = read.aggregate("count(*), count(_raw)").fetchall()[0]
    ids = {event_id for (event_id,) in read.select("event_id").fetchall()}
    return Landed(rows, ids, dict(read.aggregate("type, count(*)").fetchall()), raw)


def _events_table(sent: Counter[str], landed: dict[str, int], quarantined: Counter[str]) -> Table:
    from local.events import UNREGISTERED_TYPE

    table = Table("type as sent", title="Events")
    for heading in ("sent", "landed", "quarantined"):
        table.add_column(heading, justify="right")
    for type_, number in sent.most_common():
        name = f"{type_} (unregistered: payload only)" if type_ == UNREGISTERED_TYPE else type_
        table.add_row(name, f"{number:,}", f"{landed.get(type_, 0):,}", f"{quarantined[type_]:,}")
    table.add_section()
    table.add_row("all", f"{sent.total():,}", f"{sum(landed.values()):,}", f"{quarantined.total():,}")
    return table


def _quarantine_table(quarantined: Counter[tuple[str, str]]) -> Table:
    table = Table("what was wrong", "recorded reason", title="Quarantined")
    table.add_column("events", justify="right")
    for (kind, reason), number in sorted(quarantined.items()):
        table.add_row(kind, reason, f"{number:,}")
    return table


def _files_table(files: Sequence[lake.LakeFile], notices: Sequence[queues.Notice], landed: Landed, dead: int) -> Table:
    mean_bytes = sum(file.size for file in files) // max(len(files), 1)
    table = Table(title="Files", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("files", f"{len(files):,}")
    table.add_row("mean size", f"{mean_bytes:,} bytes")
    table.add_row("rows with a payload in _raw, which columns cannot represent", f"{landed.rows_kept_raw:,}")
    table.add_row("notices received by a subscriber", f"{len(notices):,}")
    table.add_row("in the dead-letter queue", f"{dead:,}")
    return table


def _lost_or_duplicated(sent: Sequence[str], landed: Landed, quarantined: Sequence[str]) -> list[str]:
    wrong = []
    if landed.rows + len(quarantined) != len(sent):
        wrong.append(f"{len(sent):,} were sent, but {landed.rows:,} landed and {len(quarantined):,} are quarantined.")
    if landed.rows != len(landed.event_ids):
        wrong.append(f"{landed.rows:,} rows hold only {len(landed.event_ids):,} different events.")
    if lost := set(sent) - landed.event_ids.union(quarantined):
        wrong.append(f"{len(lost):,} events are nowhere, such as {min(lost)}.")
    if both := landed.event_ids.intersection(quarantined):
        wrong.append(f"{len(both):,} events are both landed and quarantined, such as {min(both)}.")
    return wrong


def _misplaced(good: set[str], landed: set[str]) -> list[str]:
    wrong = []
    if rejected := good - landed:
        wrong.append(f"{len(rejected):,} good events did not land, such as {min(rejected)}.")
    if accepted := landed - good:
        wrong.append(f"{len(accepted):,} bad events landed, such as {min(accepted)}.")
    return wrong


def _unannounced(files: Sequence[lake.LakeFile], notices: Sequence[queues.Notice]) -> list[str]:
    wrong = []
    announced = {(notice.key, notice.size, notice.etag) for notice in notices}
    written = {(file.key, file.size, file.etag) for file in files}
    if announced != written:
        wrong.append(f"{len(written):,} files were written, but the notices name {len(announced & written):,} of them.")
    if len(notices) != len(files):
        wrong.append(f"{len(files):,} files were announced by {len(notices):,} notices.")
    return wrong
