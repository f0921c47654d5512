"""The demo of collect: the traffic of a web shop through the deployed API, counted in the lake."""

import json
import time
from collections.abc import Sequence
from typing import Any

import duckdb
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from local import build, lake
from local.command import run_logged
from local.lake import LakeFile
from local.paths import LAKE, LOGS, ROOT
from local.progress import Failure, step
from local.stack import Stack

HITS = 2_000
LAND_S = 60  # Firehose writes at once here, and after a minute or 10 MB on AWS
SESSION_MINUTES = 30
FILES = LAKE.relative_to(ROOT) / "collect" / "**" / "*"
QUERY = f"""\
with hit as (
  select
    context.client_id as client,
    request.body.t as type,
    request.body.pa as action,
    epoch_ms(hit.time) as sent_at
  from read_json(
    '{FILES}',
    format = 'newline_delimited',
    compression = 'uncompressed',
    union_by_name = true
  )
), gap as (
  select
    *,
    sent_at - lag(sent_at) over (partition by client order by sent_at)
      > interval {SESSION_MINUTES} minutes as is_new
  from hit
)
select
  count(*) as hits,
  count(*) filter (is_new is not false) as sessions,
  count(*) filter (type = 'pageview') as page_views,
  count(*) filter (action = 'detail') as details,
  count(*) filter (action = 'add') as added,
  count(*) filter (action = 'purchase') as purchases
from gap
"""


def run(stack: Stack, seed: int, console: Console) -> list[str]:
    """Runs it. Returns what is wrong."""
    with step(f"Pumping {HITS:,} hits through the API") as s:
        pump = [build.binary("pump"), f"{stack.collect_url}/collect", "--hits", str(HITS), "--seed", str(seed), "--json"]
        run_logged(pump, s, "pump")
        pumped = _answer()
    with step("Fetching what landed of them"):
        files = _landed(stack)
    console.print(_table(pumped, files), Syntax(QUERY, "sql", background_color="default"))
    counted = duckdb.sql(QUERY)
    counted.show()
    ids = [json.loads(line)["event_id"] for file in files for line in file.path.read_text().splitlines()]
    row = dict(zip(counted.columns, counted.fetchall()[0], strict=True))
    return [*_lost(pumped["accepted"], ids), *_miscounted(pumped, row)]


def _answer() -> dict[str, Any]:
    """The report that pump printed at the end of its log: one JSON object."""
    text = (LOGS / "pump.log").read_text()
    try:
        return json.loads(text[text.index("{") :])
    except ValueError as error:
        raise Failure("pump printed no report. See .local/logs/pump.log") from error


def _landed(stack: Stack) -> list[LakeFile]:
    """The files under `collect/`, when no more come."""
    deadline, before = time.monotonic() + LAND_S, -1
    while True:
        files = [file for file in lake.fetch(stack) if file.key.startswith("collect/")]
        lines = sum(file.path.read_text().count("\n") for file in files)
        if lines >= HITS or time.monotonic() > deadline:
            return files
        if lines == before:
            time.sleep(1)
        before = lines


def _table(pumped: dict[str, Any], files: Sequence[LakeFile]) -> Table:
    table = Table(title="Hits", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("sent", f"{HITS:,}")
    table.add_row("accepted", f"{pumped['accepted']:,}")
    table.add_row("files (the emulator writes each hit at once; Firehose batches)", f"{len(files):,}")
    return table


def _miscounted(pumped: dict[str, Any], counted: dict[str, int]) -> list[str]:
    """What the query says beside what was sent."""
    kinds = pumped["sent"]["by_kind"]
    sent = {"sessions": pumped["sessions"], "page_views": kinds["pageview"], "purchases": kinds["purchase"]}
    return [
        f"{number:,} {name} were sent, and {counted[name]:,} are counted."
        for name, number in sent.items()
        if counted[name] != number
    ]


def _lost(accepted: int, ids: Sequence[str]) -> list[str]:
    wrong = []
    if accepted != HITS:
        wrong.append(f"{HITS:,} hits were sent, and {accepted:,} accepted.")
    if len(set(ids)) != accepted:
        wrong.append(f"{accepted:,} hits were accepted, and {len(set(ids)):,} landed.")
    return wrong
