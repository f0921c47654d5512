"""How many bytes of logs an invocation writes: lines like those of the functions and of Lambda, with usual values.

The metrics of a function are lines of its log as well, and each series of them is billed by the month.
"""

import json

from local.paths import FUNCTIONS

# CloudWatch Logs adds this to each line ("PutLogEvents", CloudWatch Logs API reference).
LINE_OVERHEAD_BYTES = 26

REQUEST_ID = "6d68ca91-49c9-448d-89b8-7ca3e6dc66aa"
TRACE_ID = "Root=1-62e900b2-710d76f009d6e7785905449a;Parent=0efbd19962d95b05;Sampled=0;Lineage=1:e9a4f2b1:0"
FILE_KEY = "events/2026/11/20/20261120T141146055Z-0123456789abcdef.parquet"
ROLLED_KEY = "cubic/kafka/riders/vytxeTZskVKR7C7WgdSP3d.json"

# Metrics that an invocation usually has, and those that are usually 0.
USUAL = {
    "parquet-writer": ["rows_landed", "files_written", "bytes_written", "oldest_message_age", "oldest_notice_age"],
    "kafka-roller": ["records_staged", "bytes_staged", "bytes_rolled", "oldest_record_age", "oldest_open_age", "ticks"],
    "collect": ["hits_stored", "bytes_stored"],
    "load-registrar": ["loads_registered"],
    "load-ingester": ["loads_ingested", "loads_finished", "rows_written", "bytes_written"],
    "dmap-fetch": ["datasets_fetched", "bytes_fetched"],
}
ZERO = {
    "parquet-writer": [
        "rows_unregistered",
        "rows_with_raw",
        "files_already_landed",
        "messages_drained",
        "messages_undeleted",
        "messages_retried",
    ],
    "kafka-roller": [
        "records_already_staged",
        "files_already_rolled",
        "windows_failed",
        "gaps",
        "oldest_open_overdue",
    ],
    "collect": ["hits_invalid", "hits_not_stored", "records_retried", "hits_anonymised", "values_redacted"],
    "load-registrar": [
        "loads_known",
        "loads_released",
        "snapshots_started",
        "objects_unregistered",
        "objects_not_data",
        "objects_gone",
        "objects_replaced",
        "records_ignored",
        "messages_retried",
    ],
    "load-ingester": ["loads_given_up", "loads_failed", "objects_gone"],
    "dmap-fetch": ["datasets_failed", "datasets_left", "feeds_failed"],
}
# In total and by reason.
ROLLED = ["files_rolled", "records_rolled"]
# One line for the comparison, one for the age, one that says whether it failed.
RECONCILED = [
    "objects_reconciled",
    "objects_missing",
    "objects_changed",
    "loads_phantom",
    "oldest_unfinished_age",
    "reconciliations_failed",
]


def prints_zeros(function: str) -> bool:
    """Whether the function prints metrics that are 0."""
    return "without_zeros" not in (FUNCTIONS / function / "src" / "handler.rs").read_text()


def series(function: str, with_zeros: bool) -> int:
    """How many custom metrics a stack has of the function while nothing goes wrong."""
    # Visitors do opt out, and hits are invalid now and then, so collect has all of them.
    zeros = len(ZERO[function]) if with_zeros or function == "collect" else 0
    rolled = 2 * len(ROLLED) if function == "kafka-roller" else 0
    reconciled = len(RECONCILED) if function == "load-registrar" else 0
    return len(USUAL[function]) + zeros + rolled + reconciled


def metrics_line(function: str, names: list[str], reason: str | None = None) -> int:
    """Bytes of one line in the embedded metric format (shared/src/metrics.rs)."""
    dimensions = [["stack", "function"]] + ([["stack", "function", "reason"]] if reason else [])
    metrics = [{"Name": name, "Unit": "Count"} for name in names]
    line = {
        "_aws": {
            "CloudWatchMetrics": [{"Dimensions": dimensions, "Metrics": metrics, "Namespace": "Landfall"}],
            "Timestamp": 1_795_183_906_123,
        },
        "function": function,
        "stack": "landfall",
        **({"reason": reason} if reason else {}),
        **{name: 4300.0 for name in names},
    }
    return _bytes(line)


def usual_metrics(function: str, with_zeros: bool) -> int:
    """Bytes of the metrics of a usual invocation."""
    return metrics_line(function, USUAL[function] + (ZERO[function] if with_zeros else []))


def message(fields: dict[str, object]) -> int:
    """Bytes of one message of a function, as its JSON subscriber writes it: with the span twice."""
    span = {"requestId": REQUEST_ID, "xrayTraceId": TRACE_ID, "name": "Lambda runtime invoke"}
    return _bytes({"level": "INFO", "fields": fields, "span": span, "spans": [span]})


def of_lambda() -> int:
    """Bytes of the two lines that Lambda adds to each invocation (platform.start and platform.report)."""
    start = {"requestId": REQUEST_ID, "version": "$LATEST"}
    metrics = {"billedDurationMs": 72, "durationMs": 71.33, "maxMemoryUsedMB": 40, "memorySizeMB": 1769}
    report = {"metrics": metrics, "requestId": REQUEST_ID, "status": "success"}
    time = "2026-11-20T14:11:46.055Z"
    return sum(
        _bytes({"time": time, "type": kind, "record": record})
        for kind, record in (("platform.start", start), ("platform.report", report))
    )


def of_api() -> int:
    """Bytes of a line of the access log of the API (CollectStage in template.yaml)."""
    line = {
        "requestId": "QxVZ4jSTIAMEPyA=",
        "time": "1795183906123",
        "method": "POST",
        "path": "/collect",
        "status": "200",
        "ms": "24",
        "error": "-",
    }
    return _bytes(line)


def file_written() -> int:
    """parquet-writer has written a file."""
    return message(
        {"message": "file written", "file.key": FILE_KEY, "rows": 4300, "size_bytes": 483387, "already": False}
    )


def windows_updated() -> int:
    """kafka-roller has handled a batch or a tick."""
    return message({"message": "windows brought up to date", "windows": 1, "failed": 0})


def file_rolled() -> int:
    """kafka-roller has written a file."""
    fields = {"file.key": ROLLED_KEY, "reason": "records", "records": 10000, "size_bytes": 10010000}
    return message({"message": "file rolled", **fields})


def files_rolled() -> int:
    """The metrics of the files that an invocation of kafka-roller has written."""
    return metrics_line("kafka-roller", ROLLED, "records")


def objects_registered() -> int:
    """load-registrar has handled notifications."""
    names = ("registered", "known", "unregistered", "snapshots", "released", "retried")
    return message({"message": "objects registered", **{name: 100 for name in names}})


def load_ingested() -> int:
    """load-ingester has taken a load further."""
    members = {"message": "load ingested", "load": 1201, "key": ROLLED_KEY, "rows": 10_000, "files": 1, "bytes": 483_387}
    return message(members)


def feed_asked() -> int:
    """dmap-fetch has asked a feed."""
    return message({"message": "feed asked", "feed": "agg_sample", "results": 1, "unfetched": 1, "complete": True})


def _bytes(line: dict[str, object]) -> int:
    return len(json.dumps(line, separators=(",", ":"), ensure_ascii=False)) + LINE_OVERHEAD_BYTES
