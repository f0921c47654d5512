"""Seeded events from a RabbitMQ through the consumer and the whole stack, counted at the other end."""

import base64
import binascii
from collections import Counter

import duckdb
import pika

from local import build, consumer, lake, protos, queues, rabbitmq, stack
from local.progress import Failure, step

PORTION = 5_000  # as in the demo: a short queue is much faster in the emulator


def run(count: int, seed: int) -> int:
    """0 if every event that was published and confirmed is in exactly one of lake and quarantine."""
    if reason := rabbitmq.missing():
        raise Failure(f"This needs a RabbitMQ: {reason}")
    built = consumer.programs()
    protos.ensure()
    deployed = stack.up(commands=build.with_linked(), fresh=True)
    from local.events import generate  # needs the generated classes

    with step(f"Making {count:,} events (seed {seed})"):
        events = generate(count, seed)
    outputs = deployed.outputs
    with rabbitmq.Node() as node:
        consumer.declare(node.url, "quorum")
        process = consumer.Consumer(
            built["consumer"], node.url, deployed.endpoint_url, outputs["EventsQueueUrl"], outputs["LakeBucketName"]
        )
        with step(f"Publishing, consuming and landing them, {PORTION:,} at a time") as s:
            try:
                for start in range(0, count, PORTION):
                    portion = events[start : start + PORTION]
                    # Nothing else may receive while the emulator takes messages, or it loses some of them.
                    with queues.paused(deployed, queues.EVENTS):
                        _publish(node.url, portion)
                        process.start()
                        queues.wait_until_arrived(deployed, queues.EVENTS, _sendable(portion))
                        code, _ = process.terminate()
                        left = consumer.depth(node.url)
                        if code != 0 or left:
                            raise Failure(f"The consumer ended with {code} and left {left:,} messages. See {process.log}")
                    queues.wait_until_empty(deployed, queues.EVENTS, start + len(portion), s, of=count)
            finally:
                process.kill()
    with step("Fetching the lake to .local/lake"):
        fetched = lake.fetch(deployed)
        files = [str(file.path) for file in lake.events(fetched)]
        records = list(lake.quarantined(fetched))
    landed = Counter(event_id for (event_id,) in duckdb.read_parquet(files).select("event_id").fetchall())
    quarantined = len(records)
    doubles = [event_id for event_id, times in landed.items() if times > 1]
    lost = {event.event_id for event in events if event.lands} - landed.keys()
    for (function, reason), number in sorted(Counter((r["function"], r["reason"]) for r in records).items()):
        print(f"quarantined by {function}: {number:,} {reason}")
    print(
        f"{count:,} published and confirmed = {landed.total():,} landed + {quarantined:,} quarantined; "
        f"{len(doubles):,} landed more than once, {len(lost):,} are lost"
    )
    is_right = landed.total() + quarantined == count and not doubles and not lost
    return 0 if is_right else 1


def _body(event: queues.Message) -> bytes:
    """The bytes that the body of the SQS message would be: the events with bad base64 are sent as they are."""
    try:
        return base64.b64decode(event.body, validate=True)
    except binascii.Error:
        return event.body.encode()


def _sendable(events: list[queues.Message]) -> int:
    return sum(1 for event in events if _body(event))


def _publish(url: str, events: list[queues.Message]) -> None:
    """Publishes with confirms, by an independent client."""
    with consumer.connect(url) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for event in events:
            properties = pika.BasicProperties(message_id=event.event_id, type=event.type, delivery_mode=2)
            channel.basic_publish("", event.source, _body(event), properties, mandatory=True)
