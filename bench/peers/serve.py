"""Runs the handler whenever it is told to, so that starting Python is not what is measured.

    > event <path>      read the event once
    > run               encode it: nanoseconds in all, then each stage's
    > write <path>      keep the last file
"""

import gc
import sys
import time
from pathlib import Path

from handler import encode, read


def main() -> None:
    body, file = b"", b""
    for line in sys.stdin:
        match line.rstrip("\n").split(" ", 1):
            case ["event", path]:
                body = Path(path).read_bytes()
                answer = "ok"
            case ["run"]:
                started = time.perf_counter_ns()
                event, json_nanoseconds = read(body)
                encoded = encode(event)
                total = time.perf_counter_ns() - started
                file = encoded.file
                stages = [("total", total), ("json", json_nanoseconds), *encoded.nanoseconds]
                answer = " ".join(f"{stage} {nanoseconds}" for stage, nanoseconds in stages)
                del event, encoded
                # What one invocation leaves behind is not the next one's to clean up.
                gc.collect()
            case ["write", path]:
                answer = str(Path(path).write_bytes(file))
            case other:
                raise SystemExit(f"unknown request: {other}")
        print(answer, flush=True)


main()
