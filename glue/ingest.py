"""The Spark job for loads that are too large for load-ingester: the same steps, rows, types and names. See README.md."""

import argparse
import gzip
import json
import sys
import threading
import time
import traceback
import zlib
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial

import boto3
from botocore.exceptions import ClientError
from pyspark.sql import SparkSession
from rules import Refused, blocks, dfm_key, header, need, parquet, plan_of, quarantined

BLOCK_BYTES, LEASE_S, RENEW_S, MARGIN_S, DFM_COMES_WITHIN_S = 64 << 20, 900, 120, 60, 600
GONE = {"NoSuchKey": "object_gone", "NoSuchVersion": "object_gone", "PreconditionFailed": "superseded"}


class Lost(Exception):
    """load-registrar refuses the step, or may soon: another job has the load, and nothing may be changed any more."""


def ask(client, function, command, **members):
    """Asks load-registrar, by invocation."""
    answer = client.invoke(FunctionName=function, Payload=json.dumps({"command": command, **members}))
    result = json.load(answer["Payload"])
    if "FunctionError" in answer:
        raise (Lost if result.get("errorType") == "Refused" else OSError)(result.get("errorMessage"))
    return result


class Lease(threading.Thread):
    """Renews the lease of a load, and cancels its tasks when that is lost."""

    def __init__(self, ask, load, cancel):
        super().__init__(daemon=True)
        self.ask, self.load, self.cancel = ask, {"id": load["id"], "lease": load["lease"]}, cancel
        self.until, self.ended = time.monotonic() + LEASE_S - MARGIN_S, threading.Event()

    def run(self):
        while not self.ended.wait(RENEW_S):
            self.renew()
            if time.monotonic() >= self.until:
                self.cancel()

    def renew(self):
        asked = time.monotonic()
        try:
            self.ask("loads_renew", loads=[self.load], lease_seconds=LEASE_S)
            self.until = asked + LEASE_S - MARGIN_S
        except Lost:
            self.until = asked
        except Exception as error:  # There is time to ask again until the lease ends.
            print(f"load {self.load['id']}: the lease could not be renewed: {error}", flush=True)

    def check(self):
        if time.monotonic() >= self.until:
            raise Lost("the lease has ended")

    def step(self, status, reason=None, **result):
        self.ask("loads_set_status", loads=[{**self.load, **result}], status=status, reason=reason, by="glue")


def opened(s3, load):
    """The object as it was registered, inflated."""
    version = {"VersionId": load["s3_version"]} if load["s3_version"] else {}
    etag = f'"{load["s3_etag"]}"'
    try:
        body = s3.get_object(Bucket=load["s3_bucket"], Key=load["s3_key"], IfMatch=etag, **version)["Body"]
    except ClientError as error:
        raise Refused(GONE[error.response["Error"]["Code"]]) if error.response["Error"]["Code"] in GONE else error
    return gzip.GzipFile(fileobj=body) if load["s3_key"].lower().endswith(".gz") else body


def dfm(s3, load):
    """The `.dfm` beside the object, which comes after it."""
    if load["kind"] != "ods":
        return None
    try:
        return s3.get_object(Bucket=load["s3_bucket"], Key=dfm_key(load["s3_key"]))["Body"].read()
    except ClientError as error:
        age = datetime.now(timezone.utc) - datetime.fromisoformat(load["s3_modified"].replace("Z", "+00:00"))
        if error.response["Error"]["Code"] != "NoSuchKey" or not load["columns"] and age.total_seconds() < DFM_COMES_WITHIN_S:
            raise
    return None


def cut(s3, load, plan, lease):
    """Puts blocks of the object under keys of this job. The first one says what columns there are."""
    kept = []
    try:
        for line, block in blocks(opened(s3, load).read, BLOCK_BYTES, plan["dialect"]):
            lease.check()
            if "columns" not in plan:
                line, block = header(plan, line, block)
            key = f"work/glue/{load['id']}-{load['lease']}/{len(kept):06}"
            s3.put_object(Bucket=plan["lake"], Key=key, Body=block)
            kept.append((line, key))
            print(f"load {load['id']}: {len(kept)} blocks are cut", flush=True)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise Refused("invalid_gzip") from None
    return kept


def convert(plan, block):
    """A task: makes a Parquet file of a block. Gives back its key, what was counted, and what does not fit."""
    line, key = block
    s3 = boto3.client("s3")
    file, counts, misfits = parquet(s3.get_object(Bucket=plan["lake"], Key=key)["Body"].read(), line, plan)
    if counts["rows"]:
        s3.put_object(Bucket=plan["lake"], Key=f"{key}.parquet", Body=file, ContentType="application/vnd.apache.parquet")
    return f"{key}.parquet", counts, misfits


def ingest(spark, s3, arguments, load, lease):
    """Takes a load to files in Springboard. What became of it."""
    lake, most = arguments.lake_bucket, arguments.max_quarantined_rows
    plan = plan_of(load, dfm(s3, load)) | {"lake": lake, "most_misfits": most}
    kept = cut(s3, load, plan, lease)
    made = spark.sparkContext.parallelize(kept, len(kept) or 1).map(partial(convert, plan)).collect()
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
    result = {**total, "quarantined": len(misfits), "files": len(files), "missing": plan["missing"], "added": plan["added"]}
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
    try:
        if is_too_large:
            ask("loads_set_status", loads=[{"id": number}], status="ready", reason="for_glue", by="glue")
        claimed = ask("loads_next", loads=[number], step="ingest", limit=1, lease_seconds=LEASE_S, by="glue")["loads"]
    except Lost as refusal:
        claimed = print(f"load {number}: {refusal}") or []
    if not claimed:
        return print(f"load {number}: another job has it, or it does not wait to be ingested", flush=True) is None
    lease = Lease(ask, claimed[0], spark.sparkContext.cancelAllJobs)
    lease.start()
    try:
        result = ingest(spark, s3, arguments, claimed[0], lease)
        lease.step("ready_for_archiving", result=result)
        print(f"load {number}: ingested, {json.dumps(result)}", flush=True)
    except Refused as refused:
        lease.step("ready_for_erroring", reason=refused.args[0])
        print(f"load {number}: given up: {refused}", flush=True)
    except Exception:  # What it was is in the log. If the lease is lost, the load cannot be given back.
        traceback.print_exc()
        with suppress(Exception):
            lease.step("ready", reason="given_back")
        return False
    finally:
        lease.ended.set()
        clear(s3, arguments.lake_bucket, claimed[0])
    return True


def too_large(ask, table):
    """The loads that load-ingester found too large, and that nobody has moved away yet."""
    page = {"next": None}
    while page:
        page = ask("loads_list", table=table, status="ready_for_erroring", after=page["next"], limit=1000)
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
    asking = partial(ask, boto3.client("lambda"), arguments.registrar_function)
    large = list(too_large(asking, arguments.table))
    wanted = [int(number) for number in arguments.loads.split(",")] if arguments.loads else large
    done = [take(spark, boto3.client("s3"), asking, arguments, number, number in large) for number in wanted]
    print(f"{len(done)} loads, {done.count(False)} of them not taken further", flush=True)
    return int(not all(done))


if __name__ == "__main__" and (code := main(sys.argv[1:])):
    sys.exit(code)
