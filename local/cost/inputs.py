"""What the model reads: the price table, the measured figures, and the defaults of the template."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from local.paths import ROOT, TEMPLATE
from local.progress import Failure

HERE = Path(__file__).resolve().parent
PRICES = HERE / "prices.csv"
FIGURES = HERE / "figures.csv"
BENCH = ROOT / "bench" / "README.md"


class Prices:
    """List prices in US dollars. A price may have tiers, each of which holds above a quantity a month."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        self.rows = rows
        self._tiers: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            self._tiers.setdefault(row["price"], []).append((float(row["above"]), float(row["usd"])))

    def of(self, name: str, quantity: float) -> float:
        """The price of a quantity a month."""
        tiers = self._tiers[name]
        ends = [above for above, _ in tiers[1:]] + [float("inf")]
        return sum(
            max(0.0, min(quantity, end) - above) * usd for (above, usd), end in zip(tiers, ends, strict=True)
        )


class Figures:
    """What was measured or counted, and what is assumed. Values of the benchmark are read where it is reported."""

    def __init__(self, rows: list[dict[str, str]], bench: str) -> None:
        self.rows = rows
        self.values = {row["figure"]: _value(row["value"], bench) for row in rows}

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def changed(self, **values: float) -> "Figures":
        """The same with other values, to see what depends on them."""
        other = Figures([], "")
        other.values = {**self.values, **values}
        return other


def _value(text: str, bench: str) -> float:
    if not text.startswith("bench: "):
        return float(text)
    table, row, column = (part.strip() for part in text.removeprefix("bench: ").split(" > "))
    for header, *rows in _tables(bench):
        if not header[0].startswith(table):
            continue
        # "10" is also how "100" begins, so the exact name goes first.
        named = [at for at, name in enumerate(header) if name == column]
        named += [at for at, name in enumerate(header) if at and name.startswith(column)]
        found = [cells for cells in rows if cells[0].startswith(row)]
        if named and found:
            number = re.match(r"[\d,.]+", found[0][named[0]])
            if number:
                value = float(number[0].replace(",", ""))
                return value / 1_000 if "µs" in header[named[0]] else value
    raise Failure(f"{FIGURES.relative_to(ROOT)} names “{text}”, which is not in {BENCH.relative_to(ROOT)}.")


def _tables(page: str) -> Iterator[list[list[str]]]:
    """The tables of a Markdown page as rows of cells; the first row is the header."""
    table: list[list[str]] = []
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
        elif table:
            yield [table[0], *table[2:]]
            table = []


class Template:
    """The settings of template.yaml that a bill depends on."""

    def __init__(self, text: str) -> None:
        self._parameters, self._resources = text.split("\nResources:\n", 1)

    def default(self, parameter: str) -> int:
        """The default of a parameter that is a number."""
        return self._number(self._parameters, rf"^  {parameter}:\n(?:    .*\n)*?    Default: (\d+)$", parameter)

    def of(self, resource: str, name: str) -> int:
        """A number in a resource."""
        return self._number(self._body(resource), rf"\b{name}: (\d+)", f"{resource}.{name}")

    def says(self, resource: str, text: str) -> bool:
        """Whether a resource has this text."""
        return text in self._body(resource)

    def silences_lambda(self) -> bool:
        """Whether Lambda writes no lines of its own for each invocation."""
        return "SystemLogLevel: WARN" in self._parameters

    def count(self, kind: str, *conditions: str) -> int:
        """How many resources of a kind have one of these conditions."""
        bodies = re.split(r"^  (?=\w+:$)", self._resources, flags=re.MULTILINE)
        return sum(
            f"Type: {kind}\n" in body and any(f"Condition: {condition}\n" in body for condition in conditions)
            for body in bodies
        )

    def _body(self, resource: str) -> str:
        found = re.search(rf"^  {resource}:\n((?:    .*\n|\n)*)", self._resources, flags=re.MULTILINE)
        if not found:
            raise Failure(f"template.yaml has no {resource}.")
        return found[1]

    @staticmethod
    def _number(text: str, pattern: str, name: str) -> int:
        found = re.search(pattern, text, flags=re.MULTILINE)
        if not found:
            raise Failure(f"template.yaml does not say what {name} is.")
        return int(found[1])


def prices() -> Prices:
    """The price table."""
    return Prices(_rows(PRICES))


def figures() -> Figures:
    """The measured figures."""
    return Figures(_rows(FIGURES), BENCH.read_text())


def template() -> Template:
    """The template."""
    return Template(TEMPLATE.read_text())


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
