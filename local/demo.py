"""The demo: seeded events through the whole stack, counted at the other end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from local import lake, protos, queues, stack
from local.paths import LAKE, ROOT
from local.progress import step

QUERY = """\
select
  order_created.order_ts::date as day,
  order_created.status as status,
  count(*) as orders,
  sum(order_created.quantity) as cards,
  sum(order_created.quantity * order_created.price.units
    / 10 ** order_created.price.scale)::decimal(18, 2) as revenue
from '{files}'
where type = 'OrderCreated'
group by all
order by all
"""


@dataclass(frozen=True)
class Landed:
    """What the files say."""

    rows: int
    event_ids: set[str]
    rows_by_type: Counter[str]
    rows_kept_raw: int


def run(count: int, seed: int) -> int:
    """Runs the demo. 0 when every event is in exactly one of lake and quarantine, and every file was announced."""
    protos.ensure()
    from local.events import generate  # needs the generated classes

    console = Console()
    deployed = stack.up(fresh=True)
    subscriber = queues.Subscriber(deployed, "landfall-demo-subscriber")
    with step(f"Making {count:,} events (seed {seed})"):
        events = generate(count, seed)
    with step("Sending them to the events queue") as s, queues.paused(deployed):
        ids = queues.send(deployed, events, s)
    with step("Landing them") as s:
        queues.wait_until_empty(deployed, count, s)
    with step("Fetching the lake to .local/lake"):
        fetched = lake.fetch(deployed)
        files = lake.events(fetched)
        quarantine = list(lake.quarantined(fetched))
    with step("Hearing the notices"):
        notices = subscriber.hear(len(files))

    landed = _read(files)
    quarantined = [ids.get(record["id"], record["id"]) for record in quarantine]
    types_sent = Counter(event.type or "(none)" for event in events)
    types_by_id = {event.event_id: event.type or "(none)" for event in events}
    types_quarantined = Counter(types_by_id.get(event_id, "(unknown)") for event_id in quarantined)

    table = Table("type as sent", title="Events")
    for heading in ("sent", "landed", "quarantined"):
        table.add_column(heading, justify="right")
    for type_, sent in types_sent.most_common():
        table.add_row(type_, f"{sent:,}", f"{landed.rows_by_type[type_]:,}", f"{types_quarantined[type_]:,}")
    table.add_section()
    table.add_row("all", f"{count:,}", f"{landed.rows:,}", f"{len(quarantine):,}")
    console.print(table)

    table = Table("reason", title="Quarantined")
    table.add_column("events", justify="right")
    for reason, number in sorted(Counter(record["reason"] for record in quarantine).items()):
        table.add_row(reason, f"{number:,}")
    console.print(table)

    dead = queues.depth(deployed, "EventsDeadLetterQueueUrl")
    mean_bytes = sum(file.size for file in files) // max(len(files), 1)
    table = Table(title="Files", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("files", f"{len(files):,}")
    table.add_row("mean size", f"{mean_bytes:,} bytes")
    table.add_row("rows that keep their whole payload in _raw", f"{landed.rows_kept_raw:,}")
    table.add_row("notices seen by the subscriber", f"{len(notices):,}")
    table.add_row("in the dead-letter queue", f"{dead:,}")
    console.print(table)

    query = QUERY.format(files=f"{LAKE.relative_to(ROOT)}/events/**/*.parquet")
    console.print(Syntax(query, "sql", background_color="default"))
    duckdb.sql(query).show(max_rows=40)

    wrong = [
        *_lost_or_doubled([event.event_id for event in events], landed, quarantined),
        *_misplaced({event.event_id for event in events if event.lands}, landed.event_ids),
        *_unannounced(files, notices),
    ]
    if dead:
        wrong.append(f"{dead:,} events are in the dead-letter queue.")
    if wrong:
        console.print(*wrong, sep="\n", style="red")
        return 1
    console.print(
        f"{count:,} sent = {landed.rows:,} landed + {len(quarantine):,} quarantined, each event once; "
        f"{len(files):,} files, each announced.",
        style="green",
    )
    return 0


def _read(files: Sequence[lake.LakeFile]) -> Landed:
    if not files:
        return Landed(0, set(), Counter(), 0)
    read = duckdb.read_parquet([str(file.path) for file in files])
    rows, raw = read.aggregate("count(*), count(_raw)").fetchall()[0]
    by_type = Counter(dict(read.aggregate("type, count(*)").fetchall()))
    ids = {event_id for (event_id,) in read.select("event_id").fetchall()}
    return Landed(rows, ids, by_type, raw)


def _lost_or_doubled(sent: Sequence[str], landed: Landed, quarantined: Sequence[str]) -> list[str]:
    wrong = []
    if landed.rows + len(quarantined) != len(sent):
        wrong.append(f"{len(sent):,} events were sent, but {landed.rows:,} landed and {len(quarantined):,} are quarantined.")
    if landed.rows != len(landed.event_ids):
        wrong.append(f"{landed.rows:,} rows hold only {len(landed.event_ids):,} different events.")
    arrived = landed.event_ids.union(quarantined)
    if lost := set(sent) - arrived:
        wrong.append(f"{len(lost):,} events are nowhere, such as {min(lost)}.")
    if both := landed.event_ids.intersection(quarantined):
        wrong.append(f"{len(both):,} events are both landed and quarantined, such as {min(both)}.")
    return wrong


def _misplaced(good: set[str], landed: set[str]) -> list[str]:
    wrong = []
    if refused := good - landed:
        wrong.append(f"{len(refused):,} good events did not land, such as {min(refused)}.")
    if let_in := landed - good:
        wrong.append(f"{len(let_in):,} bad events landed, such as {min(let_in)}.")
    return wrong


def _unannounced(files: Sequence[lake.LakeFile], notices: Sequence[queues.Notice]) -> list[str]:
    wrong = []
    announced = {(notice.key, notice.size, notice.etag.strip('"')) for notice in notices}
    written = {(file.key, file.size, file.etag) for file in files}
    if announced != written:
        wrong.append(f"{len(written):,} files were written, but the notices name {len(announced & written):,} of them.")
    if len(notices) != len(files):
        wrong.append(f"{len(files):,} files were announced by {len(notices):,} notices.")
    return wrong
