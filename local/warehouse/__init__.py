"""`make warehouse`: the files of the lake become tables in an embedded DuckDB, by the models in `warehouse/`.

It runs in an environment of its own, so only the standard library here.
"""

import subprocess
import sys
from pathlib import Path

from local import clients, environment
from local.paths import (
    AIRFLOW_REQUIREMENTS,
    AIRFLOW_VENV,
    COMPILED_MODELS,
    DDL_REQUIREMENTS,
    DDL_VENV,
    FAKESNOW_REQUIREMENTS,
    FAKESNOW_VENV,
    ROOT,
    WAREHOUSE_REQUIREMENTS,
    WAREHOUSE_VENV,
)


def run(*arguments: str) -> int:
    """Runs `python -m local.warehouse` with these arguments. Its exit code."""
    return subprocess.run([ensure(), "-m", "local.warehouse", *arguments], check=False, cwd=ROOT).returncode


def ensure() -> Path:
    """The Python of the environment, which is installed when it is missing."""
    return environment.ensure(WAREHOUSE_VENV, WAREHOUSE_REQUIREMENTS, "Installing dbt, DuckDB and plotly", "--no-deps")


def test() -> int:
    """The tests of the models, whether the other warehouses would read them and what sets them up, and Airflow its DAG. 0 if all pass."""
    found = clients.browser()
    if found is None:
        print("The report was not opened, because there is no Chromium: make test installs one.")
    return (
        _unit_tests()
        or run("check", *(["--browser", found] if found else []))
        or run("quality")
        or run("compile")
        or _parse("parse")
        or _parse("statements")
        or _execute_on_fakesnow()
        or airflow(only_import=True)
    )


def airflow(only_import: bool = False) -> int:
    """The DAG: that Airflow reads it, and unless only that is asked for, its runs and mails. 0 if all is as it should be."""
    python = ensure()
    runner = environment.ensure(AIRFLOW_VENV, AIRFLOW_REQUIREMENTS, "Installing Airflow", "--no-deps")
    arguments = [runner, "-m", "local.warehouse.dag", str(python), *(["import"] if only_import else [])]
    return subprocess.run(arguments, check=False, cwd=ROOT).returncode


def _unit_tests() -> int:
    arguments = [ensure(), "-m", "unittest", "local.warehouse.masking_test"]
    return subprocess.run(arguments, check=False, cwd=ROOT).returncode


def _execute_on_fakesnow() -> int:
    if sys.version_info < (3, 11):
        print("The statements for Snowflake were not executed: fakesnow needs Python 3.11.")
        return 0
    python = environment.ensure(FAKESNOW_VENV, FAKESNOW_REQUIREMENTS, "Installing fakesnow", "--no-deps")
    return subprocess.run([python, "-m", "local.warehouse.fake"], check=False, cwd=ROOT).returncode


def _parse(module: str) -> int:
    """Runs a module in the environment of the parsers, with the folder that `compile` wrote."""
    parser = environment.ensure(DDL_VENV, DDL_REQUIREMENTS, "Installing sqlfluff and sqlglot", "--no-deps")
    arguments = [parser, "-m", f"local.warehouse.{module}", str(COMPILED_MODELS)]
    return subprocess.run(arguments, check=False, cwd=ROOT).returncode
