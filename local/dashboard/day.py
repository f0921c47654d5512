"""A made-up day of a stack, as the metrics of its dashboard. The same seed gives the same day.

It has a night, a morning and an evening; at two, an export of thousands of files; from 14:00 to 15:00, an outage of S3 for
parquet-writer; at 18:30, ten minutes in which the stream of hits throttles; from 21:45, a sender whose events cannot be decoded.
"""

import math
import random
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate

STEP_S = 300
STEPS = 24 * 3600 // STEP_S

Series = list[float]
# Namespace, metric, the function or resource that it is about, and the statistic if the metric has several.
Key = tuple[str, ...]
Metrics = dict[Key, Series]
Reasons = dict[tuple[str, str], dict[str, Series]]


class Day:
    """Every metric of the day in steps of five minutes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._metrics: Metrics = {}
        self._reasons: Reasons = {}
        self._parquet_writer()
        self._collect()
        files = self._kafka_roller()
        self._load_registrar(files)
        self._load_ingester()
        self._dmap_fetch()

    def series(self, namespace: str, metric: str, about: str, stat: str) -> Series:
        """A metric. One that the day does not have is an error, so that nothing on the dashboard is forgotten here."""
        key = (namespace, metric, about)
        return self._metrics[key] if key in self._metrics else self._metrics[(*key, stat)]

    def by_reason(self, metric: str, function: str) -> dict[str, Series]:
        """A metric of a function, by reason."""
        return self._reasons[metric, function]

    def _parquet_writer(self) -> None:
        sent = self._traffic(per_second=45)
        broken = [0.06 if _within(at, 21.75, 24) else 0.0002 for at in range(STEPS)]
        landed, quarantined, waiting = [], [], []
        queue = 0
        for at, arrived in enumerate(sent):
            queue += arrived
            can = 0 if _within(at, 14, 15) else 75 * STEP_S
            taken = min(max(queue - arrived // 7, 0), can)  # The batch window keeps some waiting.
            quarantined.append(round(taken * broken[at] * self._noise(0.3)))
            landed.append(taken - quarantined[-1])
            queue -= taken
            waiting.append(queue)
        files = [math.ceil(rows / 4_300) + 4 if rows else 0 for rows in landed]
        function, events = "parquet-writer", "EventsQueue"
        invocations = [count + 2 if count else 20 for count in files]
        self._put("Landfall", function, rows_landed=landed, records_quarantined=quarantined, files_written=files)
        self._put(
            "Landfall", function, bytes_written=[rows * 107 + count * 8_000 for rows, count in zip(landed, files)]
        )
        self._reasons["records_quarantined", function] = {
            "invalid_protobuf": [round(count * 0.93) for count in quarantined],
            "missing_type": [count - round(count * 0.93) for count in quarantined],
        }
        age = _ages(sent, [a + b for a, b in zip(landed, quarantined)])
        in_flight = [min(count, 10 * 4_300) // 3 for count in waiting]
        self._put("Landfall", function, oldest_message_age=[seconds + 15 for seconds in age], oldest_notice_age=_never())
        self._put("AWS/SQS", events, NumberOfMessagesSent=sent, ApproximateAgeOfOldestMessage=age)
        self._put("AWS/SQS", events, ApproximateNumberOfMessagesNotVisible=in_flight)
        self._put("AWS/SQS", events, ApproximateNumberOfMessagesVisible=[a - b for a, b in zip(waiting, in_flight)])
        self._put("AWS/SQS", "EventsDeadLetterQueue", ApproximateNumberOfMessagesVisible=_never())
        fails = [_within(at, 14, 15) for at in range(STEPS)]
        self._put("Landfall", function, messages_retried=[4_300.0 if failing else 0.0 for failing in fails])
        self._put("Landfall", function, rows_unregistered=_never())
        median = [9_000 * self._noise(0.1) if failing else 160 * self._noise(0.1) for failing in fails]
        errors = [self._random.randrange(3) if failing else 0 for failing in fails]
        self._lambda("ParquetWriterFunction", "ParquetWriterLogs", invocations, median, errors, at_once=4)

    def _collect(self) -> None:
        hits = self._traffic(per_second=28)
        throttled = [_within(at, 18.5, 18.6) for at in range(STEPS)]
        invalid = [round(count * 0.006 * self._noise(0.2)) for count in hits]
        refused = [0 for _ in throttled]
        overflowed = [140 if slow else 0 for slow in throttled]
        stored = [count - bad - lost for count, bad, lost in zip(hits, invalid, refused)]
        rejected = [self._random.randrange(2, 12) for _ in hits]
        requests = [round(count / 1.12) + bad for count, bad in zip(hits, rejected)]
        function = "collect"
        self._put("Landfall", function, hits_stored=stored, hits_invalid=invalid, hits_not_stored=refused)
        self._put("Landfall", function, records_retried=[2_900 if slow else 0 for slow in throttled])
        self._reasons["requests_rejected", function] = {
            "empty": [count // 2 for count in rejected],
            "invalid_json": [count // 3 for count in rejected],
            "too_large": [count - count // 2 - count // 3 for count in rejected],
        }
        latency = [24 * self._noise(0.05) for _ in hits]
        slowest = [4_600 if slow else 95 * self._noise(0.2) for slow in throttled]
        self._put("AWS/ApiGateway", "CollectApi", Count=requests)
        self._metrics["AWS/ApiGateway", "4xx", "CollectApi"] = [a + b // 2 for a, b in zip(rejected, invalid)]
        self._metrics["AWS/ApiGateway", "5xx", "CollectApi"] = refused
        self._metrics["AWS/ApiGateway", "Latency", "CollectApi", "p50"] = latency
        self._put("AWS/SQS", "OverflowQueue", ApproximateNumberOfMessagesVisible=overflowed)
        self._put("AWS/SQS", "OverflowQueue", ApproximateAgeOfOldestMessage=[60 if count else 0 for count in overflowed])
        self._put("AWS/SQS", "OverflowDeadLetterQueue", ApproximateNumberOfMessagesVisible=_never())
        self._metrics["AWS/ApiGateway", "Latency", "CollectApi", "p99"] = slowest
        self._put("AWS/Kinesis", "ClicksStream", IncomingRecords=stored, IncomingBytes=[n * 1_450 for n in stored])
        self._put("AWS/Kinesis", "ClicksStream", WriteProvisionedThroughputExceeded=[n * 21 for n in overflowed])
        self._metrics["AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", "ClicksStream"] = self._about(600)
        late = [0, *(count // 4 for count in stored)]
        written = [count - late[at + 1] + late[at] for at, count in enumerate(stored)]
        self._metrics["AWS/Firehose", "DeliveryToS3.Records", "ClicksToLake"] = written
        self._metrics["AWS/Firehose", "DataReadFromKinesisStream.Bytes", "ClicksToLake"] = [n * 1_450 for n in written]
        self._metrics["AWS/Firehose", "DeliveryToS3.DataFreshness", "ClicksToLake"] = self._about(85)
        durations = [ms - 8 for ms in latency]
        self._lambda("CollectFunction", "CollectLogs", requests, durations, _never(), at_once=9, log_bytes=420)
        self._put("AWS/Logs", "CollectAccessLogs", IncomingBytes=[count * 180 for count in requests])

    def _kafka_roller(self) -> list[int]:
        """Returns the number of files in each step."""
        topics = [self._traffic(per_second) for per_second in (22, 2.4, 0.2)]
        windows: list[deque[tuple[int, int]]] = [deque() for _ in topics]  # step of arrival, records
        full, old, rolled, open_age = [], [], [], []
        bad = [round(40 * self._noise(0.4)) if _within(at, 9.2, 9.8) else 0 for at in range(STEPS)]
        for at in range(STEPS):
            closed = {"records": 0, "age": 0}
            out = 0
            for window, topic in zip(windows, topics):
                window.append((at, topic[at]))
                while sum(count for _, count in window) >= 10_000:
                    out += 10_000
                    closed["records"] += 1
                    rest = sum(count for _, count in window) - 10_000
                    window.clear()
                    window.append((at, rest))
                if at - window[0][0] >= 3600 // STEP_S:
                    out += sum(count for _, count in window)
                    closed["age"] += 1
                    window.clear()
            full.append(closed["records"])
            old.append(closed["age"])
            rolled.append(out)
            open_age.append(max((at - window[0][0]) * STEP_S + 40 for window in windows if window))
        files = [a + b for a, b in zip(full, old)]
        records = [sum(counts) + count for *counts, count in zip(*topics, bad)]
        function, stream = "kafka-roller", "KafkaStream"
        self._put("Landfall", function, records_rolled=rolled, records_quarantined=bad, files_rolled=files)
        self._put("Landfall", function, bytes_staged=[count * 640 for count in records], oldest_open_age=open_age)
        self._put(
            "Landfall",
            function,
            ticks=[5] * STEPS,
            oldest_open_overdue=_never(),
            oldest_paused_age=_never(),
            gaps=_never(),
            windows_failed=_never(),
        )
        self._reasons["records_quarantined", function] = {"missing_table": bad}
        self._reasons["files_rolled", function] = {"records": full, "age": old}
        self._put("AWS/Kinesis", stream, IncomingRecords=records, IncomingBytes=[count * 640 for count in records])
        self._metrics["AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", stream] = self._about(1_400)
        mapping = "KafkaRollerFunctionRecords"
        self._put("AWS/Lambda", mapping, PolledEventCount=records, OnFailureDestinationDeliveredEventCount=_never())
        self._put("AWS/Lambda", "KafkaRollerFunction", DestinationDeliveryFailures=_never())
        median = [110 * self._noise(0.1) + 90 * count for count in files]
        self._lambda("KafkaRollerFunction", "KafkaRollerLogs", [6 + n for n in full], median, _never(), at_once=2)
        return files

    def _load_registrar(self, files: Sequence[int]) -> None:
        exported = [900 if _within(at, 2, 2.4) else 0 for at in range(STEPS)]
        copied = [self._random.randrange(18, 26) if at % 3 == 0 else 0 for at in range(STEPS)]
        sent = [sum(counts) for counts in zip(files, exported, copied)]
        known = [1 if self._random.random() < 0.06 and count else 0 for count in sent]
        other = [round(count / 20) for count in copied]
        bad = [3 if at == 125 else 0 for at in range(STEPS)]
        registered = [total - a - b - c for total, a, b, c in zip(sent, known, other, bad)]
        function, puts = "load-registrar", "PutsQueue"
        self._put("Landfall", function, loads_registered=registered, loads_known=known, objects_not_data=other)
        self._put("Landfall", function, records_quarantined=bad, objects_unregistered=_never(), objects_gone=_never())
        self._put("Landfall", function, objects_replaced=_never(), records_ignored=_never())
        self._reasons["records_quarantined", function] = {"foreign_bucket": bad}
        hourly = [at % 12 == 6 for at in range(STEPS)]
        self._put("Landfall", function, objects_reconciled=[41_000 if now else 0 for now in hourly])
        self._put("Landfall", function, objects_missing=[1 if at == 102 else 0 for at in range(STEPS)])
        self._put(
            "Landfall", function, objects_changed=_never(), loads_phantom=_never(), reconciliations_failed=_never()
        )
        self._put("Landfall", function, pages_failed=_never())
        # The daily extract of one table is not there by 06:00, and comes three hours later.
        self._put("Landfall", function, tables_late=[int(72 <= at < 108) if now else 0 for at, now in enumerate(hourly)])
        hours = [at / 12 - 2 if 24 <= at < 72 else 0.6 + at // 12 % 3 / 2 for at in range(STEPS)]
        age = [hour * 3600 if now else math.nan for hour, now in zip(hours, hourly)]
        self._put("Landfall", function, oldest_unfinished_age=age)
        self._put(
            "AWS/SQS", puts, NumberOfMessagesSent=sent, NumberOfMessagesDeleted=sent, NumberOfMessagesReceived=sent
        )
        self._put("AWS/SQS", puts, ApproximateNumberOfMessagesVisible=[count // 3 for count in sent])
        self._put("AWS/SQS", puts, ApproximateNumberOfMessagesNotVisible=[count // 5 for count in sent])
        self._put("AWS/SQS", puts, ApproximateAgeOfOldestMessage=[9 if count < 100 else 74 for count in sent])
        self._put("AWS/SQS", "PutsDeadLetterQueue", ApproximateNumberOfMessagesVisible=_never())
        invocations = [math.ceil(count / 40) + int(now) for count, now in zip(sent, hourly)]
        median = [60 * self._noise(0.15) + 900 * now for now in hourly]
        self._lambda("LoadRegistrarFunction", "LoadRegistrarLogs", invocations, median, _never(), at_once=2)

    def _load_ingester(self) -> None:
        arrived = [self._random.randrange(6, 12) if at % 3 == 0 else 0 for at in range(STEPS)]
        ingested = [0, *arrived[:-1]]
        given_up = [1 if at == 140 else 0 for at in range(STEPS)]
        failed = [4 if _within(at, 7, 7.4) else 0 for at in range(STEPS)]
        finished = [a + b for a, b in zip(ingested, given_up)]
        rows = [count * round(2_400 * self._noise(0.2)) for count in ingested]
        bad = [12 if at == 150 else 0 for at in range(STEPS)]
        function = "load-ingester"
        self._put("Landfall", function, loads_claimed=[a + b for a, b in zip(arrived, failed)], loads_ingested=ingested)
        self._put("Landfall", function, loads_finished=finished, loads_given_up=given_up, loads_failed=failed)
        self._put("Landfall", function, rows_written=rows, bytes_written=[count * 31 for count in rows])
        self._put("Landfall", function, records_quarantined=bad, objects_gone=_never())
        self._reasons["records_quarantined", function] = {"not_an_integer": bad}
        self._put("AWS/SQS", "LoadsQueue", ApproximateNumberOfMessagesVisible=[count // 2 for count in arrived])
        self._put("AWS/SQS", "LoadsQueue", ApproximateNumberOfMessagesNotVisible=[count // 3 for count in arrived])
        self._put("AWS/SQS", "LoadsDeadLetterQueue", ApproximateNumberOfMessagesVisible=_never())
        invocations = [5 + count for count in arrived]
        median = [70 + 120 * count for count in ingested]
        self._lambda("LoadIngesterFunction", "LoadIngesterLogs", invocations, median, _never(), at_once=3)

    def _dmap_fetch(self) -> None:
        hourly = [at % 12 == 1 for at in range(STEPS)]
        fetched = [6 if _within(at, 6, 6.5) and now else 0 for at, now in enumerate(hourly)]
        function = "dmap-fetch"
        self._put("Landfall", function, datasets_fetched=fetched, datasets_left=_never(), feeds_failed=_never())
        self._put("Landfall", function, datasets_failed=[1 if at == 85 else 0 for at in range(STEPS)])
        self._put("Landfall", function, bytes_fetched=[count * 48_000_000 for count in fetched])
        self._put("Landfall", function, records_quarantined=_never())
        median = [700 * self._noise(0.2) + 2_400 * count if now else 0 for count, now in zip(fetched, hourly)]
        invocations = [int(now) for now in hourly]
        self._lambda("DmapFetchFunction", "DmapFetchLogs", invocations, median, _never(), at_once=1)

    def _lambda(
        self,
        function: str,
        log_group: str,
        invocations: Sequence[float],
        median_ms: Sequence[float],
        errors: Series,
        at_once: int,
        log_bytes: int = 1_900,
    ) -> None:
        p99_ms = [ms * 2.6 * self._noise(0.15) for ms in median_ms]
        statistics = {
            "p50": list(median_ms),
            "p99": p99_ms,
            "Maximum": [ms * (1.2 + self._random.random()) for ms in p99_ms],
            "Sum": [count * ms * 1.2 for count, ms in zip(invocations, median_ms)],
        }
        for stat, values in statistics.items():
            self._metrics["AWS/Lambda", "Duration", function, stat] = values
        busiest = max(invocations)
        concurrent = [1 + round((at_once - 1) * count / busiest) for count in invocations]
        self._put("AWS/Lambda", function, Invocations=invocations, Errors=errors, Throttles=_never())
        self._put("AWS/Lambda", function, ConcurrentExecutions=concurrent)
        self._put("AWS/Logs", log_group, IncomingBytes=[count * log_bytes for count in invocations])

    def _put(self, namespace: str, about: str, /, **metrics: Iterable[float]) -> None:
        for name, values in metrics.items():
            self._metrics[namespace, name, about] = list(values)

    def _traffic(self, per_second: float) -> list[int]:
        """Arrivals of a day with a quiet night, a busy late morning and a busier evening."""
        hours = [at * STEP_S / 3600 for at in range(STEPS)]
        curve = [
            0.16 + 0.5 * _hill(hour, 11.5, 3) + 0.84 * _hill(hour, 20, 2.4) + 0.1 * _hill(hour, 24, 1) for hour in hours
        ]
        return [round(per_second * STEP_S * height * self._noise(0.04)) for height in curve]

    def _about(self, value: float) -> Series:
        return [value * self._noise(0.15) for _ in range(STEPS)]

    def _noise(self, deviation: float) -> float:
        return max(0.2, self._random.gauss(1, deviation))


def _never() -> Series:
    return [0.0] * STEPS


def _within(at: int, first_hour: float, last_hour: float) -> bool:
    return first_hour <= at * STEP_S / 3600 < last_hour


def _hill(hour: float, middle: float, width: float) -> float:
    return math.exp(-(((hour - middle) / width) ** 2))


def _ages(arrived: Sequence[int], done: Sequence[int]) -> Series:
    """How long the oldest that is not done has waited at the end of each step, first in, first out."""
    arrivals = list(accumulate(arrived))
    ages, oldest = [], 0
    for at, finished in enumerate(accumulate(done)):
        while oldest < at and arrivals[oldest] <= finished:
            oldest += 1
        ages.append((at - oldest) * STEP_S + STEP_S * (arrivals[oldest] - finished) / arrived[oldest])
    return ages
