"""The models of the warehouse, every hour: freshness → run → test → docs → notify.

It reads from the environment of Airflow's workers and of its DAG processor:

    LANDFALL_MAIL_TO     who gets a mail when a task has failed for the last time; several with commas between them
    LANDFALL_DBT         the program dbt, which has to be in an environment of its own (default: the dbt on the PATH)
    LANDFALL_PROJECT     the folder of the dbt project (default: the one above this file)
    LANDFALL_RETRIES     how often a task is tried again (default: 3)

and what profiles.yml reads. Mails go through the connection `smtp_default`.
"""

import os
import shlex
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset

if not os.environ.get("LANDFALL_MAIL_TO"):
    raise ValueError("LANDFALL_MAIL_TO is not set: it says who gets a mail when the warehouse could not be built.")

MAIL_TO = [address.strip() for address in os.environ["LANDFALL_MAIL_TO"].split(",")]
DBT = os.environ.get("LANDFALL_DBT", "dbt")
PROJECT = Path(os.environ.get("LANDFALL_PROJECT", Path(__file__).resolve().parent.parent))
RETRIES = int(os.environ.get("LANDFALL_RETRIES", "3"))

# The unit tests are written for DuckDB, and say nothing about the data.
STEPS = {
    "freshness": ["source", "freshness"],
    "run": ["run"],
    "test": ["test", "--exclude-resource-type", "unit_test"],
    "docs": ["docs", "generate"],
}

with DAG(
    dag_id="landfall_warehouse",
    description="From the raw tables to marts.",
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    # Models are incremental: a run takes all that is new, so there is nothing to catch up on, and two must not overlap.
    catchup=False,
    max_active_runs=1,
    # Longer than all tries of all steps: a run that it ends sends no mail, and a task that takes too long does.
    dagrun_timeout=timedelta(hours=2 * len(STEPS) * (RETRIES + 1)),
    default_args={
        "retries": RETRIES,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=15),
        "execution_timeout": timedelta(hours=1),
        "on_failure_callback": SmtpNotifier(
            to=MAIL_TO,
            subject="Landfall: the step {{ ti.task_id }} of the warehouse failed",
            html_content=(
                "<p>The step <b>{{ ti.task_id }}</b> of {{ dag.dag_id }} failed in its try {{ ti.try_number }}, "
                "and what comes after it was not begun.</p><p>Run {{ run_id }}.</p>"
            ),
        ),
    },
    tags=["landfall", "dbt"],
) as dag:
    before = None
    for name, arguments in STEPS.items():
        step = BashOperator(
            task_id=name,
            bash_command=shlex.join([DBT, *arguments, "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]),
            cwd=str(PROJECT),
            append_env=True,
        )
        if before is not None:
            before >> step
        before = step
    # A DAG with the schedule [Asset("landfall_warehouse")] runs whenever the marts are new.
    before >> EmptyOperator(task_id="notify", outlets=[Asset("landfall_warehouse")])
