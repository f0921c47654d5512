"""The demo of load-registrar: seeded objects in the incoming bucket become loads, compared one by one."""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from local import objects, queues
from local.objects import Incoming
from local.progress import Step, step
from local.stack import Stack

UPLOADERS = 8
PAGE = 100  # so that there are several
NOTIFYING_S = 0.5  # the emulator reads the notification configuration up to this long after it has answered a put

Load = dict[str, Any]


@dataclass(frozen=True)
class Registered:
    """What the registrar has in the end."""

    tables: list[dict[str, Any]]
    loads: list[Load]
    unregistered: int
    not_data: int

    def became(self) -> dict[str, tuple[str, str]]:
        """Prefix of the table, and what became of the object, by key."""
        prefixes = {table["name"]: table["prefix"] for table in self.tables}
        return {
            load["s3_key"]: (prefixes[load["table"]], load["status_reason"] or load["status"]) for load in self.loads
        }


def run(stack: Stack, seed: int, incoming: Sequence[Incoming], console: Console) -> list[str]:
    """Registers the objects. Returns what is wrong."""
    announced = [one for one in incoming if one.announced]
    unannounced = [one for one in incoming if not one.announced]
    with step(f"Declaring {len(objects.TABLES)} tables"):
        stack.ask("tables_apply", tables=objects.TABLES)
    with step(f"Uploading {len(announced):,} objects") as s, queues.paused(stack, queues.PUTS):
        _upload_in_an_order(stack, announced, random.Random(seed), s)
        notifications = queues.hold(stack, queues.PUTS, len(announced))
        late = [one for one in notifications if objects.SNAPSHOT in one.body]
        early = [one for one in notifications if one not in late]
        _send_twice(stack, early, random.Random(seed))
    with step("Registering all but the snapshots, each notified twice") as s:
        queues.wait_until_empty(stack, queues.PUTS, 2 * len(early), s, held=len(late))
        without_snapshot = {load["s3_key"] for load in every(stack) if load["status_reason"] == objects.NO_SNAPSHOT}
    with step("Registering the snapshots, each notified twice") as s:
        with queues.paused(stack, queues.PUTS):
            _send_twice(stack, late, random.Random(seed))
        queues.wait_until_empty(stack, queues.PUTS, 2 * len(late), s)
    with step(f"Declaring {objects.LATE_TABLE['prefix']}, whose objects are there already") as s:
        picked_up = stack.ask("tables_apply", tables=[*objects.TABLES, objects.LATE_TABLE])["picked_up"]
        s.say(f"{picked_up:,} picked up")
    with (
        step(f"Uploading {len(unannounced):,} objects without notifications") as s,
        queues.paused(stack, queues.PUTS),
        _without_notifications(stack),
    ):
        _upload(stack, unannounced, s)
    with step("Reconciling the bucket with the loads") as s:
        differences = list(_reconcile(stack))
        s.say(f"{len(differences):,} differences")
    with step("Reading the loads") as s:
        queues.wait_until_empty(stack, queues.PUTS, 0, s)
        tables = stack.ask("tables_list")
        registered = Registered(
            tables["tables"], list(every(stack)), tables["unregistered_objects"], tables["objects_not_data"]
        )
        s.say("")
    dead = queues.depth(stack, queues.PUTS.dead_letters).all

    became = registered.became()
    changes = [one for one in announced if one.is_changes]
    released = [
        one for one in changes if one.key in without_snapshot and became.get(one.key) == (one.prefix, objects.READY)
    ]
    counts = {
        "uploaded": len(incoming),
        "registered as loads": len(registered.loads),
        "waiting without a table": registered.unregistered,
        "not data": registered.not_data,
        "found by reconcile": len(differences),
        "changes that came before their snapshot, and are ready": len(released),
        "in the dead-letter queue": dead,
    }
    console.print(_loads_table(registered), _objects_table(counts))

    wrong = [
        *_lost_or_duplicated(incoming, registered),
        *_misjudged(incoming, became),
        *_not_released(changes, released),
        *_not_picked_up([one for one in announced if one.prefix == objects.LATE_TABLE["prefix"]], picked_up),
        *_not_found(unannounced, differences),
        *([f"{dead:,} notifications are in the dead-letter queue."] if dead else []),
    ]
    for sentence in wrong:
        console.print(sentence, style="red", highlight=False, soft_wrap=True)
    if not wrong:
        console.print(
            f"{len(incoming):,} objects = {len(registered.loads):,} loads + {registered.unregistered:,} without a table + "
            f"{counts['not data']:,} not data, each object once; "
            f"{len(announced):,} were announced twice and {len(unannounced):,} not at all.",
            style="green",
            highlight=False,
            soft_wrap=True,
        )
    return wrong


def _upload_in_an_order(stack: Stack, announced: Sequence[Incoming], rng: random.Random, step: Step) -> None:
    """Early changes, then snapshots, then the changes that belong to them, in different seconds; the rest anywhere.

    Qlik describes an object after it has written it.
    """
    snapshots = [one for one in announced if one.is_snapshot]
    before = [one for one in announced if one.becomes == objects.NO_SNAPSHOT]
    after = [one for one in announced if one.is_changes]
    descriptions = [one for one in announced if one.becomes == objects.NOT_DATA]
    anywhere = [one for one in announced if one not in snapshots + before + after + descriptions]
    rng.shuffle(anywhere)
    before += anywhere[::2]
    after += anywhere[1::2]
    done = 0
    for part in (before, snapshots, after, descriptions):
        rng.shuffle(part)
        _upload(stack, part, step, done, len(announced))
        done += len(part)
        _next_second()


