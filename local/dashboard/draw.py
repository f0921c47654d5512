"""Draws docs/dashboard.svg: the dashboard of the template, with a made-up day in it."""

import subprocess

from local import environment
from local.paths import DASHBOARD_PICTURE, DASHBOARD_REQUIREMENTS, DASHBOARD_VENV, ROOT
from local.progress import Failure, step


def run() -> int:
    """Draws it. The same template gives the same file."""
    python = environment.ensure(DASHBOARD_VENV, DASHBOARD_REQUIREMENTS, "Installing Matplotlib", "--no-deps")
    with step(f"Drawing {DASHBOARD_PICTURE.relative_to(ROOT)}"):
        draw = [python, "-m", "local.dashboard.picture", DASHBOARD_PICTURE]
        done = subprocess.run(draw, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"The dashboard could not be drawn:\n{done.stderr}")
    return 0
