"""Writes readers.ndjson: CSV files of other writers, and the rows that pandas reads from them.

One JSON object a line:

    {"writer":"java","csv":"…","dialect":{…},"columns":[{"name":"a","type":"integer"}],"rows":[["1",null]],"refused":[[3,"a"]]}

`csv` is the file. `dialect` has the options of a `.dfm`. `rows` are the values as text: integers, decimals without their point, reals as
Python writes them, days and microseconds since 1970, `true` and `false`. `refused` has line and column of each record that must go to
the quarantine; the column is null if the number of fields is wrong.

The writers are Python's csv with every way of quoting, pandas, and one that quotes and escapes with a backslash as libraries for
Java do. pandas reads the file as text, and the script stops if it reads another text than was written. Types are read by Python: int,
Decimal, float, datetime. Whether a text is empty or null is up to the writer, since pandas does not tell these apart.

To write it again, with any Python that has pandas 3:

    python3 functions/load-ingester/testdata/readers.py

The same seed gives the same file. For others: `--seed 7 --count 5000 --out /tmp/readers.ndjson`, and the test
`files_of_other_writers_are_read_as_pandas_reads_them` reads that file if `LANDFALL_READERS` names it.
"""

import argparse
import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, getcontext
from pathlib import Path
from random import Random

import pandas as pd

SEED = 1
COUNT = 100
getcontext().prec = 60
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ALPHABET = ["a", "b", "Z", "0", " ", "é", "停", "\U0001f687", "'", "#", "-", "_", "x", "y", "N", "ü", "\u00a0", "\u2028"]
SPECIAL = ['"', ",", ";", "\t", "|", "\n", "\r\n", '""', "\\", "NULL", "\\N"]
TYPES = ["integer", "bigint", "decimal(12,4)", "decimal(30,6)", "double", "boolean", "date", "timestamp", "text", "text", "text"]

Value = str | None


def text_of(random: Random, type_: str, special: list[str]) -> Value:
    """A value as it is written. None is null."""
    if random.random() < 0.12:
        return None
    match type_:
        case "integer":
            return random.choice([str(random.randint(-(2**31), 2**31 - 1)), str(random.randint(-99, 99)), f"+{random.randint(0, 9)}", "007"])
        case "bigint":
            return str(random.choice([random.randint(-(2**63), 2**63 - 1), 0, 2**63 - 1, -(2**63)]))
        case "decimal(12,4)":
            return random.choice([f"{random.randint(-(10**11), 10**11) / Decimal(10**4)}", f"{random.randint(0, 999)}", ".5", "-3.", "12.50000", "1.5e3", "25E-2"])
        case "decimal(30,6)":
            return f"{random.randint(-(10**29), 10**29):d}e-6" if random.random() < 0.3 else f"{random.randint(0, 10**24)}.{random.randint(0, 10**6 - 1):06d}"
        case "double":
            return random.choice([repr(random.uniform(-1e6, 1e6)), repr(random.random() * 10 ** random.randint(-300, 300)), "0", "-0.0", "1e5", "5."])
        case "boolean":
            return random.choice(["true", "false", "t", "f", "TRUE", "False", "1", "0", "yes", "No"])
        case "date":
            return (date(1, 1, 1) + timedelta(days=random.randint(0, 3_652_058))).isoformat() + random.choice(["", "", " 00:00:00", "T00:00:00.000"])
        case "timestamp":
            moment = datetime(2, 1, 1) + timedelta(days=random.randint(0, 3_651_000), seconds=random.randint(0, 86_399))
            digits = random.choice(["", f".{random.randint(0, 9_999_999):07d}", f".{random.randint(0, 999_999):06d}", f".{random.randint(0, 999):03d}", ".5"])
            return moment.isoformat(sep=random.choice(" T")) + digits + random.choice(["", "", "", "Z", "+01:00", "-0530", "+02"])
        case _:
            letters = [random.choice(special if random.random() < 0.2 else ALPHABET) for _ in range(random.randint(0, 9))]
            return "".join(letters)


def typed(text: str, type_: str) -> Value:
    """A value as it should be read. Empty is null, unless it is text."""
    if type_ == "text":
        return text
    if not text:
        return None
    if type_.startswith("decimal"):
        scale = int(type_[:-1].split(",")[1])
        return str(int(Decimal(text).scaleb(scale)))
    match type_:
        case "integer" | "bigint":
            return str(int(text))
        case "double":
            return repr(float(text))
        case "boolean":
            return "true" if text.lower() in ("true", "t", "1", "yes") else "false"
        case "date":
            return str((date.fromisoformat(text[:10]) - EPOCH.date()).days)
    return micros(text)


