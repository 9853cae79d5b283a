"""Train on the archive, evaluate by replay, and make the model live if it passes the gate."""

from typing import Any

from airflow.sdk import Param, dag, task

from dags.assets import AS_OF, EVALUATION, FEATURES, FORCE, MODEL, TASK_DEFAULTS, final, moment, require_known
from feature_repo.errors import GateRefusedError
from feature_repo.settings import Settings
from training.config import TRAINING_POOL


@task.short_circuit
def unless_dry_run(*, params: Any) -> bool:
    """Go on to the bundle, but in a dry run."""
    return not params["dry_run"]


@dag(
    schedule=[FEATURES],
    max_active_runs=1,
    params={
        "as_of": AS_OF,
        "epochs": Param(
            Settings().training_epochs,
            type="integer",
            minimum=1,
            maximum=100,
            title="Epochs",
            description="Most epochs of the embeddings.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Stop after the evaluation; nothing goes live.",
        ),
        "force": FORCE,
    },
    default_args={**TASK_DEFAULTS, "pool": TRAINING_POOL},
    tags=["freshet"],
    doc_md=__doc__,
)
def train_models() -> None:
    """Steps of one run over a frozen copy of the log."""

    @task
    def choose_moment(*, params: Any, dag: Any, triggering_asset_events: Any) -> int:
        require_known(params, dag)
        return moment(params, triggering_asset_events)

    @task
    def freeze_log(as_of: int, *, params: Any) -> str:
        from training.config import configured
        from training.pipeline import begin

        settings = Settings()
        return begin(settings, configured(settings, params["epochs"]), before=as_of).name

    @task
    def embeddings(run: str) -> str:
        from training.pipeline import learn_embeddings
        from training.training_run import TrainingRun

        learn_embeddings(TrainingRun(Settings(), run))
        return run

    @task
    def encoder(run: str) -> str:
        from training.pipeline import learn_encoder
        from training.training_run import TrainingRun

        learn_encoder(TrainingRun(Settings(), run))
        return run

    @task
    def ranker(run: str) -> str:
        from training.pipeline import learn_ranker
        from training.training_run import TrainingRun

        learn_ranker(TrainingRun(Settings(), run))
        return run

    @task(outlets=[EVALUATION])
    def evaluate(run: str, *, outlet_events: Any) -> dict[str, Any]:
        from training.pipeline import judge
        from training.training_run import TrainingRun

        outcome = judge(TrainingRun(Settings(), run))
        outlet_events[EVALUATION].extra = outcome.summary()
        return outcome.summary()

    @task
    def bundle(run: str) -> str:
        from training.pipeline import make_bundle
        from training.training_run import TrainingRun

        make_bundle(TrainingRun(Settings(), run))
        return run

    @task(outlets=[MODEL])
    def publish(run: str, *, params: Any, outlet_events: Any) -> None:
        from training.pipeline import go_live
        from training.training_run import TrainingRun

        with final(GateRefusedError):
            outcome = go_live(TrainingRun(Settings(), run), params["force"])
        outlet_events[MODEL].extra = {**outcome.summary(), "forced_because": params["force"]}

    @task
    def bring_vectors_online(as_of: int) -> dict[str, int]:
        from training.features import bring_vectors_online

        return bring_vectors_online(Settings(), as_of)

    as_of = choose_moment()
    run = ranker(encoder(embeddings(freeze_log(as_of))))
    finished = bundle(run)
    evaluate(run) >> unless_dry_run() >> finished
    publish(finished) >> bring_vectors_online(as_of)


train_models()
