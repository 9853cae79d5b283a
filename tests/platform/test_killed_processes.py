"""Each process of the platform killed in turn, a training killed on its way, and at last the platform itself."""

import os
import shutil
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from feature_repo.settings import Settings
from serving.bundle_files import read_manifest
from tests.conftest import wait_until
from tests.platform.conftest import PATIENCE, POLL, SUPERVISORD, LivePlatform
from training.config import configured
from training.demo.airflow_api import Run
from training.demo.platform import require_free_ports
from training.demo.processes import processes
from training.pipeline import train
from training.publish import evaluation_dir

pytestmark = [pytest.mark.slow, pytest.mark.integration]

NAMES = [process.name for process in processes(Settings())]
EPOCHS = 10


@pytest.fixture(scope="module", autouse=True)
def runs_of_their_own(live: LivePlatform) -> None:
    """The DAGs that the tests start set off no others."""
    live.pause("build_features", paused=True)
    for dag in ("ingest_events", "train_models"):
        live.pause(dag, paused=False)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("name", [*NAMES, SUPERVISORD])
def test_a_killed_process_comes_back_in_one_line_and_no_event_is_lost(live: LivePlatform, name: str) -> None:
    shopper = f"shopper-of-{name}"
    before = len(live.said())
    assert live.click(shopper)
    wait_until(live.is_written, PATIENCE, POLL)  # on a busy disk a reply may come two seconds before
    kill(live.pid(name))
    if name == "api":
        assert "api_server" not in live.airflow.unhealthy()
    elif name != SUPERVISORD:
        assert live.recommends()
    if name == "airflow-api-server":
        assert live.airflow.unhealthy() == ["api_server"]

    comes_back = "all processes started again" if name == SUPERVISORD else "started again"
    line = f"{name} ended (killed by SIGKILL); {comes_back}"
    wait_until(lambda: line in live.said(), PATIENCE, POLL)
    wait_until(lambda: not live.airflow.unhealthy() and live.recommends(), PATIENCE, POLL)
    wait_until(lambda: live.click(shopper), PATIENCE, POLL)
    assert live.wait_for_end(live.trigger("ingest_events")) == "success"
    assert live.archived(shopper) == 2
    assert live.said()[before:] == [line]


def task_process(live: LivePlatform, run: Run, task: str) -> int:
    """Process id of a task of a run, waited for until it runs."""
    path = f"/dags/{run.dag}/dagRuns/{run.id}/taskInstances/{task}"

    def found() -> dict[str, object]:
        return live.airflow._get(path)

    wait_until(lambda: found()["state"] == "running" and found()["pid"], PATIENCE, POLL)
    return int(str(found()["pid"]))


def undisturbed(live: LivePlatform, home: Path, as_of: datetime) -> Path:
    """The model, with its twin, that an undisturbed training makes of the log before a moment."""
    for name in ("archive", "catalog", "quality"):
        with suppress(FileNotFoundError):
            shutil.copytree(live.settings.home / name, home / name)
    settings = Settings(home=home, redis_url=None)
    outcome = train(settings, configured(settings, EPOCHS), before=round(as_of.timestamp() * 1e6))
    return home / "models" / outcome.version


def checksums(model: Path) -> list[dict[str, str]]:
    """Of all that a model and its twin are made of."""
    twin = evaluation_dir(model.parent, model.name)
    return [dict(read_manifest(folder).checksums) for folder in (model, twin)]


def test_a_training_whose_task_and_whose_scheduler_are_killed_makes_the_undisturbed_model(
    live: LivePlatform, tmp_path: Path
) -> None:
    as_of = datetime.now(UTC)
    expected = checksums(undisturbed(live, tmp_path, as_of))
    run = live.trigger("train_models", as_of=as_of.isoformat(), epochs=EPOCHS, force="not to be compared")
    begun = time.time()
    embeddings = task_process(live, run, "embeddings")
    scalars = live.settings.runs_dir.rglob
    wait_until(
        lambda: any(file.stat().st_mtime > begun for file in scalars("events.out.tfevents*")), PATIENCE
    )
    kill(embeddings)
    task_process(live, run, "ranker")
    kill(live.pid("airflow-scheduler"))
    assert live.wait_for_end(run) == "success"
    attempts = {task.name: task.attempt for task in live.airflow.tasks(run)}
    assert min(attempts["embeddings"], attempts["ranker"]) > 1
    (version,) = (
        event.extra["version"] for event in live.airflow.asset_events(run) if event.asset == "model"
    )
    assert checksums(live.settings.models_dir / version) == expected


def test_nothing_outlives_a_platform_that_is_killed(live: LivePlatform) -> None:
    family = psutil.Process(live.process.pid).children(recursive=True)
    assert len(family) > len(NAMES)
    live.process.kill()
    _, left = psutil.wait_procs(family, timeout=PATIENCE)
    assert left == []
    require_free_ports(processes(live.settings))
