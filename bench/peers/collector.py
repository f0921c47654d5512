"""The Lambda people write today for hits, as Lambda runs it: `python -m awslambdaric collector.handle`."""

import json
import os

import boto3
from hits import line

KINESIS = boto3.client("kinesis")
STREAM = os.environ["STREAM_NAME"]
PIXEL = "R0lGODlhAQABAPAAAAAAAAAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw=="


def handle(event: dict, context: object) -> dict:
    if event["rawPath"] == "/health":
        return {"statusCode": 204}
    stored = line(event)
    KINESIS.put_record(StreamName=STREAM, Data=stored, PartitionKey=json.loads(stored)["context"]["client_id"])
    headers = {"Content-Type": "image/gif", "Access-Control-Allow-Origin": "*"}
    return {"statusCode": 200, "headers": headers, "body": PIXEL, "isBase64Encoded": True}
