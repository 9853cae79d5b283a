"""The whole platform on this machine, from free ports to a live model."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Final

import httpx

from feature_repo.errors import InputError
from feature_repo.settings import Settings
from serving.access.api_keys import read_keys
from serving.live_version import current_version
from training.config import TRAINING_POOL
from training.demo.airflow_api import Airflow, AssetEvent
from training.demo.dag_chain import CHAIN, ChainFollower
from training.demo.home_lock import sole_demo
from training.demo.processes import (
    LOOPBACK,
    Process,
    api_url,
    environment,
    preparation,
    processes,
)
from training.demo.screen import Screen
from training.demo.shops import Shop
from training.demo.supervision import ProcessFailedError, Supervision, last_lines, supervised
from training.demo.supervisord_config import log_path

START_SECONDS: Final = 600.0
"""Longest that the processes may take to be healthy, on a very busy machine. One that ends is told at once."""
_UNTIL_ALL_IS_UP: Final = {"AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True"}
"""Else Airflow starts the run of the night before as soon as it has read the DAG, before it can be answered."""
_MODEL_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.5
_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Platform:
    """A running platform, and how to talk to it."""

    settings: Settings
    screen: Screen
    supervision: Supervision
    airflow: Airflow
    api: httpx.Client

    def run_dags(self, dags: Sequence[str]) -> list[AssetEvent]:
        """Start the first of the DAGs and follow it and those that it sets off; what they told of assets."""
        with self.screen.step(f"Airflow starts {dags[0]}"):
            first = self.airflow.start(dags[0])
        follower = ChainFollower(self.airflow, self.screen, self.supervision.require_running)
        return follower.follow(first, dags)

    def make_model_live(self) -> list[AssetEvent]:
        """Have the DAGs train a model, unless one is live; what they told of assets."""
        live = current_version(self.settings.models_dir)
        if live is not None:
            self.screen.say(f"model {live} is live already")
            self.airflow.unpause()
            told = []
        else:
            told = self.run_dags(CHAIN)
        with self.screen.step("the API answers with the model") as show:
            self._wait(self._missing_model, _MODEL_SECONDS, show)
        return told

    def wait_until_healthy(self) -> None:
        """Return when every process answers and every DAG is known."""
        with self.screen.step("processes start") as show:
            self._wait(self._missing, START_SECONDS, show)
            self.airflow.make_pool(TRAINING_POOL, "one training at a time")

    def _missing(self) -> list[str]:
        missing = self.airflow.unhealthy()
        if not missing:
            missing = [f"DAG {dag}" for dag in self.airflow.missing(CHAIN)]
        if not self._api_answers("/healthz"):
            missing.append("api")
        return missing

    def _missing_model(self) -> list[str]:
        return [] if self._api_answers("/readyz") else ["the model in the api"]

    def _api_answers(self, path: str) -> bool:
        try:
            return self.api.get(path).status_code == HTTPStatus.OK
        except httpx.TransportError:
            return False

    def _wait(
        self, find_missing: Callable[[], list[str]], seconds: float, show: Callable[[str], None]
    ) -> None:
        deadline = time.monotonic() + seconds
        while missing := ", ".join(find_missing()):
            show(f"waiting for {missing}")
            self.supervision.require_running()
            if time.monotonic() > deadline:
                raise ProcessFailedError(
                    f"all processes run, but after {seconds:.0f} s this is still missing: {missing}. "
                    f"Their logs are in {self.settings.logs_dir}; on a busy machine, try again"
                )
            time.sleep(_POLL_SECONDS)


@contextmanager
def running_platform(shop: Shop, screen: Screen) -> Iterator[Platform]:
    """The platform over a shop, which is imported first if its home is empty; it ends with the context.

    From here on SIGTERM and the end of the terminal raise KeyboardInterrupt, as Ctrl-C does.
    Raises InputError when another demo has the home, the API asks for keys or a port is taken, ProcessFailedError
    when a command or a process fails.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    settings = shop.settings
    with sole_demo(settings.home):
        require_open_api(settings)
        require_free_ports(processes(settings))
        variables = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        variables |= environment(settings) | _UNTIL_ALL_IS_UP
        _prepare(shop, variables, screen)
        with (
            supervised(
                processes(settings), variables, settings.logs_dir.absolute(), screen.say
            ) as supervision,
            Airflow(settings) as airflow,
            httpx.Client(base_url=api_url(settings), timeout=_TIMEOUT_SECONDS, trust_env=False) as api,
        ):
            platform = Platform(settings, screen, supervision, airflow, api)
            platform.wait_until_healthy()
            yield platform


def _prepare(shop: Shop, variables: Mapping[str, str], screen: Screen) -> None:
    """Import the shop and set Airflow up, unless that was done before."""
    settings = shop.settings
    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    if not _is_imported(settings):
        for arguments in shop.commands:
            _run(Process(arguments[0], ("freshet", *arguments)), variables, settings.logs_dir, screen)
    prepared = settings.airflow_dir / f"prepared-{version('apache-airflow')}"
    if not prepared.exists():
        _run(preparation(), variables, settings.logs_dir, screen)
        prepared.touch()


def require_open_api(settings: Settings) -> None:
    """Raise InputError where the API asks for keys: the demo's shopper has none."""
    if settings.api_keys_required or read_keys(settings.api_keys_path) is not None:
        raise InputError(
            f"the API of {settings.home} asks for keys, and the demo's shopper has none: set FRESHET_HOME to "
            "another folder for the demo, and do not set FRESHET_API_KEYS_REQUIRED"
        )


def require_free_ports(wanted: Sequence[Process]) -> None:
    """Raise InputError, naming ports, processes and settings, when a port cannot be had."""
    taken = [
        f"port {port.number} is taken, and {process.name} needs it: end what listens there, or set "
        f"{port.setting} to a free port"
        for process in wanted
        for port in process.ports
        if not _is_free(port.number)
    ]
    if taken:
        raise InputError("\n".join(taken))


def _is_free(port: int) -> bool:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True


def _is_imported(settings: Settings) -> bool:
    """An import writes its report last."""
    return any(settings.imports_dir.glob("*/report.json"))


def _run(process: Process, variables: Mapping[str, str], logs: Path, screen: Screen) -> None:
    """Run a command to its end. Raises ProcessFailedError with the end of its output."""
    path = log_path(logs, process.name)
    with screen.step(" ".join(process.command[:3])), path.open("wb") as log:
        done = subprocess.run(  # noqa: S603
            process.arguments,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
    if done.returncode:
        raise ProcessFailedError(f"{' '.join(process.command)} failed; its output ends\n{last_lines(path)}")
