"""RabbitMQ → SQS in Python: pika takes messages, threads send batches by boto3, and each batch is acknowledged when SQS has it.

Arguments: the AMQP URL, the endpoint, the queue's URL, and the names of the queues.
"""

import base64
import functools
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
import pika
from botocore.config import Config

THREADS = 16
PREFETCH = 1_000
BATCH = 10
WAIT_S = 0.01


def main(url, endpoint, queue_url, queues):
    sqs = boto3.client("sqs", endpoint_url=endpoint, config=Config(max_pool_connections=THREADS))
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=PREFETCH)
    pool = ThreadPoolExecutor(THREADS)
    batch = []

    def settle(sent, failed):
        for tag in sent:
            channel.basic_ack(tag)
        for tag in failed:
            channel.basic_nack(tag, requeue=True)

    def send(messages):
        entries = [entry for _, entry in messages]
        answer = sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)
        tags = {entry["Id"]: tag for tag, entry in messages}
        sent = [tags[entry["Id"]] for entry in answer.get("Successful", [])]
        failed = [tags[entry["Id"]] for entry in answer.get("Failed", [])]
        connection.add_callback_threadsafe(functools.partial(settle, sent, failed))

    def flush():
        if batch:
            pool.submit(send, batch.copy())
            batch.clear()

    def text(value):
        return {"DataType": "Number" if isinstance(value, int) else "String", "StringValue": str(value)}

    def take(queue, _channel, method, properties, body):
        values = {"type": properties.type, "source": queue, "event_id": properties.message_id, **(properties.headers or {})}
        entry = {
            "Id": str(len(batch)),
            "MessageBody": base64.b64encode(body).decode(),
            "MessageAttributes": {name: text(value) for name, value in values.items() if value is not None},
        }
        batch.append((method.delivery_tag, entry))
        if len(batch) == BATCH:
            flush()
        elif len(batch) == 1:
            connection.call_later(WAIT_S, flush)

    for queue in queues:
        channel.basic_consume(queue, functools.partial(take, queue))
    channel.start_consuming()


main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
