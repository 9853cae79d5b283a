"""A running platform that the tests of this folder share."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx
import pyarrow.compute as pc
import pytest
from redis import Redis

from feature_repo.archive import Archive
from feature_repo.schema import Event
from feature_repo.settings import Settings
from tests.conftest import free_port, wait_until
from tests.platform.host import UP
from training.demo.airflow_api import Airflow, Run
from training.demo.processes import api_url, environment
from training.demo.supervisord_config import log_path

ROOT: Final = Path(__file__).parents[2]
PORTS: Final = (
    "redis_port",
    "airflow_port",
    "airflow_task_log_port",
    "airflow_trigger_log_port",
    "stream_metrics_port",
    "port",
)
SUPERVISORD: Final = "supervisord"
ENDED: Final = ("success", "failed")
PATIENCE: Final = 600.0
"""Seconds for what takes half a minute on a quiet machine."""
POLL: Final = 0.5
"""Seconds between questions to a server that has better things to do."""


@dataclass(frozen=True)
class LivePlatform:
    """The platform in a process of its own, and how a shop and a person reach it."""

    settings: Settings
    process: "subprocess.Popen[bytes]"
    screen: Path  # what the process has said
    airflow: Airflow
    api: httpx.Client

    def said(self) -> list[str]:
        """The lines on the screen so far."""
        return self.screen.read_text().splitlines()

    def pid(self, name: str) -> int:
        """Process id of a process of the platform, or of supervisord itself."""
        folder = self.settings.logs_dir
        if name == SUPERVISORD:
            return int((folder / "supervisord.pid").read_text())
        started = re.findall(rf"spawned: '{name}' with pid (\d+)", log_path(folder, SUPERVISORD).read_text())
        return int(started[-1])

    def pause(self, dag: str, *, paused: bool) -> None:
        """Let Airflow start no run of a DAG, or let it start them."""
        self.airflow._request("PATCH", f"/dags/{dag}", json={"is_paused": paused}).raise_for_status()

    def is_paused(self, dag: str) -> bool:
        """Whether Airflow starts no run of a DAG."""
        return bool(self.airflow._request("GET", f"/dags/{dag}").raise_for_status().json()["is_paused"])

    def trigger(self, dag: str, **params: Any) -> Run:
        """Start a run with these parameters."""
        body = {"logical_date": None, "conf": params}
        reply = self.airflow._request("POST", f"/dags/{dag}/dagRuns", json=body).raise_for_status()
        return Run(dag, reply.json()["dag_run_id"])

    def wait_for_end(self, run: Run) -> str:
        """The state in which the run has ended, waited for: success or failed."""
        wait_until(lambda: self.airflow.state(run) in ENDED, PATIENCE, POLL)
        return self.airflow.state(run)

    def click(self, visitor: str) -> bool:
        """Have a visitor click an item; whether the API has acknowledged it."""
        event = {Event.TYPE: "click", Event.VISITOR: visitor, Event.ITEM: "i000001"}
        return self._answers("/v1/events", {"events": [event]})

    def recommends(self) -> bool:
        """Whether the API answers a request for a slate."""
        return self._answers("/v1/recommendations", {"visitor_id": "anna", "k": 5})

    def archived(self, visitor: str) -> int:
        """Events of a visitor in the archive."""
        events = Archive(self.settings.archive_dir).read(columns=[Event.VISITOR])
        return int(pc.sum(pc.equal(events[Event.VISITOR], visitor)).as_py() or 0)

    def is_written(self) -> bool:
        """Whether Redis has handed all that it acknowledged to the operating system."""
        with Redis(port=self.settings.redis_port) as redis:
            state = redis.info("persistence")
        return not state["aof_buffer_length"] and not state["aof_pending_bio_fsync"]

    def _answers(self, path: str, body: dict[str, Any]) -> bool:
        try:
            return self.api.post(path, json=body).status_code == HTTPStatus.OK
        except httpx.TransportError:
            return False


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivePlatform]:
    """The platform with a live model; each DAG is paused until a test starts it."""
    home = tmp_path_factory.mktemp("platform")
    settings = Settings(home=home, redis_url=None, redis_timeout_seconds=5).model_copy(
        update={name: free_port() for name in PORTS}
    )
    screen = home / "screen.txt"
    with ExitStack() as stack:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.platform.host"],
            env=os.environ | environment(settings),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stack.enter_context(screen.open("wb")),
            stderr=subprocess.STDOUT,
        )
        stack.callback(process.wait)
        stack.callback(process.send_signal, signal.SIGTERM)
        platform = LivePlatform(
            settings,
            process,
            screen,
            stack.enter_context(Airflow(settings)),
            stack.enter_context(httpx.Client(base_url=api_url(settings), timeout=10, trust_env=False)),
        )
        wait_until(lambda: UP in platform.said() or process.poll() is not None, PATIENCE, POLL)
        assert process.poll() is None, screen.read_text()
        yield platform
