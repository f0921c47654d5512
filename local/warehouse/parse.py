"""Parses what the models compile to for the warehouses that are not here, by the grammars of their dialects.

It runs in the environment of `python3 -m local ddl`, which has sqlfluff.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from local.progress import Failure, step

PARSERS = 2
RULES = ("meets_its_rules", "finds_its_parents", "quarantine.sql")


def main(folder: Path) -> int:
    """`folder` has a folder for each dialect and branch, as `compile` writes them. 0 if everything can be read."""
    texts = sorted({(path.relative_to(folder).parts[0].split("-")[0], path.read_text()) for path in models(folder)})
    if len({dialect for dialect, _ in texts}) != 2:
        raise Failure(f"There is no compiled SQL of two dialects in {folder}")
    with step("Parsing the models as Snowflake and Redshift would") as s, ProcessPoolExecutor(PARSERS) as pool:
        unread = [found for found in pool.map(_unread, texts) if found]
        s.say(f"{len(texts)} texts")
    if unread:
        raise Failure("sqlfluff does not read:\n" + "\n".join(unread))
    damaged = [(dialect, text.replace("select", "selct", 1)) for dialect, text in texts[:1] + texts[-1:]]
    if not all(map(_unread, damaged)):
        raise Failure("A model with a misspelt keyword is read, so this checks nothing")
    return 0


def models(folder: Path) -> list[Path]:
    """The compiled models, the rules, and the tests of this project, without those that dbt brings."""
    return [path for path in folder.glob("*/compiled/landfall/**/*.sql") if _is_ours(path.relative_to(folder))]


def _is_ours(path: Path) -> bool:
    """Rules are the same in a first run and in a later one, and long, so one of them is enough."""
    if any(name in path.name for name in RULES):
        return path.parts[0].endswith("-False")
    return not path.parent.name.endswith(".yml")


def _unread(text: tuple[str, str]) -> str:
    from sqlfluff.core import Linter

    dialect, sql = text
    violations = Linter(dialect=dialect).parse_string(sql).violations
    first = sql.strip().splitlines()[0][:80]
    return f"{dialect}, the model that begins with {first!r}: {violations[0].desc()[:200]}" if violations else ""


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except Failure as failure:
        sys.exit(f"\n{failure}")
