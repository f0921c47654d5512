"""Writes the computed parts of docs/cost.md, or checks that they are up to date."""

import re
from collections.abc import Callable
from dataclasses import replace

from local.cost import inputs
from local.cost.model import Bill, Model, Settings, defaults, tuned
from local.paths import ROOT
from local.progress import Failure

PAGE = ROOT / "docs" / "cost.md"
RATES = (1, 1_000, 100_000)
GOAL = 0.5
NOTHING = "–"
PART = re.compile(r"(<!-- make cost: (\w+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def run(check: bool) -> int:
    """Rewrites the page and prints what it answers, or fails if the page is not what the model says."""
    page = PAGE.read_text()
    blocks = _blocks()
    named = [name for _, name, _ in PART.findall(page)]
    if sorted(named) != sorted(blocks):
        raise Failure(f"docs/cost.md has the parts {sorted(named)} instead of {sorted(blocks)}.")
    written = PART.sub(lambda part: f"{part[1]}\n{blocks[part[2]]}\n\n{part[3]}", page)
    if check:
        if written != page:
            raise Failure("docs/cost.md is not what the prices, the benchmark and the template give: run `make cost`.")
        return 0
    PAGE.write_text(written)
    print(blocks["answer"], blocks["missed"], sep="\n\n")
    print(f"\n{PAGE.relative_to(ROOT)} {'is up to date' if written == page else 'has been rewritten'}.")
    return 0


def _blocks() -> dict[str, str]:
    model = Model(inputs.prices(), inputs.figures(), inputs.template())
    settings = defaults(model.template)
    return {
        "answer": _answer(model, settings),
        "months": _months(model, settings),
        "missed": _missed(model, settings),
        "parts": _parts(model, settings),
        "effects": _effects(model, settings),
        "tables": _tables(model, settings),
        "ingester": _ingester(model, settings),
        "dmap": _dmap(model, settings),
        "snowflake": _snowflake(model, settings),
        "depends": _depends(model, settings),
        "assumptions": _assumptions(model),
        "prices": _prices(model),
    }


# --- The answer ------------------------------------------------------------------------------------------------------


class Compared:
    """One line of the answer: a path at a rate, with and without what brings the events."""

    def __init__(self, model: Model, settings: Settings, path: str, rate: float) -> None:
        bill, event = _path(model, path), model.figures["event_json_bytes"]
        python, changed = replace(settings, python=True), tuned(settings)
        self.path, self.rate = path, rate
        self.ours = bill(rate, settings)
        self.tuned = bill(rate, changed) if path != "load-registrar" else None
        self.python = bill(rate, python) if path != "load-registrar" else None
        self.firehose: Bill | None = None
        self.firehose_tuned: Bill | None = None
        if path == "parquet-writer":
            self.firehose = self.firehose_tuned = model.firehose(rate, event)
        elif path == "kafka-roller":
            self.firehose = model.firehose_of_stream(rate, settings)
            self.firehose_tuned = model.firehose_of_stream(rate, changed)


def _path(model: Model, path: str) -> Callable[[float, Settings], Bill]:
    return {
        "parquet-writer": model.writer,
        "kafka-roller": model.roller,
        "collect": model.collect,
        "load-registrar": model.registrar,
    }[path]


PATHS = ("parquet-writer", "kafka-roller", "collect", "load-registrar")
# With what brings the events, and without it where Firehose is compared.
VIEWS = [
    ("parquet-writer, with its queue", "parquet-writer", False),
    ("… without the queue", "parquet-writer", True),
    ("kafka-roller, with its stream", "kafka-roller", False),
    ("… without the stream", "kafka-roller", True),
    ("collect", "collect", False),
    ("load-registrar", "load-registrar", False),
]


def _lines(
    model: Model, settings: Settings, show: Callable[[Bill, float], str], ratios: bool
) -> list[list[str]]:
    lines = []
    for title, path, without in VIEWS:
        for rate in RATES:
            line = Compared(model, settings, path, rate)

            def usd(bill: Bill | None, leaves_out: bool = without) -> float | None:
                return None if bill is None else bill.own if leaves_out else bill.month

            bills = (line.ours, line.tuned, line.firehose, line.python)
            cells = [NOTHING if (of := usd(bill)) is None or bill is None else show(bill, of) for bill in bills]
            if ratios:
                pairs = ((line.ours, line.firehose), (line.tuned, line.firehose_tuned))
                cells += [_ratio(usd(ours), usd(theirs)) for ours, theirs in pairs]
            lines.append([title if rate == RATES[0] else "", f"{rate:,}", *cells])
    return lines


def _answer(model: Model, settings: Settings) -> str:
    header = ["path", "events/s", "defaults", "tuned", "Firehose", "Python Lambda"]
    header += ["defaults ÷ Firehose", "tuned ÷ Firehose"]
    return _table(header, _lines(model, settings, lambda bill, usd: _small(bill.a_million(usd)), ratios=True))


def _months(model: Model, settings: Settings) -> str:
    header = ["path", "events/s", "defaults", "tuned", "Firehose", "Python Lambda"]
    return _table(header, _lines(model, settings, lambda _, usd: _large(usd), ratios=False))


def _ratio(ours: float | None, theirs: float | None) -> str:
    if ours is None or theirs is None:
        return NOTHING
    ratio = ours / theirs
    return f"{ratio:.2f}" if ratio <= GOAL else f"**{ratio:.2f}**"


# --- What dominates --------------------------------------------------------------------------------------------------


def _missed(model: Model, settings: Settings) -> str:
    """The lines above the goal, with the three largest parts of each."""
    lines = []
    for title, path, without in VIEWS:
        for rate in RATES:
            line = Compared(model, settings, path, rate)
            if line.firehose is None:
                continue
            ours, theirs = (line.ours.own, line.firehose.own) if without else (line.ours.month, line.firehose.month)
            if ours <= GOAL * theirs:
                continue
            of_all = line.ours.parts if without else {**line.ours.parts, **line.ours.ingest}
            largest = sorted(of_all.items(), key=lambda part: -part[1])[:3]
            named = ", ".join(f"{name} {_large(usd)}" for name, usd in largest)
            beside = f"{_large(ours)} USD a month beside {_large(theirs)}"
            name = title.replace("…", path)
            lines.append(f"- {name}, {_events(rate)}: {beside}. Most of it: {named}.")
    return "\n".join(lines)


def _parts(model: Model, settings: Settings) -> str:
    names = ["SQS", "Kinesis", "API Gateway", "Firehose", "Lambda", "S3", "SNS", "logs", "metrics", "alarms", "dashboard"]
    rows = []
    for path in PATHS:
        for rate in RATES:
            bill = _path(model, path)(rate, settings)
            every = {**bill.parts, **bill.ingest}
            work = f"{_count(bill.invocations)} of {bill.billed_ms:,.0f} ms"
            cells = [_large(every[name]) if name in every else "" for name in names]
            rows.append([path if rate == RATES[0] else "", f"{rate:,}", work, *cells])
    return _table(["path", "events/s", "invocations/s", *names], rows)


def _effects(model: Model, settings: Settings) -> str:
    quiet = {function: False for function in settings.zeros}
    drained = replace(settings, writer_drain_s=30)
    changes = [
        ("parquet-writer", "`WriterBatchSize=100`", "parameter", replace(settings, writer_batch=100)),
        ("parquet-writer", "`WriterBatchWindowSeconds=300`", "parameter", replace(settings, writer_window_s=300)),
        ("parquet-writer", "`FunctionMemoryMb=512`", "parameter", replace(settings, memory_mb=512)),
        ("parquet-writer", "`WriterDrainWaitSeconds=30`", "parameter", drained),
        ("parquet-writer", "`WriterDrainTargetBytes=0`", "parameter", replace(settings, writer_drains=False)),
        ("parquet-writer", "no metrics that are 0", "code", replace(settings, zeros=quiet)),
        ("kafka-roller", "`RollerShards`", "parameter", replace(settings, provisioned=True)),
        ("kafka-roller", "the stream keeps records for a day", "template", replace(settings, retention_hours=24)),
        ("kafka-roller", "no metrics that are 0", "code", replace(settings, zeros=quiet)),
        ("collect", "`CollectShards`", "parameter", replace(settings, provisioned=True)),
        ("collect", "the stream keeps hits for a day", "template", replace(settings, retention_hours=24)),
        ("collect", "`SystemLogLevel: WARN`: no lines of Lambda", "template", replace(settings, lambda_lines=False)),
    ]
    rows = []
    for path, change, kind, other in changes:
        bill, cells = _path(model, path), []
        for rate in RATES:
            # Draining is for hundreds of events a second, and one invocation cannot take 100,000.
            if other is drained and rate != 1_000:
                cells.append(NOTHING)
                continue
            change_usd = bill(rate, other).month - bill(rate, settings).month
            sign = "+" if change_usd > 0 else "−"
            cells.append(f"{sign}{_large(abs(change_usd))}" if abs(change_usd) >= 0.005 else "0")
        rows.append([path, change, kind, *cells])
    return _table(["path", "change", "where", *(_events(rate) for rate in RATES)], rows)


def _tables(model: Model, settings: Settings) -> str:
    rows = []
    for tables in (1, 10, 100, 1_000):
        cells = []
        for rate in (1, 1_000):
            spread, keyed = (replace(settings, tables=tables, keyed_by_table=keyed) for keyed in (False, True))
            cells += [_large(model.roller(rate, one).own) for one in (spread, keyed)]
            cells.append(_large(model.firehose_by_table(rate, model.figures["record_bytes"], tables).month))
        rows.append([f"{tables:,}", *cells])
    header = [
        "tables",
        "1 record/s, tables in every shard",
        "in one shard each",
        "Firehose",
        "1,000 records/s, tables in every shard",
        "in one shard each",
        "Firehose",
    ]
    return _table(header, rows)


def _ingester(model: Model, settings: Settings) -> str:
    rows = []
    parts = ("Lambda", "SQS", "S3", "logs", "metrics", "alarms")
    for loads, megabytes in ((100, 1), (10_000, 1), (100_000, 1), (1_000, 100), (1_000, 1_000)):
        bill = model.ingester(loads, megabytes, settings)
        of_parts = [_large(bill.parts[part]) for part in parts]
        rows.append([f"{loads:,}", f"{megabytes:,}", *of_parts, _large(bill.own)])
    return _table(["loads a day", "MB of text each", *parts, "all"], rows)


def _dmap(model: Model, settings: Settings) -> str:
    rows = []
    for feeds, datasets, megabytes in ((1, 1, 1), (10, 10, 10), (10, 10, 1_000), (100, 1_000, 10)):
        bill = model.dmap(feeds, datasets, megabytes, settings)
        of_parts = [_large(bill.parts[part]) for part in ("Lambda", "S3", "logs", "metrics", "alarms")]
        rows.append([f"{feeds:,}", f"{datasets:,}", f"{megabytes:,}", *of_parts, _large(bill.own)])
    return _table(["feeds", "datasets a day", "MB each", "Lambda", "S3", "logs", "metrics", "alarms", "all"], rows)


def _snowflake(model: Model, settings: Settings) -> str:
    figures = model.figures
    rows = []
    for rate in RATES:
        streaming = model.snowpipe(rate, figures["event_payload_bytes"])
        loading = model.snowpipe(rate, figures["event_file_bytes"])
        ours = model.writer(rate, tuned(settings))
        rows.append(
            [
                f"{rate:,}",
                *(f"{_small(bill.a_million())} ({_large(bill.month)})" for bill in (streaming, loading)),
                _small(ours.a_million() + loading.a_million()),
            ]
        )
    header = [
        "events/s",
        "Snowpipe Streaming",
        "Snowpipe, to load the files of parquet-writer",
        "that and parquet-writer, tuned",
    ]
    return _table(header, rows)


# --- What it depends on ----------------------------------------------------------------------------------------------


def _depends(model: Model, settings: Settings) -> str:
    figures = model.figures
    rows = []
    for title, changed in (
        ("as assumed", figures),
        ("a request to S3 takes 100 ms", figures.changed(s3_ms=100)),
        ("the processor is 3.5 times slower than that of the bench", figures.changed(slower_cpu=3.5)),
        ("a receive brings 3 messages", figures.changed(messages_a_receive=3)),
        ("records have 5,000 bytes", figures.changed(record_bytes=5_000)),
    ):
        other = replace(model, figures=changed)
        lines = [Compared(other, settings, path, 1_000) for path in ("parquet-writer", "kafka-roller")]
        cells = []
        for line in lines:
            if line.tuned is None or line.firehose is None or line.firehose_tuned is None:
                raise AssertionError(line.path)
            cells += [
                f"{_small(ours.a_million())} ({ours.month / theirs.month:.2f})"
                for ours, theirs in ((line.ours, line.firehose), (line.tuned, line.firehose_tuned))
            ]
        rows.append([title, *cells])
    header = ["1,000 events/s", "parquet-writer", "tuned", "kafka-roller, with its stream", "tuned"]
    return _table(header, rows)


def _assumptions(model: Model) -> str:
    rows = []
    for row in model.figures.rows:
        if row["source"].startswith("bench/") or row["value"].startswith("bench: "):
            continue
        value = float(row["value"])
        shown = f"{value:,.4g}" if value < 100 else f"{value:,.0f}"
        rows.append([row["figure"].replace("_", " "), shown, row["unit"], row["source"]])
    return _table(["figure", "value", "unit", "source"], rows, numbers=(1,))


def _prices(model: Model) -> str:
    """One line for each price, with its tiers."""
    tiers: dict[str, list[dict[str, str]]] = {}
    for row in model.prices.rows:
        tiers.setdefault(row["price"], []).append(row)
    rows = []
    for of_price in tiers.values():
        first = of_price[0]
        usd = ", ".join(_tier(float(row["above"]), row["usd"]) for row in of_price)
        seen = ", ".join(dict.fromkeys(_seen(row) for row in of_price))
        service = first["list"].removesuffix("/").removesuffix("/pricing").rsplit("/", 1)[-1].removesuffix(".pdf")
        rows.append([f"[{service}]({first['list']})", first["unit"], usd, seen])
    dates = sorted({row["as_of"] for row in model.prices.rows})
    dated = f"As of {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, us-east-1."
    return f"{dated}\n\n{_table(['list', 'unit', 'USD', 'seen in'], rows, numbers=())}"


def _seen(row: dict[str, str]) -> str:
    if not row["seen_in"]:
        return "no page; several public repositories name it"
    host, *path = row["seen_in"].removeprefix("https://").split("/")
    name = "/".join(path[:2]) if host == "github.com" else host.removeprefix("www.")
    return f"[{name}]({row['seen_in']}), {row['seen']}"


# --- Tables ----------------------------------------------------------------------------------------------------------


def _table(header: list[str], rows: list[list[str]], numbers: tuple[int, ...] | None = None) -> str:
    """A Markdown table; columns of numbers are aligned to the right."""
    if numbers is None:
        numbers = tuple(at for at in range(1, len(header)) if all(re.match(r"[\d*+−–]|$", row[at]) for row in rows))
    rule = ["--:" if at in numbers else "---" for at in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _events(rate: float) -> str:
    return "1 event/s" if rate == 1 else f"{rate:,} events/s"


def _small(usd: float) -> str:
    """US dollars per million."""
    return f"{usd:,.2f}" if usd >= 1 else f"{usd:.3f}" if usd >= 0.01 else f"{usd:.4f}"


def _large(usd: float) -> str:
    """US dollars a month."""
    return f"{usd:,.0f}" if usd >= 100 else f"{usd:.1f}" if usd >= 10 else f"{usd:.2f}"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _tier(above: float, usd: str) -> str:
    """A price; those of single requests as prices of a million."""
    price = usd if float(usd) >= 0.001 else f"{float(usd) * 1e6:.6g} a million"
    return f"{price} above {above:,.0f}" if above else price
