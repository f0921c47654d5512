"""Queues that feed functions: sending to them, holding back, waiting until they are worked off; and hearing of files."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from local.progress import Failure, Step
from local.stack import Stack

SEND_BATCH = 10  # what SQS takes in one call
SENDERS = 4
STALL_S = 90
EMPTY_SEEN = 3  # times in a row, because the numbers are approximate
SETTLE_S = 15
POLLER_NOTICES_S = 0.5
HOLD_S = 600
LOG_LINES = 20


@dataclass(frozen=True)
class Feed:
    """A queue that feeds a function. All but the last are names of the stack's outputs."""

    queue: str
    dead_letters: str
    mapping: str
    function: str
    holds: str
    """What its messages are."""


EVENTS = Feed(
    "EventsQueueUrl", "EventsDeadLetterQueueUrl", "ParquetWriterMappingId", "ParquetWriterFunctionName", "events"
)
PUTS = Feed(
    "PutsQueueUrl", "PutsDeadLetterQueueUrl", "LoadRegistrarMappingId", "LoadRegistrarFunctionName", "notifications"
)


@dataclass(frozen=True)
class Message:
    """What the events queue takes: base64 of protobuf, and three attributes."""

    event_id: str
    source: str
    type: str | None
    body: str


@dataclass(frozen=True)
class Held:
    """A message that only its holder can see."""

    body: str
    receipt: str


@dataclass(frozen=True)
class Depth:
    """Messages in a queue."""

    waiting: int
    in_flight: int

    @property
    def all(self) -> int:
        """Both."""
        return self.waiting + self.in_flight


@dataclass(frozen=True)
class Notice:
    """One announcement of one file."""

    bucket: str
    key: str
    size: int
    etag: str


@contextmanager
def paused(stack: Stack, feed: Feed) -> Iterator[None]:
    """Keeps the function away from its queue, so that a backlog can build up.

    It is also the only safe way to put a lot there: the emulator loses messages that arrive while its poller is reading.
    """
    functions, mapping = stack.client("lambda"), stack.outputs[feed.mapping]
    functions.update_event_source_mapping(UUID=mapping, Enabled=False)
    try:
        time.sleep(POLLER_NOTICES_S)
        yield
    finally:
        functions.update_event_source_mapping(UUID=mapping, Enabled=True)


def send(stack: Stack, events: Sequence[Message], step: Step) -> dict[str, str]:
    """Sends everything to the events queue and returns the event's id by SQS message id."""
    sqs, queue_url = stack.client("sqs"), stack.outputs[EVENTS.queue]

    def send_batch(start: int) -> list[tuple[str, str]]:
        batch = events[start : start + SEND_BATCH]
        sent = _send_batch(sqs, queue_url, [_entry(n, event) for n, event in enumerate(batch)])
        return [(message["MessageId"], batch[int(message["Id"])].event_id) for message in sent]

    ids: dict[str, str] = {}
    with ThreadPoolExecutor(SENDERS) as senders:
        for sent in senders.map(send_batch, range(0, len(events), SEND_BATCH)):
            ids.update(sent)
            step.count(len(ids), len(events))
    return ids


def send_bodies(stack: Stack, feed: Feed, bodies: Sequence[str]) -> None:
    """Sends messages that have nothing but a body."""
    sqs, queue_url = stack.client("sqs"), stack.outputs[feed.queue]
    for start in range(0, len(bodies), SEND_BATCH):
        batch = bodies[start : start + SEND_BATCH]
        _send_batch(sqs, queue_url, [{"Id": str(n), "MessageBody": body} for n, body in enumerate(batch)])


def hold(stack: Stack, feed: Feed, count: int) -> list[Held]:
    """Holds `count` messages, which may be about to arrive, and whatever else there is. Only while the feed is paused."""
    deadline = time.monotonic() + SETTLE_S
    while (waiting := depth(stack, feed.queue).waiting) < count:
        if time.monotonic() > deadline:
            raise Failure(f"Only {waiting:,} of {count:,} {feed.holds} have come to the queue.")
        time.sleep(0.1)
    sqs, queue_url = stack.client("sqs"), stack.outputs[feed.queue]
    held: list[Held] = []
    while messages := sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=SEND_BATCH, VisibilityTimeout=HOLD_S
    ).get("Messages"):
        held.extend(Held(message["Body"], message["ReceiptHandle"]) for message in messages)
    return held


