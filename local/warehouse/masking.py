"""What is personal in the tables, who sees it, and whether a column that looks personal was forgotten.

The classes are in `meta.pii` of the `.yml` files, and `warehouse/macros/masking.sql` makes statements of them.
"""

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

from local.progress import Failure, step
from local.warehouse import project

SEES_ALL = "landfall_pii"
# Schemas of DuckDB's own, and the views that are masked already.
NOT_LOOKED_AT = ("information_schema", "main", "pg_catalog", "shared")
SAMPLED_ROWS = 10_000

# Names of columns.
PERSONAL_NAME = re.compile(
    r"(.*_)?(e_?mail(_address)?|ip|ip_addr(ess)?|phone(_number)?|mobile|fax|address|street|postcode|zip(_code)?"
    r"|(first|last|middle|full|sur|family|given|maiden|user|client|customer|contact)_?name|birth_?da(y|te)|date_of_birth|dob"
    r"|ssn|passport(_number)?|iban|card_number|(client|user|customer|visitor|device|cookie)_(id|key)|cookie|user_agent)|name"
)
# What is in a text. An address and a card number are looked at more closely.
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
PHONE = re.compile(r"(?<![\w+])(\+\d[\d ()/-]{7,18}\d|\(?\d{3}\)?[-. ]\d{3}[-. ]\d{4})(?![\w-])")
CARD = re.compile(r"(?<![\w-])(\d{4}([ -]?)\d{4}\2\d{4}\2\d{4}|3[47]\d{2}([ -]?)\d{6}\3\d{5})(?![\w-])")
ADDRESS = re.compile(r"(?<![\w.:])([0-9A-Fa-f]{0,4}(?:[.:][0-9A-Fa-f]{0,4}){2,7})(?![\w:]|\.\w)")

Column = tuple[str, str, str]


@dataclass(frozen=True)
class Model:
    """A model or a source: where it is, the classes that it declares, and what it is made from."""

    schema: str
    name: str
    columns: dict[str, str | None]
    parents: list[str]
    is_shared: bool


def models(manifest: Path) -> dict[str, Model]:
    """The models and sources in dbt's manifest, by their ids."""
    read = json.loads(manifest.read_text())
    return {
        key: Model(
            node["schema"],
            node.get("alias") or node["identifier"],
            {name: column["meta"].get("pii") for name, column in node["columns"].items()},
            node.get("depends_on", {}).get("nodes", []),
            bool(node["config"].get("meta", {}).get("shared")),
        )
        for key, node in {**read["nodes"], **read["sources"]}.items()
        if node["resource_type"] in ("model", "source")
    }


def class_of(known: dict[str, Model], key: str, column: str) -> str | None:
    """The class of a column: its own, or that of the same column of what the model is made from."""
    model = known[key]
    if own := model.columns.get(column):
        return own
    inherited = (class_of(known, parent, column) for parent in model.parents if parent in known)
    return next((found for found in inherited if found), None)


def classes(known: dict[str, Model], columns: list[Column]) -> dict[Column, str]:
    """The classes of these columns, for those that have one."""
    keys = {(model.schema, model.name): key for key, model in known.items()}
    found = {
        (schema, table, column): class_of(known, keys[schema, table], column)
        for schema, table, column in columns
        if (schema, table) in keys
    }
    return {column: class_ for column, class_ in found.items() if class_}


def check(database: Path) -> int:
    """Fails if a column that looks personal has no class, or if readers see a value that is masked. How many are masked."""
    with step("Looking for personal values that have no class, and at what readers see") as s:
        project.dbt("run-operation", "masking", "--args", "{run: true}")
        known = models(project.TARGET / "manifest.json")
        with project.connected(database) as connection:
            classified = classes(known, columns(connection))
            forgotten = [f"  {'.'.join(column)}: {why}" for column, why in personal(connection, set(classified))]
            if forgotten:
                raise Failure(
                    "These columns look personal. Give them a class in meta.pii of their .yml, or none if they are not:\n"
                    + "\n".join(forgotten)
                )
            masked = _seen(connection, known, classified)
        s.say(f"{len(classified)} columns, {masked} of them in views for readers")
    return masked


def columns(connection: duckdb.DuckDBPyConnection) -> list[Column]:
    """The columns of every table and view."""
    return connection.execute(
        "select table_schema, table_name, column_name from information_schema.columns "
        "where not list_contains(?, table_schema) order by table_schema, table_name, ordinal_position",
        [list(NOT_LOOKED_AT)],
    ).fetchall()


