"""What the consumer does in single cases, with a real RabbitMQ: hosts, TLS, cancelled consumers, its own queues, outages, SIGTERM."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pika

from local import rabbitmq
from local.consumer import BUCKET, MOST_MEMORY, QUEUES, Consumer, Stub, connect, declare, depth, programs
from local.progress import Failure, step

WAIT_S = 30
LARGE = 650_000  # bytes of a body


class World:
    """A broker, a stub, and consumers between them."""

    def __init__(self, node: rabbitmq.Node, built: dict[str, Path]) -> None:
        """Begins without consumers."""
        self.node, self._built = node, built
        self.stub = Stub(built["stub"])
        self.consumers: list[Consumer] = []
        self._number = 0

    def consumer(self, url: str, **settings: str) -> Consumer:
        """Starts one."""
        queue_url = f"{self.stub.url}/1/events"
        started = Consumer(self._built["consumer"], url, self.stub.url, queue_url, BUCKET, **settings)
        started.start()
        self.consumers.append(started)
        return started

    def publish(self, count: int, queue: str = "cards", body: bytes = b"x") -> set[str]:
        """Publishes and confirms. Returns the ids."""
        ids = set()
        with connect(self.node.url) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for _ in range(count):
                self._number += 1
                ids.add(f"case-{self._number}")
                own = pika.BasicProperties(message_id=f"case-{self._number}", type="T", delivery_mode=2)
                channel.basic_publish("", queue, body, own, mandatory=True)
        return ids

    def stop(self) -> None:
        """Ends all but the broker."""
        for one in self.consumers:
            one.kill()
        self.stub.stop()


def wait(what: str, is_so: Callable[[], bool], seconds: float = WAIT_S) -> None:
    """Returns when it is so."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if is_so():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def _empty(url: str) -> None:
    """Declares the queues anew: a consumer that was killed may have sent messages that it had not acknowledged yet."""
    with connect(url) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_delete(queue)
    declare(url, "quorum")


def _arrive(world: World, ids: set[str]) -> None:
    wait(f"{len(ids)} messages are in SQS", lambda: ids <= world.stub.events().keys())


def the_next_host_is_tried_when_one_is_away(world: World) -> None:
    """The first address has no broker."""
    away = rabbitmq.free_ports(1)[0]
    world.consumer(f"amqp://guest:guest@127.0.0.1:{away}/%2f,{world.node.url}")
    _arrive(world, world.publish(20))


def a_private_ca_is_trusted_by_file(world: World) -> None:
    """And the consumer is well."""
    consumer = world.consumer(world.node.tls_url, AMQP_CA_FILE=str(world.node.ca))
    _arrive(world, world.publish(20))
    wait("the consumer is well", consumer.well)


def a_certificate_of_nobody_is_refused(world: World) -> None:
    """Without the CA, there is no connection, and the log says why."""
    consumer = world.consumer(world.node.tls_url)
    wait("the log names the certificate", lambda: "certificate" in consumer.log.read_text())
    assert not consumer.health()["connected"]


def a_certificate_for_another_name_is_refused(world: World) -> None:
    """It is of localhost."""
    url = world.node.tls_url.replace("localhost", "127.0.0.1")
    consumer = world.consumer(url, AMQP_CA_FILE=str(world.node.ca))
    wait("the log names the certificate", lambda: "certificate" in consumer.log.read_text())
    assert not consumer.health()["connected"]


def a_cancelled_consumer_subscribes_again(world: World) -> None:
    """A queue is deleted, and comes back. The others go on meanwhile."""
    world.consumer(world.node.url)
    _arrive(world, world.publish(5))
    with connect(world.node.url) as connection:
        connection.channel().queue_delete("cards")
    _arrive(world, world.publish(5, "orders"))
    declare(world.node.url, "quorum")
    _arrive(world, world.publish(5))


def queues_are_declared_for_one_consumer_at_a_time(world: World) -> None:
    """The second consumer gets messages when the first is gone."""
    settings = {"QUEUES": "single", "DECLARE_QUEUES": "quorum", "SINGLE_ACTIVE_CONSUMER": "yes", "BINDINGS": "single=amq.topic:one.#"}
    first = world.consumer(world.node.url, **settings)
    wait("the first is connected", lambda: first.health()["connected"])
    second = world.consumer(world.node.url, **settings)
    wait("the second is connected", lambda: second.health()["connected"])
    time.sleep(1)
    with connect(world.node.url) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", "one.two", b"x", pika.BasicProperties(message_id="bound"), mandatory=True)
    _arrive(world, {"bound"})
    first.terminate()
    _arrive(world, world.publish(5, "single"))


