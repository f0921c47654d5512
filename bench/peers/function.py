"""The Lambda people write today, as Lambda runs it: `python -m awslambdaric function.handle`."""

import os

import boto3
from handler import encode

S3 = boto3.client("s3")
SNS = boto3.client("sns")
BUCKET = os.environ["LAKE_BUCKET"]
TOPIC = os.environ["LANDED_TOPIC_ARN"]


def handle(event: dict, context: object) -> dict:
    if event["Records"]:
        key = f"events/{event['Records'][0]['messageId']}.parquet"
        S3.put_object(Bucket=BUCKET, Key=key, Body=encode(event).file)
        SNS.publish(TopicArn=TOPIC, Message=key)
    return {"batchItemFailures": []}
