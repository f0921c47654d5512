"""What was sent and what became of it."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

NAMED = 3  # examples in a sentence; the file has all of them


@dataclass
class Count:
    """One path through the stack: how often each thing that was sent is in each place. Things are named by their ids."""

    path: str
    things: str
    sent: set[str]
    landed: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    """In the dead-letter queue."""
    once: bool = False
    """Whether the path promises that nothing lands twice."""
    places: dict[str, list[str]] = field(default_factory=dict)
    """Where each thing is that landed more than once."""
    broken: list[str] = field(default_factory=list)
    """Other promises that were not kept."""

    def land(self, places: Mapping[str, list[str]]) -> None:
        """Counts what landed: each thing with all the places that it is in."""
        self.landed = Counter({thing: len(where) for thing, where in places.items()})
        self.places = {thing: where for thing, where in places.items() if len(where) > 1}

    @property
    def lost(self) -> list[str]:
        """What was sent and is nowhere."""
        return sorted(self.sent.difference(self.landed, self.quarantined, self.dead))

    @property
    def invented(self) -> list[str]:
        """What is somewhere and was not sent."""
        return sorted({*self.landed, *self.quarantined, *self.dead}.difference(self.sent))

    @property
    def doubled(self) -> list[str]:
        """What landed more than once."""
        return sorted(thing for thing, times in self.landed.items() if times > 1)

    def wrong(self) -> list[str]:
        """The promises that were not kept, as sentences."""
        found = list(self.broken)
        if self.lost:
            found.append(f"{len(self.lost):,} {self.things} are nowhere, such as {_some(self.lost)}.")
        if self.invented:
            found.append(f"{len(self.invented):,} {self.things} were never sent, such as {_some(self.invented)}.")
        if self.once and self.doubled:
            found.append(f"{len(self.doubled):,} {self.things} landed more than once, such as {_some(self.doubled)}.")
        return [f"{self.path}: {sentence}" for sentence in found]


def table(counts: Iterable[Count]) -> Table:
    """A row for each path. A thing counts once, in the first place of this order that it is in."""
    shown = Table(title="Counted at the other end", caption="DLQ: dead-letter queue; doubled: landed more than once")
    shown.add_column("path", no_wrap=True)
    for heading in ("sent", "landed", "quarantined", "in DLQ", "lost", "doubled"):
        shown.add_column(heading, justify="right")
    for count in counts:
        landed = set(count.landed)
        quarantined = set(count.quarantined) - landed
        dead = set(count.dead) - landed - quarantined
        numbers = (count.sent, landed, quarantined, dead, count.lost, count.doubled)
        shown.add_row(count.path, *(f"{len(number):,}" for number in numbers))
    return shown


def write_doubles(counts: Iterable[Count], path: Path) -> int:
    """Names everything that landed more than once, with the places, a line of JSON each. Returns how many there are."""
    lines = [
        json.dumps({"path": count.path, "id": thing, "places": count.places.get(thing, [])})
        for count in counts
        for thing in count.doubled
    ]
    path.write_text("".join(f"{line}\n" for line in lines))
    return len(lines)


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:NAMED])
