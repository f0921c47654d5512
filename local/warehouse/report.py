"""What the marts hold, as tables on the terminal and as a page that needs no network."""

import html
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import plotly.graph_objects as graphs
from rich.console import Console
from rich.table import Table

from local.paths import LOADS
from local.progress import Failure

MOST_ROWS = 12

ORDERS = """
select order_date as "day", count(distinct order_id) as orders, sum(quantity) as pieces, sum(revenue)::decimal(18, 2) as revenue,
  count(*) filter (is_cancelled) as cancelled
from marts.fct_orders group by all order by all
"""
BATCHES = """
select production_date as "day", count(*) as batches, sum(quantity_produced) as produced, sum(defects_estimate) as defects,
  (100 * sum(defects_estimate) / nullif(sum(quantity_produced), 0))::decimal(9, 3) as "defects %"
from marts.fct_batch_performance group by all order by all
"""
HOURS = """
select period_start as "hour", pageviews as "page views", sessions, new_sessions as "new sessions", add_to_cart as "added to cart",
  transactions, transaction_revenue::decimal(18, 2) as revenue, (100 * conversion)::decimal(9, 2) as "conversion %"
from stats.overview_1h order by all
"""
FRESHNESS = """
with newest as (
  select 'events' as source_name, max(recorded_at) as newest from (
    select recorded_at from staging.stg_orders where origin = 'stream'
    union all select recorded_at from staging.stg_cards where origin = 'stream'
    union all select recorded_at from staging.stg_batches where origin = 'stream'
  )
  union all
  select 'events_backfill', max(recorded_at) from (
    select recorded_at from staging.stg_orders where origin = 'backfill'
    union all select recorded_at from staging.stg_cards where origin = 'backfill'
    union all select recorded_at from staging.stg_batches where origin = 'backfill'
  )
  union all
  select 'collect', max(received_at) from staging.stg_hits
)
select source_name as "source", count(*) as files, sum(row_count) as "rows", newest.newest as "newest row",
  max(loaded_at) as "last run with new files"
from staging.files left join newest using (source_name) group by all order by all
"""
LATENESS = """
select lateness as "hits received after they happened", count(*) as hits from (
  select case
    when received_at - hit_at < interval 1 second then '1: below a second'
    when received_at - hit_at < interval 1 minute then '2: below a minute'
    when received_at - hit_at < interval 1 hour then '3: below an hour'
    else '4: an hour or more' end as lateness
  from events.events
) group by all order by all
"""
QUALITY = """
select step, count(*) as rules, count(*) filter (status = 'pass') as passed, count(*) filter (status = 'warn') as warn,
  count(*) filter (status = 'error') as error, sum(checked) as checked, sum(failed) as failed
from dq.dq_results where run_at = (select max(run_at) from dq.dq_results)
group by step order by list_position(['raw', 'staging', 'dimension', 'fact'], step)
"""
BROKEN = """
select status, step, model_name as model, rule_name as "rule", column_name as "column", checked, failed,
  (100 * failed_share)::decimal(9, 3) as "failed %"
from dq.dq_results where run_at = (select max(run_at) from dq.dq_results) and failed > 0
order by list_position(['error', 'warn', 'pass'], status), failed desc, model, "rule", "column"
"""
TREND = """
select date_trunc('second', run_at) as run, sum(failed) as "failures", count(*) filter (status <> 'pass') as "broken rules",
  sum(checked) as checked
from dq.dq_results where run_at in (select distinct run_at from dq.dq_results order by run_at desc limit 200)
group by run_at order by run_at
"""
FOUND = """
select step, model_name as model, rule_name as "rule", column_name as "column", count(*) as "rows", max(found_at) as "found last"
from dq.quarantine group by all order by "rows" desc, model, "rule", "column"
"""
MARTS = """
select 'marts.dim_card' as "table", count(*) as "rows" from marts.dim_card
union all select 'marts.fct_orders', count(*) from marts.fct_orders
union all select 'marts.fct_batch_performance', count(*) from marts.fct_batch_performance
union all select 'events.logs', count(*) from events.logs
union all select 'events.pageviews', count(*) from events.pageviews
union all select 'events.product_actions', count(*) from events.product_actions
union all select 'events.purchases', count(*) from events.purchases
union all select 'events.rejected', count(*) from events.rejected
union all select 'stats.overview_1h', count(*) from stats.overview_1h
union all select 'stats.overview_1d', count(*) from stats.overview_1d
"""


@dataclass(frozen=True)
class Result:
    """What a query gave."""

    title: str
    columns: list[str]
    rows: list[tuple[Any, ...]]
    why_empty: str = ""

    def column(self, name: str) -> list[Any]:
        """The values of a column."""
        at = self.columns.index(name)
        return [float(row[at]) if isinstance(row[at], Decimal) else row[at] for row in self.rows]


def results(database: duckdb.DuckDBPyConnection, lake: Path) -> list[Result]:
    """Everything that is shown, in the order in which it is."""
    asked = {
        "Rows": MARTS,
        "Orders and revenue per day": ORDERS,
        "Batches per day of production": BATCHES,
        "Freshness": FRESHNESS,
        "Lateness": LATENESS,
        "Data quality of the last run": QUALITY,
        "Rules that rows break": BROKEN,
        "Data quality over runs": TREND,
        "Rows in dq.quarantine": FOUND,
    }
    found = [_answer(database, title, query) for title, query in asked.items()]
    quarantined = Result("In quarantine", ["function", "reason", "records"], _quarantine(lake))
    # The longest is last.
    return [*found, _loads(lake), quarantined, _answer(database, "Sessions and conversion per hour", HOURS)]


