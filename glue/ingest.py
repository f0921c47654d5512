"""The Spark job for loads that are too large for load-ingester: the same steps, rows, types and names."""

import argparse
import gzip
import io
import json
import sys
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from pyspark.sql import SparkSession
from registrar import CLAIMING, LEASE_S, Lease, Lost, ask
from rules import Refused, blocks, companion, dfm_key, header, need, parquet, plan_of, quarantined

RANGE_BYTES, BLOCK_BYTES, PUTS, ATTEMPTS, DFM_COMES_WITHIN_S = 8 << 20, 64 << 20, 3, 5, 600
GONE = {"NoSuchKey": "object_gone", "NoSuchVersion": "object_gone", "PreconditionFailed": "superseded"}


class Stored(io.RawIOBase):
    """The object as it was registered. A range of it whose connection breaks is asked for again."""

    def __init__(self, s3, load):
        version = {"VersionId": load["s3_version"]} if load["s3_version"] else {}
        named = {"Bucket": load["s3_bucket"], "Key": load["s3_key"], "IfMatch": f'"{load["s3_etag"]}"', **version}
        self.get, self.at, self.size = partial(s3.get_object, **named), 0, load["s3_size"]

    def readable(self):
        return True

    def readinto(self, buffer):
        last = min(self.at + len(buffer), self.size) - 1
        for attempt in range(ATTEMPTS if self.at <= last else 0):
            try:
                data = self.get(Range=f"bytes={self.at}-{last}")["Body"].read()
                buffer[: len(data)] = data
                self.at += len(data)
                return len(data)
            except ClientError as error:
                reason = GONE.get(error.response["Error"]["Code"])
                raise (Refused(reason) if reason else error) from None
            except (BotoCoreError, OSError) as error:
                print(f"the object is read on at byte {self.at}: {error}", flush=True)
                if attempt == ATTEMPTS - 1:
                    raise
        return 0


def dfm(s3, load):
    """The `.dfm` beside the object, which comes after it: of all versions of both, the one that was written with it."""
    if load["kind"] != "ods":
        return None
    key, bucket = dfm_key(load["s3_key"]), load["s3_bucket"]
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key.removesuffix("dfm"))
    at = datetime.fromisoformat(load["s3_modified"].replace("Z", "+00:00")).timestamp()
    found, is_own = companion([one for page in pages for one in page.get("Versions", ())], load["s3_key"], key, at)
    if found and (is_own or time.time() - at >= DFM_COMES_WITHIN_S):
        return s3.get_object(Bucket=bucket, Key=key, VersionId=found["VersionId"])["Body"].read()
    if load["columns"] is None and time.time() - at < DFM_COMES_WITHIN_S:
        raise OSError(f"{key} has not come yet")
    return None


def cut(s3, load, plan, lease):
    """Puts blocks of the object under keys of this job. The first one says what columns there are."""
    kept, puts, began = [], [], time.monotonic()
    source = io.BufferedReader(Stored(s3, load), RANGE_BYTES)
    source = gzip.GzipFile(fileobj=source) if load["s3_key"].lower().endswith(".gz") else source
    try:
        with ThreadPoolExecutor(PUTS) as pool:
            for line, block in blocks(source.read, BLOCK_BYTES, plan["dialect"]):
                lease.check()
                if "columns" not in plan:
                    line, block = header(plan, line, block)
                kept.append((line, f"work/glue/{load['id']}-{load['lease']}/{len(kept):06}"))
                puts.append(pool.submit(s3.put_object, Bucket=plan["lake"], Key=kept[-1][1], Body=block))
                puts[-PUTS:][0].result()
                if len(kept) % 10 == 1:
                    print(f"load {load['id']}: {len(kept)} blocks in {time.monotonic() - began:.0f} s", flush=True)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise Refused("invalid_gzip") from None
    for put in puts:
        put.result()
    if "columns" not in plan:
        header(plan, 1, b"")
    return kept


def convert(plan, block):
    """A task: makes a Parquet file of a block. Gives back its key, what was counted, and what does not fit."""
    line, key = block
    s3 = boto3.client("s3")
    file, counts, misfits = parquet(s3.get_object(Bucket=plan["lake"], Key=key)["Body"].read(), line, plan)
    if counts["rows"]:
        kind = "application/vnd.apache.parquet"
        s3.put_object(Bucket=plan["lake"], Key=f"{key}.parquet", Body=file, ContentType=kind)
    return f"{key}.parquet", counts, misfits


