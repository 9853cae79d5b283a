"""Check the newest day of the log, then compute the batch features, keep them offline and bring them online."""

from typing import Any

from airflow.sdk import dag, task

from dags.assets import (
    AS_OF,
    AS_OF_KEY,
    EVENT_LOG,
    FEATURES,
    FORCE,
    QUALITY,
    TASK_DEFAULTS,
    final,
    iso,
    moment,
    require_known,
)
from feature_repo.errors import QualityError
from feature_repo.settings import Settings
from training.config import TRAINING_POOL


@dag(
    schedule=[EVENT_LOG],
    max_active_runs=1,
    params={"as_of": AS_OF, "force": FORCE},
    default_args=TASK_DEFAULTS,
    tags=["freshet"],
    doc_md=__doc__,
)
def build_features() -> None:
    """A moment's features depend on the log before it alone: built again, they are the same files."""

    @task
    def choose_moment(*, params: Any, dag: Any, triggering_asset_events: Any) -> int:
        require_known(params, dag)
        return moment(params, triggering_asset_events)

    @task(outlets=[QUALITY], pool=TRAINING_POOL)
    def check_quality(as_of: int, *, params: Any, outlet_events: Any) -> dict[str, Any]:
        from training.log_checks import check_day

        report = check_day(Settings(), as_of, force=params["force"])
        outlet_events[QUALITY].extra = report.summary()
        return report.summary()

    @task
    def require_quality(report: dict[str, Any]) -> None:
        from training.log_checks import require_passed

        with final(QualityError):
            require_passed(report)

    @task(pool=TRAINING_POOL)
    def compute(as_of: int) -> dict[str, int]:
        from training.features import build_features

        return build_features(Settings(), as_of)

    @task(outlets=[FEATURES], pool=TRAINING_POOL)
    def materialize(as_of: int, rows: dict[str, int], *, outlet_events: Any) -> None:
        from training.features import bring_online

        bring_online(Settings(), as_of)
        outlet_events[FEATURES].extra = {**rows, AS_OF_KEY: iso(as_of)}

    as_of = choose_moment()
    rows = compute(as_of)
    require_quality(check_quality(as_of)) >> rows
    materialize(as_of, rows)


build_features()
