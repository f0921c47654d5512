"""The five paths: what is sent on each, and how it is counted at the other end."""

import json
import random
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import duckdb
from botocore.exceptions import BotoCoreError, ClientError

from local import lake, loads, postgres, queues, topics
from local.chaos.count import Count
from local.chaos.faults import Faults
from local.chaos.mapping import Deliveries, QueueDeliveries, StreamDeliveries
from local.progress import Failure, Step, step
from local.stack import INGESTER, WRITER, Stack

VISIBILITY_S = 45
STALL_S = 660  # the pauses of messages that have failed several times
PAGE = 1_000  # the most objects in a response
DRAINED_BATCH = 1_000  # and what the function receives besides
EVENTS_BATCH = 100  # many invocations, so that many of them meet a fault
PUTS_BATCH = 20  # many invocations, so that many are killed
HIT_CLIENTS = 8
HIT_TRIES = 60
UPLOADERS = 8
CRASHES_OF_POSTGRES = 3
TABLES = ("chaos/orders/", "chaos/riders/", "chaos/stations/")
NO_TABLE = "elsewhere/"
INGESTED = "chaos/fares/"
INGESTER_TIMEOUT_S = 45  # a load whose function is killed comes back a minute after that
ROUND_S = 10
ROUNDS = 60

# Pauses between two kills, in seconds: the shorter an invocation, the shorter. More kills and outages than now mostly make the run
# longer: a message that has failed five times is hidden for seven minutes.
WRITER_KILLS = (6.0, 15.0)
COLLECT_KILLS = (0.5, 2.0)
ROLLER_KILLS = (0.2, 1.5)
REGISTRAR_KILLS = (0.2, 1.0)
INGESTER_KILLS = (0.5, 3.0)


def events(stack: Stack, count: int, seed: int, faults: Faults) -> Count:
    """Events through the queue and parquet-writer into files, every one of which a subscriber has to hear of."""
    from local.events import generate  # needs the generated classes

    subscriber = queues.Subscriber(stack, "landfall-chaos-subscriber")
    sent = generate(count, seed)
    most = count * 3 // 4
    drained, single = sent[:most], sent[most:]
    with step(f"Landing {count:,} events") as s, QueueDeliveries(stack, queues.EVENTS, DRAINED_BATCH) as deliveries:
        with faults.of([stack.outputs[WRITER]], *WRITER_KILLS):
            ids = queues.send(stack, drained, s)
            _wait(stack, queues.EVENTS, deliveries, count, s)
            _stop_draining(stack)
            deliveries.batch_size = EVENTS_BATCH
            ids |= queues.send(stack, single, s)
            _wait(stack, queues.EVENTS, deliveries, count, s)
        _wait_until_settled(stack, queues.EVENTS, deliveries, count, s)
    with step("Publishing what waits in the outbox"):
        stack.tick(WRITER, datetime.now(timezone.utc))
    with step("Fetching the lake"):
        fetched = lake.fetch(stack)
        files = lake.events(fetched)
    with step("Receiving the notices"):
        notices = subscriber.receive(len(files))

    counted = Count("parquet-writer", "events", {event.event_id for event in sent})
    places: dict[str, list[str]] = defaultdict(list)
    for key, event_id in _rows(files):
        places[event_id].append(key)
    counted.land(places)
    counted.quarantined = Counter(ids.get(record["id"], record["id"]) for record in lake.quarantined(fetched))
    counted.dead = Counter(
        message["MessageAttributes"]["event_id"]["StringValue"] for message in _dead(stack, queues.EVENTS)
    )
    if within := [event_id for event_id, keys in places.items() if len(set(keys)) < len(keys)]:
        counted.broken.append(f"{len(within):,} events are twice in one file, such as {min(within)}.")
    good = {event.event_id for event in sent if event.lands}
    if refused := good.intersection(counted.quarantined):
        counted.broken.append(f"{len(refused):,} good events are quarantined, such as {min(refused)}.")
    if accepted := set(counted.landed) - good:
        counted.broken.append(f"{len(accepted):,} bad events have landed, such as {min(accepted)}.")
    announced = {notice.key for notice in notices}
    unannounced = {event_id for event_id, keys in places.items() if announced.isdisjoint(keys)}.difference(counted.dead)
    if unannounced:
        counted.broken.append(
            f"{len(unannounced):,} events are only in files that nobody was told of, such as {min(unannounced)}."
        )
    return counted


