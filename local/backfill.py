"""`landfall backfill` from the local Postgres: beside a Python script on the same rows, compared row by row, and killed."""

import base64
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import duckdb

from local import build, environment, postgres, protos
from local.bucket import Bucket
from local.command import run_logged
from local.paths import GENERATED_PROTO, PEERS_REQUIREMENTS, PEERS_VENV, ROOT, STATE
from local.progress import Failure, step

TABLE = "backfill_events"
FOLDER = STATE / "backfill"
PEER = ROOT / "bench" / "peers" / "backfill.py"
SEED = 1
SMALL_MB = 8
DISTINCT = 200_000
"""Rows with a payload of their own. More rows repeat their payloads, with other ids, at other times."""
FIRST = "2026-01-01 00:00:00+00"
PER_SECOND = 2
COMPARED = ("event_id", "message_id", "source", "type", "sent_at", "payload_sha256", "_raw")
TYPES = ("card_catalog_created", "manufacturing_batch", "order_created")


def run(rows: int, kills: int, peer_rows: int, program: str | None) -> int:
    """Prints rows per second and memory of both, and fails if rows differ or a killed backfill leaves other files."""
    protos.ensure()
    python = environment.ensure(PEERS_VENV, PEERS_REQUIREMENTS, "Installing the Python peers")
    landfall = Path(program) if program else _built()
    database = postgres.ensure()
    _fill(database, rows)
    shutil.rmtree(FOLDER, ignore_errors=True)

    with Bucket(FOLDER / "whole") as bucket:
        with step(f"Landing {rows:,} rows with landfall"):
            ours = _backfill(landfall, database.url, bucket)
    report = ours["report"]
    if not report["verified"]:
        raise Failure(f"The table has another checksum: {report}")
    landed, quarantined = report["rows_landed"], report["rows_quarantined"]
    print(
        f"{report['rows_read']:,} rows read = {landed:,} landed + {quarantined:,} quarantined; the checksum is the table's"
    )

    share = min(rows, peer_rows or rows)
    with step(f"Landing {share:,} rows with the Python script") as s:
        theirs = _peer(python, database.url, FOLDER / "peer", share)
        s.say(f"{theirs['seconds']:.1f} s")
    with step("Comparing every row that both have landed"):
        _compare(share)
    print("| | rows | seconds | rows/s | memory, MiB |\n|---|--:|--:|--:|--:|")
    rates = []
    for name, count, run_ in (
        ("landfall backfill", rows, ours),
        ("psycopg, protobuf, pyarrow", theirs["read"], theirs),
    ):
        rates.append(count / run_["seconds"])
        print(f"| {name} | {count:,} | {run_['seconds']:.1f} | {rates[-1]:,.0f} | {run_['peak_kib'] / 1024:,.0f} |")
    print(f"{rates[0] / rates[1]:.1f} times as fast")
    if kills:
        _kill(landfall, database.url, kills)
    return 0


def _built() -> Path:
    with step("Compiling landfall as it is installed") as s:
        run_logged(["cargo", "build", "--locked", "--release", "--package", "landfall"], s, "compile-backfill")
    return build.target() / "release" / "landfall"


def _fill(database: postgres.Postgres, rows: int) -> None:
    """The table with so many rows: a number, a UUID for nine of ten, and payloads of which a few are broken."""
    if database.psql(f"select to_regclass('{TABLE}')") and int(database.psql(f"select count(*) from {TABLE}")) == rows:
        return
    from local import events

    distinct = min(rows, DISTINCT)
    database.psql(
        f"drop table if exists {TABLE}; drop table if exists {TABLE}_distinct; "
        f"create table {TABLE}_distinct (n bigint, source text, type text, payload bytea); "
        f"create table {TABLE} (id bigint primary key, source text, type text, payload bytea, "
        "created_at timestamptz not null, event_id uuid)",
    )
    with step(f"Making {distinct:,} events") as s:
        lines = FOLDER.with_suffix(".csv")
        with lines.open("w") as file:
            for number, event in enumerate(events.generate(distinct, SEED)):
                payload = "\\\\x" + _payload(event.body).hex()
                file.write("\t".join([str(number), event.source, event.type or "\\N", payload]) + "\n")
                if number % 10_000 == 0:
                    s.count(number, distinct, "events")
        with lines.open("rb") as file:
            database.psql(f"copy {TABLE}_distinct from stdin", stdin=file)
        lines.unlink()
    with step(f"Filling {TABLE} with {rows:,} rows"):
        database.psql(
            f"insert into {TABLE} select i + 1, d.source, d.type, d.payload, "
            f"timestamptz '{FIRST}' + i * interval '1 second' / {PER_SECOND}, "
            "case when i % 10 <> 0 then md5(i::text)::uuid end "
            f"from generate_series(0, {rows - 1}) as i join {TABLE}_distinct as d on d.n = i % {distinct} order by i",
        )
        database.psql(f"analyze {TABLE}")


