"""The demo of kafka-roller: three topics from the stream into files of 10,000 records, and the rest after an hour."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from rich.console import Console
from rich.table import Table

from local import loads, queues
from local.progress import Failure, Step, step
from local.stack import Stack

TOPICS = {"riders": 22_000, "fares": 2_200, "stations": 800}
RECORDS = sum(TOPICS.values())
FILES = {"riders": [10_000, 10_000, 2_000], "fares": [2_200], "stations": [800]}
PUT_BATCH = 500  # limit of PutRecords
STALL_S = 90
RIGHT_SEEN = 4  # times in a row
BUCKET = "KafkaFilesBucketName"


@dataclass(frozen=True)
class RolledFile:
    """A file, its metadata, and its records."""

    key: str
    table: str
    count: int
    reason: str
    size: int
    offsets: list[int]


def run(stack: Stack, seed: int, console: Console) -> list[str]:
    """Runs it. Returns what is wrong."""
    with step(f"Declaring the tables of {len(TOPICS)} topics"):
        stack.ask("tables_apply", tables=[{"prefix": _prefix(topic), "kind": "kafka"} for topic in TOPICS])
    with step(f"Putting {RECORDS:,} records on the stream") as s:
        put(stack, TOPICS, random.Random(seed), s)
    with step("Rolling them") as s:
        _wait_until_taken(stack, s)
    with step("Letting an hour pass"):
        stack.tick("KafkaRollerFunctionName", datetime.now(timezone.utc) + timedelta(hours=1))
    with step("Fetching the files"):
        files = [file for topic in TOPICS for file in files_of(stack, topic)]
    with step("Registering them") as s:
        queues.wait_until_empty(stack, queues.PUTS, len(files), s)
        registered = {load["s3_key"] for load in loads.every(stack)}
    console.print(_table(files, registered))
    wrong = [*_miscut(files), *_lost_or_duplicated(files), *_unregistered(files, registered)]
    for sentence in wrong:
        console.print(sentence, style="red", highlight=False, soft_wrap=True)
    if not wrong:
        console.print(
            f"{RECORDS:,} records = {len(files):,} files, each record once and in order; all registered.",
            style="green",
            highlight=False,
            soft_wrap=True,
        )
    return wrong


def _prefix(topic: str) -> str:
    return f"cubic/kafka/{topic}/"


def put(stack: Stack, topics: Mapping[str, int], rng: random.Random, step: Step) -> None:
    """Puts that many records of each topic on the stream, interleaved.

    Each topic stays in order, because its name is the partition key.
    """
    kinesis, stream = stack.client("kinesis"), stack.outputs["KafkaStreamName"]
    order = [topic for topic, records in topics.items() for _ in range(records)]
    rng.shuffle(order)
    offsets: Counter[str] = Counter()
    entries = []
    for topic in order:
        value = {"id": rng.randrange(10**9), "station": rng.choice("ABCDEFG"), "amount": rng.randrange(500) / 100}
        record = {"topic": topic, "offset": offsets[topic], "value": value}
        offsets[topic] += 1
        entries.append({"Data": json.dumps(record).encode(), "PartitionKey": topic})
    for first in range(0, len(entries), PUT_BATCH):
        answer = kinesis.put_records(StreamName=stream, Records=entries[first : first + PUT_BATCH])
        if answer["FailedRecordCount"]:
            raise Failure(f"The stream refused {answer['FailedRecordCount']:,} records.")
        step.count(min(first + PUT_BATCH, len(entries)), len(entries))


def _wait_until_taken(stack: Stack, step: Step) -> None:
    """Waits until every record is in a file or staged.

    While a file is rolled, its records are in both for a moment, so the number has to be right several times in a row.
    """
    deadline, before, seen = time.monotonic() + STALL_S, -1, 0
    while seen < RIGHT_SEEN:
        taken = _staged(stack) + sum(file.count for topic in TOPICS for file in files_of(stack, topic))
        seen = seen + 1 if taken == RECORDS else 0
        if taken != before:
            deadline, before = time.monotonic() + STALL_S, taken
        elif time.monotonic() > deadline:
            raise Failure(f"{taken:,} of {RECORDS:,} records were taken from the stream, and no more come.")
        step.count(min(taken, RECORDS), RECORDS)
        time.sleep(0.5)


def _staged(stack: Stack) -> int:
    """Records that are in no file yet, as the states of the shards tell."""
    s3, bucket, staged = stack.client("s3"), stack.outputs["LakeBucketName"], 0
    for key, _ in _list(stack, bucket, "staging/"):
        if key.endswith("/state.json"):
            tables = json.load(s3.get_object(Bucket=bucket, Key=key)["Body"])["tables"].values()
            begun = (file["extent"] for table in tables for file in table.get("begun", []))
            opened = (table["open"] for table in tables if "open" in table)
            staged += sum(extent["count"] for extent in (*begun, *opened))
    return staged


def _list(stack: Stack, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    for page in stack.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from ((item["Key"], item["Size"]) for item in page.get("Contents", []))


def files_of(stack: Stack, topic: str) -> list[RolledFile]:
    """The topic's files, in the order of their records."""
    s3, bucket, files = stack.client("s3"), stack.outputs[BUCKET], []
    for key, size in _list(stack, bucket, _prefix(topic)):
        found = s3.get_object(Bucket=bucket, Key=key)
        metadata = found["Metadata"]
        offsets = [json.loads(line)["offset"] for line in found["Body"].read().splitlines()]
        count, reason = int(metadata["landfall-records"]), metadata["landfall-reason"]
        files.append((metadata["landfall-first"], RolledFile(key, topic, count, reason, size, offsets)))
    return [file for _, file in sorted(files, key=lambda pair: pair[0])]


def _table(files: Sequence[RolledFile], registered: set[str]) -> Table:
    table = Table("table", title="Rolled files")
    table.add_column("file", no_wrap=True, min_width=22)
    table.add_column("records", justify="right")
    table.add_column("bytes", justify="right")
    for heading in ("closed by", "load"):
        table.add_column(heading)
    for file in files:
        load = "yes" if file.key in registered else "no"
        name = file.key.rsplit("/", 1)[1].split(".")[0]
        table.add_row(file.table, name, f"{file.count:,}", f"{file.size:,}", file.reason, load)
    return table


def _miscut(files: Sequence[RolledFile]) -> Iterator[str]:
    for topic, wanted in FILES.items():
        counts = [len(file.offsets) for file in files if file.table == topic]
        if counts != wanted:
            yield f"The files of {topic} hold {counts} records and not {wanted}."


def _lost_or_duplicated(files: Sequence[RolledFile]) -> Iterator[str]:
    for topic, records in TOPICS.items():
        offsets = [offset for file in files if file.table == topic for offset in file.offsets]
        if offsets != list(range(records)):
            lost, many = len(set(range(records)) - set(offsets)), len(offsets) - len(set(offsets))
            yield f"{topic}: {lost:,} records are in no file and {many:,} in two, or they are out of order."


def _unregistered(files: Sequence[RolledFile], registered: set[str]) -> list[str]:
    missing = [file.key for file in files if file.key not in registered]
    return [f"{len(missing):,} files are no loads, such as {min(missing)}."] if missing else []