def ingest(spark, s3, arguments, load, lease):
    """Takes a load to files in Springboard. What became of it."""
    lake, most = arguments.lake_bucket, arguments.max_quarantined_rows
    plan = plan_of(load, dfm(s3, load)) | {"lake": lake, "most_misfits": most}
    kept = cut(s3, load, plan, lease)
    made = spark.sparkContext.parallelize(kept, len(kept)).map(partial(convert, plan)).collect() if kept else []
    misfits = [misfit for *_, some in made for misfit in some]
    need(plan["on_misfit"] != "fail" or not misfits, "misfit", *misfits[:1])
    need(len(misfits) <= most, "too_many_misfits")
    files = [key for key, counts, _ in made if counts["rows"]]
    lease.renew()
    for key, body in quarantined(load, misfits):
        lease.check()
        s3.put_object(Bucket=lake, Key=key, Body=body, ContentType="application/x-ndjson")
    for number, key in enumerate(files):
        lease.check()
        name = f"springboard/{load['place']}{load['id']}-{number}.parquet"
        s3.copy_object(Bucket=lake, Key=name, CopySource={"Bucket": lake, "Key": key})
    total = {name: sum(counts[name] for _, counts, _ in made) for name in ("rows", "nulled", "bytes")}
    result = {**total, "quarantined": len(misfits), "files": len(files)}
    result |= {"missing": plan["missing"], "added": plan["added"]}
    is_right = plan["records"] in (None, total["rows"] + len(misfits))
    return result if is_right else {**result, "declared_records": plan["records"]}


def clear(s3, lake, load):
    """Deletes the blocks and files of this job and of earlier ones that had the load."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=lake, Prefix=f"work/glue/{load['id']}-"):
        keys = [one["Key"] for one in page.get("Contents", ())]
        ours = [{"Key": key} for key in keys if int(key.split("/")[2].split("-")[1]) <= load["lease"]]
        if ours:
            s3.delete_objects(Bucket=lake, Delete={"Objects": ours})


def take(spark, s3, ask, arguments, number, is_too_large):
    """Claims a load and takes it further. Whether that is done, by this job or by another one."""
    if is_too_large:
        with suppress(Lost):  # Another job was faster.
            ask("loads_set_status", loads=[{"id": number}], status="ready", reason="for_glue", by="glue")
    claimed = ask("loads_next", loads=[number], step="ingest", limit=1, lease_seconds=LEASE_S, by="glue")["loads"]
    if not claimed:
        print(f"load {number}: another job has it, or it does not wait to be ingested", flush=True)
        return True
    [load] = claimed
    lease = Lease(ask, load, spark.sparkContext.cancelAllJobs)
    lease.start()
    try:
        try:
            step = {"status": "ready_for_archiving", "result": ingest(spark, s3, arguments, load, lease)}
        except Refused as refused:
            step = {"status": "ready_for_erroring", "reason": refused.args[0]}
            print(f"load {number}: given up: {refused}", flush=True)
        lease.step(**step)
        print(f"load {number}: {json.dumps(step)}", flush=True)
    except Exception:  # What it was is in the log. If the lease is lost, the load cannot be given back.
        traceback.print_exc()
        with suppress(Exception):
            lease.step("ready", reason="given_back")
        return False
    finally:
        lease.ended.set()
        clear(s3, arguments.lake_bucket, load)
    return True


def too_large(ask, table):
    """The loads that load-ingester found too large, and that nobody has moved away yet."""
    page = {"next": None}
    while page:
        page = ask("loads_list", table=table, status="ready_for_erroring", after=page["next"], limit=50)
        yield from (load["id"] for load in page["loads"] if load["status_reason"] == "too_large")
        page = page["next"] and page


def main(words):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake_bucket", required=True, help="bucket that files are written to")
    parser.add_argument("--registrar_function", required=True, help="name of load-registrar")
    parser.add_argument("--loads", help="ids of loads, with commas; without it, all that load-ingester found too large")
    parser.add_argument("--table", help="only loads of this table")
    parser.add_argument("--max_quarantined_rows", type=int, default=10_000, help="more make the load too_many_misfits")
    arguments, _ = parser.parse_known_args(words)  # Glue adds some of its own.
    spark = SparkSession.builder.appName("landfall-ingest").getOrCreate()
    asking = partial(ask, boto3.client("lambda", config=CLAIMING), arguments.registrar_function)
    large = list(too_large(asking, arguments.table))
    wanted = [int(number) for number in arguments.loads.split(",")] if arguments.loads else large
    done = [take(spark, boto3.client("s3"), asking, arguments, number, number in large) for number in wanted]
    print(f"{len(done)} loads, {done.count(False)} of them not taken further", flush=True)
    return int(not all(done))


if __name__ == "__main__" and (code := main(sys.argv[1:])):
    sys.exit(code)