def _stop_draining(stack: Stack) -> None:
    """Changes the setting of the function while its messages are under way."""
    functions, name = stack.client("lambda"), stack.outputs[WRITER]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": {**variables, "DRAIN_TARGET_BYTES": "0"}}
    )


def _rows(files: Sequence[lake.LakeFile]) -> Iterator[tuple[str, str]]:
    """Key and event id of each row."""
    for file in files:
        for (event_id,) in duckdb.read_parquet(str(file.path)).select("event_id").fetchall():
            yield file.key, event_id


def hits(stack: Stack, count: int, seed: int, faults: Faults) -> Count:
    """Hits through the API into the stream. Like any browser, a client sends again what was not answered with 200."""
    url = f"{stack.endpoint_url}/_aws/execute-api/{stack.outputs['CollectApiId']}/$default/collect"
    rng = random.Random(seed)
    names = [f"hit-{number}-{rng.getrandbits(32):08x}" for number in range(count)]
    with (
        step(f"Sending {count:,} hits") as s,
        faults.of([stack.outputs["CollectFunctionName"]], *COLLECT_KILLS),
        ThreadPoolExecutor(HIT_CLIENTS) as clients,
    ):
        again = 0
        for done, tries in enumerate(clients.map(lambda name: _send_hit(url, name), names), 1):
            again += tries - 1
            s.count(done, count, f"{again:,} sent again")
    counted = Count("collect", "hits", set(names))
    with step("Reading the stream of hits"):
        places: dict[str, list[str]] = defaultdict(list)
        for at, data in _stream(stack, stack.outputs["ClicksStreamName"]):
            for line in data.splitlines():
                places[json.loads(line)["context"]["client_id"]].append(at)
    counted.land(places)
    return counted


