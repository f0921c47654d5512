"""The consumer as it is deployed beside pika and boto3, on one RabbitMQ and one stub of SQS that answers at once."""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pika

from local import consumer, rabbitmq
from local.environment import FAKE_ACCOUNT
from local.paths import ROOT
from local.progress import Failure, Step, step

PEER = ROOT / "bench" / "peers" / "consume.py"
BODY = 300
ROUNDS = 3
STALL_S = 120
SLOW_MESSAGES = 400
SLOW_PER_S = 20


def run(count: int) -> int:
    """Prints messages per second of both, and the latency at a low rate."""
    if reason := rabbitmq.missing():
        raise Failure(f"This needs a RabbitMQ: {reason}")
    built = consumer.programs(deployed=True)
    with rabbitmq.Node() as node:
        consumer.declare(node.url, "classic")
        rates: dict[str, list[float]] = {"landfall": [], "pika and boto3": []}
        cpu: dict[str, list[float]] = {name: [] for name in rates}
        for number in range(1, ROUNDS + 1):
            for name in rates:
                share = count if name == "landfall" else count // 6  # it would take too long
                with step(f"Round {number} of {ROUNDS}: {share:,} messages, {name}") as s:
                    rate, seconds = _round(node, built, name, share, s)
                rates[name].append(rate)
                cpu[name].append(seconds / share * 1e6)
        for name, all_rates in rates.items():
            print(f"{name}: {median(all_rates):,.0f} messages/s, {median(cpu[name]):,.0f} µs of processor time a message")
        print(f"{median(rates['landfall']) / median(rates['pika and boto3']):.1f} times as many")
        for name in rates:
            with step(f"Latency at {SLOW_PER_S} messages/s, {name}"):
                latency = _slow(node, built, name)
            print(f"{name}, published to in SQS: " + ", ".join(f"{key} {value / 1000:.1f} ms" for key, value in latency.items()))
    return 0


def _start(node: rabbitmq.Node, built: dict[str, Path], name: str, stub: consumer.Stub) -> "subprocess.Popen[bytes]":
    queue_url = f"{stub.url}/1/events"
    if name == "landfall":
        env = {
            **FAKE_ACCOUNT,
            "AWS_ENDPOINT_URL": stub.url,
            "AMQP_URLS": node.url,
            "QUEUES": ",".join(consumer.QUEUES),
            "EVENTS_QUEUE_URL": queue_url,
            "LAKE_BUCKET": consumer.BUCKET,
            "HEALTH_PORT": "0",
        }
        return subprocess.Popen([built["consumer"]], env=env, stdout=subprocess.DEVNULL)
    argv = [sys.executable, str(PEER), node.url, stub.url, queue_url, *consumer.QUEUES]
    return subprocess.Popen(argv, env={**os.environ, **FAKE_ACCOUNT})


def _round(node: rabbitmq.Node, built: dict[str, Path], name: str, count: int, shown: Step) -> tuple[float, float]:
    stub = consumer.Stub(built["stub"])
    try:
        _fill(node, count)
        process = _start(node, built, name, stub)
        try:
            return _count(stub, count, process, shown)
        finally:
            process.kill()
            process.wait()
    finally:
        stub.stop()


def _fill(node: rabbitmq.Node, count: int) -> None:
    with consumer.connect(node.url) as connection:
        channel = connection.channel()
        for number in range(count):
            _publish(channel, number, {})
    deadline = time.monotonic() + STALL_S
    while consumer.depth(node.url) < count:
        if time.monotonic() > deadline:
            raise Failure("The broker does not have what was published.")
        time.sleep(0.1)


def _publish(channel: Any, number: int, headers: dict[str, int]) -> None:
    queue = consumer.QUEUES[number % len(consumer.QUEUES)]
    properties = pika.BasicProperties(message_id=f"event-{number}", type=consumer.TYPES[queue], headers=headers)
    channel.basic_publish("", queue, os.urandom(BODY), properties)


def _count(stub: consumer.Stub, count: int, process: "subprocess.Popen[bytes]", shown: Step) -> tuple[float, float]:
    first = first_at = None
    deadline = time.monotonic() + STALL_S
    while (arrived := stub.counts()["messages"]) < count:
        now = time.monotonic()
        # From the first messages, so that the start of the process does not count.
        if first is None and arrived:
            first, first_at = arrived, now
        shown.count(arrived, count)
        if now > deadline:
            raise Failure(f"Only {arrived:,} of {count:,} messages have arrived.")
        time.sleep(0.02)
    if first is None or first_at is None:
        raise Failure("There are too few messages to measure anything.")
    rate = (count - first) / (time.monotonic() - first_at)
    fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
    return rate, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _slow(node: rabbitmq.Node, built: dict[str, Path], name: str) -> dict[str, float]:
    stub = consumer.Stub(built["stub"])
    process = _start(node, built, name, stub)
    try:
        time.sleep(3)
        with consumer.connect(node.url) as connection:
            channel = connection.channel()
            for number in range(SLOW_MESSAGES):
                _publish(channel, number, {"sent_us": time.time_ns() // 1000})
                time.sleep(1 / SLOW_PER_S)
        time.sleep(1)
        latency = stub.counts()["latency_us"]
        if latency["count"] < SLOW_MESSAGES:
            raise Failure(f"Only {latency['count']} of {SLOW_MESSAGES} messages have arrived.")
        return {key: latency[key] for key in ("p50", "p99", "most")}
    finally:
        process.kill()
        process.wait()
        stub.stop()
