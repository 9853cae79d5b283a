"""Carry out erasures and move what the event log holds into the archive, every night or when asked to.

What was served is forgotten after its time, and the files of finished days are merged.
"""

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, dag, task

from dags.assets import AS_OF_KEY, EVENT_LOG, TASK_DEFAULTS, iso
from feature_repo.settings import Settings


@dag(
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    tags=["freshet"],
    doc_md=__doc__,
)
def ingest_events() -> None:
    """Drain the log; an event that is brought twice stands in the archive once."""

    @task
    def erase() -> dict[str, int]:
        from training.erase import erase

        return {store.value: count for store, count in erase(Settings()).items()}

    @task(outlets=[EVENT_LOG])
    def drain(*, outlet_events: Any) -> dict[str, int]:
        from training.ingest import ingest

        ingested = ingest(Settings())
        outlet_events[EVENT_LOG].extra = {"events": ingested.events, AS_OF_KEY: iso(ingested.until)}
        return {"events": ingested.events}

    @task
    def merge() -> dict[str, int]:
        from training.served_merge import merge_served

        return {"merged": merge_served(Settings())}

    erase() >> drain() >> merge()


ingest_events()
