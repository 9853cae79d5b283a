"""Every DAG, run by ``dag.test()`` on a small shop with a Redis of its own."""

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from feature_repo.archive import Archive
from feature_repo.event_log import Verdict
from feature_repo.events import LoggedEvent
from feature_repo.offline_store import SHOPPER_KEY, View, read_snapshot, snapshots
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import EventType
from feature_repo.settings import Settings
from serving.live_version import current_version, read_live_bundle
from tests.dags.run_dag import DAGS
from tests.training.broken_day import append_swapped_day
from training.imports.import_log import import_log

pytestmark = [pytest.mark.slow, pytest.mark.integration]


@dataclass(frozen=True)
class Platform:
    """A shop whose DAGs can be run."""

    settings: Settings
    environment: dict[str, str]

    def run(self, dag_id: str, **conf: Any) -> dict[str, Any]:
        """State, states of the tasks and extras of the asset events of one run."""
        command = [sys.executable, "-m", "tests.dags.run_dag", dag_id, json.dumps(conf)]
        ended = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, cwd=DAGS.parent
        )
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
        return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def platform(simulated: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    home = tmp_path_factory.mktemp("platform")
    settings = Settings(home=home, redis_url=SecretStr(redis_url), redis_timeout_seconds=5)
    import_log(
        settings,
        simulated / "events.parquet",
        items=simulated / "items.parquet",
        users=simulated / "users.parquet",
        field_map=None,
        shift_to_now=True,
    )
    environment = os.environ | {
        "AIRFLOW_HOME": str(settings.airflow_dir),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "FRESHET_HOME": str(home),
        "FRESHET_REDIS_URL": redis_url,
        "FRESHET_REDIS_TIMEOUT_SECONDS": "5",
    }
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], env=environment, capture_output=True, check=True)
    return Platform(settings, environment)


def visit(item_id: str, number: int) -> LoggedEvent:
    now = time.time_ns() // 1000
    return LoggedEvent(
        event_id=f"visit-{number}",
        event_type=EventType.CLICK,
        user_id=None,
        visitor_id="newcomer",
        item_id=item_id,
        timestamp=now,
        arrival_time=now,
    )


def append(settings: Settings, events: list[LoggedEvent]) -> list[Verdict]:
    async def run() -> list[Verdict]:
        assert settings.redis_url is not None
        log = RedisEventLog.connect(settings.redis_url.get_secret_value(), settings)
        try:
            return await log.append(events)
        finally:
            await log.aclose()

    return asyncio.run(run())


def test_from_a_click_to_a_model_that_learned_from_it_and_back(platform: Platform) -> None:
    settings = platform.settings
    items = pq.read_table(settings.catalog_dir / "items.parquet")["item_id"].to_pylist()[:3]
    before = len(Archive(settings.archive_dir))
    append(settings, [visit(item, number) for number, item in enumerate(items)])

    ingested = platform.run("ingest_events")
    assert ingested["state"] == "success"
    assert ingested["assets"]["event_log"]["events"] == len(items)
    assert len(Archive(settings.archive_dir)) == before + len(items)

    built = platform.run("build_features")
    assert set(built["tasks"].values()) == {"success"}
    assert built["assets"]["quality"]["verdict"] == "passed"
    told = datetime.fromisoformat(built["assets"]["features"]["as_of"])
    as_of = (told - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    rows = read_snapshot(settings.features_dir, View.USER_STATISTICS, as_of)
    assert "v:newcomer" in rows[SHOPPER_KEY].to_pylist()
    assert built["assets"]["features"]["user_statistics"] == rows.num_rows

    tried = platform.run("train_models", epochs=1, dry_run=True)
    assert tried["assets"]["evaluation"]["gate"].endswith("there is no champion to compare with")
    assert tried["tasks"]["publish"] == "skipped"
    assert current_version(settings.models_dir) is None

    trained = platform.run("train_models", epochs=1)
    first = trained["assets"]["model"]["version"]
    assert current_version(settings.models_dir) == first
    assert "v:newcomer" in read_live_bundle(settings.models_dir).shopper_keys
    assert trained["assets"]["model"]["NDCG@10 ranked"] == trained["assets"]["evaluation"]["NDCG@10 ranked"]

    again = platform.run("train_models", epochs=1, force="to have two")
    assert again["assets"]["model"]["forced_because"] == "to have two"
    assert current_version(settings.models_dir) == again["assets"]["model"]["version"] > first

    back = platform.run("rollback_model")
    assert back["assets"]["model"] == {"version": first, "action": "rolled back"}
    assert current_version(settings.models_dir) == first


@pytest.mark.parametrize("dag_id", ["build_features", "train_models", "rollback_model"])
def test_a_mistyped_parameter_fails_the_first_task_and_does_nothing(platform: Platform, dag_id: str) -> None:
    before = current_version(platform.settings.models_dir)
    ran = platform.run(dag_id, dryrun=True)
    assert ran["state"] == "failed"
    assert set(ran["tasks"].values()) <= {"failed", "upstream_failed"}
    assert ran["assets"] == {}
    assert current_version(platform.settings.models_dir) == before


def test_a_broken_day_stops_the_features_with_its_reason_unless_forced(platform: Platform) -> None:
    settings = platform.settings
    append_swapped_day(Archive(settings.archive_dir))
    stood = snapshots(settings.features_dir, View.USER_STATISTICS)

    stopped = platform.run("build_features")
    assert stopped["state"] == "failed"
    assert stopped["tasks"]["require_quality"] == "failed"
    assert stopped["tasks"]["compute"] == "upstream_failed"
    assert stopped["assets"]["quality"]["verdict"] == "stopped"
    assert stopped["assets"]["quality"]["advice"]
    assert snapshots(settings.features_dir, View.USER_STATISTICS) == stood

    forced = platform.run("build_features", force="the partner's ids are like ours")
    assert forced["state"] == "success"
    assert "the partner's ids are like ours" in forced["assets"]["quality"]["text"]