def _answer(database: duckdb.DuckDBPyConnection, title: str, query: str) -> Result:
    done = database.execute(query)
    return Result(title, [column[0] for column in done.description], done.fetchall())


def _loads(lake: Path) -> Result:
    """What load-registrar knew of its tables when the files were fetched."""
    title, file = "Loads by status", lake / LOADS
    if not file.is_file():
        why = f"{LOADS} is not in the lake: make demo and make lake write it, if the stack has load-registrar."
        return Result(title, ["table"], [], why)
    try:
        tables = json.loads(file.read_text())["tables"]
        loads = {table["name"]: dict(table["loads"]) for table in tables}
        times = {table["name"]: (table["oldest_unfinished"], table["expect"], table["late_since"]) for table in tables}
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{file} is not what load-registrar answers to tables_list: {error!r}") from None
    statuses = sorted({status for counted in loads.values() for status in counted})
    rows = [
        (name, *(counted.get(status, 0) for status in statuses), *times[name]) for name, counted in sorted(loads.items())
    ]
    return Result(title, ["table", *statuses, "oldest unfinished", "expects", "late since"], rows)


def broken_rules(database: duckdb.DuckDBPyConnection) -> list[str]:
    """The rules of data quality that the last run found broken, a line each."""
    if not database.execute("select 1 from duckdb_tables() where schema_name = 'dq' and table_name = 'dq_results'").fetchall():
        return []
    rows = database.execute(
        "select status, model_name, definition, failed, checked from dq.dq_results "
        "where status <> 'pass' and run_at = (select max(run_at) from dq.dq_results) order by all"
    ).fetchall()
    return [f"data quality, {status}: {name} {rule}: {failed:,} of {checked:,}" for status, name, rule, failed, checked in rows]


def _quarantine(lake: Path) -> list[tuple[str, str, int]]:
    """Records that could not land, by what was wrong with them."""
    counted: Counter[tuple[str, str]] = Counter()
    for path in sorted((lake / "quarantine").rglob("*.ndjson")):
        function = path.relative_to(lake).parts[1]
        counted.update((function, json.loads(line)["reason"]) for line in path.read_text().splitlines())
    return [(function, reason, number) for (function, reason), number in sorted(counted.items())]


def show(found: Sequence[Result], console: Console) -> None:
    """Prints them. Of long ones, the end."""
    for result in found:
        left_out = max(len(result.rows) - MOST_ROWS, 0)
        caption = f"{left_out:,} rows before these" if left_out else result.why_empty
        table = Table(title=result.title, caption=caption or None)
        for name in result.columns:
            table.add_column(name, justify="right")
        for row in result.rows[left_out:]:
            table.add_row(*map(_text, row))
        console.print(table)


def write(found: Sequence[Result], path: Path, made_at: str) -> None:
    """Writes the page. The library of the charts is in it."""
    by_title = {result.title: result for result in found}
    orders, batches = by_title["Orders and revenue per day"], by_title["Batches per day of production"]
    hours, trend = by_title["Sessions and conversion per hour"], by_title["Data quality over runs"]
    charts = [
        _chart("Orders and revenue per day", orders, "day", "orders", "revenue"),
        _chart("Produced, and defects in %", batches, "day", "produced", "defects %"),
        _chart("Sessions and conversion in % per hour", hours, "hour", "sessions", "conversion %"),
        _chart("Data quality: rows that break rules, and rules broken by too many", trend, "run", "failures", "broken rules"),
    ]
    parts = [
        chart.to_html(full_html=False, include_plotlyjs=number == 0, config={"displayModeBar": False})
        for number, chart in enumerate(charts)
    ]
    tables = "".join(_table(result) for result in found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PAGE.format(made_at=html.escape(made_at), charts="".join(parts), tables=tables))


def _chart(title: str, result: Result, across: str, bars: str, line: str) -> graphs.Figure:
    chart = graphs.Figure()
    x = [str(value).removesuffix(":00") for value in result.column(across)]
    chart.add_bar(x=x, y=result.column(bars), name=bars, marker_color="#4c78a8")
    chart.add_scatter(x=x, y=result.column(line), name=line, yaxis="y2", mode="lines+markers", line_color="#f58518")
    chart.update_layout(
        title=title,
        yaxis={"title": bars},
        yaxis2={"title": line, "overlaying": "y", "side": "right", "rangemode": "tozero", "showgrid": False},
        legend={"orientation": "h", "y": 1.15, "x": 1, "xanchor": "right"},
        xaxis={"type": "category"},
        height=360,
        template="plotly_white",
    )
    return chart


def _table(result: Result) -> str:
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in result.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(value))}</td>" for value in row) + "</tr>" for row in result.rows
    )
    why = html.escape(result.why_empty or "none")
    none = "" if result.rows else f'<tr><td colspan="{len(result.columns)}">{why}</td></tr>'
    return f"<h2>{html.escape(result.title)}</h2><table><tr>{heads}</tr>{rows}{none}</table>"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, (int, Decimal)) else str(value)


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Landfall: what the marts hold</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ border-bottom: 1px solid #ddd; padding: .25rem .75rem; text-align: right }}
th {{ background: #f6f6f6 }}
</style>
<h1>What the marts hold</h1>
<p>Made {made_at} from the files in the lake.</p>
{charts}
{tables}
</html>
"""
