"""The tests of the Spark job in `glue/`, with Spark on this machine and the S3 of the emulator."""

import os
import shutil
import sys

from local import emulator, environment
from local.command import run_shown
from local.paths import GLUE_REQUIREMENTS, GLUE_VENV, ROOT
from local.progress import Failure

# Those of Glue 5.0 and 5.1.
PYTHON = (3, 11)


def run() -> int:
    """0 when they pass, or when there is nothing to run them with, which is said."""
    if "JAVA_HOME" not in os.environ and shutil.which("java") is None:
        return _skipped("there is no java on the PATH. On Debian: apt-get install openjdk-17-jre-headless")
    if sys.version_info[:2] < PYTHON:
        return _skipped("Spark on Glue has Python {}.{}, and this is {}.{}".format(*PYTHON, *sys.version_info))
    try:
        python = environment.ensure(GLUE_VENV, GLUE_REQUIREMENTS, "Installing Spark (500 MB)", "--no-deps")
    except Failure as failure:
        return _skipped(f"Spark cannot be installed. {failure}")
    keep_emulator = emulator.running() is not None
    folder = ROOT / "glue"
    variables = {
        "AWS_ENDPOINT_URL_S3": emulator.ensure().endpoint_url,
        "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "tests")]),
        "PYSPARK_PYTHON": str(python),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    try:
        return run_shown([python, "-m", "unittest", "test_ingest"], variables)
    finally:
        if not keep_emulator:
            emulator.stop()


def _skipped(reason: str) -> int:
    print(f"The Spark job in glue/ was not tested: {reason}")
    return 0
