"""A client of Airflow's REST API: start DAG runs, and see what became of them and of what they set off."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import orjson

from feature_repo.errors import FreshetError
from feature_repo.settings import Settings
from training.demo.credentials import USER, credentials
from training.demo.processes import airflow_url

PATIENCE_SECONDS: Final = 90.0
"""An API server that was killed answers again by then."""
_TIMEOUT_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 0.5


class AirflowError(FreshetError):
    """Airflow does not answer, or a DAG run failed."""


@dataclass(frozen=True)
class Run:
    """A run of a DAG."""

    dag: str
    id: str


@dataclass(frozen=True)
class Task:
    """A task of a run: its state in Airflow's words (None before it is scheduled) and how long it took."""

    name: str
    state: str | None
    seconds: float
    attempt: int


@dataclass(frozen=True)
class AssetEvent:
    """What a run told of an asset, and the runs that this set off."""

    asset: str
    extra: Mapping[str, Any]
    set_off: tuple[Run, ...]


class Airflow:
    """Airflow as the demo's user sees it. Requests are repeated while the API server is away."""

    def __init__(self, settings: Settings) -> None:
        self._password = credentials(settings).password
        self._logs = settings.airflow_dir.absolute() / "logs"
        self._http = httpx.Client(base_url=airflow_url(settings), timeout=_TIMEOUT_SECONDS, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def unhealthy(self) -> list[str]:
        """Names of Airflow's processes that do not report to be healthy yet."""
        try:
            reply = self._http.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return ["api_server"]
        if reply.status_code != HTTPStatus.OK:
            return ["api_server"]
        return sorted(name for name, found in reply.json().items() if found["status"] != "healthy")

    def missing(self, dags: tuple[str, ...]) -> list[str]:
        """Those of the DAGs that Airflow has not read yet. Raises AirflowError when one cannot be imported."""
        errors = self._get("/importErrors")["import_errors"]
        if errors:
            first = errors[0]
            last_line = first["stack_trace"].strip().splitlines()[-1]
            raise AirflowError(f"Airflow cannot import {first['filename']}: {last_line}")
        known = {dag["dag_id"] for dag in self._get("/dags", limit=100)["dags"]}
        return [dag for dag in dags if dag not in known]

    def make_pool(self, name: str, description: str) -> None:
        """Have a pool of one slot, unless there is one of that name."""
        pool = {"name": name, "slots": 1, "description": description}
        reply = self._request("POST", "/pools", json=pool)
        if reply.status_code != HTTPStatus.CONFLICT:
            _content(reply)

    def start(self, dag: str) -> Run:
        """Start a run. Where a scheduled one is due, Airflow starts that as soon as the DAG may run."""
        due = self._due(dag)
        self.unpause()
        if due is None:
            reply = self._request("POST", f"/dags/{dag}/dagRuns", json={"logical_date": None})
            return Run(dag, _content(reply)["dag_run_id"])
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            runs = self._get(f"/dags/{dag}/dagRuns", logical_date_gte=due, logical_date_lte=due)["dag_runs"]
            if runs:
                return Run(dag, runs[0]["dag_run_id"])
            time.sleep(_RETRY_SECONDS)
        raise AirflowError(f"{dag} is due since {due}, but Airflow does not start it: is its scheduler well?")

    def unpause(self) -> None:
        """Let every DAG run."""
        _content(self._request("PATCH", "/dags", params={"dag_id_pattern": "~"}, json={"is_paused": False}))

    def state(self, run: Run) -> str:
        """State of a run: queued, running, success or failed."""
        state: str = self._get(f"/dags/{run.dag}/dagRuns/{run.id}")["state"]
        return state

    def tasks(self, run: Run) -> list[Task]:
        """Tasks of a run, the first to start first."""
        found = self._get(f"/dags/{run.dag}/dagRuns/{run.id}/taskInstances")["task_instances"]
        found.sort(key=lambda task: (task["start_date"] or "~", task["task_id"]))
        return [
            Task(task["task_id"], task["state"], task["duration"] or 0.0, task["try_number"])
            for task in found
        ]

    def asset_events(self, run: Run) -> list[AssetEvent]:
        """What a run told of assets, oldest first."""
        events = self._get("/assets/events", source_dag_id=run.dag, source_run_id=run.id)["asset_events"]
        events.sort(key=lambda event: event["timestamp"])
        return [
            AssetEvent(
                event["name"],
                event["extra"],
                tuple(Run(made["dag_id"], made["run_id"]) for made in event["created_dagruns"]),
            )
            for event in events
        ]

    def log_path(self, run: Run, task: Task) -> Path:
        """The log of a task's newest attempt."""
        folder = self._logs / f"dag_id={run.dag}" / f"run_id={run.id}" / f"task_id={task.name}"
        return folder / f"attempt={task.attempt}.log"

    def _due(self, dag: str) -> str | None:
        """Time of the scheduled run that is due, if any."""
        found = self._get(f"/dags/{dag}")
        run_after = found["next_dagrun_run_after"]
        if run_after is None or datetime.fromisoformat(run_after) > datetime.now(UTC):
            return None
        due: str = found["next_dagrun_logical_date"]
        return due

    def _get(self, path: str, **parameters: str | int | None) -> Any:
        return _content(self._request("GET", path, params=parameters))

    def _request(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Ask until the API server answers; a token that it does not know (any more) is renewed."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                reply = self._http.request(method, f"/api/v2{path}", **content)
                if reply.status_code == HTTPStatus.UNAUTHORIZED:
                    self._log_in()
                elif reply.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                    return reply
                problem = f"{reply.status_code} {reply.text[:200]}"
            except httpx.TransportError as error:
                problem = type(error).__name__
            if time.monotonic() > deadline:
                raise AirflowError(f"{method} {self._http.base_url}/api/v2{path} is not answered: {problem}")
            time.sleep(_RETRY_SECONDS)

    def _log_in(self) -> None:
        reply = self._http.post("/auth/token", json={"username": USER, "password": self._password})
        self._http.headers["Authorization"] = f"Bearer {_content(reply)['access_token']}"


def why_it_failed(log: Path) -> str:
    """The error at which a task's log ends, or an empty text."""
    if not log.exists():
        return ""
    for line in reversed(log.read_bytes().splitlines()):
        try:
            details = orjson.loads(line).get("error_detail")
        except orjson.JSONDecodeError:
            continue
        if details:
            return f"{details[0]['exc_type']}: {details[0]['exc_value']}"
    return ""


def _content(reply: httpx.Response) -> Any:
    if reply.is_error:
        raise AirflowError(f"Airflow refused {reply.request.method} {reply.request.url}: {reply.text[:500]}")
    return reply.json()
