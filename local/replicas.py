"""Files as DMS writes them, through load-registrar and load-ingester to Springboard, and from there to the table that they describe."""

import random
import subprocess
import tempfile
from pathlib import Path

import duckdb
from rich.console import Console

from local import ingesting, lake, loads, objects, queues, warehouse
from local.paths import LAKE, ROOT
from local.progress import Failure, step
from local.stack import Stack

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
            ingesting.ingest(stack, s)
        # The newest of each key: the stack may still hold those of an earlier run.
        newest = {load["s3_key"]: load for load in sorted(loads.every(stack), key=lambda load: load["id"])}
        of_table = [load for key, load in newest.items() if key.startswith(PREFIX)]
        if len(of_table) != len(written) or {load["status"] for load in of_table} != {objects.ARCHIVED}:
            raise Failure(f"Of {len(written):,} files, these are loads: {[load['status'] for load in of_table]}")
        with step("Fetching the lake to .local/lake"):
            lake.fetch(stack)
        rows = _compare(written, [LAKE / "springboard" / PREFIX / f"{load['id']}-0.parquet" for load in of_table])
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


def _compare(written: list[Path], found: list[Path]) -> int:
    """Compares all rows, with their columns. Returns how many there are."""
    if missing := [path.name for path in found if not path.is_file()]:
        raise Failure(f"{len(missing):,} files are not in Springboard, such as {missing[0]}.")
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
