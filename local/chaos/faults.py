"""Everything that goes wrong: the proxy and the killer, switched on and off together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.table import Table

from local import emulator
from local.chaos.kills import Killer
from local.chaos.proxy import FAULTS, SERVICES, Proxy
from local.progress import Failure
from local.stack import Stack


class Faults:
    """Faults of one run. They happen inside `of`."""

    def __init__(self, stack: Stack, proxy: Proxy, seed: int) -> None:
        """None so far."""
        running = emulator.running()
        if running is None:
            raise Failure("The emulator is not running.")
        self._prefix = f"{stack.stack_name}-"
        self._killer = Killer(running.pid, seed)
        self._proxy = proxy
        self.crashes = 0
        """Of Postgres."""

    @contextmanager
    def of(self, functions: Sequence[str], at_least_s: float, at_most_s: float) -> Iterator[None]:
        """Kills sandboxes of these functions, with pauses between the two bounds, and lets requests fail."""
        self._proxy.armed.set()
        try:
            with self._killer.killing(functions, at_least_s, at_most_s):
                yield
        finally:
            self._proxy.armed.clear()

    def tables(self) -> Iterator[Table]:
        """What happened."""
        requests = Table("service", title="Requests that failed", caption="an answer is lost after the request was done")
        for heading in ("requests", *FAULTS):
            requests.add_column(heading, justify="right")
        for service in SERVICES:
            numbers = (self._proxy.requests[service], *(self._proxy.faults[service, fault] for fault in FAULTS))
            requests.add_row(service, *(f"{number:,}" for number in numbers))
        yield requests
        kills = Table("process", title="Killed")
        kills.add_column("times", justify="right")
        for name, times in sorted(self.kills().items()):
            kills.add_row(name, f"{times:,}")
        kills.add_row("postgres", f"{self.crashes:,}")
        yield kills

    def kills(self) -> Counter[str]:
        """Kills by function."""
        return Counter({name.removeprefix(self._prefix): times for name, times in self._killer.kills.items()})

    def missing(self, functions: Sequence[str]) -> list[str]:
        """Faults that should have happened and did not, so that the run shows less than it should."""
        kills = self.kills()
        failed = {service for service, _ in self._proxy.faults}
        unseen = [f"No sandbox of {name} was killed" for name in functions if not kills[name]]
        unseen.extend(f"No request to {service} failed" for service in SERVICES if service not in failed)
        return [f"{sentence}, so this run says nothing about it. Send more." for sentence in unseen]
