"""The report as a browser shows it, without a network: what is on the page after its scripts have run."""

import base64
import json
import os
import re
import select
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import closing
from decimal import ROUND_HALF_UP, Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb

from local.paths import LOADS
from local.progress import Failure
from local.warehouse import report

TIMEOUT_S = 60
HEADLESS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server"]
QUIET = ["--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"]
CHARTS = 4
WIDTH = 1120

# As load-registrar answers to tables_list.
TABLES: dict[str, Any] = {
    "tables": [
        {
            "name": "orders",
            "prefix": "erp/orders/",
            "loads": [["ready", 2], ["archived", 41]],
            "oldest_unfinished": "2026-11-03T10:00:00Z",
            "expect": "every day by 06:00 <UTC>",
            "late_since": "2026-11-04T06:00:00Z",
        },
        {
            "name": "EDW.SAMPLE",
            "prefix": "cubic/",
            "loads": [["errored", 1]],
            "oldest_unfinished": None,
            "expect": None,
            "late_since": None,
        },
    ]
}


class Page:
    """A page in a headless Chromium, by its debugging protocol: JSON in pipes, with a NUL after each message."""

    def __init__(self, program: str, page: Path) -> None:
        to_browser, from_browser = os.pipe(), os.pipe()
        self._profile = tempfile.TemporaryDirectory(prefix="landfall-chromium-", ignore_cleanup_errors=True)

        def as_three_and_four() -> None:
            first, second = os.dup(to_browser[0]), os.dup(from_browser[1])
            os.dup2(first, 3)
            os.dup2(second, 4)

        self._process = subprocess.Popen(
            [program, *HEADLESS, *QUIET, f"--user-data-dir={self._profile.name}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=as_three_and_four,
        )  # fmt: skip
        os.close(to_browser[0])
        os.close(from_browser[1])
        self._write, self._read = to_browser[1], from_browser[0]
        self._unread = b""
        self._sent = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        try:
            target = self.ask("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Network"):
                self.ask(f"{domain}.enable")
            self.ask("Emulation.setDeviceMetricsOverride", width=WIDTH, height=800, deviceScaleFactor=1, mobile=False)
            self.ask("Page.navigate", url=page.as_uri())
            while not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self._receive()
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        os.write(self._write, json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._sent:
            pass
        if "error" in answer:
            raise Failure(f"The browser cannot do {method}: {answer['error']}")
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], TIMEOUT_S)
            more = os.read(self._read, 1 << 20) if ready else b""
            if not more:
                raise Failure(f"The browser said nothing for {TIMEOUT_S} s, or ended.")
            self._unread += more
        message, self._unread = self._unread.split(b"\0", 1)
        received = json.loads(message)
        if "method" in received:
            self.events.append(received)
        return received

    def document(self) -> str:
        """The page as it is now."""
        found = self.ask("Runtime.evaluate", expression="document.documentElement.outerHTML", returnByValue=True)
        return found["result"]["value"]

    def picture(self, height: int) -> bytes:
        """The upper part of the page as PNG."""
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        return base64.b64decode(self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"])

    def close(self) -> None:
        """Ends the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()


class _Tables(HTMLParser):
    """The rows of each table, under the heading before it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self._title = ""
        self._text: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h2", "th", "td"):
            self._text = ""
        elif tag == "tr":
            self.found[self._title].append([])

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if self._text is None:
            return
        if tag == "h2":
            self._title, self._text = self._text, None
            self.found[self._title] = []
        elif tag in ("th", "td"):
            self.found[self._title][-1].append(self._text)
            self._text = None


def check(browser: str, database: duckdb.DuckDBPyConnection, lake: Path, expected: Mapping[str, Any]) -> int:
    """Opens the report of a lake, with what load-registrar knows and without. `expected` is recounted. How many values fit."""
    with tempfile.TemporaryDirectory(prefix="landfall-report-") as folder:
        page = Path(folder) / "index.html"
        without = _open(browser, database, lake, page)
        (lake / LOADS).write_text(json.dumps(TABLES))
        try:
            tables = _open(browser, database, lake, page)
        finally:
            (lake / LOADS).unlink()
    if f"{LOADS} is not in the lake" not in without["Loads by status"][1][0]:
        raise Failure(f"The report does not say why there are no loads: {without['Loads by status']}")
    runs = _ask(database, "select count(distinct run_at) from dq.dq_results")
    latest = "run_at = (select max(run_at) from dq.dq_results)"
    revenue = {row[0]: Decimal(row[3].replace(",", "")) for row in tables["Orders and revenue per day"][1:]}
    per_day = {day: value.quantize(Decimal("0.01"), ROUND_HALF_UP) for day, value in expected["order revenue per day"].items()}
    values = {
        "revenue": (revenue, per_day),
        "orders": (_sum(tables, "Rows", 1, "marts.fct_orders"), expected["order lines"]),
        "loads": (
            tables["Loads by status"],
            [
                ["table", "archived", "errored", "ready", "oldest unfinished", "expects", "late since"],
                ["EDW.SAMPLE", "0", "1", "0", "–", "–", "–"],
                ["orders", "41", "0", "2", "2026-11-03T10:00:00Z", "every day by 06:00 <UTC>", "2026-11-04T06:00:00Z"],
            ],
        ),
        "steps": ([row[0] for row in tables["Data quality of the last run"][1:]], ["raw", "staging", "dimension", "fact"]),
        "rules": (
            _sum(tables, "Data quality of the last run", 1),
            _ask(database, f"select count(*) from dq.dq_results where {latest}"),
        ),
        "runs": (len(tables["Data quality over runs"]) - 1, runs),
    }
    different = {what: pair for what, pair in values.items() if pair[0] != pair[1]}
    if different:
        raise Failure(f"The report shows something else than expected: {different}")
    return len(values)


def _open(browser: str, database: duckdb.DuckDBPyConnection, lake: Path, page: Path) -> dict[str, list[list[str]]]:
    """Writes the report and opens it. Its tables, when the charts are drawn."""
    report.write(report.results(database, lake), page, "now")
    with closing(Page(browser, page)) as opened:
        document = opened.document()
    events = [(event["method"], event["params"]) for event in opened.events]
    if thrown := [told["exceptionDetails"] for method, told in events if method == "Runtime.exceptionThrown"]:
        raise Failure(f"A script of the report fails: {thrown}")
    asked = [told["request"]["url"] for method, told in events if method == "Network.requestWillBeSent"]
    if outside := [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]:
        raise Failure(f"The report asks the network for {outside}")
    document = re.sub(r"<script\b.*?</script>", "", document, flags=re.DOTALL)
    drawn = len(re.findall(r'class="[^"]*\bjs-plotly-plot\b', document))
    bars = document.count('class="trace bars"')
    if (drawn, bars) != (CHARTS, CHARTS):
        raise Failure(f"The browser drew {drawn} charts, {bars} of them with bars, and not {CHARTS}")
    parsed = _Tables()
    parsed.feed(document)
    return parsed.found


def _sum(tables: Mapping[str, list[list[str]]], title: str, column: int, name: str = "") -> int:
    return sum(int(row[column].replace(",", "")) for row in tables[title][1:] if not name or row[0] == name)


def _ask(database: duckdb.DuckDBPyConnection, query: str) -> Any:
    return database.execute(query).fetchall()[0][0]
