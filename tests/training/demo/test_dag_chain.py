"""Following the runs that one trigger sets off, on an Airflow whose answers are known."""

from io import StringIO
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from feature_repo.settings import Settings
from training.demo import dag_chain
from training.demo.airflow_api import Airflow, AirflowError, AssetEvent, Run, Task, why_it_failed
from training.demo.dag_chain import ChainFollower
from training.demo.screen import Screen

FIRST, SECOND = Run("ingest_events", "manual"), Run("build_features", "set off")


class KnownAirflow(Airflow):
    """Each run has a list of moments, each a state of the run and of its tasks; the last one stays."""

    def __init__(self, settings: Settings, moments: dict[Run, list[tuple[str, list[Task]]]]) -> None:
        super().__init__(settings)
        self._moments = moments
        self._place = dict.fromkeys(moments, 0)

    def state(self, run: Run) -> str:
        return self._moments[run][self._place[run]][0]

    def tasks(self, run: Run) -> list[Task]:
        tasks = self._moments[run][self._place[run]][1]
        self._place[run] = min(self._place[run] + 1, len(self._moments[run]) - 1)
        return tasks

    def asset_events(self, run: Run) -> list[AssetEvent]:
        if run == FIRST:
            return [AssetEvent("event_log", {"events": 3}, (SECOND,))]
        return [AssetEvent("features", {"rows": 7}, ())]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_chain, "_POLL_SECONDS", 0.0)


@pytest.fixture
def shown() -> StringIO:
    return StringIO()


@pytest.fixture
def screen(shown: StringIO) -> Screen:
    return Screen(Console(file=shown, width=120))


def test_a_chain_ends_with_its_last_run_and_every_attempt_is_told_once(
    settings: Settings, screen: Screen, shown: StringIO
) -> None:
    airflow = KnownAirflow(
        settings,
        {
            FIRST: [
                ("queued", []),
                ("running", [Task("drain", "running", 0.0, 1)]),
                ("running", [Task("drain", "up_for_retry", 1.5, 1)]),
                ("running", [Task("drain", "running", 0.0, 2)]),
                ("success", [Task("drain", "success", 2.5, 2)]),
            ],
            SECOND: [("success", [Task("compute", "success", 4.0, 1), Task("force", "skipped", 0.0, 1)])],
        },
    )
    told = ChainFollower(airflow, screen, lambda: None).follow(FIRST, ["ingest_events", "build_features"])
    assert [(event.asset, event.extra) for event in told] == [
        ("event_log", {"events": 3}),
        ("features", {"rows": 7}),
    ]
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines() if line.startswith("    ")]
    assert lines == [
        "drain 1.5 s up_for_retry",
        "drain 2.5 s success",
        "compute 4.0 s success",
        "force 0.0 s skipped",
    ]


def test_a_failed_run_names_the_task_its_error_and_its_log(settings: Settings, screen: Screen) -> None:
    tasks = [Task("check_quality", "failed", 1.0, 4), Task("compute", "upstream_failed", 0.0, 0)]
    airflow = KnownAirflow(settings, {FIRST: [("failed", tasks)]})
    log = airflow.log_path(FIRST, tasks[0])
    log.parent.mkdir(parents=True)
    log.write_bytes(
        orjson.dumps(
            {"event": "Task failed", "error_detail": [{"exc_type": "QualityError", "exc_value": "bad"}]}
        )
    )
    with pytest.raises(AirflowError) as failed:
        ChainFollower(airflow, screen, lambda: None).follow(FIRST, ["ingest_events"])
    assert str(failed.value) == (
        f"ingest_events failed in its task check_quality: QualityError: bad; its log is {log}"
    )


def test_a_platform_that_fails_is_not_waited_for(settings: Settings, screen: Screen) -> None:
    def require_running() -> None:
        raise AirflowError("airflow-scheduler ends as soon as it is started")

    airflow = KnownAirflow(settings, {FIRST: [("queued", [])]})
    with pytest.raises(AirflowError, match="airflow-scheduler ends"):
        ChainFollower(airflow, screen, require_running).follow(FIRST, ["ingest_events"])


def test_a_log_without_an_error_gives_no_reason(tmp_path: Path) -> None:
    log = tmp_path / "attempt=1.log"
    assert why_it_failed(log) == ""
    log.write_text('{"event": "started"}\nnot JSON\n')
    assert why_it_failed(log) == ""
