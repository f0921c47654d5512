"""Runs a handler whenever it is told to, so that starting Python is not what is measured.

    serve.py <module>

    > event <path>      read the event once, or events that are one on a line
    > run <turns>       handle it so often: nanoseconds in all, then each stage's of the last turn
    > write <path>      keep the last output
"""

import gc
import importlib
import sys
import time
from itertools import cycle, islice
from pathlib import Path


def main(module: str) -> None:
    turn = importlib.import_module(module).turn
    bodies, output = [b""], b""
    for line in sys.stdin:
        match line.rstrip("\n").split(" ", 1):
            case ["event", path]:
                bodies = Path(path).read_bytes().splitlines()
                answer = "ok"
            case ["run", turns]:
                started = time.perf_counter_ns()
                for body in islice(cycle(bodies), int(turns)):
                    output, stages, rest = turn(body)
                total = time.perf_counter_ns() - started
                answer = " ".join(f"{stage} {nanoseconds}" for stage, nanoseconds in [("total", total), *stages])
                del rest
                # What one invocation leaves behind is not the next one's to clean up.
                gc.collect()
            case ["write", path]:
                answer = str(Path(path).write_bytes(output))
            case other:
                raise SystemExit(f"unknown request: {other}")
        print(answer, flush=True)


main(sys.argv[1])
