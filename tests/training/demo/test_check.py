"""The real demo, checked as people check it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from tests.conftest import free_port
from training.demo.processes import processes

pytestmark = [pytest.mark.slow, pytest.mark.integration]

FRESHET = Path(sys.executable).with_name("freshet")
CHECK_SECONDS = 900


def test_the_demo_keeps_its_promises_and_leaves_nothing_behind() -> None:
    """On the simulated shop; ``make demo CHECK=1 DATA=NAME`` does the same on a real one."""
    settings = [port.setting for process in processes(Settings()) for port in process.ports]
    variables = os.environ | {setting: str(free_port()) for setting in settings}
    done = subprocess.run(
        [FRESHET, "demo", "--check"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=CHECK_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
