"""Files as DMS writes them, through load-registrar and load-ingester to Springboard, and from there to the table that they describe."""

import random
import subprocess
import tempfile
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import duckdb
from rich.console import Console

from local import lake, loads, objects, queues, warehouse
from local.loads import Load
from local.paths import LAKE, ROOT
from local.progress import Failure, Step, step
from local.stack import INGESTER, Stack

PREFIX = "shop/customers/"
TABLE = {"prefix": PREFIX, "kind": "dms"}
SEED = 1


def run(stack: Stack, console: Console) -> int:
    """0 if the files are in Springboard as they were, each once, and the models make the table of them."""
    python = warehouse.ensure()
    with tempfile.TemporaryDirectory(prefix="landfall-replicas-") as folder:
        subprocess.run([python, "-m", "local.warehouse.replica", "write", folder], check=True, cwd=ROOT)
        written = sorted(Path(folder).rglob("*.parquet"))
        stack.ask("tables_apply", tables=[TABLE])
        _upload(stack, Path(folder), written)
        with step("Ingesting and archiving them") as s:
            of_table = _archived(stack, len(written), s)
        with step("Fetching the lake to .local/lake"):
            lake.fetch(stack)
        ids = {str(load["id"]) for load in of_table}
        found = (LAKE / "springboard" / PREFIX).rglob("*.parquet")
        rows = _compare(written, [path for path in found if path.name.partition("-")[0] in ids])
    made = subprocess.run([python, "-m", "local.warehouse.replica", "check", str(LAKE)], check=False, cwd=ROOT)
    if made.returncode == 0:
        said = f"{len(written):,} files of DMS = {len(of_table):,} archived loads; {rows:,} rows in springboard/, each as it was."
        console.print(said, style="green", highlight=False)
    return made.returncode


def _upload(stack: Stack, folder: Path, written: list[Path]) -> None:
    """In any order, since DMS writes the files of tables with several threads."""
    s3, bucket = stack.client("s3"), stack.outputs["IncomingBucketName"]
    shuffled = random.Random(SEED).sample(written, len(written))
    with step(f"Registering {len(written):,} files as DMS writes them") as s:
        with queues.paused(stack, queues.PUTS):
            for path in shuffled:
                s3.put_object(Bucket=bucket, Key=path.relative_to(folder).as_posix(), Body=path.read_bytes())
            queues.wait_until_arrived(stack, queues.PUTS, len(written))
        queues.wait_until_empty(stack, queues.PUTS, len(written), s)


def _archived(stack: Stack, files: int, step: Step) -> list[Load]:
    """Lets time pass until the loads of the files are archived. Other loads, which tests have left, are not waited for."""
    deadline = time.monotonic() + queues.STALL_S
    with queues.paused(stack, queues.LOADS):
        stack.tick(INGESTER, datetime.now(timezone.utc))
    while True:
        # The newest of each key: the stack may still hold those of an earlier run.
        newest = {load["s3_key"]: load for load in sorted(loads.every(stack), key=lambda load: load["id"])}
        of_table = [load for key, load in newest.items() if key.startswith(PREFIX)]
        archived = sum(load["status"] == objects.ARCHIVED for load in of_table)
        step.count(archived, files)
        if archived == files == len(of_table):
            return of_table
        if time.monotonic() > deadline:
            ends = Counter(load["status"] for load in of_table)
            raise Failure(f"{archived:,} of {files:,} files were archived in {queues.STALL_S} s. Their loads are {dict(ends)}.")
        time.sleep(0.5)


def _compare(written: list[Path], found: list[Path]) -> int:
    """Compares all rows, with their columns. Returns how many there are."""
    if len(found) != len(written):
        raise Failure(f"Of {len(written):,} loads, {len(found):,} are files in Springboard.")
    with duckdb.connect() as database:
        for name, paths in (("sent", written), ("landed", found)):
            read = f"create table {name} as select * from read_parquet($1, union_by_name := true)"
            database.execute(read, [[str(path) for path in paths]])
        columns = ", ".join(f'"{name}"' for name, *_ in database.execute("describe sent").fetchall())
        sent, landed = (f"select {columns} from {name}" for name in ("sent", "landed"))
        query = f"select count(*) from (({sent} except all {landed}) union all ({landed} except all {sent}))"
        ((different,),) = database.execute(query).fetchall()
        ((rows,),) = database.execute("select count(*) from sent").fetchall()
    if different:
        raise Failure(f"{different:,} rows of Springboard are not those that were sent.")
    return rows
