"""The files of the lake, brought to `.local/lake` and read."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import emulator
from local import stack as stacks
from local.paths import LAKE, LOADS, ROOT
from local.progress import Failure, step
from local.stack import Stack

READERS = 8


@dataclass(frozen=True)
class LakeFile:
    """One object and its copy."""

    key: str
    size: int
    etag: str
    path: Path


def run() -> int:
    """Fetches the lake of the stack that is running."""
    deployed = stacks.recorded()
    if deployed is None or emulator.running() is None:
        raise Failure("No stack is running: make up starts one.")
    with step(f"Fetching the lake to {LAKE.relative_to(ROOT)}") as s:
        s.say(f"{len(fetch(deployed)):,} files")
        note_loads(deployed)
    return 0


def note_loads(stack: Stack) -> None:
    """Leaves what load-registrar knows of its tables beside the files, for the report of the warehouse."""
    if stacks.REGISTRAR in stack.outputs:
        LAKE.mkdir(parents=True, exist_ok=True)
        (LAKE / LOADS).write_text(json.dumps(stack.ask("tables_list"), indent=2) + "\n")


def fetch(stack: Stack) -> list[LakeFile]:
    """Copies the whole bucket, in place of what an earlier run left there."""
    shutil.rmtree(LAKE, ignore_errors=True)
    s3, bucket = stack.client("s3"), stack.outputs["LakeBucketName"]

    def copy(listed: dict[str, Any]) -> LakeFile:
        path = LAKE / listed["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(s3.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read())
        return LakeFile(listed["Key"], listed["Size"], listed["ETag"].strip('"'), path)

    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    listed = [thing for page in pages for thing in page.get("Contents", [])]
    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(copy, listed))


def events(files: list[LakeFile]) -> list[LakeFile]:
    """The landed files."""
    return [file for file in files if file.key.startswith("events/")]


def quarantined(files: list[LakeFile]) -> Iterator[dict[str, Any]]:
    """Every record of the quarantine."""
    for file in files:
        if file.key.startswith("quarantine/"):
            yield from map(json.loads, file.path.read_text().splitlines())