def release(stack: Stack, feed: Feed, held: Sequence[Held]) -> None:
    """Gives messages back to the queue."""
    sqs, queue_url = stack.client("sqs"), stack.outputs[feed.queue]
    for start in range(0, len(held), SEND_BATCH):
        batch = held[start : start + SEND_BATCH]
        answer = sqs.change_message_visibility_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": message.receipt, "VisibilityTimeout": 0}
                for n, message in enumerate(batch)
            ],
        )
        if failed := answer.get("Failed"):
            raise Failure(f"SQS did not take a message back: {failed[0]['Message']}")


def wait_until_empty(stack: Stack, feed: Feed, total: int, step: Step, held: int = 0) -> None:
    """Returns when no message is waiting or being worked on, but for those held. Fails when nothing moves any more."""
    last, moved_at, empty_seen = None, time.monotonic(), 0
    while empty_seen < EMPTY_SEEN:
        now = depth(stack, feed.queue)
        left = now.all - held
        empty_seen = empty_seen + 1 if left <= 0 else 0
        step.count(total - min(left, total), total, f"{now.in_flight - held:,} being worked on")
        if now != last:
            last, moved_at = now, time.monotonic()
        elif left > 0 and time.monotonic() - moved_at > STALL_S:
            stuck = f"{left:,} {feed.holds} are still in the queue and nothing has moved for {STALL_S} s."
            raise Failure(f"{stuck} {_logs(stack, feed)}")
        time.sleep(0.3)


def depth(stack: Stack, output: str) -> Depth:
    """How much is in a queue."""
    visible, delayed, hidden = (f"ApproximateNumberOfMessages{which}" for which in ("", "Delayed", "NotVisible"))
    answer = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.outputs[output], AttributeNames=[visible, delayed, hidden]
    )
    count = {name: int(value) for name, value in answer["Attributes"].items()}
    return Depth(waiting=count[visible] + count[delayed], in_flight=count[hidden])


class Subscriber:
    """A queue of our own on the topic of landed files, as a warehouse would have."""

    def __init__(self, stack: Stack, name: str) -> None:
        """Creates the queue and subscribes it."""
        self._sqs = stack.client("sqs")
        self._url = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        stack.client("sns").subscribe(
            TopicArn=stack.outputs["LandedTopicArn"],
            Protocol="sqs",
            Endpoint=attributes["Attributes"]["QueueArn"],
        )

    def hear(self, files: int) -> list[Notice]:
        """All notices so far; waits a little for the last ones when there are fewer than `files`."""
        notices: list[Notice] = []
        deadline = time.monotonic() + SETTLE_S
        while True:
            answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                notices.extend(_notices(json.loads(message["Body"])["Message"]))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
            if not answer.get("Messages") and (len(notices) >= files or time.monotonic() > deadline):
                return notices


def _send_batch(sqs: Any, queue_url: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)
    if failed := answer.get("Failed"):
        raise Failure(f"SQS refused a message: {failed[0]['Message']}")
    return list(answer["Successful"])


def _entry(number: int, event: Message) -> dict[str, Any]:
    attributes = {"source": event.source, "type": event.type, "event_id": event.event_id}
    return {
        "Id": str(number),
        "MessageBody": event.body,
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value
        },
    }


def _notices(s3_event: str) -> Iterator[Notice]:
    for record in json.loads(s3_event)["Records"]:
        thing = record["s3"]["object"]
        yield Notice(record["s3"]["bucket"]["name"], unquote_plus(thing["key"]), thing["size"], thing["eTag"])


def _logs(stack: Stack, feed: Feed) -> str:
    found = stack.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{stack.outputs[feed.function]}")
    lines = [event["message"].rstrip() for event in found["events"][-LOG_LINES:]]
    if not lines:
        return "The function has logged nothing; see .local/logs/emulator.log"
    return "The function's last words:\n" + "\n".join(f"    {line}" for line in lines)
