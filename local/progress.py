"""Progress of steps: a live line on a terminal; anywhere else a line at the end, and now and then one while it lasts.

On standard error, because standard output is for results.

Only the standard library, because the first step of all is to install the rest.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

LIVE = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
COLOURED = LIVE and "NO_COLOR" not in os.environ
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
LIVE_INTERVAL_S = 0.1
PLAIN_FIRST_S = 5.0
PLAIN_INTERVAL_S = 30.0
BAR_WIDTH = 24
DETAIL_WIDTH = 90


class Failure(Exception):
    """An error that is reported to the user as a sentence."""


class Step:
    """One thing that takes time. Use with `with step("…") as s`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._detail = ""
        self._started = time.monotonic()
        self._done = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def say(self, detail: str) -> None:
        """Replaces what is shown beside the title."""
        self._detail = " ".join(detail.split())[:DETAIL_WIDTH]

    def count(self, done: int, total: int, detail: str = "") -> None:
        """Shows how far it is."""
        filled = BAR_WIDTH * done // max(total, 1)
        bar = "█" * filled + "░" * (BAR_WIDTH - filled) + " " if LIVE else ""
        self.say(f"{bar}{done:,} of {total:,}" + (f", {detail}" if detail and done < total else ""))

    def _line(self, mark: str) -> str:
        elapsed = time.monotonic() - self._started
        return f"{mark} {self._title} · {elapsed:.1f} s" + (f" · {self._detail}" if self._detail else "")

    def _tick(self) -> None:
        frame = 0
        wait_s = LIVE_INTERVAL_S if LIVE else PLAIN_FIRST_S
        while not self._done.wait(wait_s):
            if LIVE:
                columns = shutil.get_terminal_size().columns
                _show(f"\r\x1b[K{self._line(SPINNER[frame % len(SPINNER)])[: columns - 1]}", end="")
                frame += 1
            else:
                _show(self._line("…"))
                wait_s = PLAIN_INTERVAL_S

    def __enter__(self) -> "Step":
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._ticker.join()
        mark, colour = ("✓", 32) if kind is None else ("✗", 31)
        clear = "\r\x1b[K" if LIVE else ""
        _show(clear + self._line(f"\x1b[{colour}m{mark}\x1b[0m" if COLOURED else mark))


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Shows `title` with the time it takes until the block ends."""
    with Step(title) as shown:
        yield shown


def _show(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
