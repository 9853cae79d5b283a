"""What the DAGs share: the assets that link them, parameters of their forms, the moment a run is about."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.sdk import Asset, Param
from airflow.sdk.exceptions import AirflowFailException

from feature_repo.errors import FreshetError

EVENT_LOG: Final = Asset("event_log")
QUALITY: Final = Asset("quality")
FEATURES: Final = Asset("features")
EVALUATION: Final = Asset("evaluation")
MODEL: Final = Asset("model")

AS_OF_KEY: Final = "as_of"
"""Key of an asset event's extra: the moment that its data goes up to, in ISO form."""

AS_OF: Final = Param(
    None,
    type=["null", "string"],
    format="date-time",
    title="As of",
    description="Use what happened before this time. Empty: up to what the last DAG brought, or now.",
)
FORCE: Final = Param(
    None,
    type=["null", "string"],
    minLength=3,
    maxLength=500,
    title="Force, because",
    description="Go on, or publish, although a check or the gate refuses. The reason is kept. Empty: stop.",
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

TASK_DEFAULTS: Final = {
    "owner": "freshet",
    "retries": 3,
    "retry_delay": timedelta(seconds=5),
    "execution_timeout": timedelta(hours=6),
}
"""A task may be run again at any time: it leaves what an undisturbed run leaves."""


def require_known(params: Mapping[str, Any], dag: Any) -> None:
    """Fail the task where a parameter is none of the DAG's, which Airflow lets pass: it may be a mistyped one."""
    unknown = sorted(set(params) - set(dag.params))
    if unknown:
        raise AirflowFailException(
            f"{dag.dag_id} has no parameter {', '.join(unknown)}, only {', '.join(dag.params)}"
        )


def moment(params: Mapping[str, Any], triggers: Mapping[Any, Sequence[Any]]) -> int:
    """Microseconds since 1970: the parameter, else the newest of the events that started the run, else now."""
    brought = [event.extra[AS_OF_KEY] for events in triggers.values() for event in events]
    told = [params["as_of"]] if params["as_of"] else brought
    times = [_time(text) for text in told] or [datetime.now(UTC)]
    return (max(times) - _EPOCH) // timedelta(microseconds=1)


@contextmanager
def final(decision: type[FreshetError]) -> Iterator[None]:
    """Fail the task at once where the decision is raised: tried again, it would be the same."""
    try:
        yield
    except decision as reason:
        raise AirflowFailException(str(reason)) from None


def iso(microseconds: int) -> str:
    """A moment in microseconds since 1970 as an asset event tells it."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