def _upload(stack: Stack, some: Sequence[Incoming], step: Step, done: int = 0, total: int | None = None) -> None:
    s3, bucket = stack.client("s3"), stack.outputs["IncomingBucketName"]

    def put(one: Incoming) -> None:
        s3.put_object(Bucket=bucket, Key=one.key, Body=one.body)

    with ThreadPoolExecutor(UPLOADERS) as uploaders:
        for n, _ in enumerate(uploaders.map(put, some), done + 1):
            step.count(n, len(some) if total is None else total)


def _next_second() -> None:
    """LastModified of an object is in whole seconds."""
    time.sleep(1.05 - time.time() % 1)


def _send_twice(stack: Stack, notifications: Sequence[queues.Held], rng: random.Random) -> None:
    """Makes the received notifications visible again, and sends copies of them in another order."""
    queues.release(stack, queues.PUTS, notifications)
    bodies = [one.body for one in notifications]
    rng.shuffle(bodies)
    queues.send_bodies(stack, queues.PUTS, bodies)


@contextmanager
def _without_notifications(stack: Stack) -> Iterator[None]:
    """Turns the notifications of the bucket off."""
    s3, bucket = stack.client("s3"), stack.outputs["IncomingBucketName"]
    configured = s3.get_bucket_notification_configuration(Bucket=bucket)
    del configured["ResponseMetadata"]
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    try:
        yield
        time.sleep(NOTIFYING_S)
    finally:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configured)


def _reconcile(stack: Stack) -> Iterator[tuple[str, str]]:
    """Every difference between the bucket and the loads, and its key."""
    for page in stack.pages("reconcile"):
        for difference in page["differences"]:
            yield difference["what"], difference["s3_key"]


def every(stack: Stack) -> Iterator[Load]:
    """Every load, page by page."""
    for page in stack.pages("loads_list", limit=PAGE):
        yield from page["loads"]


def _loads_table(registered: Registered) -> Table:
    statuses = [status for status, number in Counter(load["status"] for load in registered.loads).most_common()]
    shown = Table("table", title="Loads")
    for status in statuses:
        shown.add_column(status, justify="right")
    shown.add_column("reason")
    for table in registered.tables:
        number = dict(table["loads"])
        reasons = {load["status_reason"] for load in registered.loads if load["table"] == table["name"]} - {None}
        numbers = (f"{number.get(status, 0):,}" for status in statuses)
        shown.add_row(table["name"], *numbers, ", ".join(sorted(reasons)))
    return shown


def _objects_table(counts: dict[str, int]) -> Table:
    table = Table(title="Objects", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for what, number in counts.items():
        table.add_row(what, f"{number:,}")
    return table


def _lost_or_duplicated(incoming: Sequence[Incoming], registered: Registered) -> list[str]:
    wrong = []
    keys = [load["s3_key"] for load in registered.loads]
    if duplicated := [key for key, number in Counter(keys).items() if number > 1]:
        wrong.append(f"{len(duplicated):,} objects are more than one load, such as {min(duplicated)}.")
    if lost := {one.key for one in incoming if one.is_load} - set(keys):
        wrong.append(f"{len(lost):,} objects of tables are not registered as loads, such as {min(lost)}.")
    if unexpected := set(keys) - {one.key for one in incoming if one.is_load}:
        wrong.append(f"{len(unexpected):,} loads are of objects that belong to no table, such as {min(unexpected)}.")
    without_table = sum(one.becomes == objects.NO_TABLE for one in incoming)
    if registered.unregistered != without_table:
        wrong.append(f"{without_table:,} objects have no table, but {registered.unregistered:,} wait for one.")
    not_data = sum(one.becomes == objects.NOT_DATA for one in incoming)
    if registered.not_data != not_data:
        wrong.append(f"{not_data:,} objects are no data, but {registered.not_data:,} are recorded as such.")
    counted = sum(number for table in registered.tables for _, number in table["loads"])
    if counted != len(keys):
        wrong.append(f"The tables count {counted:,} loads, but there are {len(keys):,}.")
    return wrong


def _misjudged(incoming: Sequence[Incoming], became: dict[str, tuple[str, str]]) -> list[str]:
    other = [
        f"{one.key}: {what} in the table of {prefix} and not {one.becomes} in that of {one.prefix}"
        for one in incoming
        for prefix, what in ([became[one.key]] if one.key in became else [])
        if (prefix, what) != (one.prefix, one.becomes)
    ]
    return [f"{len(other):,} loads are not what they should be, such as {min(other)}."] if other else []


def _not_released(changes: Sequence[Incoming], released: Sequence[Incoming]) -> list[str]:
    if len(released) == len(changes):
        return []
    return [f"{len(changes):,} changes came before their snapshot, but {len(released):,} of them are ready."]


def _not_picked_up(waiting: Sequence[Incoming], picked_up: int) -> list[str]:
    if picked_up == len(waiting):
        return []
    return [f"{len(waiting):,} objects waited for their table, but it picked up {picked_up:,}."]


def _not_found(unannounced: Sequence[Incoming], differences: Sequence[tuple[str, str]]) -> list[str]:
    if sorted(differences) == sorted(("missing", one.key) for one in unannounced):
        return []
    kinds = ", ".join(f"{number:,} {what}" for what, number in Counter(what for what, _ in differences).items())
    return [f"{len(unannounced):,} objects were not announced, but reconcile found {kinds or 'nothing'}."]
