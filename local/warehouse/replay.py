"""Changes of a table, applied to a real Postgres and, as files of DMS, to the models. After each step both hold the same rows.

    eval "$(make -s postgres)"
    .local/warehouse/bin/python -m local.warehouse.replay "$LANDFALL_POSTGRES" --steps 80 --changes 625

In every fourth step the second half of the changes comes before the first. The table is made anew in the schema `replay`.
"""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

import psycopg2

from local.progress import Failure, step
from local.warehouse import load, project, replica
from local.warehouse.replica import COLUMNS



def main() -> int:
    """0 if the latest state equals the table after every step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("postgres")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--changes", type=int, default=625)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="landfall-replay-"))
    connection = psycopg2.connect(chosen.postgres)
    try:
        rows = _replay(folder, connection, chosen.steps, chosen.changes, chosen.seed)
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    finally:
        connection.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{chosen.steps * chosen.changes:,} changes in {chosen.steps} steps, {rows:,} rows compared, none different")
    return 0


def _replay(folder: Path, connection, steps: int, changes: int, seed: int) -> int:
    lake, database = folder / "lake", folder / "replay.duckdb"
    project.configure(database)
    with connection, connection.cursor() as cursor:
        cursor.execute("drop schema if exists replay cascade; create schema replay")
        cursor.execute(
            "create table replay.customers (customer_id bigint primary key, name text, email text, balance numeric(18, 2))"
        )
    table = replica.Table(random.Random(seed))
    compared = 0
    with step("Applying changes to Postgres and to the models") as s:
        for number in range(steps):
            made = table.step(number, changes)
            with connection, connection.cursor() as cursor:
                if number == replica.DRIFT_AT:
                    cursor.execute("alter table replay.customers add column segment text")
                for change in made:
                    _apply(cursor, change, number)
            half = len(made) // 2
            parts = {"-1": made[:half], "-2": made[half:]}
            for name in reversed(parts) if number % 4 == 2 else parts:
                replica.write(lake / "cdc" / replica.path_of(number, name), number, parts[name])
                if number % 4 == 2 or name == "-2":
                    _run(database, lake)
            compared += _compare(connection, database, number)
            s.count(number + 1, steps, f"{compared:,} rows compared")
    return compared


def _apply(cursor, change: replica.Change, number: int) -> None:
    """With a statement of the source. How many rows it touches is checked, so the changes are those of a real table."""
    columns = COLUMNS if number >= replica.DRIFT_AT else COLUMNS[:-1]
    values = [change.row.get(column) for column in columns]
    if change.op == "T":
        cursor.execute("truncate replay.customers")
        return
    if change.op == "I":
        places = ", ".join(["%s"] * len(columns))
        cursor.execute(f"insert into replay.customers ({', '.join(columns)}) values ({places})", values)
    elif change.op == "D":
        cursor.execute("delete from replay.customers where customer_id = %s", [change.row["customer_id"]])
    else:
        assignments = ", ".join(f"{column} = %s" for column in columns)
        cursor.execute(f"update replay.customers set {assignments} where customer_id = %s", [*values, change.old_key])
    if cursor.rowcount != 1:
        raise Failure(f"{change} touches {cursor.rowcount} rows")


def _run(database: Path, lake: Path) -> None:
    with project.connected(database) as connection:
        load.load(connection, lake, quiet=True)
    project.dbt("run", "--select", *replica.MODELS)


def _compare(connection, database: Path, number: int) -> int:
    columns = COLUMNS if number >= replica.DRIFT_AT else COLUMNS[:-1]
    with connection, connection.cursor() as cursor:
        cursor.execute(f"select {', '.join(columns)} from replay.customers order by customer_id")
        expected = cursor.fetchall()
    with project.connected(database) as models:
        found = models.execute(f"select {', '.join(columns)} from cdc.customers_latest order by customer_id").fetchall()
    if found != expected:
        raise Failure(f"After step {number}, {len(set(found) ^ set(expected))} rows differ")
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