def micros(text: str) -> str:
    """datetime knows no more than six digits of a second."""
    zone_at = next((at for at in range(19, len(text)) if text[at] in "Z+-"), len(text))
    clock, zone = text[:zone_at], text[zone_at:]
    clock = clock.split(".")[0] + ("." + clock.split(".")[1][:6].ljust(6, "0") if "." in clock else "")
    moment = datetime.fromisoformat(clock + (zone or "Z"))
    return str((moment - EPOCH) // timedelta(microseconds=1))


class Writer:
    """Writes records, and says what an empty text and null are when they are read."""

    def __init__(self, name: str, dialect: dict, write: Callable[[list[Value]], str], quotes_empty: bool, quotes_null: bool):
        self.name, self.dialect, self.write = name, dialect, write
        self.quotes_empty, self.quotes_null = quotes_empty, quotes_null

    def read(self, value: Value) -> Value:
        """What a text column has."""
        if value is None:
            return "" if self.quotes_null else None
        return None if value == "" and not self.quotes_empty else value


def options(delimiter: str, end: str, quote: str = '"', escape: str = "") -> dict:
    return {"fieldDelimiter": delimiter, "recordDelimiter": end, "quoteChar": quote, "escapeChar": escape, "nullValue": ""}


def python_writer(delimiter: str, end: str, quoting: int, escape: str | None) -> Writer:
    def write(values: list[Value]) -> str:
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting, escapechar=escape, doublequote=escape is None).writerow(values)
        return out.getvalue()

    quotes = quoting in (csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)
    quote = "" if quoting == csv.QUOTE_NONE else '"'
    return Writer("python", options(delimiter, end, quote, escape or ""), write, quotes, quotes)


def pandas_writer(delimiter: str, end: str) -> Writer:
    def write(values: list[Value]) -> str:
        frame = pd.DataFrame([values], dtype=object)
        return frame.to_csv(sep=delimiter, index=False, header=False, lineterminator=end)

    return Writer("pandas", options(delimiter, end), write, False, False)


def java_writer(delimiter: str, end: str) -> Writer:
    def field(value: Value) -> str:
        return "" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return Writer("java", options(delimiter, end, '"', "\\"), lambda values: delimiter.join(map(field, values)) + end, True, False)


def any_writer(random: Random) -> tuple[Writer, list[str]]:
    """A writer, and what its texts may have in them."""
    delimiter, end = random.choice(",,;\t|"), random.choice(["\n", "\n", "\r\n"])
    match random.randrange(7):
        case 0:
            return python_writer(delimiter, end, csv.QUOTE_MINIMAL, None), SPECIAL
        case 1:
            return python_writer(delimiter, end, csv.QUOTE_ALL, None), SPECIAL
        case 2:
            return python_writer(delimiter, end, csv.QUOTE_NONNUMERIC, None), SPECIAL
        case 3:
            return python_writer(delimiter, end, csv.QUOTE_MINIMAL, "\\"), SPECIAL
        case 4:
            # What ends a line cannot be escaped so that all readers agree.
            return python_writer(delimiter, end, csv.QUOTE_NONE, "\\"), [text for text in SPECIAL if "\n" not in text]
        case 5:
            return pandas_writer(delimiter, end), SPECIAL
    return java_writer(delimiter, end), SPECIAL


def case(random: Random) -> dict:
    writer, special = any_writer(random)
    types = [random.choice(TYPES) for _ in range(random.randint(2, 7))]
    names = [f"c{at}" for at in range(len(types))]
    file, rows, refused, texts = writer.write(names), [], [], []
    for _ in range(random.randint(0, 12)):
        values = [text_of(random, type_, special) for type_ in types]
        line = file.count("\n") + 1
        damage = random.random()
        typed_at = [at for at, type_ in enumerate(types) if type_ != "text"]
        if damage < 0.04:
            refused.append([line, None])
            file += writer.write([*values, "x"] if random.random() < 0.5 or len(values) == 2 else values[:-1])
            continue
        if damage < 0.1 and typed_at:
            at = random.choice(typed_at)
            values[at] = "oops"
            refused.append([line, names[at]])
        else:
            rows.append([writer.read(value) if type_ == "text" else typed(value or "", type_) for value, type_ in zip(values, types, strict=True)])
        texts.append([value or "" for value in values])
        file += writer.write(values)
    if random.random() < 0.3:
        file = file.removesuffix(writer.dialect["recordDelimiter"])
    if random.random() < 0.2:
        file = "\ufeff" + file
    check(writer, file, names, texts, any(column is None for _, column in refused))
    columns = [{"name": name, "type": type_} for name, type_ in zip(names, types, strict=True)]
    return {"writer": writer.name, "csv": file, "dialect": writer.dialect, "columns": columns, "rows": rows, "refused": refused}


def check(writer: Writer, file: str, names: list[str], texts: list[list[str]], is_ragged: bool) -> None:
    """Stops unless pandas reads what was written. Files with a wrong number of fields are beyond it."""
    if is_ragged:
        return
    frame = pd.read_csv(
        io.BytesIO(file.encode()),
        sep=writer.dialect["fieldDelimiter"],
        quoting=csv.QUOTE_MINIMAL if writer.dialect["quoteChar"] else csv.QUOTE_NONE,
        escapechar=writer.dialect["escapeChar"] or None,
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        encoding="utf-8-sig" if file.startswith("\ufeff") else "utf-8",
        skip_blank_lines=False,
    )
    read = frame.to_numpy().tolist()
    if list(frame.columns) != names or read != texts:
        raise SystemExit(f"pandas reads something else:\n{file!r}\n{texts}\n{read}\n{writer.dialect}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("readers.ndjson"))
    arguments = parser.parse_args()
    random = Random(arguments.seed)
    cases = [case(random) for _ in range(arguments.count)]
    lines = [json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    print(f"{len(cases)} files, {sum(len(case['rows']) for case in cases)} rows, {sum(len(case['refused']) for case in cases)} refused")


if __name__ == "__main__":
    main()