def _send_hit(url: str, name: str) -> int:
    """How many times it had to be sent."""
    body = urlencode({"v": 1, "tid": "UA-1-1", "cid": name, "t": "pageview", "dl": "https://shop.example/", "z": name})
    for tries in range(1, HIT_TRIES + 1):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=body.encode()), timeout=30):
                return tries
        except (urllib.error.HTTPError, urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429:
                raise Failure(f"collect refuses a good hit: {error}") from error
            time.sleep(0.2)
    raise Failure(f"collect has not taken a hit in {HIT_TRIES} tries.")


def _stream(stack: Stack, name: str) -> Iterator[tuple[str, bytes]]:
    """Every record: its shard and sequence number, and its data."""
    kinesis = stack.client("kinesis")
    for shard in kinesis.list_shards(StreamName=name)["Shards"]:
        first = kinesis.get_shard_iterator(StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
        iterator = first["ShardIterator"]
        while (got := kinesis.get_records(ShardIterator=iterator, Limit=10_000))["Records"]:
            iterator = got["NextShardIterator"]
            yield from ((f"{shard['ShardId']} {record['SequenceNumber']}", record["Data"]) for record in got["Records"])


def records(stack: Stack, count: int, seed: int, faults: Faults) -> Count:
    """Records of three topics through the stream and kafka-roller into files, each in exactly one and in order."""
    of_topics = {"riders": count * 8 // 10, "fares": count // 10, "stations": count - count * 8 // 10 - count // 10}
    function = stack.outputs["KafkaRollerFunctionName"]
    with (
        step(f"Rolling {count:,} records") as s,
        StreamDeliveries(stack, "KafkaRollerFunctionName", "KafkaStreamName") as deliveries,
    ):
        with faults.of([function], *ROLLER_KILLS):
            topics.put(stack, of_topics, random.Random(seed), s)
            while deliveries.taken < count:
                deliveries.check()
                deliveries.show(count, s)
                time.sleep(0.2)
    with step("Letting an hour pass"):
        stack.tick("KafkaRollerFunctionName", datetime.now(timezone.utc) + timedelta(hours=1))
    counted = Count(
        "kafka-roller",
        "records",
        {f"{topic} {offset}" for topic, size in of_topics.items() for offset in range(size)},
        once=True,
    )
    places: dict[str, list[str]] = defaultdict(list)
    with step("Reading the files"):
        for topic in of_topics:
            offsets = []
            for file in topics.files_of(stack, topic):
                offsets.extend(file.offsets)
                for offset in file.offsets:
                    places[f"{topic} {offset}"].append(file.key)
            if offsets != sorted(offsets):
                counted.broken.append(f"the records of {topic} are out of order.")
    counted.land(places)
    return counted


def objects(stack: Stack, count: int, seed: int, faults: Faults) -> Count:
    """Objects through the notifications of their bucket into loads, while Postgres crashes. Each is one load."""
    rng = random.Random(seed)
    s3, bucket = stack.client("s3"), stack.outputs["IncomingBucketName"]
    keys = [f"{rng.choice([*TABLES, NO_TABLE])}{number:05}-{rng.getrandbits(32):08x}.json" for number in range(count)]
    stack.ask("tables_apply", tables=[{"prefix": prefix, "kind": "kafka"} for prefix in TABLES])
    before = queues.depth(stack, queues.PUTS.queue).all

    def upload(key: str) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=b"{}\n")

    with step(f"Uploading {count:,} objects") as s, ThreadPoolExecutor(UPLOADERS) as uploaders:
        for done, _ in enumerate(uploaders.map(upload, keys), 1):
            s.count(done, count)
    queues.wait_until_arrived(stack, queues.PUTS, before + count)
    total = queues.depth(stack, queues.PUTS.queue).all
    with step(f"Registering {count:,} objects") as s, QueueDeliveries(stack, queues.PUTS, PUTS_BATCH) as deliveries:
        with faults.of([stack.outputs["LoadRegistrarFunctionName"]], *REGISTRAR_KILLS):
            for crash in range(1, CRASHES_OF_POSTGRES + 1):
                _wait(stack, queues.PUTS, deliveries, total, s, least=total * crash // (CRASHES_OF_POSTGRES + 1))
                postgres.crash()
                faults.crashes += 1
            _wait(stack, queues.PUTS, deliveries, total, s)
        _wait_until_settled(stack, queues.PUTS, deliveries, total, s)
    with step("Reading the loads"):
        registered = [load["s3_key"] for load in loads.every(stack)]
        waiting = [
            one["s3_key"] for page in stack.pages("tables_unregistered", limit=PAGE) for one in page["objects"]
        ]
    counted = Count("load-registrar", "objects", set(keys), once=True)
    counted.landed = Counter(key for key in (*registered, *waiting) if key in counted.sent)
    notified = [notice.key for message in _dead(stack, queues.PUTS) for notice in queues.notices(message["Body"])]
    counted.dead = Counter(key for key in notified if key in counted.sent)
    if misplaced := [key for key in waiting if key.startswith(TABLES)] + [
        key for key in registered if key.startswith(NO_TABLE)
    ]:
        counted.broken.append(f"{len(misplaced):,} objects are loads without a table or the reverse, such as {misplaced[0]}.")
    return counted


def ingested(stack: Stack, count: int, seed: int, faults: Faults) -> Count:
    """Objects from the incoming bucket into files under springboard/, each record in one of them and each object archived."""
    rng = random.Random(seed)
    names = [f"{number:05}-{rng.getrandbits(32):08x}" for number in range(count)]
    s3, bucket = stack.client("s3"), stack.outputs["IncomingBucketName"]
    others = [{"prefix": prefix, "kind": "kafka", "active": False} for prefix in TABLES]
    stack.ask("tables_apply", tables=[*others, {"prefix": INGESTED, "kind": "kafka", "max_attempts": 1_000}])
    with step(f"Registering {count:,} objects to ingest") as s:
        for name in names:
            s3.put_object(Bucket=bucket, Key=f"{INGESTED}{name}.json", Body=json.dumps({"name": name}).encode() + b"\n")
        while list(stack.ask("reconcile", prefix=INGESTED)["next"]):
            s.say("comparing")
    _shorten(stack)
    with step(f"Ingesting {count:,} loads") as s, QueueDeliveries(stack, queues.LOADS, 1) as deliveries:
        for _ in range(ROUNDS):
            with faults.of([stack.outputs[INGESTER]], *INGESTER_KILLS):
                _tick(stack)
                _wait(stack, queues.LOADS, deliveries, count, s)
            left = _end_pauses(stack)
            s.count(count - left, count, "finished")
            if not left:
                break
            time.sleep(ROUND_S)
    counted = Count("load-ingester", "objects", set(names), once=True)
    with step("Fetching the lake"):
        fetched = lake.fetch(stack)
    places: dict[str, list[str]] = defaultdict(list)
    for file in fetched:
        if file.key.startswith(f"springboard/{INGESTED}"):
            for (record,) in duckdb.read_parquet(str(file.path)).select("record").fetchall():
                places[json.loads(record)["name"]].append(file.key)
    counted.land(places)
    archived = [file for file in fetched if file.key.startswith(f"archive/{INGESTED}")]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=INGESTED)
    left = sum(len(page.get("Contents", [])) for page in pages)
    if (len(archived), left) != (count, 0):
        counted.broken.append(f"{len(archived):,} objects are archived and {left:,} still in the incoming bucket.")
    return counted


def _shorten(stack: Stack) -> None:
    """A shorter invocation has a shorter lease."""
    name = stack.outputs[INGESTER]
    stack.client("lambda").update_function_configuration(FunctionName=name, Timeout=INGESTER_TIMEOUT_S)


def _tick(stack: Stack) -> None:
    """What the schedule does every minute. A tick that fails, or whose function is killed, is made up for by the next one."""
    with suppress(Failure, ClientError, BotoCoreError):
        stack.tick(INGESTER, datetime.now(timezone.utc))


def _end_pauses(stack: Stack) -> int:
    """Ends the pauses of loads that met an error of S3, as `landfall loads retry --revoke` does. How many loads are not finished."""
    unfinished = [load for load in loads.every(stack) if load["s3_key"].startswith(INGESTED) and load["status"] != "archived"]
    back = {"ingesting": "ready", "archiving": "ready_for_archiving"}
    soon = datetime.now(timezone.utc) + timedelta(seconds=INGESTER_TIMEOUT_S + 90)
    for load in unfinished:
        if load["leased_until"] and datetime.fromisoformat(load["leased_until"].replace("Z", "+00:00")) > soon:
            with suppress(Failure):  # It has gone on meanwhile.
                stack.ask(
                    "loads_set_status", loads=[{"id": load["id"]}], status=back[load["status"]], by="chaos", revoke=True
                )
    return len(unfinished)


def _wait(
    stack: Stack, feed: queues.Feed, deliveries: Deliveries, total: int, step: Step, least: int | None = None
) -> None:
    """Waits until so many messages are taken, or until none is waiting: each is gone, in flight, or hidden after a failure."""
    while (least is None or deliveries.taken < least) and queues.depth(stack, feed.queue).waiting:
        deliveries.check()
        deliveries.show(total, step)
        time.sleep(0.1)


def _wait_until_settled(stack: Stack, feed: queues.Feed, deliveries: Deliveries, total: int, step: Step) -> None:
    """Waits until the queue is empty, without faults. What failed comes back when its pause or its visibility timeout is over."""
    queues.wait_until_empty(stack, feed, total, step, stall_s=STALL_S, check=deliveries.check)


def _dead(stack: Stack, feed: queues.Feed) -> list[dict[str, Any]]:
    """The dead-lettered messages, which stay where they are."""
    sqs, url, found = stack.client("sqs"), stack.outputs[feed.dead_letters], []
    while messages := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=VISIBILITY_S, MessageAttributeNames=["All"]
    ).get("Messages"):
        found.extend(messages)
    return found
