"""The bill of each path for a month at a steady rate, part by part."""

from dataclasses import dataclass, field, replace
from math import ceil

from local.cost import logs
from local.cost.inputs import Figures, Prices, Template

SECONDS_A_MONTH = 730 * 3600
HOURS_A_MONTH = 730
GB = 2**30

# Concurrent requests of kafka-roller to S3 and of load-registrar to S3.
ROLLER_READS = 8
ROLLER_WRITES = 16
ROLLER_SHARDS = 4
ROLLER_TIDY_MINUTES = 30
ROLLER_GROUP_FILES = 250
ROLLER_GROUP_BYTES = 64 << 20
REGISTRAR_HEADS = 32
TICKS_A_SECOND = 1 / 60
KEYS_A_LISTING = 1_000
KINESIS_STEP = 1_024
FIREHOSE_STEP = 5_120
PUT_UNIT = 25 * 1_024
BATCH_ENTRIES = 10
SQS_STEP = 64 * 1_024


@dataclass(frozen=True)
class Settings:
    """What a bill depends on and somebody can set."""

    writer_batch: int
    writer_window_s: int
    writer_drains: bool
    writer_drain_s: int
    memory_mb: int
    roller_window_s: int
    roller_records: int
    roller_seconds: int
    provisioned: bool
    retention_hours: int
    lambda_lines: bool
    zeros: dict[str, bool]
    tables: int = 1
    keyed_by_table: bool = False
    python: bool = False


def defaults(template: Template) -> Settings:
    """The defaults of the template, and one table."""
    return Settings(
        writer_batch=template.default("WriterBatchSize"),
        writer_window_s=template.default("WriterBatchWindowSeconds"),
        writer_drains=template.default("WriterDrainTargetBytes") > 0,
        writer_drain_s=template.default("WriterDrainWaitSeconds"),
        memory_mb=template.default("FunctionMemoryMb"),
        roller_window_s=template.default("RollerBatchWindowSeconds"),
        roller_records=template.default("RollerMaxRecords"),
        roller_seconds=template.default("RollerMaxSeconds"),
        provisioned=template.default("RollerShards") > 0,
        retention_hours=template.of("KafkaStream", "RetentionPeriodHours"),
        lambda_lines=not template.silences_lambda(),
        zeros={function: logs.prints_zeros(function) for function in logs.USUAL},
    )


@dataclass
class Bill:
    """US dollars a month, by part. `ingest` is the queue or the stream, which a comparison may leave out."""

    rate: float
    parts: dict[str, float] = field(default_factory=dict)
    ingest: dict[str, float] = field(default_factory=dict)
    invocations: float = 0.0  # a second
    billed_ms: float = 0.0

    def add(self, part: str, usd: float) -> None:
        """Adds to a part."""
        self.parts[part] = self.parts.get(part, 0.0) + usd

    @property
    def own(self) -> float:
        """Without the queue or the stream."""
        return sum(self.parts.values())

    @property
    def month(self) -> float:
        """All of it."""
        return self.own + sum(self.ingest.values())

    def a_million(self, usd: float | None = None) -> float:
        """US dollars per million events."""
        return (self.month if usd is None else usd) / (self.rate * SECONDS_A_MONTH) * 1e6

    @property
    def concurrency(self) -> float:
        """Concurrent executions."""
        return self.invocations * self.billed_ms / 1_000


