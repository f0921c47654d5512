"""The commands of `python3 -m local warehouse`, in the environment that has dbt."""

import argparse
import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from local.paths import COMPILED_MODELS, LAKE, REPORT, ROOT, WAREHOUSE_FILE
from local.progress import Failure, step
from local.warehouse import check, load, masking, project, quality, report


def main() -> int:
    """Runs one command. Its exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m local warehouse")
    parser.add_argument("command", choices=("build", "check", "classified", "quality", "compare", "compile"))
    parser.add_argument("--lake", type=Path, default=LAKE)
    parser.add_argument("--browser")
    parser.add_argument("--fresh", action="store_true")
    chosen = parser.parse_args()
    try:
        match chosen.command:
            case "check":
                return check.run(chosen.browser)
            case "classified":
                project.configure(WAREHOUSE_FILE)
                masking.show(WAREHOUSE_FILE)
            case "quality":
                return quality.run()
            case "compile":
                _compile()
            case "compare":
                _build(chosen.lake, chosen.fresh)
                print(f"{check.compare(WAREHOUSE_FILE, chosen.lake):,} numbers are those of a recount in plain Python")
            case _:
                _build(chosen.lake, chosen.fresh)
                _report(chosen.lake)
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    return 0


def _build(lake: Path, fresh: bool) -> None:
    """Loads what is new and runs every model and test."""
    lake = lake.resolve()
    if not any(load.files(lake).values()):
        raise Failure(f"There are no files in {lake}: make demo brings some, and make lake those of a running stack.")
    project.configure(WAREHOUSE_FILE)
    if fresh:
        WAREHOUSE_FILE.unlink(missing_ok=True)
    _forget_another(lake)
    with project.connected(WAREHOUSE_FILE) as database:
        load.load(database, lake)
    try:
        with step("Running every model and test") as s:
            results = project.dbt("build")
            project.dbt("run-operation", "masking", "--args", "{run: true}")
            s.say(f"{len(results)} in all")
    finally:
        with project.connected(WAREHOUSE_FILE) as database:
            for line in report.broken_rules(database):
                print(line, file=sys.stderr)
    warned = [result for result in results if str(result.status) == "warn"]
    for result in warned:
        print(f"warning: {result.node.name}: {result.message}", file=sys.stderr)


def _forget_another(lake: Path) -> None:
    """Starts over if files that were loaded are gone: then this is the lake of another stack."""
    if not WAREHOUSE_FILE.is_file():
        return
    with project.connected(WAREHOUSE_FILE) as database:
        gone = load.gone(database, lake)
    if gone:
        WAREHOUSE_FILE.unlink()
        print(f"{gone:,} files that were loaded are not in the lake any more, so this begins with an empty warehouse.")


def _compile() -> None:
    """Compiles the models for the warehouses that are not here, as for a first run and as for those after it."""
    shutil.rmtree(COMPILED_MODELS, ignore_errors=True)
    project.configure(WAREHOUSE_FILE)
    os.environ["LANDFALL_MASKING_SALT"] = "of the tests"
    offline = ["--no-introspect", "--no-populate-cache"]
    with step("Compiling the models for Snowflake and Redshift") as s:
        for target in ("snowflake", "redshift"):
            for incremental in (False, True):
                s.say(f"{target}, {'incremental' if incremental else 'first'} run")
                folder = COMPILED_MODELS / f"{target}-{incremental}"
                variables = json.dumps({"assume_incremental": incremental})
                project.dbt("compile", "--target", target, *offline, "--vars", variables, "--target-path", str(folder))
            # As `run-operation` does it, which connects to Redshift before it prints.
            inline = ["compile", "--inline", "{{ masking() }}", *offline]
            command = ["run-operation", "masking"] if target == "snowflake" else inline
            printed, _, _ = project.printed(*command, "--target", target).partition("Compiled inline node")
            (COMPILED_MODELS / f"masking-{target}.sql").write_text(printed)


def _report(lake: Path) -> None:
    with step("Writing the documentation of the models"):
        project.dbt("docs", "generate", "--static")
    with project.connected(WAREHOUSE_FILE) as database:
        found = report.results(database, lake)
    made_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    report.write(found, REPORT, made_at)
    documentation = REPORT.parent / "models.html"
    shutil.copy(project.TARGET / "static_index.html", documentation)
    report.show(found, Console())
    print(f"tables   {WAREHOUSE_FILE.relative_to(ROOT)}")
    print(f"report   {REPORT.relative_to(ROOT)}")
    print(f"models   {documentation.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
