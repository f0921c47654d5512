"""The queues of the stack: sending, pausing the consumer, holding messages, waiting until empty; and the notices of new files."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from local.progress import Failure, Step
from local.stack import Stack

SEND_BATCH = 10  # limit of SendMessageBatch
SENDERS = 4
STALL_S = 90
EMPTY_SEEN = 4  # times in a row, because the queue attributes are approximate
SETTLE_S = 15
POLLER_STOPS_S = 0.5
HOLD_S = 600
LOG_LINES = 20


@dataclass(frozen=True)
class Feed:
    """A queue with its consumer. All fields but the last are names of outputs of the stack."""

    queue: str
    dead_letters: str
    mapping: str
    function: str
    holds: str
    """What its messages are, in the plural."""


EVENTS = Feed(
    "EventsQueueUrl", "EventsDeadLetterQueueUrl", "ParquetWriterMappingId", "ParquetWriterFunctionName", "events"
)
PUTS = Feed(
    "PutsQueueUrl", "PutsDeadLetterQueueUrl", "LoadRegistrarMappingId", "LoadRegistrarFunctionName", "notifications"
)
LOADS = Feed(
    "LoadsQueueUrl", "LoadsDeadLetterQueueUrl", "LoadIngesterMappingId", "LoadIngesterFunctionName", "loads"
)


@dataclass(frozen=True)
class Message:
    """A message of the events queue: base64 of protobuf, and three attributes."""

    event_id: str
    source: str
    type: str | None
    body: str


@dataclass(frozen=True)
class Held:
    """A received message, invisible to other consumers."""

    body: str
    receipt: str


@dataclass(frozen=True)
class Depth:
    """How many messages a queue has."""

    waiting: int
    in_flight: int

    @property
    def all(self) -> int:
        """Waiting or in flight."""
        return self.waiting + self.in_flight


@dataclass(frozen=True)
class Notice:
    """A notice of one new file."""

    bucket: str
    key: str
    size: int
    etag: str


@contextmanager
def paused(stack: Stack, feed: Feed) -> Iterator[None]:
    """Pauses the consumer of a queue, so that a backlog can build up.

    It is also the only safe way to send many messages: the emulator loses messages that arrive while its poller receives.
    """
    functions, mapping = stack.client("lambda"), stack.outputs[feed.mapping]
    functions.update_event_source_mapping(UUID=mapping, Enabled=False)
    try:
        time.sleep(POLLER_STOPS_S)
        yield
    finally:
        functions.update_event_source_mapping(UUID=mapping, Enabled=True)


def send(
    stack: Stack, events: Sequence[Message], step: Step, landed: int = 0, of: int | None = None
) -> dict[str, str]:
    """Sends everything to the events queue. Returns the event id of each SQS message id.

    If it is a part of what a step sends and lands, the step shows how many `of` all have landed before.
    """
    sqs, queue_url = stack.client("sqs"), stack.outputs[EVENTS.queue]

    def send_batch(start: int) -> list[tuple[str, str]]:
        batch = events[start : start + SEND_BATCH]
        sent = _send_batch(sqs, queue_url, [_entry(n, event) for n, event in enumerate(batch)])
        return [(message["MessageId"], batch[int(message["Id"])].event_id) for message in sent]

    ids: dict[str, str] = {}
    with ThreadPoolExecutor(SENDERS) as senders:
        for sent in senders.map(send_batch, range(0, len(events), SEND_BATCH)):
            ids.update(sent)
            if of is None:
                step.count(len(ids), len(events))
            else:
                step.count(landed, of, f"sending {len(ids):,} of {len(events):,}")
    return ids


def send_bodies(stack: Stack, feed: Feed, bodies: Sequence[str]) -> None:
    """Sends messages without attributes."""
    sqs, queue_url = stack.client("sqs"), stack.outputs[feed.queue]
    for start in range(0, len(bodies), SEND_BATCH):
        batch = bodies[start : start + SEND_BATCH]
        _send_batch(sqs, queue_url, [{"Id": str(n), "MessageBody": body} for n, body in enumerate(batch)])


def hold(stack: Stack, feed: Feed, count: int) -> list[Held]:
    """Receives all messages of a paused queue, after waiting for at least `count` of them."""
    wait_until_arrived(stack, feed, count)
    sqs, queue_url = stack.client("sqs"), stack.outputs[feed.queue]
    held: list[Held] = []
    while messages := sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=SEND_BATCH, VisibilityTimeout=HOLD_S
    ).get("Messages"):
        held.extend(Held(message["Body"], message["ReceiptHandle"]) for message in messages)
    return held


def wait_until_arrived(stack: Stack, feed: Feed, count: int) -> None:
    """Returns when at least `count` messages are waiting in a paused queue."""
    deadline = time.monotonic() + SETTLE_S
    while (waiting := depth(stack, feed.queue).waiting) < count:
        if time.monotonic() > deadline:
            raise Failure(f"Only {waiting:,} of {count:,} {feed.holds} have arrived in the queue.")
        time.sleep(0.1)


def release(stack: Stack, feed: Feed, held: Sequence[Held]) -> None:
    """Makes received messages visible again."""
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
            raise Failure(f"SQS could not make a message visible again: {failed[0]['Message']}")


def wait_until_empty(
    stack: Stack,
    feed: Feed,
    total: int,
    step: Step,
    held: int = 0,
    stall_s: float = STALL_S,
    check: Callable[[], None] = lambda: None,
    of: int | None = None,
) -> None:
    """Returns when no messages but the held ones are waiting or in flight. `total` is what was sent so far, if more follows `of` all.

    Fails when the numbers do not change for `stall_s`, or when `check` fails, which is called again and again.
    """
    last, moved_at, empty_seen = None, time.monotonic(), 0
    while empty_seen < EMPTY_SEEN:
        check()
        now = depth(stack, feed.queue)
        left = now.all - held
        empty_seen = empty_seen + 1 if left <= 0 else 0
        step.count(total - min(left, total), total if of is None else of, f"{now.in_flight - held:,} in flight")
        if now != last:
            last, moved_at = now, time.monotonic()
        elif left > 0 and time.monotonic() - moved_at > stall_s:
            stuck = f"{left:,} {feed.holds} are still in the queue, and their number has not changed for {stall_s} s."
            raise Failure(f"{stuck} {_logs(stack, feed)}")
        time.sleep(0.3)


def depth(stack: Stack, output: str) -> Depth:
    """How many messages a queue has."""
    visible, delayed, hidden = (f"ApproximateNumberOfMessages{which}" for which in ("", "Delayed", "NotVisible"))
    answer = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.outputs[output], AttributeNames=[visible, delayed, hidden]
    )
    count = {name: int(value) for name, value in answer["Attributes"].items()}
    return Depth(waiting=count[visible] + count[delayed], in_flight=count[hidden])


class Subscriber:
    """A queue that is subscribed to the topic of new files, as a warehouse would have."""

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

    def receive(self, files: int) -> list[Notice]:
        """All notices so far. Waits for the last ones while there are fewer than `files`."""
        found: list[Notice] = []
        deadline = time.monotonic() + SETTLE_S
        while True:
            answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            for message in answer.get("Messages", []):
                found.extend(notices(json.loads(message["Body"])["Message"]))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
            if not answer.get("Messages") and (len(found) >= files or time.monotonic() > deadline):
                return found


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


def notices(s3_event: str) -> Iterator[Notice]:
    """The files that an S3 event notification names."""
    for record in json.loads(s3_event)["Records"]:
        thing = record["s3"]["object"]
        yield Notice(record["s3"]["bucket"]["name"], unquote_plus(thing["key"]), thing["size"], thing["eTag"])


def _logs(stack: Stack, feed: Feed) -> str:
    found = stack.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{stack.outputs[feed.function]}")
    lines = [event["message"].rstrip() for event in found["events"][-LOG_LINES:]]
    if not lines:
        return "The function has no logs; see .local/logs/emulator.log"
    return "The last log lines of the function:\n" + "\n".join(f"    {line}" for line in lines)
