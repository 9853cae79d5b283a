"""Make an earlier model live again; servers change over within seconds."""

from typing import Any

from airflow.sdk import Param, dag, task

from dags.assets import MODEL, TASK_DEFAULTS, require_known
from feature_repo.settings import Settings


@dag(
    schedule=None,
    max_active_runs=1,
    params={
        "version": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{8}T\d{12}Z$",
            title="Version",
            description="Version as `freshet models` lists it. Empty: the one that was live before.",
        )
    },
    default_args=TASK_DEFAULTS,
    tags=["freshet"],
    doc_md=__doc__,
)
def rollback_model() -> None:
    """Takes back a publication; the model that was live stays and can be published again."""

    @task(outlets=[MODEL], retries=0)
    def roll_back(*, params: Any, dag: Any, outlet_events: Any) -> dict[str, str]:
        from training.publish import rollback

        require_known(params, dag)
        version = rollback(Settings().models_dir, params["version"])
        outlet_events[MODEL].extra = {"version": version, "action": "rolled back"}
        return {"version": version}

    roll_back()


rollback_model()
