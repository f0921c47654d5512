"""Draws the dashboard of `template.yaml` with a made-up day: `python -m local.dashboard.picture FILE`, an SVG.

Runs in the environment of `make dashboard`, which has Matplotlib.
"""

import json
import operator
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from local.dashboard.day import STEP_S, STEPS, Day
from local.dashboard.template import Template

SEED = 1
# Of the template, so that every part is on the picture.
PARAMETERS = {
    "DatabaseUrl": "postgres://landfall@db.example/landfall",
    "LoadIngester": "true",
    "DmapBaseUrl": "https://dmap.example",
    "DmapSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:dmap",
}
PERIOD_S = 900

# In pixels. CloudWatch has 24 columns.
COLUMN, ROW, GAP, MARGIN, BAR = 54, 38, 6, 10, 36
WIDTH = 24 * COLUMN + 2 * MARGIN
LINE = 14

PAGE, CARD, BORDER, GRID = "#f2f3f3", "#ffffff", "#d5dbdb", "#eaeded"
TEXT, MUTED, BLUE, GREEN, RED = "#16191f", "#545b64", "#232f3e", "#1d8102", "#d13212"
SERIES = ["#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f"]
VIEWERS_FONTS = "Helvetica, Arial, sans-serif"

COMPARISONS = {
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


@dataclass(frozen=True)
class Line:
    """One series of a widget: a value for each period, or one for the whole day."""

    label: str
    values: numpy.ndarray
    color: str | None
    on_the_right: bool


class Picture:
    """The figure, in pixels from its top left corner."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor=PAGE)

    def rectangle(self, x: float, y: float, width: float, height: float, color: str, edge: str = "none") -> None:
        corner = (x / WIDTH, 1 - (y + height) / self.height)
        size = (width / WIDTH, height / self.height)
        # Behind the axes.
        style = {"facecolor": color, "edgecolor": edge, "linewidth": 1, "zorder": -1}
        self.figure.add_artist(Rectangle(corner, *size, transform=self.figure.transFigure, **style))

    def text(self, x: float, y: float, text: str, size: float, color: str = TEXT, **style: Any) -> None:
        """`y` is the baseline."""
        self.figure.text(x / WIDTH, 1 - y / self.height, text, fontsize=size, color=color, **style)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        return self.figure.add_axes((x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height))


def main(path: Path) -> None:
    """Draws every widget where CloudWatch puts it."""
    template, day = Template(**PARAMETERS), Day(SEED)
    dashboard = template.resolve(template.resources["StackDashboard"]["Properties"])
    widgets = json.loads(dashboard["DashboardBody"])["widgets"]
    places = list(_places(widgets))
    picture = Picture(BAR + 2 * MARGIN + ROW * max(y + widget["height"] for (_, y), widget in zip(places, widgets)))
    picture.rectangle(0, 0, WIDTH, BAR, BLUE)
    picture.text(MARGIN + GAP, 23, dashboard["DashboardName"], 13, "white", weight="bold")
    said = "Demo data: a made-up day. Drawn from template.yaml by make dashboard."
    picture.text(WIDTH - MARGIN - GAP, 23, said, 11, "white", ha="right")
    for (column, row), widget in zip(places, widgets):
        box = (
            MARGIN + column * COLUMN + GAP / 2,
            BAR + MARGIN + row * ROW + GAP / 2,
            widget["width"] * COLUMN - GAP,
            widget["height"] * ROW - GAP,
        )
        picture.rectangle(*box, CARD, BORDER)
        properties = widget["properties"]
        match widget["type"]:
            case "text":
                _draw_text(picture, box, properties["markdown"])
            case "alarm":
                _draw_alarms(picture, box, properties, template, day)
            case _ if properties.get("view") == "singleValue":
                _draw_numbers(picture, box, properties, day)
            case _:
                _draw_graph(picture, box, properties, day)
    _save(picture, path, template.dashboard_sha256)


def _places(widgets: Sequence[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """The next free place of each widget: the widgets of a row are equally high and fill it."""
    column = row = 0
    for widget in widgets:
        yield column, row
        column += widget["width"]
        if column == 24:
            column, row = 0, row + widget["height"]


def _draw_text(picture: Picture, box: tuple[float, ...], markdown: str) -> None:
    x, y, width, _ = box
    y += 8
    for paragraph in markdown.split("\n"):
        marks = len(paragraph) - len(paragraph.lstrip("#"))
        size, weight = {0: (10.5, "normal"), 1: (17, "bold"), 2: (14, "bold")}[marks]
        plain = re.sub(r"[*`]", "", paragraph.lstrip("# "))
        for line in _wrapped(plain, size, width - 20):
            y += size + 1
            picture.text(x + 10, y, line, size, weight=weight)
            y += 4
        y += 4


def _draw_alarms(
    picture: Picture, box: tuple[float, ...], properties: dict[str, Any], template: Template, day: Day
) -> None:
    x, y, width, _ = box
    picture.text(x + 10, y + 18, properties["title"], 11, weight="bold")
    columns = max(int(width // 210), 1)
    tile = (width - 20) / columns
    for at, name in enumerate(sorted(properties["alarms"])):
        left, top = x + 10 + at % columns * tile, y + 30 + at // columns * 32
        rings = _rings(template.resolve(template.resources[name]["Properties"]), day)
        picture.rectangle(left, top, tile - 8, 26, "#fdf3f1" if rings else "#f2f8f0", BORDER)
        picture.rectangle(left, top, 4, 26, RED if rings else GREEN)
        picture.text(left + 12, top + 17, name, 10)
        picture.text(left + tile - 16, top + 17, "In alarm" if rings else "OK", 9, RED if rings else GREEN, ha="right")


def _rings(alarm: dict[str, Any], day: Day) -> bool:
    """Whether the alarm rings at the end of the day."""
    stat = alarm.get("Statistic") or alarm["ExtendedStatistic"]
    series = day.series(alarm["Namespace"], alarm["MetricName"], alarm["Dimensions"][-1]["Value"], stat)
    periods = _aggregated(series, stat, alarm["Period"])[-alarm["EvaluationPeriods"] :]
    breaches = COMPARISONS[alarm["ComparisonOperator"]](periods, float(alarm["Threshold"]))
    return sum(breaches) >= alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])


def _draw_numbers(picture: Picture, box: tuple[float, ...], properties: dict[str, Any], day: Day) -> None:
    x, y, width, _ = box
    picture.text(x + 10, y + 18, properties["title"], 11, weight="bold")
    lines = list(_lines(properties, day, STEPS * STEP_S))
    share = (width - 20) / len(lines)
    for at, line in enumerate(lines):
        value = line.values.item()
        exact = properties.get("singleValueFullPrecision")
        shown = f"{value:,.0f}" if exact else _short(value) + ("B" if "bytes" in line.label else "")
        left = x + 10 + at * share
        picture.text(left, y + 56, shown, 20 if len(lines) < 6 else 18)
        for row, part in enumerate(_wrapped(line.label, 9.5, share - 8)):
            picture.text(left, y + 74 + row * 12, part, 9.5, MUTED)


def _draw_graph(picture: Picture, box: tuple[float, ...], properties: dict[str, Any], day: Day) -> None:
    x, y, width, height = box
    picture.text(x + 10, y + 18, properties["title"], 11, weight="bold")
    lines = list(_lines(properties, day, PERIOD_S))
    colors = [line.color or SERIES[at] for at, line in enumerate(lines)]
    labels = properties.get("yAxis", {})
    on_the_right = any(line.on_the_right for line in lines)
    rows = list(_legend([line.label for line in lines], width - 20))
    left = 54 if "label" in labels.get("left", {}) else 42
    right = 50 if on_the_right else 22
    bottom = 22 + LINE * len(rows)
    axes = picture.axes(x + left, y + 30, width - left - right, height - 30 - bottom - 6)
    hours = numpy.arange(0, 24, PERIOD_S / 3600)
    if properties.get("stacked"):
        axes.stackplot(hours, [line.values for line in lines], colors=colors, alpha=0.75, linewidth=0)
    else:
        other = axes.twinx() if on_the_right else axes
        for line, color in zip(lines, colors):
            (other if line.on_the_right else axes).plot(hours, line.values, color=color, linewidth=1.3)
        if on_the_right:
            _style(other, labels["right"].get("label"), grid=False)
    for mark in properties.get("annotations", {}).get("horizontal", []):
        axes.axhline(mark["value"], color=mark["color"], linewidth=1, linestyle=(0, (4, 3)))
        label = axes.annotate(mark["label"], (0.3, mark["value"]), (0, 4), textcoords="offset points")
        label.set(fontsize=8.5, color=mark["color"], bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    _style(axes, labels.get("left", {}).get("label"), grid=True)
    for row, entries in enumerate(rows):
        for at, offset in entries:
            baseline = y + height - 6 - LINE * (len(rows) - 1 - row)
            picture.rectangle(x + 10 + offset, baseline - 8, 8, 8, colors[at])
            picture.text(x + 22 + offset, baseline, lines[at].label, 9, MUTED)


def _style(axes: Axes, label: str | None, grid: bool) -> None:
    axes.set_facecolor("none")
    axes.set_xlim(0, 24)
    axes.set_xticks([0, 6, 12, 18, 24], ["00:00", "06:00", "12:00", "18:00", "24:00"])
    low, high = axes.get_ylim()
    axes.set_ylim(low if low < -0.1 * high else 0, max(high * 1.05, 1.2))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=high < 12, min_n_ticks=2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.tick_params(labelsize=9, labelcolor=MUTED, length=0, pad=4)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color("#aab7b8")
    if grid:
        axes.grid(axis="y", color=GRID, linewidth=1)
        axes.set_axisbelow(True)
    if label:
        axes.set_ylabel(label, fontsize=9, color=MUTED, labelpad=3)


def _legend(labels: Sequence[str], width: float) -> Iterator[list[tuple[int, float]]]:
    """Rows of labels, by their positions, with their offsets from the left."""
    row: list[tuple[int, float]] = []
    offset = 0.0
    for at, label in enumerate(labels):
        needed = 12 + _width(label, 9)
        if row and offset + needed > width:
            yield row
            row, offset = [], 0.0
        row.append((at, offset))
        offset += needed + 12
    yield row


def _lines(properties: dict[str, Any], day: Day, period_s: int) -> Iterator[Line]:
    """The visible series of a widget. Expressions of CloudWatch are also expressions of Python."""
    names: dict[str, Any] = {
        "PERIOD": lambda _: period_s,
        "RUNNING_SUM": numpy.cumsum,
        "FILL": _repeated,
        "REPEAT": None,
    }
    found: list[tuple[dict[str, Any], numpy.ndarray | str]] = []
    for *metric, options in properties["metrics"]:
        if not metric:
            found.append((options, options["expression"]))
            continue
        namespace, name, *dimensions = metric
        stat = options.get("stat") or properties["stat"]
        values = _aggregated(day.series(namespace, name, dimensions[-1], stat), stat, period_s)
        found.append((options, values))
        names[options.get("id", "")] = values
    for options, values in found:
        if not options.get("visible", True):
            continue
        style = (options.get("color"), options.get("yAxis") == "right")
        if isinstance(values, str) and values.startswith("SEARCH("):
            metric, function = re.findall(r'(?:MetricName|function)="([^"]+)"', values)
            for reason, series in day.by_reason(metric, function).items():
                yield Line(reason, _aggregated(series, "Sum", period_s), *style)
            continue
        if isinstance(values, str):
            with numpy.errstate(divide="ignore", invalid="ignore"):
                values = numpy.asarray(eval(values, {"__builtins__": {}}, names), dtype=float)
        yield Line(options["label"], numpy.where(numpy.isfinite(values), values, numpy.nan), *style)


def _aggregated(series: Sequence[float], stat: str, period_s: int) -> numpy.ndarray:
    periods = numpy.array(series, dtype=float).reshape(-1, period_s // STEP_S)
    match stat:
        case "Sum":
            return periods.sum(axis=1)
        case "p50":
            return periods.mean(axis=1)
    return numpy.fmax.reduce(periods, axis=1)  # NaN is no data


def _repeated(values: numpy.ndarray, _: None) -> numpy.ndarray:
    """Missing values are those before them."""
    last = numpy.maximum.accumulate(numpy.where(numpy.isnan(values), 0, numpy.arange(len(values))))
    return values[last]


def _short(value: float) -> str:
    """12,300 is 12.3k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _wrapped(text: str, size: float, width: float) -> Iterator[str]:
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and _width(longer, size) > width:
            yield line
            longer = word
        line = longer
    yield line


@cache
def _width(text: str, size: float) -> float:
    """In DejaVu Sans, which is wider than the fonts that a viewer prefers."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]


def _save(picture: Picture, path: Path, sha256: str) -> None:
    # `Source` says of which dashboard this is a picture, which a test compares.
    metadata = {"Date": None, "Title": "The dashboard of Landfall with demo data", "Source": f"sha256:{sha256}"}
    picture.figure.savefig(path, format="svg", metadata=metadata)
    svg = path.read_text().replace("<svg ", f'<svg font-family="{VIEWERS_FONTS}" ', 1)
    # What is the default anyway, and more than a tenth of a pixel: half of the file.
    svg = re.sub(r"font-family: [^;]+; |text-anchor: start; | transform=\"rotate\(-0 [^\"]+\"", "", svg)
    svg = re.sub(r'(?<= d=")[^"]+', lambda data: re.sub(r"(\.\d)\d+", r"\1", " ".join(data[0].split())), svg)
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "landfall", "font.family": ["DejaVu Sans"]})
main(Path(sys.argv[1]))