def an_outage_of_sqs_returns_nothing_and_loses_nothing(world: World) -> None:
    """Returning counts as a delivery in a quorum queue, whose limit would drop the messages."""
    world.stub.set(down=True)
    consumer = world.consumer(world.node.url)
    ids = world.publish(50)
    wait("all are in flight", lambda: consumer.health()["in_flight"] == len(ids))
    time.sleep(3)
    assert consumer.health()["in_flight"] == len(ids)
    assert '"messages_requeued":0.0' in consumer.log.read_text()
    world.stub.set()
    _arrive(world, ids)
    wait("nothing is in flight", lambda: consumer.health()["in_flight"] == 0)
    assert all(count == 1 for event, count in world.stub.events().items() if event in ids)


def a_message_that_sqs_goes_on_failing_is_quarantined_before_the_broker_drops_it(world: World) -> None:
    """`MAX_DELIVERIES` is below the delivery limit of the queue."""
    world.stub.set(fail_entries=1.0)
    world.consumer(world.node.url, MAX_DELIVERIES="2")
    ids = world.publish(3)
    reasons = {"too_many_deliveries"}
    wait("they are in the quarantine", lambda: {r["id"] for r in world.stub.quarantined() if r["reason"] in reasons} == ids)
    wait("nothing is left", lambda: depth(world.node.url) == 0)


def a_backlog_of_large_messages_does_not_fill_the_memory(world: World) -> None:
    """130 MB wait, SQS takes nothing, and the prefetch in messages would allow all of them."""
    world.stub.set(down=True)
    consumer = world.consumer(world.node.url, HEARTBEAT_SECONDS="5")
    ids = world.publish(200, body=os.urandom(LARGE))
    # Longer than the broker and the consumer wait for heartbeats.
    time.sleep(12)
    assert consumer.health()["connected"], "the connection was lost"
    assert "the connection was lost" not in consumer.log.read_text()
    world.stub.set()
    _arrive(world, ids)
    consumer.look()
    assert consumer.peak_bytes < MOST_MEMORY, f"{consumer.peak_bytes:,} bytes"


def sigterm_finishes_what_is_in_flight(world: World) -> None:
    """And takes nothing more. What cannot be finished within 25 seconds is still in the queue."""
    world.stub.set(down=True)
    consumer = world.consumer(world.node.url)
    ids = world.publish(30)
    wait("all are in flight", lambda: consumer.health()["in_flight"] == len(ids))
    code, seconds = consumer.terminate()
    assert code == 0 and 24 < seconds < 28, f"ended with {code} after {seconds:.1f} s"
    wait("all are in the queue again", lambda: depth(world.node.url) == len(ids))
    world.stub.set()
    consumer = world.consumer(world.node.url)
    _arrive(world, ids)
    code, seconds = consumer.terminate()
    assert code == 0 and seconds < 5, f"ended with {code} after {seconds:.1f} s"
    assert depth(world.node.url) == 0


CASES = [
    the_next_host_is_tried_when_one_is_away,
    a_private_ca_is_trusted_by_file,
    a_certificate_of_nobody_is_refused,
    a_certificate_for_another_name_is_refused,
    a_cancelled_consumer_subscribes_again,
    queues_are_declared_for_one_consumer_at_a_time,
    an_outage_of_sqs_returns_nothing_and_loses_nothing,
    a_message_that_sqs_goes_on_failing_is_quarantined_before_the_broker_drops_it,
]
# Those that take half a minute each.
LONG_CASES = [a_backlog_of_large_messages_does_not_fill_the_memory, sigterm_finishes_what_is_in_flight]


def run(cases: Sequence[Callable[[World], None]] = CASES) -> int:
    """0 if all of these cases are as they should be, or if there is no RabbitMQ."""
    if reason := rabbitmq.missing():
        print(f"The cases of the consumer were skipped: {reason}")
        return 0
    built = programs()
    failed = 0
    with rabbitmq.Node(tls=True) as node:
        for case in cases:
            _empty(node.url)
            world = World(node, built)
            title = case.__name__.replace("_", " ")
            try:
                with step(title):
                    case(world)
            except (AssertionError, Failure) as cause:
                failed += 1
                print(f"{title}: {cause or 'not so'}; see {world.consumers[-1].log if world.consumers else 'nothing'}")
            finally:
                world.stop()
    print(f"{len(cases) - failed} of {len(cases)} cases of the consumer are as they should be")
    return 1 if failed else 0
