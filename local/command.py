"""Runs other programs."""

import os
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.paths import LOGS, ROOT
from local.progress import Failure, Step

TAIL_LINES = 30


def run_logged(
    argv: Sequence[str | Path], step: Step, log_name: str, extra_env: Mapping[str, str] | None = None
) -> None:
    """Runs `argv` with its output in a log file and its latest line beside the step. Fails with the end of the log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log_path = LOGS / f"{log_name}.log"
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with log_path.open("w") as log:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**os.environ, **(extra_env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            if line.strip():
                tail.append(line.rstrip())
                step.say(line)
    if process.wait() != 0:
        end = "\n".join(f"    {line}" for line in tail)
        raise Failure(
            f"{Path(argv[0]).name} ended with code {process.returncode}. Its last lines:\n{end}\n"
            f"All of it: {log_path.relative_to(ROOT)}"
        )
    step.say("")


def run_shown(argv: Sequence[str | Path], extra_env: Mapping[str, str] | None = None) -> int:
    """Runs `argv` in the open and returns its exit code."""
    print(f"$ {' '.join(map(str, argv))}", flush=True)
    env = {**os.environ, **(extra_env or {})}
    return subprocess.run(argv, check=False, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode
