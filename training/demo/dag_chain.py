"""The runs of DAGs that one trigger sets off, followed task by task."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from training.demo.airflow_api import Airflow, AirflowError, AssetEvent, Run, Task, why_it_failed
from training.demo.screen import Screen

CHAIN: Final = ("ingest_events", "build_features", "train_models")
"""DAGs of which each starts the next through an asset."""

_POLL_SECONDS: Final = 1.0
_SET_OFF_SECONDS: Final = 60.0
"""Airflow starts the run that an asset event sets off by then."""
_RETRIED: Final = "up_for_retry"
_ENDED: Final = ("success", "failed", "skipped", "upstream_failed", "removed")


class ChainFollower:
    """Follows runs on a screen. ``require_running`` raises when the platform itself has failed."""

    def __init__(self, airflow: Airflow, screen: Screen, require_running: Callable[[], None]) -> None:
        self._airflow = airflow
        self._screen = screen
        self._require_running = require_running

    def follow(self, first: Run, dags: Sequence[str]) -> list[AssetEvent]:
        """Wait for a run of ``dags[0]`` and for those of the others that it sets off, one after another.

        Returns what they told of assets. Raises AirflowError, with the task and its log, when one fails.
        """
        told: list[AssetEvent] = []
        run = first
        for place, _ in enumerate(dags):
            self._follow(run)
            told.extend(self._airflow.asset_events(run))
            if place + 1 < len(dags):
                run = self._set_off_by(run, dags[place + 1])
        return told

    def _follow(self, run: Run) -> None:
        with self._screen.step(run.dag) as show:
            shown: set[str] = set()
            while (state := self._airflow.state(run)) not in _ENDED:
                self._show(self._airflow.tasks(run), shown, show)
                self._require_running()
                time.sleep(_POLL_SECONDS)
            tasks = self._airflow.tasks(run)
            self._show(tasks, shown, show)
            if state == "failed":
                raise AirflowError(self._failure(run, tasks))

    def _show(self, tasks: Sequence[Task], shown: set[str], show: Callable[[str], None]) -> None:
        """A line for each attempt at a task that has ended since; what goes on in the status."""
        for task in tasks:
            attempt = f"{task.name} {task.attempt}"
            if task.state in (*_ENDED, _RETRIED) and attempt not in shown:
                shown.add(attempt)
                self._screen.say(f"    {task.name:<24} {task.seconds:6.1f} s  {task.state}")
        running = [task.name for task in tasks if task.state not in (None, *_ENDED)]
        show(", ".join(running) or "waiting to be scheduled")

    def _failure(self, run: Run, tasks: Sequence[Task]) -> str:
        failed = next((task for task in tasks if task.state == "failed"), None)
        if failed is None:
            return f"{run.dag} failed, run {run.id}: Airflow's UI shows why"
        log = self._airflow.log_path(run, failed)
        return f"{run.dag} failed in its task {failed.name}: {why_it_failed(log)}; its log is {log}"

    def _set_off_by(self, run: Run, dag: str) -> Run:
        deadline = time.monotonic() + _SET_OFF_SECONDS
        while time.monotonic() < deadline:
            for event in self._airflow.asset_events(run):
                for made in event.set_off:
                    if made.dag == dag:
                        return made
            self._require_running()
            time.sleep(_POLL_SECONDS)
        raise AirflowError(f"{run.dag} ended, but Airflow did not start {dag} after it: is the DAG paused?")