def personal(connection: duckdb.DuckDBPyConnection, classified: set[Column]) -> Iterator[tuple[Column, str]]:
    """Columns without a class that look personal by their name, or by what a sample of their rows holds, and why."""
    for (schema, table), some in groupby(columns(connection), key=lambda column: column[:2]):
        left = [column for column in some if column not in classified]
        named = [column for column in left if PERSONAL_NAME.fullmatch(column[2].lower())]
        yield from ((column, "its name") for column in named)
        sample = connection.execute(f'from "{schema}"."{table}" limit {SAMPLED_ROWS}')
        places = {description[0]: place for place, description in enumerate(sample.description or [])}
        rows = sample.fetchall()
        for column in left:
            values = {row[places[column[2]]] for row in rows} if column not in named else set()
            kinds = (kind for value in values if isinstance(value, str | int) and (kind := kind_of(str(value))))
            if found := next(kinds, None):
                yield column, f"it holds {found}"


def kind_of(text: str) -> str | None:
    """What of a person is in a text, if anything."""
    if EMAIL.search(text):
        return "an e-mail address"
    if any(_is_address(match[1].rstrip(".")) for match in ADDRESS.finditer(text)):
        return "an IP address"
    if any(_is_card(re.sub(r"\D", "", match[0])) for match in CARD.finditer(text)):
        return "a card number"
    return "a phone number" if PHONE.search(text) else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_card(digits: str) -> bool:
    """By its first digits, those of the large issuers, and its check digit."""
    if not re.match(r"4|5[1-5]|2[2-7]|3[47]|6(011|5)", digits):
        return False
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(each - 9 if each > 9 else each for each in doubled) % 10 == 0


def _seen(connection: duckdb.DuckDBPyConnection, known: dict[str, Model], classified: dict[Column, str]) -> int:
    """Compares what a reader and the privileged role see with the models. How many columns are masked."""
    masked = 0
    for model in known.values():
        if not model.is_shared:
            continue
        names = ", ".join(f'"{column}"' for column in model.columns)
        view, relation = f"shared.{model.name}", f"{model.schema}.{model.name}"
        _as_role(connection, SEES_ALL)
        different = f"(select {names} from {relation}) except all (select {names} from {view})"
        if left := _count(connection, f"select count(*) from ({different})"):
            raise Failure(f"{SEES_ALL} does not see {left} rows of {relation} as they are")
        for role in (None, "landfall_ro"):
            _as_role(connection, role)
            for column in model.columns:
                class_ = classified.get((model.schema, model.name, column), "none")
                # Of a place in the web, what is before the question mark is seen.
                secret = f"{column} like '%?%'" if class_ == "url" else f"{column} is not null"
                query = f'select cast("{column}" as varchar) as {column} from'
                both = f"({query} {relation} where {secret}) intersect ({query} {view})"
                seen = _count(connection, f"select count(*) from ({both})")
                if class_ != "none" and seen:
                    raise Failure(f"{role or 'nobody'} sees {seen} values of {relation}.{column} in {view}")
                masked += class_ != "none" and role is None
        rows = [_count(connection, f"select count(*) from {name}") for name in (relation, view)]
        if rows[0] != rows[1]:
            raise Failure(f"{view} has {rows[1]} rows, and {relation} {rows[0]}")
    _as_role(connection, None)
    if not masked:
        raise Failure("No column is masked, so this checks nothing")
    return masked


def _as_role(connection: duckdb.DuckDBPyConnection, role: str | None) -> None:
    connection.execute(
        "set variable landfall_role = ?" if role else "reset variable landfall_role", [role] if role else []
    )


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    return connection.execute(query).fetchall()[0][0]


def show(database: Path) -> None:
    """Prints what is classified, and where readers see it masked."""
    project.dbt("parse")
    known = models(project.TARGET / "manifest.json")
    if database.is_file():
        with project.connected(database) as connection:
            found = classes(known, columns(connection))
    else:
        listed = [(model.schema, model.name, column) for model in known.values() for column in model.columns]
        found = classes(known, listed)
    shared = {
        (model.schema, model.name, column) for model in known.values() if model.is_shared for column in model.columns
    }
    table = Table(title="Columns with personal values")
    for title in ("schema", "table", "column", "class", "readers"):
        table.add_column(title, overflow="fold")
    for column, class_ in sorted(found.items()):
        seen = "" if column not in shared else "see it" if class_ == "none" else "see it masked"
        table.add_row(*column, class_, seen)
    Console().print(table)
