"""The DAG of the warehouse, tested with Airflow and a mail server in this process. It runs in an environment that has both.

    python -m local.warehouse.dag PYTHON [import]

PYTHON is that of the environment that has dbt. With `import`, only what does not run: that Airflow reads the DAG.
"""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from local.paths import LOGS, ROOT, WAREHOUSE
from local.progress import Failure, step

DAGS = WAREHOUSE / "airflow"
NAME = "landfall_warehouse"
ORDER = ["freshness", "run", "test", "docs", "notify"]
MAIL_TO = "data@example.com,oncall@example.com"

READ_DAG = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
found = {"errors": list(bag.import_errors.values()), "dags": {}}
for name, dag in bag.dags.items():
    tasks = [
        {
            "name": task.task_id,
            "before": sorted(task.upstream_task_ids),
            "retries": task.retries,
            "backoff": task.retry_exponential_backoff,
            "pause_s": task.retry_delay.total_seconds(),
            "mails": len(task.on_failure_callback),
        }
        for task in dag.topological_sort()
    ]
    found["dags"][name] = {"tasks": tasks, "runs": dag.max_active_runs, "catchup": dag.catchup, "schedule": dag.timetable.expression}
json.dump(found, open(sys.argv[2], "w"))
"""


class Mails:
    """Takes every mail."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[str], str]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """What aiosmtpd calls."""
        self.taken.append((envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


def main(python: str, only_import: bool) -> int:
    """0 if everything is as it should be."""
    folder = Path(tempfile.mkdtemp(prefix="landfall-airflow-"))
    mails = Mails()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(mails, hostname="127.0.0.1", port=port)
    server.start()
    try:
        environment = _environment(folder, python, port)
        _read(folder, environment)
        if not only_import:
            _runs(folder, environment, python, mails)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print("airflow: the DAG is read" + ("" if only_import else ", runs, and sends one mail for what fails"))
    return 0


def _environment(folder: Path, python: str, port: int) -> dict[str, str]:
    connection = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": port,
        "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.com"},
    }
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(connection),
        "LANDFALL_MAIL_TO": MAIL_TO,
        "LANDFALL_DBT": str(Path(python).parent / "dbt"),
        "LANDFALL_RETRIES": "0",
        "LANDFALL_WAREHOUSE": str(folder / "warehouse.duckdb"),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "dbt-logs"),
        "DO_NOT_TRACK": "1",
    }


def _read(folder: Path, environment: Mapping[str, str]) -> None:
    with step("Reading the DAG as Airflow does"):
        defaults = {name: value for name, value in environment.items() if name != "LANDFALL_RETRIES"}
        found = _dag(folder, defaults)
        addressless = _dag(folder, {name: value for name, value in defaults.items() if name != "LANDFALL_MAIL_TO"})
    if found["errors"] or list(found["dags"]) != [NAME]:
        raise Failure(f"Airflow does not read the DAG: {found}")
    dag = found["dags"][NAME]
    tasks = dag["tasks"]
    in_a_row = [(name, ORDER[max(at - 1, 0) : at]) for at, name in enumerate(ORDER)]
    _expect("tasks", [(task["name"], task["before"]) for task in tasks], in_a_row)
    _expect("runs at a time, catchup, schedule", (dag["runs"], dag["catchup"], dag["schedule"]), (1, False, "0 * * * *"))
    for task in tasks:
        retried = (task["retries"], task["pause_s"], task["backoff"], task["mails"])
        _expect(f"retries of {task['name']}", retried, (3, 60.0, 2.0, 1))
    if addressless["dags"] or "LANDFALL_MAIL_TO is not set" not in str(addressless["errors"]):
        raise Failure(f"Airflow reads a DAG that could send no mail: {addressless}")


def _dag(folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    written = folder / "dag.json"
    _call([sys.executable, "-c", READ_DAG, str(DAGS), str(written)], environment, "dag")
    return json.loads(written.read_text())


def _runs(folder: Path, environment: Mapping[str, str], python: str, mails: Mails) -> None:
    with step("Making a database for Airflow"):
        _call(["airflow", "db", "migrate"], environment, "migrate")
    fill = [python, "-m", "local.warehouse.quality", environment["LANDFALL_WAREHOUSE"], str(folder / "lake")]
    with step("A run of the DAG on correct orders"):
        _call([*fill, "0"], environment, "fill")
        states = _run(environment)
    _expect("a run on correct orders", states, dict.fromkeys(ORDER, "success"))
    _expect("mails of a run that passes", mails.taken, [])
    if not (folder / "target" / "catalog.json").is_file():
        raise Failure("A run of the DAG made no documentation")
    with step("A run of the DAG on orders of which too many have no number"):
        _call([*fill, "10"], environment, "fill-more")
        states = _run(environment)
    after = {"docs": "upstream_failed", "notify": "upstream_failed"}
    _expect("a run that a rule stops", states, {"freshness": "success", "run": "success", "test": "failed", **after})
    ((recipients, mail),) = mails.taken or [([], "")]
    _expect("who gets the mail", recipients, MAIL_TO.split(","))
    if "Subject: Landfall: the step test of the warehouse failed" not in mail.replace("\n ", " "):
        raise Failure(f"The mail does not say what failed: {mail[:500]}")


def _run(environment: Mapping[str, str]) -> dict[str, str]:
    """Runs the DAG once. The state of each task afterwards."""
    _call(["airflow", "dags", "test", NAME], environment, "run", check=False)
    with closing(sqlite3.connect(Path(environment["AIRFLOW_HOME"]) / "airflow.db")) as database:
        newest = "select run_id from dag_run order by id desc limit 1"
        return dict(database.execute(f"select task_id, state from task_instance where run_id = ({newest})").fetchall())


def _call(arguments: list[str], environment: Mapping[str, str], log: str, check: bool = True) -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"airflow-{log}.log"
    with path.open("w") as file:
        done = subprocess.run(arguments, check=False, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    if check and done.returncode:
        end = "\n".join(path.read_text().splitlines()[-20:])
        raise Failure(f"{Path(arguments[0]).name} ended with code {done.returncode}:\n{end}\nAll of it: {path.relative_to(ROOT)}")


def _expect(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise Failure(f"Airflow: {what} should be {expected} and is {found}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], "import" in sys.argv[2:]))
    except Failure as failure:
        sys.exit(f"\n{failure}")
