"""Executes the statements that set up Snowflake, as far as fakesnow can, which runs Snowflake's SQL on DuckDB.

All of them twice, since a person may run a script again. It runs in an environment of its own, which has fakesnow.
"""

import logging
import sys
import warnings

from local import ddl
from local.paths import WAREHOUSE
from local.progress import Failure, step
from local.warehouse.statements import statements, without_pipe

# What fakesnow 0.12.1 does not have. Anything else has to be executed.
UNKNOWN = (
    *("CREATE ROLE ", "CREATE WAREHOUSE ", "CREATE STORAGE INTEGRATION ", "DESC INTEGRATION ", "GRANT "),
    *("CREATE PIPE ", "ALTER PIPE ", "COPY INTO ", "SELECT SYSTEM$", "SELECT file_name"),
)


def main() -> int:
    """0 if every statement that fakesnow knows is executed, both times, and the raw tables are there."""
    import fakesnow
    import snowflake.connector

    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    of_events, _ = without_pipe((ddl.SCRIPTS / "snowflake-together.sql").read_text())
    account, raw, load = (
        (WAREHOUSE / "snowflake" / name).read_text() for name in ("1_account.sql", "2_raw.sql", "3_load.sql")
    )
    script = (
        statements(account) + ["USE SCHEMA landfall.raw", *statements(of_events)] + statements(raw) + statements(load)
    )
    known = [statement for statement in script if not statement.startswith(UNKNOWN)]
    with step("Executing the statements for Snowflake on fakesnow") as s, fakesnow.patch():
        cursor = snowflake.connector.connect().cursor()
        for statement in known * 2:
            try:
                cursor.execute(statement)
            except Exception as error:  # fakesnow raises errors of the connector, of DuckDB and of sqlglot.
                raise Failure(f"fakesnow does not execute {statement[:80]!r}: {error}") from None
        query = (
            "select distinct table_name from landfall.information_schema.columns where column_name = '_FILE' order by 1"
        )
        tables = [name for (name,) in cursor.execute(query).fetchall()]
        s.say(f"{len(known)} of {len(script)}")
    if tables != ["CHANGES", "COLLECT", "EVENTS", "EVENTS_BACKFILL"]:
        raise Failure(f"The tables with a column _file are {tables}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"\n{failure}")
