"""The Lambda people write today for hits: json, base64 and urllib."""

import base64
import json
from urllib.parse import parse_qsl


def turn(body: bytes) -> tuple[bytes, list[tuple[str, int]], None]:
    """The event as the Runtime API sends it → the line that is stored."""
    return line(json.loads(body)), [], None


def line(event: dict) -> bytes:
    context, headers, hit = event["requestContext"], event["headers"], parameters(event)
    stored = {
        "service": {"id": "api.collect"},
        "context": {
            "user_ip": hit.get("uip", context["http"]["sourceIp"]),
            "user_agent": hit.get("ua", headers.get("user-agent")),
            "document_location": hit.get("dl"),
            "document_referrer": hit.get("dr"),
            "client_id": hit["cid"],
            "user_id": hit.get("uid"),
        },
        "request": {
            "id": hit.get("z"),
            "timestamp": context["timeEpoch"],
            "hostname": context["domainName"],
            "path": context["http"]["path"],
            "method": context["http"]["method"],
            "headers": headers,
            "body": hit,
        },
        "response": {
            "id": hit.get("z"),
            "timestamp": context["timeEpoch"],
            "statusCode": 200,
            "headers": {"Content-Type": "image/gif", "Access-Control-Allow-Origin": headers.get("origin", "*")},
        },
    }
    return json.dumps(stored).encode() + b"\n"


def parameters(event: dict) -> dict:
    body = event.get("body")
    if not body:
        return event["queryStringParameters"]
    if event["isBase64Encoded"]:
        body = base64.b64decode(body).decode()
    if event["headers"]["content-type"] == "application/json":
        return json.loads(body)
    return dict(parse_qsl(body))
