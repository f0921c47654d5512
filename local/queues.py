"""Sending events, waiting until they are worked off, and hearing of the files."""

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
LOG_LINES = 20


@dataclass(frozen=True)
class Message:
    """What the events queue takes: base64 of protobuf, and three attributes."""

    event_id: str
    source: str
    type: str | None
    body: str


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
def paused(stack: Stack) -> Iterator[None]:
    """Keeps the function away from the events queue, so that a backlog can build up.

    It is also the only safe way to send a lot: the emulator loses messages that arrive while its poller is reading.
    """
    functions, mapping = stack.client("lambda"), stack.outputs["ParquetWriterMappingId"]
    functions.update_event_source_mapping(UUID=mapping, Enabled=False)
    try:
        yield
    finally:
        functions.update_event_source_mapping(UUID=mapping, Enabled=True)


def send(stack: Stack, events: Sequence[Message], step: Step) -> dict[str, str]:
    """Sends everything and returns the event's id by SQS message id."""
    sqs = stack.client("sqs")
    queue_url = stack.outputs["EventsQueueUrl"]

    def send_batch(start: int) -> list[tuple[str, str]]:
        batch = events[start : start + SEND_BATCH]
        answer = sqs.send_message_batch(QueueUrl=queue_url, Entries=[_entry(n, event) for n, event in enumerate(batch)])
        if failed := answer.get("Failed"):
            raise Failure(f"SQS refused an event: {failed[0]['Message']}")
        return [(sent["MessageId"], batch[int(sent["Id"])].event_id) for sent in answer["Successful"]]

    ids: dict[str, str] = {}
    with ThreadPoolExecutor(SENDERS) as senders:
        for sent in senders.map(send_batch, range(0, len(events), SEND_BATCH)):
            ids.update(sent)
            step.count(len(ids), len(events))
    return ids


def wait_until_empty(stack: Stack, total: int, step: Step) -> None:
    """Returns when no message is waiting or being worked on. Fails when nothing moves any more."""
    last, moved_at, empty_seen = None, time.monotonic(), 0
    while empty_seen < EMPTY_SEEN:
        now = depth(stack, "EventsQueueUrl")
        empty_seen = empty_seen + 1 if now.all == 0 else 0
        step.count(total - min(now.all, total), total, f"{now.in_flight:,} being worked on")
        if now != last:
            last, moved_at = now, time.monotonic()
        elif now.all and time.monotonic() - moved_at > STALL_S:
            stuck = f"{now.all:,} events are still in the queue and nothing has moved for {STALL_S} s."
            raise Failure(f"{stuck} {_logs(stack)}")
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


def _logs(stack: Stack) -> str:
    found = stack.client("logs").filter_log_events(logGroupName=stack.outputs["ParquetWriterLogGroupName"])
    lines = [event["message"].rstrip() for event in found["events"][-LOG_LINES:]]
    if not lines:
        return "The function has logged nothing; see .local/logs/emulator.log"
    return "The function's last words:\n" + "\n".join(f"    {line}" for line in lines)
