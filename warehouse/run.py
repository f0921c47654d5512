#!/usr/bin/env python3
"""Builds the warehouse without a scheduler of its own: freshness → run → test → docs, each only if the one before it passed.

    python warehouse/run.py [STEP …]

For cron, a container or CI. It needs nothing but dbt, and what profiles.yml reads from the environment. Two runs at a time are
refused on one machine. Exit code 0 when all steps passed, that of dbt when one failed, and 75 when another run has not ended.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent
# The unit tests are written for DuckDB, and say nothing about the data.
STEPS = {
    "freshness": ["source", "freshness"],
    "run": ["run"],
    "test": ["test", "--exclude-resource-type", "unit_test"],
    "docs": ["docs", "generate"],
}
TEMPORARY_FAILURE = 75


def main() -> int:
    """Runs the steps. The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"{', '.join(STEPS)} (default: all of them)")
    parser.add_argument("--dbt", help="the program (default: the one beside this Python, or else on the PATH)")
    chosen = parser.parse_args()
    for name in chosen.steps:
        if name not in STEPS:
            parser.error(f"there is no step {name}, but {', '.join(STEPS)}")
    beside = Path(sys.executable).parent / "dbt"
    dbt = chosen.dbt or (str(beside) if beside.is_file() else shutil.which("dbt"))
    if dbt is None:
        parser.error("dbt is missing: there is none beside this Python and none on the PATH. --dbt says where it is")
    with open(Path(tempfile.gettempdir()) / f"landfall-warehouse-{os.getuid()}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another run has not ended yet, so this one does nothing.", file=sys.stderr)
            return TEMPORARY_FAILURE
        return _run(dbt, [name for name in STEPS if name in chosen.steps or not chosen.steps])


def _run(dbt: str, names: list[str]) -> int:
    for name in names:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        command = [dbt, *STEPS[name], "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
        code = subprocess.run(command, check=False, cwd=PROJECT).returncode
        if code:
            print(f"The step {name} failed after {time.monotonic() - started:.0f} s, so nothing after it ran.", file=sys.stderr)
            return code
    print(f"All of {', '.join(names)} passed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
