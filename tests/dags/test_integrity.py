"""The DAG files as Airflow's parser sees them."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.dags.run_dag import DAGS

HEAVY = (
    "duckdb",
    "feast",
    "implicit",
    "lightgbm",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "pandera",
    "pyarrow",
    "redis",
    "scipy",
    "sklearn",
    "torch",
)
DESCRIBE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
sys.stdout.write("\\n" + json.dumps({
    "errors": bag.import_errors,
    "heavy": sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[2].split(","))),
    "dags": {
        dag_id: {
            "doc": dag.doc_md,
            "params": {
                name: {**param.schema, "description": param.description} for name, param in dag.params.items()
            },
            "retries": {task.task_id: task.retries for task in dag.tasks},
            "pools": {task.task_id: task.pool for task in dag.tasks},
            "max_active_runs": dag.max_active_runs,
        } for dag_id, dag in bag.dags.items()
    },
}, default=str))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that only parses the DAG files finds."""
    home = {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [sys.executable, "-c", DESCRIBE, str(DAGS), ",".join(HEAVY)]
    output = subprocess.run(command, env=os.environ | home, capture_output=True, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def test_every_dag_file_parses_and_names_its_dag(parsed: dict[str, Any]) -> None:
    files = {path.stem for path in DAGS.glob("*.py")} - {"__init__", "assets"}
    assert parsed["errors"] == {}
    assert (
        set(parsed["dags"]) == files == {"ingest_events", "build_features", "train_models", "rollback_model"}
    )


def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    assert parsed["heavy"] == []


def test_every_parameter_tells_its_type_and_meaning(parsed: dict[str, Any]) -> None:
    params = {name: schema for dag in parsed["dags"].values() for name, schema in dag["params"].items()}
    assert set(params) == {"as_of", "force", "epochs", "dry_run", "version"}
    assert [
        name for name, schema in params.items() if "type" not in schema or not schema["description"]
    ] == []
    assert (params["epochs"]["minimum"], params["epochs"]["maximum"]) == (1, 100)


def test_what_uses_all_cores_waits_for_the_one_slot_of_the_training_pool(parsed: dict[str, Any]) -> None:
    pools = {
        task: pool
        for dag in ("build_features", "train_models")
        for task, pool in parsed["dags"][dag]["pools"].items()
    }
    heavy = {
        "check_quality",
        "compute",
        "materialize",
        "freeze_log",
        "embeddings",
        "encoder",
        "ranker",
        "evaluate",
        "bundle",
    }
    assert {pools[task] for task in heavy} == {"training"}


def test_a_task_is_tried_again_unless_it_would_do_more_the_second_time(
    parsed: dict[str, Any],
) -> None:
    retries = {task: n for dag in parsed["dags"].values() for task, n in dag["retries"].items()}
    assert [task for task, n in retries.items() if n == 0] == ["roll_back"]
    assert {dag["max_active_runs"] for dag in parsed["dags"].values()} == {1}


def test_what_was_decided_fails_the_task_without_another_try() -> None:
    script = (
        "from airflow.sdk.exceptions import AirflowFailException; from dags.assets import final;"
        "from feature_repo.errors import GateRefusedError, QualityError\n"
        "try:\n"
        "    with final(GateRefusedError): raise GateRefusedError('worse')\n"
        "except AirflowFailException as failure: print('failed:', failure)\n"
        "try:\n"
        "    with final(GateRefusedError): raise QualityError('broken')\n"
        "except QualityError: print('tried again')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=DAGS.parent
    )
    assert ran.stdout.splitlines()[-2:] == ["failed: worse", "tried again"], ran.stderr


ASKED = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOLD = datetime(2026, 3, 2, 0, 0, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("as_of", "told", "expected"),
    [
        (ASKED.isoformat(), [TOLD], ASKED),
        ("2026-03-01T13:00:00+01:00", [], ASKED),
        ("2026-03-01T12:00:00", [], ASKED),
        (None, [ASKED, TOLD, ASKED], TOLD),
    ],
)
def test_a_run_is_about_the_moment_asked_for_or_else_the_newest_that_it_was_told(
    as_of: str | None, told: list[datetime], expected: datetime
) -> None:
    """In a process of its own, since Airflow makes a folder for its state when it is imported."""
    microseconds = int(expected.timestamp() * 1e6)
    events = [{"as_of": text} for text in map(datetime.isoformat, told)]
    script = (
        "import json, sys; from types import SimpleNamespace; from dags.assets import iso, moment;"
        "as_of, told = json.loads(sys.argv[1]);"
        "found = moment({'as_of': as_of}, {'asset': [SimpleNamespace(extra=extra) for extra in told]});"
        "assert iso(found) == sys.argv[2], iso(found); print(found)"
    )
    command = [sys.executable, "-c", script, json.dumps([as_of, events]), expected.isoformat()]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=DAGS.parent)
    assert ran.stdout.split()[-1:] == [str(microseconds)], ran.stderr