def _payload(body: str) -> bytes:
    """What is not base64 was not, before it was encoded, and is broken here too."""
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return body.encode()


def _start(landfall: Path, url: str, bucket: Bucket, *more: str) -> "subprocess.Popen[bytes]":
    argv = [landfall, "backfill", "--from", url, "--table", TABLE, "--bucket", "lake", "--json", *more]
    env = {**os.environ, "AWS_ENDPOINT_URL": bucket.url}
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _backfill(landfall: Path, url: str, bucket: Bucket) -> dict:
    started = time.monotonic()
    process = _start(landfall, url, bucket)
    assert process.stdout is not None and process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failure(f"landfall ended with {process.returncode}: {err.decode()}{out.decode()}")
    return {
        "report": _ended(_start(landfall, url, bucket, "--verify")),
        "seconds": seconds,
        "peak_kib": usage.ru_maxrss,
    }


def _peer(python: Path, url: str, folder: Path, rows: int) -> dict:
    env = {**os.environ, "PYTHONPATH": str(GENERATED_PROTO)}
    argv = [str(python), str(PEER), url, TABLE, str(folder), str(rows)]
    done = subprocess.run(argv, env=env, capture_output=True, check=False)
    if done.returncode:
        raise Failure(f"The script failed: {done.stderr.decode()}")
    return json.loads(done.stdout)


def _compare(rows: int) -> None:
    """By DuckDB: the files of both have the same rows. Ids of rows differ by the name of the schema."""
    ours = f"read_parquet('{FOLDER}/whole/events_backfill/**/*.parquet', union_by_name = true)"
    theirs = f"read_parquet('{FOLDER}/peer/*.parquet', union_by_name = true)"
    bare = "replace(message_id, 'public.', '') as message_id, replace(event_id, 'public.', '') as event_id"
    columns = [name for name in (*COMPARED, *TYPES) if name not in ("message_id", "event_id")]
    # Of a payload with an unknown field, we keep the bytes, too.
    kept = f"case when {' is null and '.join(TYPES)} is null then _raw end as _raw"
    select = ", ".join([bare, *(kept if name == "_raw" else name for name in columns)])
    number = "cast(split_part(message_id, '/', 2) as bigint)"
    a = f"select {select} from {ours} where {number} <= {rows}"
    b = f"select {select} from {theirs}"
    counts = duckdb.sql(f"select (select count(*) from ({a})), (select count(*) from ({b}))").fetchone()
    differing = duckdb.sql(f"select count(*) from (({a}) except all ({b}))").fetchone()
    if counts is None or differing is None or counts[0] != counts[1] or differing[0]:
        raise Failure(f"Rows differ: {counts} landed, {differing} of them not by both.")
    print(f"{counts[0]:,} rows are the same in both")


def _kill(landfall: Path, url: str, kills: int) -> None:
    """Lands the table in many small files. Then ends the command at random moments, starts it again, and compares the buckets."""
    rng, killed, small = random.Random(SEED), 0, ("--file-mb", str(SMALL_MB))
    with Bucket(FOLDER / "uninterrupted") as bucket, step("Landing the rows in small files"):
        started = time.monotonic()
        _ended(_start(landfall, url, bucket, *small))
        seconds, whole = time.monotonic() - started, bucket.hashes()
    with Bucket(FOLDER / "killed") as bucket, step(f"Killing it {kills} times") as s:
        for number in range(kills):
            process = _start(landfall, url, bucket, *small)
            time.sleep(rng.uniform(0.05, 1.5 * seconds / kills))
            process.kill()
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
            s.count(number, kills, f"{len(bucket.listed())} of {len(whole)} objects")
        report = _ended(_start(landfall, url, bucket, *small))
        left = bucket.hashes()
    if left != whole:
        different = sorted(set(left.items()) ^ set(whole.items()))
        raise Failure(f"Other objects than without interruption: {different[:10]}")
    print(f"killed {killed} times: the same {len(left):,} objects, byte for byte; {report['rows_read']:,} rows read")


def _ended(process: "subprocess.Popen[bytes]") -> dict:
    """The report of a run that did everything."""
    out, err = process.communicate()
    if process.returncode:
        raise Failure(f"landfall ended with {process.returncode}: {err.decode()}{out.decode()}")
    return json.loads(out)
