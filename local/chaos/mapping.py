"""The event source mappings of the functions, as Lambda documents them.

The emulator's own would lose records: it takes a batch of a stream as done when it was done in part, and receives from a
queue while other threads change it. So these deliver while there are faults, and the emulator's are disabled.
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from local import queues
from local.progress import Failure, Step
from local.stack import Stack

RECEIVE_MESSAGES = 10  # limit of ReceiveMessage
QUEUE_CONCURRENCY = 2
STREAM_BATCH = 1_000
RETRY_S = 0.5
MAX_TRIES = 200
ACCOUNT = "000000000000"

Record = dict[str, Any]


class Deliveries(AbstractContextManager["Deliveries"]):
    """Threads that deliver until the block ends. What one of them fails with is raised at the end."""

    def __init__(self, stack: Stack, function: str) -> None:
        """`function` is the name of an output."""
        self._stack = stack
        self._function = stack.outputs[function]
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._failure: Exception | None = None
        self._over = threading.Event()
        self.taken = 0
        """Messages or records that the function has taken."""
        self._failed_invocations = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failure and error is None:
            raise self._failure

    def check(self) -> None:
        """Fails if one of the threads has."""
        if self._failure:
            raise self._failure

    def show(self, total: int, step: Step) -> None:
        """Shows how many of all messages or records are taken."""
        step.count(min(self.taken, total), total, f"{self._failed_invocations:,} failed invocations")

    def _start(self, deliver: Callable[..., None], *arguments: Any) -> None:
        def run() -> None:
            try:
                deliver(*arguments)
            except Exception as failure:  # of any kind: it has to reach the thread that waits
                self._failure = failure

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _invoke(self, records: Sequence[Record], ids: Sequence[str]) -> set[str]:
        """The ids of the records that are not done."""
        answer = self._stack.client("lambda").invoke(
            FunctionName=self._function, Payload=json.dumps({"Records": records})
        )
        response = json.load(answer["Payload"])
        if "FunctionError" in answer:
            failed = set(ids)
        else:
            failed = {failure["itemIdentifier"] for failure in response["batchItemFailures"]}
        if not failed.issubset(ids):
            raise Failure(f"{self._function} reports what it was not given as failed: {failed.difference(ids)}")
        with self._lock:
            self._failed_invocations += bool(failed)
        return failed

    def _arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self._stack.region}:{ACCOUNT}:{resource}"


class QueueDeliveries(Deliveries):
    """Delivers the messages of a queue, and deletes those that the function has not reported as failed."""

    def __init__(self, stack: Stack, feed: queues.Feed, batch_size: int) -> None:
        """Starts at once."""
        super().__init__(stack, feed.function)
        self._url = stack.outputs[feed.queue]
        self.batch_size = batch_size
        for _ in range(QUEUE_CONCURRENCY):
            self._start(self._deliver)

    def _deliver(self) -> None:
        sqs = self._stack.client("sqs")
        while not self._over.is_set():
            batch = self._receive(sqs)
            if not batch:
                self._over.wait(RETRY_S)
                continue
            failed = self._invoke([self._event(one) for one in batch], [one["MessageId"] for one in batch])
            done = [one for one in batch if one["MessageId"] not in failed]
            for start in range(0, len(done), RECEIVE_MESSAGES):
                entries = [
                    {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]}
                    for number, one in enumerate(done[start : start + RECEIVE_MESSAGES])
                ]
                sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
            with self._lock:
                self.taken += len(done)

    def _receive(self, sqs: Any) -> list[Record]:
        batch: list[Record] = []
        while len(batch) < self.batch_size:
            got = sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=min(RECEIVE_MESSAGES, self.batch_size - len(batch)),
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            ).get("Messages")
            if not got:
                break
            batch.extend(got)
        return batch

    def _event(self, message: Record) -> Record:
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "messageAttributes": {
                name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()
            },
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self._arn("sqs", self._url.rpartition("/")[2]),
            "awsRegion": self._stack.region,
        }


def _attribute(value: Mapping[str, Any]) -> Record:
    return {
        "stringValue": value["StringValue"],
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": value["DataType"],
    }


class StreamDeliveries(Deliveries):
    """Delivers the records of a stream, each shard in order and a batch again until it is done.

    It goes on at the first record that the function has reported as failed.
    """

    def __init__(self, stack: Stack, function: str, stream: str) -> None:
        """Starts at once, with the first record. `stream` is the name of an output."""
        super().__init__(stack, function)
        self._stream = stack.outputs[stream]
        for shard in stack.client("kinesis").list_shards(StreamName=self._stream)["Shards"]:
            self._start(self._deliver, shard["ShardId"])

    def _deliver(self, shard: str) -> None:
        kinesis = self._stack.client("kinesis")
        first = kinesis.get_shard_iterator(StreamName=self._stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        iterator = first["ShardIterator"]
        while not self._over.is_set():
            got = kinesis.get_records(ShardIterator=iterator, Limit=STREAM_BATCH)
            iterator = got["NextShardIterator"]
            if got["Records"]:
                self._deliver_batch(shard, got["Records"])
            else:
                self._over.wait(RETRY_S)

    def _deliver_batch(self, shard: str, records: Sequence[Record]) -> None:
        for _ in range(MAX_TRIES):
            numbers = [record["SequenceNumber"] for record in records]
            failed = self._invoke([self._event(shard, record) for record in records], numbers)
            done = min((numbers.index(number) for number in failed), default=len(numbers))
            with self._lock:
                self.taken += done
            records = records[done:]
            if not records:
                return
            time.sleep(RETRY_S)
        raise Failure(f"{self._function} has not taken a batch of {shard} in {MAX_TRIES} tries. See its logs.")

    def _event(self, shard: str, record: Record) -> Record:
        return {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": record["PartitionKey"],
                "sequenceNumber": record["SequenceNumber"],
                "data": base64.b64encode(record["Data"]).decode(),
                "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"].timestamp(),
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard}:{record['SequenceNumber']}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": f"arn:aws:iam::{ACCOUNT}:role/{self._function}",
            "awsRegion": self._stack.region,
            "eventSourceARN": self._arn("kinesis", f"stream/{self._stream}"),
        }
