"""The consumer between a real RabbitMQ and SQS that fails: published and confirmed = in SQS + quarantined, or this fails."""

import base64
import json
import os
import platform
import random
import signal
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika

from local import build, rabbitmq
from local.command import run_logged
from local.environment import FAKE_ACCOUNT
from local.paths import LOGS
from local.progress import Failure, Step, step

QUEUES = ("cards", "orders", "manufacturing")
TYPES = {"cards": "CardCatalogCreated", "orders": "OrderCreated", "manufacturing": "ManufacturingBatch"}
BAD_SHARE = 0.002
BIG = 900_000  # bytes of a body that is larger in base64 than SQS takes
SETTLE_S = 180
MOST_MEMORY = 64_000_000
BUCKET = "lake"
# The C compiler of Debian's package musl-tools. Rust's part: rustup target add x86_64-unknown-linux-musl
MUSL = {f"CC_{platform.machine()}_unknown_linux_musl": "musl-gcc"}


@dataclass
class Plan:
    """What happens while messages flow."""

    messages: int
    seed: int
    broker_kills: int = 5
    consumer_kills: int = 10
    fail_entries: float = 0.2
    lost: float = 0.002
    down_s: float = 60.0
    queue_type: str = "quorum"


class Stub:
    """SQS and S3 in memory: `consumer/examples/aws_stub.rs`."""

    def __init__(self, program: Path) -> None:
        """Starts it."""
        self._process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def set(self, **faults: Any) -> None:
        """Sets the faults; those that are not named end."""
        request = urllib.request.Request(f"{self.url}/control", json.dumps(faults).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).read()

    def counts(self) -> dict[str, Any]:
        """What it has counted."""
        return json.loads(self._get("/control"))

    def events(self) -> dict[str, int]:
        """How often each event came."""
        lines = self._get("/events").decode().splitlines()
        return {event: int(count) for event, count in (line.rsplit("\t", 1) for line in lines)}

    def quarantined(self) -> list[dict[str, Any]]:
        """The records of the quarantine."""
        return [json.loads(line) for line in self._get("/quarantine").decode().splitlines()]

    def stop(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read()


class Consumer:
    """The process."""

    def __init__(self, program: Path, amqp_url: str, endpoint: str, queue_url: str, bucket: str, **settings: str):
        """Remembers how it is started."""
        self._program = program
        self._port = rabbitmq.free_ports(1)[0]
        self._env = {
            **FAKE_ACCOUNT,
            "PATH": os.defpath,
            "AWS_ENDPOINT_URL": endpoint,
            "AMQP_URLS": amqp_url,
            "QUEUES": ",".join(QUEUES),
            "EVENTS_QUEUE_URL": queue_url,
            "LAKE_BUCKET": bucket,
            "HEALTH_PORT": str(self._port),
            "METRICS_SECONDS": "1",
            **settings,
        }
        self.peak_bytes = 0
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log = LOGS / "consumer.log"
        self.log.unlink(missing_ok=True)

    def start(self) -> None:
        """Starts it."""
        self._process = subprocess.Popen([self._program], env=self._env, stdout=self.log.open("ab"))
        self.starts += 1

    def look(self) -> None:
        """Notes how much memory it has needed."""
        if self._process is not None:
            with suppress(OSError, StopIteration):
                status = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
                peak = next(line for line in status if line.startswith("VmHWM:"))
                self.peak_bytes = max(self.peak_bytes, int(peak.split()[1]) * 1024)

    def kill(self) -> None:
        """Ends it at once."""
        self.look()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> tuple[int, float]:
        """Ends it as ECS does. Returns its code and how long that took."""
        assert self._process is not None
        self.look()
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30), time.monotonic() - began

    def well(self) -> bool:
        """What ECS asks: `consumer health`."""
        asked = subprocess.run([self._program, "health"], env=self._env, check=False, capture_output=True)
        return asked.returncode == 0

    def health(self) -> dict[str, Any]:
        """The answer of the endpoint."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=5) as answer:
            return json.loads(answer.read())


@dataclass
class Published:
    """What was confirmed by the broker."""

    good: set[str] = field(default_factory=set)
    bad: dict[str, str] = field(default_factory=dict)
    """The reason for the quarantine by id."""


def programs(*, deployed: bool = False) -> dict[str, Path]:
    """Compiles the consumer and the stub: unoptimised as everything that runs locally, or as they are deployed."""
    flags, title = [], "Compiling the consumer"
    folder = build.target() / "debug"
    if deployed:
        target = f"{platform.machine()}-unknown-linux-musl"
        flags, title = ["--release", "--target", target], "Compiling the consumer as it is deployed: static and optimised"
        folder = build.target() / target / "release"
    with step(title) as s:
        argv = ["cargo", "build", "--locked", "--package", "consumer", "--bins", "--examples", *flags]
        run_logged(argv, s, "compile-consumer", MUSL if deployed else {})
    return {"consumer": folder / "consumer", "stub": folder / "examples" / "aws_stub"}


def connect(url: str, give_up_s: float = 60) -> "pika.BlockingConnection":
    """A connection of the independent client. The broker may be starting."""
    deadline = time.monotonic() + give_up_s
    while True:
        try:
            return pika.BlockingConnection(pika.URLParameters(url))
        except (pika.exceptions.AMQPError, OSError):
            if time.monotonic() > deadline:
                raise Failure("The broker cannot be connected.") from None
            time.sleep(0.2)


def declare(url: str, queue_type: str) -> None:
    """Declares the queues."""
    with connect(url) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": queue_type})


def depth(url: str) -> int:
    """Messages that wait in the queues."""
    with connect(url) as connection:
        channel = connection.channel()
        return sum(channel.queue_declare(queue, passive=True).method.message_count for queue in QUEUES)


def message(rng: random.Random, number: int) -> tuple[str, bytes, "pika.BasicProperties", str | None]:
    """A message of a queue, and why it will be quarantined."""
    queue = rng.choices(QUEUES, (10, 80, 10))[0]
    body, reason, kind = rng.randbytes(rng.randint(20, 600)), None, TYPES[queue]
    headers: dict[str, Any] = {"tenant": "eu", "attempt": number % 3, "trace": {"id": number}}
    if rng.random() < BAD_SHARE:
        reason = rng.choice(("empty_body", "too_large", "forbidden_characters", "refused_by_sqs"))
        match reason:
            case "empty_body":
                body = b""
            case "too_large":
                body = bytes(BIG)
            case "forbidden_characters":
                kind = "Order\x01"
            case _:
                headers["refuse"] = "1"  # the stub does
    properties = pika.BasicProperties(
        message_id=f"event-{number}", type=kind, timestamp=1_795_183_906, delivery_mode=2, headers=headers
    )
    return queue, body, properties, reason


def publish(url: str, plan: Plan, published: Published, shown: Callable[[int], None]) -> None:
    """Publishes with confirms. What was not confirmed is published again under the same id."""
    rng = random.Random(plan.seed)
    connection = channel = None
    for number in range(plan.messages):
        queue, body, properties, reason = message(rng, number)
        while True:
            try:
                if channel is None:
                    connection = connect(url)
                    channel = connection.channel()
                    channel.confirm_delivery()
                channel.basic_publish("", queue, body, properties, mandatory=True)
                break
            except (pika.exceptions.AMQPError, OSError):
                connection = channel = None
        if reason is None:
            published.good.add(properties.message_id)
        else:
            published.bad[properties.message_id] = reason
        shown(number + 1)
    if connection is not None:
        with suppress(pika.exceptions.AMQPError):
            connection.close()


@contextmanager
def background(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Runs `work` in a thread until the block ends."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join()


def run(plan: Plan) -> int:
    """Everything at once, then the count. 0 if nothing is lost."""
    if reason := rabbitmq.missing():
        print(f"Skipped, because {reason}")
        return 0
    built = programs()
    with rabbitmq.Node() as node:
        stub = Stub(built["stub"])
        consumer = Consumer(built["consumer"], node.url, stub.url, f"{stub.url}/1/events", BUCKET)
        try:
            return _run(plan, node, stub, consumer)
        finally:
            consumer.kill()
            stub.stop()


def _run(plan: Plan, node: rabbitmq.Node, stub: Stub, consumer: Consumer) -> int:
    rng = random.Random(plan.seed + 1)
    published = Published()
    progress = {"published": 0}
    declare(node.url, plan.queue_type)
    consumer.start()
    stub.set(fail_entries=plan.fail_entries, lost=plan.lost)
    faults = ["broker"] * plan.broker_kills + ["consumer"] * plan.consumer_kills + (["down"] if plan.down_s else [])
    rng.shuffle(faults)
    with step(f"Publishing {plan.messages:,} messages while everything fails (seed {plan.seed})") as s:

        def show(number: int) -> None:
            progress["published"] = number
            if number % 100 == 0:
                s.count(number, plan.messages)

        with background(lambda: publish(node.url, plan, published, show)) as publisher:
            for at, fault in enumerate(faults, 1):
                # Spread over the messages, so that each fault happens while they flow.
                while publisher.is_alive() and progress["published"] < plan.messages * at / (len(faults) + 1):
                    consumer.look()
                    time.sleep(0.05)
                _happen(fault, plan, node, stub, consumer)
    stub.set()
    with step("Waiting until everything has arrived") as s:
        _settle(node.url, stub, consumer, s)
    code, seconds = consumer.terminate()
    return _report(plan, published, stub, consumer, code, seconds)


def _happen(fault: str, plan: Plan, node: rabbitmq.Node, stub: Stub, consumer: Consumer) -> None:
    match fault:
        case "broker":
            node.kill()
            node.start()
        case "consumer":
            consumer.kill()
            consumer.start()
        case "down":
            stub.set(down=True)
            deadline = time.monotonic() + plan.down_s
            while time.monotonic() < deadline:
                consumer.look()
                time.sleep(0.2)
            stub.set(fail_entries=plan.fail_entries, lost=plan.lost)


def _settle(url: str, stub: Stub, consumer: Consumer, shown: Step) -> None:
    deadline, empty = time.monotonic() + SETTLE_S, 0
    while empty < 3:
        waiting, state = depth(url), _state(consumer)
        shown.say(f"{waiting:,} in the queues, {state.get('in_flight', '?')} in flight, {stub.counts()['events']:,} in SQS")
        empty = empty + 1 if waiting == 0 and state.get("in_flight") == 0 and state.get("connected") else 0
        if time.monotonic() > deadline:
            raise Failure(f"{waiting:,} messages are still in the queues, {state}. See {consumer.log}")
        time.sleep(0.3)


def _state(consumer: Consumer) -> dict[str, Any]:
    try:
        return consumer.health()
    except OSError:
        return {}


def _report(plan: Plan, published: Published, stub: Stub, consumer: Consumer, code: int, seconds: float) -> int:
    events, counts = stub.events(), stub.counts()
    records = stub.quarantined()
    reasons = {record["id"]: record["reason"] for record in records}
    doubles = {event: count for event, count in events.items() if count > 1}
    wrong = []
    if lost := published.good - events.keys():
        wrong.append(f"{len(lost):,} messages are nowhere, such as {min(lost)}.")
    if foreign := events.keys() - published.good:
        wrong.append(f"{len(foreign):,} events in SQS should be in the quarantine, such as {min(foreign)}.")
    if different := {key for key, reason in published.bad.items() if reasons.get(key) != reason}:
        wrong.append(f"{len(different):,} bad messages are not in the quarantine for their reason, such as {min(different)}.")
    if kept := reasons.keys() - published.bad.keys():
        wrong.append(f"{len(kept):,} good messages are in the quarantine, such as {min(kept)}: {reasons[min(kept)]}.")
    if any(record["reason"] == "too_large" and record["body_base64"] != base64.b64encode(bytes(BIG)).decode() for record in records):
        wrong.append("A record of the quarantine does not have its bytes.")
    if counts["violations"]:
        wrong.append(f"SQS would have refused what was sent: {Counter(counts['violations'])}")
    if consumer.peak_bytes > MOST_MEMORY:
        wrong.append(f"The consumer needed {consumer.peak_bytes:,} bytes of memory.")
    if code != 0:
        wrong.append(f"The consumer ended with {code}.")
    print(
        f"{plan.messages:,} published and confirmed = {len(published.good & events.keys()):,} in SQS + {len(reasons):,} quarantined "
        f"({', '.join(f'{reason} {number}' for reason, number in sorted(Counter(reasons.values()).items()))})\n"
        f"{len(doubles):,} events are in SQS more than once" + (f", such as {', '.join(sorted(doubles)[:5])}" if doubles else "") + "\n"
        f"{plan.broker_kills} kills of the broker, {plan.consumer_kills} of the consumer, {counts['failed_entries']:,} entries failed "
        f"by SQS in {counts['requests']:,} requests, {plan.down_s:.0f} s without SQS\n"
        f"memory {consumer.peak_bytes / 1e6:.1f} MB at most, SIGTERM took {seconds:.2f} s"
    )
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0

