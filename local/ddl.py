"""The recorded scripts of `landfall ddl`, parsed by the grammars of their dialects; those for DuckDB are executed.

`run` starts this module in an environment of its own, which has the parsers. A test of the command writes the scripts' files:
empty ones, with the columns that parquet-writer writes.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from local import environment
from local.paths import DDL_REQUIREMENTS, DDL_VENV, ROOT
from local.progress import Failure

SCRIPTS = ROOT / "cli" / "testdata" / "ddl"
BUCKETS = ("s3://YOUR_LAKE_BUCKET/", "s3://acme-lake/")
MAKE = "cargo nextest run -p landfall ddl"
# COPY's parameter for nested columns, which the grammar of sqlfluff 4.5.0 does not have. That of sqlglot does.
SERIALIZE = " SERIALIZETOJSON"


def run() -> int:
    """0 when every script is what its dialect reads."""
    python = environment.ensure(DDL_VENV, DDL_REQUIREMENTS, "Installing sqlfluff and sqlglot", "--no-deps")
    found = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"], check=True, capture_output=True, cwd=ROOT
    )
    lake = Path(json.loads(found.stdout)["target_directory"]) / "tmp" / "ddl"
    return subprocess.run([python, "-m", "local.ddl", str(lake)], check=False, cwd=ROOT).returncode


def check(lake: Path) -> int:
    """Checks every script, and that each check refuses one that is damaged."""
    if not lake.is_dir():
        raise Failure(f"There are no files for the scripts. This makes them: {MAKE}")
    checks: dict[str, Callable[[str], int]] = {
        "snowflake": _snowflake,
        "redshift": _redshift,
        "athena": _athena,
        "duckdb": lambda text: _duckdb(text, lake),
    }
    scripts = sorted(SCRIPTS.glob("*.sql"))
    for script in scripts:
        dialect = script.stem.split("-")[0]
        text = script.read_text()
        try:
            statements = checks[dialect](text)
        except ValueError as error:
            raise Failure(f"{script.relative_to(ROOT)}: {error}") from None
        for damaged in _damaged(text):
            if _passes(checks[dialect], damaged):
                raise Failure(f"{script.relative_to(ROOT)} passes although it is damaged, so this checks nothing")
        print(f"{script.name}: {statements} statements")
    if len({script.stem.split("-")[0] for script in scripts}) != len(checks):
        raise Failure(f"There are not scripts of all dialects in {SCRIPTS.relative_to(ROOT)}")
    return 0


def _damaged(text: str) -> list[str]:
    """The statements with a misspelt keyword, and without their last parenthesis or quote."""
    sql = "\n" + "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    word = "CREATE " if "CREATE " in sql else "ALTER "
    damaged = [sql.replace(f"\n{word}", f"\n{word[:-2]} ")]
    if (at := max(sql.rfind(")"), sql.rfind("'"))) >= 0:
        damaged.append(sql[:at] + sql[at + 1 :])
    return damaged


def _passes(check: Callable[[str], int], text: str) -> bool:
    try:
        check(text)
    except ValueError:
        return False
    return True


def _snowflake(text: str) -> int:
    return fluff(text, "snowflake")


def _redshift(text: str) -> int:
    if text.count("FORMAT AS PARQUET") != text.count(f"FORMAT AS PARQUET{SERIALIZE}"):
        raise ValueError("a COPY does not serialize nested columns")
    _glot(text, "redshift")
    return fluff(text.replace(f"FORMAT AS PARQUET{SERIALIZE}", "FORMAT AS PARQUET"), "redshift")


def _athena(text: str) -> int:
    """Athena's statements are those of Hive. sqlfluff's own dialect for it does not know PARQUET, nor quotes in structs."""
    statements = _glot(text, "athena")
    if "ALTER TABLE" not in text:
        fluff(text, "hive")
    return statements


def fluff(text: str, dialect: str) -> int:
    """Parses with sqlfluff, which says what it cannot read."""
    from sqlfluff.core import Linter

    parsed = Linter(dialect=dialect).parse_string(text)
    if parsed.violations:
        raise ValueError(f"sqlfluff does not read it: {parsed.violations[0].desc()}")
    tree = parsed.tree
    if tree is None:
        raise ValueError("sqlfluff does not read it")
    return sum(1 for _ in tree.recursive_crawl("statement"))


def _glot(text: str, dialect: str) -> int:
    """Parses with sqlglot. It takes what it does not know for some command, which counts as unread here."""
    import logging

    import sqlglot
    from sqlglot import errors, expressions

    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        statements = [statement for statement in sqlglot.parse(text, read=dialect) if statement is not None]
    except errors.SqlglotError as error:
        raise ValueError(f"sqlglot does not read it: {error}") from None
    known = (expressions.Create, expressions.Alter, expressions.Copy)
    for statement in statements:
        if not isinstance(statement, known):
            raise ValueError(f"sqlglot takes it for {type(statement).__name__}: {statement.sql()[:80]}")
    return len(statements)


def _duckdb(text: str, lake: Path) -> int:
    """Executes it over real files. A view has to have the columns of its table, and their types."""
    import duckdb

    for bucket in BUCKETS:
        text = text.replace(bucket, f"{lake}/")
    database = duckdb.connect()
    try:
        if "ALTER TABLE" in text:
            database.execute('CREATE SCHEMA landfall_files; CREATE TABLE events ("event_id" VARCHAR)')
        statements = duckdb.extract_statements(text)
        for statement in statements:
            different = database.execute(statement).fetchall()
            if statement.type == duckdb.StatementType.SELECT and different:
                raise ValueError(f"a table has other columns than its files: {different}")
        if "ALTER TABLE" in text:
            return len(statements)
        names = [name for (name,) in database.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        views = dict(
            database.execute("SELECT view_name, schema_name FROM duckdb_views() WHERE NOT internal").fetchall()
        )
        if not names or sorted(names) != sorted(views):
            raise ValueError(f"the tables are {sorted(names)}, the views {sorted(views)}")
        for name in names:
            view = f'"{views[name]}"."{name}"'
            table, files = (
                [row[:2] for row in database.execute(f"DESCRIBE {relation}").fetchall()] for relation in (f'"{name}"', view)
            )
            if table != files:
                different = next((pair for pair in zip(table, files) if pair[0] != pair[1]), (table, files))
                raise ValueError(f"the table {name} has {different[0]}, the files {different[1]}")
            database.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM {view}')
        _finds_differences(database, [each for each in statements if each.type == duckdb.StatementType.SELECT], names)
        return len(statements)
    except duckdb.Error as error:
        raise ValueError(f"DuckDB refuses it: {error}") from None
    finally:
        database.close()


def _finds_differences(database, checks: list, tables: list[str]) -> None:
    """A field that the files have and the table has not, which INSERT drops without an error, is what the checks find."""
    for table in tables:
        # Of `unregistered`, which has no event, it is a column of the envelope.
        column = database.execute(f'DESCRIBE "{table}"').fetchall()[-1][0]
        database.execute(f'ALTER TABLE "{table}" ALTER "{column}" TYPE STRUCT("other" VARCHAR) USING NULL')
    found = [database.execute(check).fetchall() for check in checks]
    if len(found) != len(tables) or not all(found):
        raise ValueError(f"a table without a field of its files passes: {found}")


if __name__ == "__main__":
    try:
        sys.exit(check(Path(sys.argv[1])))
    except Failure as failure:
        sys.exit(f"\n{failure}")