@dataclass(frozen=True)
class Model:
    """Prices and figures, applied."""

    prices: Prices
    figures: Figures
    template: Template

    # --- Parts that several paths have -------------------------------------------------------------------------------

    def _month(self, name: str, a_second: float) -> float:
        return self.prices.of(name, a_second * SECONDS_A_MONTH)

    def _lambda(self, bill: Bill, kinds: list[tuple[float, float]], memory_mb: float) -> None:
        """Invocations a second with their milliseconds, of one function or several kinds of invocations of it."""
        billed = [(a_second, ceil(ms)) for a_second, ms in kinds]
        gb_seconds = sum(a_second * ms / 1_000 * memory_mb / 1_024 for a_second, ms in billed)
        bill.invocations = sum(a_second for a_second, _ in billed)
        bill.billed_ms = sum(a_second * ms for a_second, ms in billed) / bill.invocations
        bill.add("Lambda", self._month("lambda_gb_second", gb_seconds))
        bill.add("Lambda", self._month("lambda_request", bill.invocations))

    def _cpu_ms(self, ms: float, memory_mb: float) -> float:
        """Milliseconds of the benchmark on the share of a vCPU that a function of this memory has."""
        return ms * self.figures["slower_cpu"] / min(1.0, memory_mb / self.figures["vcpu_mb"])

    def _overhead_ms(self, settings: Settings) -> float:
        """What an invocation takes besides its handler: the runtime, and two requests over TLS."""
        prefix = "python_" if settings.python else ""
        return self.figures[f"{prefix}writer_warm_ms"] - self.figures[f"{prefix}writer_ms_100"]

    def _monitoring(self, bill: Bill, function: str, settings: Settings, *conditions: str) -> None:
        series: float = logs.series(function, settings.zeros[function])
        if function == "kafka-roller" and self.template.says("KafkaRollerFunction", "EventCount"):
            series += self.figures["event_count_metrics"]
        alarms = self.template.count("AWS::CloudWatch::Alarm", *conditions)
        dashboards = self.template.count("AWS::CloudWatch::Dashboard", "HasDashboard")
        bill.add("metrics", self.prices.of("metric_month", series))
        bill.add("alarms", self.prices.of("alarm_month", alarms))
        bill.add("dashboard", self.prices.of("dashboard_month", dashboards))

    def _logs(self, bill: Bill, bytes_a_second: float) -> None:
        bill.add("logs", self._month("log_gb", bytes_a_second / GB))

    def _lambda_lines(self, settings: Settings) -> int:
        return logs.of_lambda() if settings.lambda_lines else 0

    def _queue(self, rate: float, size: float, a_send: float, batches: float, messages: float) -> float:
        """Requests to a queue that Lambda reads: sends and receives, which count for each 64 KB, and deletes."""
        pollers = self._pollers(rate)
        # A poller that asks ten times a second gets what arrived since it last asked.
        a_receive = min(self.figures["messages_a_receive"], max(1.0, rate / pollers / 10))
        idle = pollers / self.figures["poller_wait_seconds"]
        deletes = batches * ceil(messages / BATCH_ENTRIES)
        moved = rate / a_send * _steps(a_send * size) + max(rate / a_receive * _steps(a_receive * size), idle)
        return self._month("sqs_request", moved + deletes)

    def _pollers(self, rate: float) -> float:
        return max(self.figures["pollers_at_least"], rate / self.figures["poller_messages_second"])

    # --- Streams -----------------------------------------------------------------------------------------------------

    def shards(self, rate: float, size: float, settings: Settings) -> int:
        """Shards of a stream that takes this."""
        used = max(rate / self.figures["shard_records_second"], rate * size / 2**20)
        if settings.provisioned:
            return max(1, ceil(used / self.figures["provisioned_use"]))
        return max(int(self.figures["on_demand_shards"]), ceil(used * self.figures["on_demand_headroom"]))

    def stream(self, rate: float, size: float, settings: Settings) -> float:
        """A stream with one reader, for a month."""
        if settings.provisioned:
            shard_hours = self.shards(rate, size, settings) * HOURS_A_MONTH
            kept = shard_hours if settings.retention_hours > 24 else 0
            units = rate * ceil(size / PUT_UNIT)
            return (
                self.prices.of("kinesis_shard_hour", shard_hours)
                + self.prices.of("kinesis_kept_shard_hour", kept)
                + self._month("kinesis_put_unit", units)
            )
        stored = ceil(size / KINESIS_STEP) * KINESIS_STEP
        kept_gb = rate * stored / GB * (settings.retention_hours - 24) * 3600
        return (
            self.prices.of("kinesis_stream_hour", HOURS_A_MONTH)
            + self._month("kinesis_in_gb", rate * stored / GB)
            + self._month("kinesis_out_gb", rate * size / GB)
            + self.prices.of("kinesis_kept_gb_month", kept_gb)
        )

    # --- parquet-writer ----------------------------------------------------------------------------------------------

    def writer(self, rate: float, settings: Settings) -> Bill:
        """SQS → Parquet → S3 → SNS."""
        bill, figures = Bill(rate), self.figures
        pollers = self._pollers(rate)
        most = min(settings.writer_batch, figures["messages_of_an_event"])
        messages = max(1.0, min(most, rate / pollers * settings.writer_window_s))
        a_send, size = min(BATCH_ENTRIES, max(1.0, rate)), figures["event_message_bytes"]
        wait_ms, received = figures["s3_ms"] + figures["sns_ms"], 0.0
        if settings.writer_drain_s:
            # One invocation after the other, each with what arrives while it receives.
            messages = rate * settings.writer_drain_s
            wait_ms += settings.writer_drain_s * 1_000
            # A long poll returns as soon as there is one message, so eight receivers get few each time, and pause.
            received = min(rate, 8 * 1_000 / (figures["sqs_ms"] + 200))
        batches = rate / messages
        if settings.writer_drain_s:
            sends = rate / a_send * _steps(a_send * size)
            bill.ingest["SQS"] = self._month("sqs_request", sends + received + rate / BATCH_ENTRIES)
        else:
            bill.ingest["SQS"] = self._queue(rate, size, a_send, batches, messages)
            if settings.writer_drains:
                # Two receives find that there is no backlog.
                bill.ingest["SQS"] += self._month("sqs_request", 2 * batches)
                wait_ms += 2 * figures["sqs_ms"]
        handler_ms = self._writer_ms(messages, settings)
        ms = self._cpu_ms(handler_ms + self._overhead_ms(settings), settings.memory_mb) + wait_ms
        # A tick lists the outbox, where there is nothing.
        tick_ms = self._cpu_ms(self._overhead_ms(settings), settings.memory_mb) + figures["s3_ms"]
        self._lambda(bill, [(batches, ms), (TICKS_A_SECOND, tick_ms)], settings.memory_mb)
        bill.add("S3", self._month("s3_put", batches + TICKS_A_SECOND))
        bill.add("SNS", self._month("sns_publish", batches))
        lines = logs.file_written() + logs.usual_metrics("parquet-writer", settings.zeros["parquet-writer"])
        tick_lines = logs.metrics_line("parquet-writer", ["oldest_notice_age"])
        self._logs(bill, batches * lines + TICKS_A_SECOND * tick_lines)
        self._logs(bill, (batches + TICKS_A_SECOND) * self._lambda_lines(settings))
        self._monitoring(bill, "parquet-writer", settings, "HasWriter")
        return bill

    def _writer_ms(self, messages: float, settings: Settings) -> float:
        """A straight line through the two sizes that were measured with every field that SQS sends."""
        prefix = "python_" if settings.python else ""
        small, large = self.figures[f"{prefix}writer_ms_100"], self.figures[f"{prefix}writer_ms_4300"]
        return small + (large - small) * (messages - 100) / (4_300 - 100)

    # --- kafka-roller ------------------------------------------------------------------------------------------------

    def roller(self, rate: float, settings: Settings) -> Bill:
        """Kinesis → one file for each table."""
        bill, figures = Bill(rate), self.figures
        size = figures["record_bytes"]
        bill.ingest["Kinesis"] = self.stream(rate, size, settings)
        shards = self.shards(rate, size, settings)
        if settings.keyed_by_table:
            shards = min(shards, settings.tables)
            tables, windows = settings.tables / shards, settings.tables
        else:
            tables, windows = settings.tables, settings.tables * shards

        event_bytes = ceil(size / 3) * 4 + figures["record_envelope_bytes"]
        most = min(10_000, figures["invocation_bytes"] / event_bytes)
        records = max(1.0, min(most, rate / shards * settings.roller_window_s))
        batches = rate / records
        of_window = rate / windows
        by_records = of_window * settings.roller_seconds >= settings.roller_records
        # By age, a file is closed by the tick after an hour, and the next one begins with the next record.
        aged = settings.roller_seconds + 30 + 1 / of_window
        file_seconds = settings.roller_records / of_window if by_records else aged
        files = windows / file_seconds
        file_bytes = of_window * file_seconds * (size + 1)
        uploads = ceil(file_bytes / figures["part_bytes"]) + 2 if file_bytes > figures["part_bytes"] else 1

        # The segments that are there when a file is closed. Windows that are closed by one invocation share what it reads.
        segments = max(1.0, batches / shards * file_seconds)
        together = tables if by_records else max(1.0, tables / (1 + min(aged, 1 / of_window) / 60))
        rolls = files / together
        groups = max(1.0, together * file_bytes / ROLLER_GROUP_BYTES, together / ROLLER_GROUP_FILES)
        if by_records:
            together, rolls, groups = 1.0, files, 1.0
        # A tick lists the folders of streams and of shards, and now and then what is in them.
        tidy_pages = shards * ceil(segments / KEYS_A_LISTING) / ROLLER_TIDY_MINUTES
        tick_pages = 1 + ceil(shards / KEYS_A_LISTING) + tidy_pages
        states = 2 * batches + rolls * groups + (0.0 if by_records else rolls)
        # What was staged is noted when segments are deleted.
        notes = min(rolls, batches)
        bill.add("S3", self._month("s3_put", TICKS_A_SECOND * tick_pages + states + notes + files * uploads))
        # The rules of tables: each tick reads them, and a batch if it has not seen them for a minute.
        rules = TICKS_A_SECOND + min(batches, shards / 60)
        bill.add("S3", self._month("s3_get", batches + rules + TICKS_A_SECOND * shards + rolls * segments * 2 * groups))

        def rolling_ms(count: float) -> float:
            """What the segments hold, their lines, the files, the state and the deletion."""
            reads = ceil(segments / ROLLER_READS) * 2 * groups
            requests = reads + ceil(together / ROLLER_WRITES) * uploads + 2 * groups
            return count * requests * figures["s3_ms"]

        handler_ms = figures["python_roller_ms" if settings.python else "roller_ms"]
        handler_ms *= records * event_bytes / figures["roller_event_bytes"]
        overhead_ms = self._overhead_ms(settings)
        batch_ms = self._cpu_ms(handler_ms + overhead_ms, settings.memory_mb) + 3 * figures["s3_ms"]
        tick_ms = self._cpu_ms(overhead_ms, settings.memory_mb) + (tick_pages + ceil(shards / ROLLER_SHARDS)) * figures["s3_ms"]
        if by_records:
            batch_ms += rolling_ms(rolls / batches)
        else:
            tick_ms += rolling_ms(rolls / TICKS_A_SECOND)
        self._lambda(bill, [(batches, batch_ms), (TICKS_A_SECOND, tick_ms)], settings.memory_mb)

        invocations = batches + TICKS_A_SECOND
        usual = logs.windows_updated() + logs.usual_metrics("kafka-roller", settings.zeros["kafka-roller"])
        rolled = files * logs.file_rolled() + min(files, invocations) * logs.files_rolled()
        self._logs(bill, invocations * (usual + self._lambda_lines(settings)) + rolled)
        self._monitoring(bill, "kafka-roller", settings, "HasRoller")
        return bill

    # --- collect -----------------------------------------------------------------------------------------------------

    def collect(self, rate: float, settings: Settings) -> Bill:
        """API Gateway → Lambda → Kinesis → Firehose → S3, one hit a request."""
        bill, figures = Bill(rate), self.figures
        size, memory_mb = figures["hit_bytes"], self.template.of("CollectFunction", "MemorySize")
        bill.add("API Gateway", self._month("http_api_request", rate))
        warm_ms = figures["python_collect_warm_ms" if settings.python else "collect_warm_ms"]
        self._lambda(bill, [(rate, self._cpu_ms(warm_ms, memory_mb) + figures["kinesis_ms"])], memory_mb)
        lines = logs.usual_metrics("collect", settings.zeros["collect"]) + self._lambda_lines(settings) + logs.of_api()
        self._logs(bill, rate * lines)
        bill.add("Kinesis", self.stream(rate, size, settings))
        # The overflow, which is empty.
        bill.add("SQS", self._month("sqs_request", self._pollers(0) / figures["poller_wait_seconds"]))
        bill.add("Firehose", self._firehose_gb("firehose_gb", rate, size))
        bill.add("S3", self._month("s3_put", max(1 / 60, rate * size / (10 * 2**20))))
        self._monitoring(bill, "collect", settings, "HasCollect", "WritesHitsToLake")
        return bill

    # --- load-registrar ----------------------------------------------------------------------------------------------

    def registrar(self, rate: float, settings: Settings) -> Bill:
        """S3 notifications → SQS → HEAD → Postgres, which is not in the bill."""
        bill, figures = Bill(rate), self.figures
        function, memory_mb = "LoadRegistrarFunction", self.template.of("LoadRegistrarFunction", "MemorySize")
        window_s = self.template.of(function, "MaximumBatchingWindowInSeconds")
        objects = max(1.0, min(self.template.of(function, "BatchSize"), rate / self._pollers(rate) * window_s))
        batches = rate / objects
        bill.ingest["SQS"] = self._queue(rate, figures["notice_bytes"], 1.0, batches, objects)
        bill.add("S3", self._month("s3_get", rate))
        wait_ms = ceil(objects / REGISTRAR_HEADS) * figures["s3_ms"] + self._postgres_ms(objects)
        cpu_ms = self._cpu_ms(self._overhead_ms(settings), memory_mb)
        reconciliations = figures["reconciliations_day"] / 86_400
        self._lambda(bill, [(batches, cpu_ms + wait_ms), (reconciliations, cpu_ms + figures["s3_ms"])], memory_mb)
        lines = logs.objects_registered() + logs.usual_metrics("load-registrar", settings.zeros["load-registrar"])
        self._logs(bill, batches * (lines + self._lambda_lines(settings)))
        self._monitoring(bill, "load-registrar", settings, "HasDatabase")
        return bill

    def _postgres_ms(self, objects: float) -> float:
        """A straight line between the sizes that were measured."""
        points = [(size, size / self.figures[f"registrar_rows_{size}"] * 1_000) for size in (10, 100, 1_000)]
        for (left, left_ms), (right, right_ms) in zip(points, points[1:], strict=False):
            if objects <= right:
                return left_ms + (right_ms - left_ms) * max(0.0, objects - left) / (right - left)
        return points[-1][1]

    # --- load-ingester -----------------------------------------------------------------------------------------------

    def ingester(self, loads_day: float, megabytes: float, settings: Settings) -> Bill:
        """incoming/ → springboard/ and archive/, for objects with so many MB of text. The questions to load-registrar are in the bill."""
        rate, figures = loads_day / 86_400, self.figures
        bill, memory_mb = Bill(rate), self.template.of("LoadIngesterFunction", "MemorySize")
        # Begin, say that it is ingested, claim to archive, say that it is archived; and a page of claims for each step.
        asked_ms = figures["registrar_question_ms"]
        moved_mb = megabytes / figures["text_in_gzip"]
        convert_ms = self._cpu_ms(megabytes / figures["ingest_megabytes_second"] * 1_000, memory_mb)
        overhead_ms = self._cpu_ms(self._overhead_ms(settings), memory_mb)
        load_ms = overhead_ms + convert_ms + 4 * asked_ms + 7 * figures["s3_ms"]
        self._lambda(bill, [(rate, load_ms), (TICKS_A_SECOND, overhead_ms + 4 * asked_ms)], memory_mb)
        questions = 4 * rate + 4 * TICKS_A_SECOND
        registrar_mb = self.template.of("LoadRegistrarFunction", "MemorySize")
        gb_seconds = questions * asked_ms / 1_000 * registrar_mb / 1_024
        bill.add("Lambda", self._month("lambda_gb_second", gb_seconds) + self._month("lambda_request", questions))
        bill.add("SQS", self._queue(rate, 100, min(BATCH_ENTRIES, max(1.0, rate / TICKS_A_SECOND)), rate, 1))
        parts = ceil(moved_mb * 1e6 / figures["part_bytes"])
        # The file, the copy, listings of files and of the versions beside the object; reads and looks at the object and the copy.
        bill.add("S3", self._month("s3_put", rate * ((parts + 2 if parts > 1 else 1) + 3)))
        bill.add("S3", self._month("s3_get", rate * 4))
        lines = logs.usual_metrics("load-ingester", settings.zeros["load-ingester"]) + self._lambda_lines(settings)
        self._logs(bill, rate * (lines + 2 * logs.load_ingested()))
        self._logs(bill, TICKS_A_SECOND * (logs.metrics_line("load-ingester", ["loads_claimed"]) + self._lambda_lines(settings)))
        bill.add("metrics", self.prices.of("metric_month", logs.series("load-ingester", settings.zeros["load-ingester"]) + 1))
        bill.add("alarms", self.prices.of("alarm_month", self.template.count("AWS::CloudWatch::Alarm", "HasIngester")))
        return bill

    # --- dmap-fetch --------------------------------------------------------------------------------------------------

    def dmap(self, feeds: float, datasets_day: float, megabytes: float, settings: Settings) -> Bill:
        """DMAP → S3, every hour. load-registrar's part is in the bill, its database is not."""
        rate, figures = datasets_day / 86_400, self.figures
        bill, memory_mb = Bill(rate), self.template.of("DmapFetchFunction", "MemorySize")
        ticks = 1 / 3_600
        asked_ms = figures["dmap_answer_ms"] + 2 * figures["registrar_question_ms"]
        download_ms = megabytes / figures["dmap_megabytes_second"] * 1_000
        dataset_ms = download_ms + 2 * figures["registrar_question_ms"] + 2 * figures["s3_ms"]
        tick_ms = self._cpu_ms(self._overhead_ms(settings), memory_mb) + feeds * asked_ms
        self._lambda(bill, [(ticks, tick_ms + rate / ticks * dataset_ms)], memory_mb)
        # load-registrar waits as long as it is waited for.
        questions = ticks * (1 + 2 * feeds) + rate * 2
        registrar_mb = self.template.of("LoadRegistrarFunction", "MemorySize")
        gb_seconds = questions * figures["registrar_question_ms"] / 1_000 * registrar_mb / 1_024
        bill.add("Lambda", self._month("lambda_gb_second", gb_seconds) + self._month("lambda_request", questions))
        parts = ceil(megabytes * 1e6 / figures["part_bytes"])
        bill.add("S3", self._month("s3_put", rate * (parts + 2 if parts > 1 else 1)))
        lines = logs.usual_metrics("dmap-fetch", settings.zeros["dmap-fetch"]) + self._lambda_lines(settings)
        self._logs(bill, ticks * (lines + feeds * logs.feed_asked()) + rate * logs.feed_asked())
        bill.add("metrics", self.prices.of("metric_month", logs.series("dmap-fetch", settings.zeros["dmap-fetch"])))
        bill.add("alarms", self.prices.of("alarm_month", self.template.count("AWS::CloudWatch::Alarm", "HasDmap")))
        return bill

    # --- What it is compared with ------------------------------------------------------------------------------------

    def _firehose_gb(self, name: str, rate: float, size: float) -> float:
        return self._month(name, rate * ceil(size / FIREHOSE_STEP) * FIREHOSE_STEP / GB)

    def firehose(self, rate: float, size: float, converts: bool = True) -> Bill:
        """Firehose to S3, with conversion to Parquet: a file every five minutes or 128 MiB."""
        bill = Bill(rate)
        bill.add("Firehose", self._firehose_gb("firehose_gb", rate, size))
        if converts:
            bill.add("conversion", self._firehose_gb("firehose_conversion_gb", rate, size))
        bill.add("S3", self._month("s3_put", max(1 / 300, rate * size / (128 * 2**20))))
        return bill

    def firehose_by_table(self, rate: float, size: float, tables: int) -> Bill:
        """Firehose with dynamic partitioning instead: a file for each table every five minutes or 128 MiB."""
        bill = self.firehose(rate, size, converts=False)
        objects = max(min(rate, tables / 300), rate * size / (128 * 2**20))
        bill.add("partitions", self._month("firehose_partition_gb", rate * size / GB))
        bill.add("partitions", self._month("firehose_partition_object", objects))
        bill.parts["S3"] = self._month("s3_put", objects)
        return bill

    def firehose_of_stream(self, rate: float, settings: Settings) -> Bill:
        """The same behind the stream that kafka-roller reads."""
        bill = self.firehose(rate, self.figures["record_bytes"])
        bill.ingest["Kinesis"] = self.stream(rate, self.figures["record_bytes"], settings)
        return bill

    def snowpipe(self, rate: float, size: float) -> Bill:
        """Snowpipe Streaming, or Snowpipe for files of this many bytes an event: 1 GB is 1,000 MB there."""
        bill = Bill(rate)
        credits = self._month("snowpipe_credits_gb", rate * size / 1e9)
        bill.add("Snowflake", self.prices.of("snowflake_credit", credits))
        return bill


def _steps(size: float) -> int:
    """Requests that SQS bills for one that moves this many bytes."""
    return max(1, ceil(size / SQS_STEP))


def tuned(settings: Settings) -> Settings:
    """The parameters of the template that lower a bill, at the price of latency or of sizing a stream by hand."""
    return replace(settings, writer_window_s=300, provisioned=True)
