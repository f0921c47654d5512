"""Parses the statements that set up the warehouses which are not here, and looks whether they fit together.

Those are the scripts in `warehouse/<dialect>/`, what `landfall ddl` prints for them, which is recorded in `cli/testdata/ddl/`, and
what `dbt run-operation masking` prints, which `compile` leaves beside the compiled models. It runs in the environment of
`python3 -m local ddl`, which has sqlfluff.
"""

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from local import ddl
from local.paths import ROOT, WAREHOUSE
from local.progress import Failure, step
from local.warehouse import load

PARSERS = 2
GRAMMARS = {"snowflake": "snowflake", "redshift": "redshift", "athena": "hive"}
# A word in upper case. What is before a parenthesis is the name of a function or type, what is before a $ of a system function; and
# the grammar of Redshift takes any word for the AS of a CAST.
KEYWORD = re.compile(r"(?<!['\w$@./])(?!AS (?:VARCHAR|BIGINT)\b)[A-Z_]{2,}\b(?!['$(])")
# Other names of roles, tables, types and parameters: another name is no error of grammar.
NAMES = {
    *("ACCOUNTADMIN", "SECURITYADMIN", "SYSADMIN", "USERADMIN", "ACCOUNT", "CHANGES", "LANDFALL", "YOUR_EVENT_COLUMNS"),
    *("INFORMATION_SCHEMA", "TABLE_NAME", "START_TIME", "DAY", "LIKE", "NOW", "NULL", "VARCHAR"),
}


def main(compiled: Path) -> int:
    """0 if every statement can be read, none that is misspelt can, and they fit together."""
    scripts = {path: dialect for dialect in GRAMMARS for path in sorted((WAREHOUSE / dialect).glob("*.sql"))}
    if set(scripts.values()) != set(GRAMMARS):
        raise Failure(f"There are not scripts of all warehouses in {WAREHOUSE.relative_to(ROOT)}")
    scripts |= {compiled / f"masking-{dialect}.sql": dialect for dialect in ("snowflake", "redshift")}
    title = "Parsing the statements that set up the warehouses, as they are and misspelt"
    with step(title) as s, ProcessPoolExecutor(PARSERS) as pool:
        read = sum(pool.map(_read, scripts, scripts.values()))
        s.say(f"{read} statements")
    _fits()
    return 0


def _read(path: Path, dialect: str) -> int:
    """How many statements there are, all of which can be read, and none with a misspelt keyword."""
    name = f"{path.parent.name}/{path.name}"
    found_here = statements(path.read_text())
    if not found_here:
        raise Failure(f"There are no statements in {name}")
    tried = set()
    for statement in found_here:
        if found := _unread(statement, dialect):
            raise Failure(f"{name}: sqlfluff does not read {statement[:80]!r}: {found}")
        # One of those that differ in names alone.
        kind = tuple(KEYWORD.findall(statement))
        for misspelt in _misspelt(statement) if kind not in tried else ():
            if not _unread(misspelt, dialect):
                raise Failure(f"{name}: this is read although it is misspelt: {misspelt}")
        tried.add(kind)
    return len(found_here)


def statements(text: str) -> list[str]:
    """The statements of a script, without its comments. No text of a statement has a semicolon or two hyphens."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]


def _misspelt(statement: str) -> Iterator[str]:
    """The statement with one letter less in one of its keywords, where it is first."""
    first = {match.group(): match.end() for match in reversed(list(KEYWORD.finditer(statement)))}
    for keyword, end in first.items():
        if keyword not in NAMES:
            yield statement[: end - 1] + statement[end:]


def _unread(statement: str, dialect: str) -> str:
    try:
        ddl.fluff(f"{_known(statement)};", GRAMMARS[dialect])
    except ValueError as error:
        return str(error)
    return ""


def _known(statement: str) -> str:
    """Without the two words that the grammars of sqlfluff 4.5.0 do not have, where they belong."""
    return re.sub(r"^(ALTER TAG .* SET MASKING POLICY \w+) FORCE$", r"\1", statement.replace(ddl.SERIALIZE, ""))


def _fits() -> None:
    """The scripts name what `landfall ddl` creates, and the raw tables have the columns that they have in DuckDB."""
    raw = (WAREHOUSE / "snowflake" / "2_raw.sql").read_text()
    printed = (ddl.SCRIPTS / "snowflake-together.sql").read_text()
    of_events, pipe = without_pipe(printed)
    created = set(re.findall(r"CREATE (?:TABLE|STAGE|FILE FORMAT) IF NOT EXISTS \"?(\w+)", of_events + raw))
    loading = raw + (WAREHOUSE / "snowflake" / "3_load.sql").read_text()
    named = set(re.findall(r"(?:COPY INTO \"?|FROM @|FORMAT_NAME = ')(\w+)", loading))
    if missing := {name.lower() for name in named} - {name.lower() for name in created}:
        raise Failure(f"snowflake/ names what neither its scripts nor landfall ddl create: {sorted(missing)}")
    own = next(statement for statement in statements(raw) if statement.startswith("CREATE PIPE"))
    if own != f"{pipe}\nINCLUDE_METADATA = (_file = METADATA$FILENAME)":
        raise Failure(f"The pipe of events is not that of landfall ddl with the name of the file:\n{own}\n\n{pipe}")
    # COPY goes by their order.
    for table, expected in {"EVENTS_BACKFILL": load.BACKFILL, "COLLECT": load.HITS, "CHANGES": load.CHANGES}.items():
        for warehouse, prefix in {"snowflake": '"?', "redshift": r'"raw"\.'}.items():
            script = (WAREHOUSE / warehouse / "2_raw.sql").read_text()
            found = re.search(
                rf"CREATE TABLE IF NOT EXISTS {prefix}{table}\"? \((.*?)\n\);", script, re.IGNORECASE | re.DOTALL
            )
            columns = [line.split()[0] for line in found[1].strip().splitlines()] if found else []
            if columns != [*expected, *load.FILE]:
                raise Failure(f"{warehouse}/2_raw.sql: {table} has {columns}, and in DuckDB {[*expected, *load.FILE]}")


def without_pipe(printed: str) -> tuple[str, str]:
    """What `landfall ddl snowflake` prints before its pipe, as the page for Snowflake runs it, and the pipe."""
    before, at, pipe = printed.partition("\nCREATE PIPE ")
    if not at or pipe.count(";") != 1:
        raise Failure("landfall ddl snowflake does not end with its pipe, before which the page for Snowflake cuts")
    return before, f"CREATE PIPE {pipe}".strip().rstrip(";")


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except Failure as failure:
        sys.exit(f"\n{failure}")
