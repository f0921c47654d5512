"""Kills sandboxes: the processes of functions, at times that follow from a seed."""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAME = b"AWS_LAMBDA_FUNCTION_NAME="


class Killer:
    """Kills a sandbox of the functions in question every few seconds, while it is inside `killing`."""

    def __init__(self, emulator_pid: int, seed: int) -> None:
        """`emulator_pid` is also the process group that all sandboxes are in."""
        self._group = emulator_pid
        self._random = random.Random(f"{seed} kills")
        self.kills: Counter[str] = Counter()

    @contextmanager
    def killing(self, functions: Sequence[str], at_least_s: float, at_most_s: float) -> Iterator[None]:
        """Kills one with SIGKILL, at random, after each pause between the two bounds."""
        over = threading.Event()

        def run() -> None:
            while not over.wait(self._random.uniform(at_least_s, at_most_s)):
                self._kill_one(functions)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _kill_one(self, functions: Sequence[str]) -> None:
        found = [(pid, name) for pid, name in self._sandboxes() if name in functions]
        if not found:
            return
        pid, name = self._random.choice(found)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills[name] += 1

    def _sandboxes(self) -> Iterator[tuple[int, str]]:
        """Processes of functions, whose environment names the function as Lambda does."""
        for folder in sorted(Path("/proc").iterdir()):
            if not folder.name.isdigit():
                continue
            pid = int(folder.name)
            try:
                if os.getpgid(pid) != self._group:
                    continue
                variables = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            for variable in variables:
                if variable.startswith(NAME):
                    yield pid, variable.removeprefix(NAME).decode()
