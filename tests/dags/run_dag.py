"""Run one DAG by ``dag.test()`` in a process of its own and print what came of it: ``run_dag.py DAG_ID CONF``.

The last line is JSON: the run's state, each task's state, and the extra of each asset event.
"""

import json
import sys
from pathlib import Path
from typing import Any

DAGS = Path(__file__).parents[2] / "dags"


def run(dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
    """State and traces of one run."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select

    dag = DagBag(DAGS).get_dag(dag_id)
    result = dag.test(run_conf=conf)
    with create_session() as session:
        events = session.scalars(select(AssetEvent).where(AssetEvent.source_run_id == result.run_id))
        extras = {event.asset.name: event.extra for event in events}
        tasks = {task.task_id: str(task.state) for task in result.get_task_instances(session=session)}
    return {"state": str(result.state), "tasks": tasks, "assets": extras}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(sys.argv[1], json.loads(sys.argv[2]))))
