"""``make image-check``: build both images of docker/Dockerfile and prove that they work.

The API's image serves a tiny model against a Redis of this machine: it becomes ready and healthy, takes a click and
answers a slate that follows it. Airflow's image finds every DAG. docs/docker.md says what has to be there.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from rich.console import Console

from feature_repo.schema import Event, EventType
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis
from tests.conftest import free_port, wait_until
from tests.container_engine import ROOT, Engine, EngineError, container_engine
from tests.tiny_bundle import NEIGHBOURS, publish, tiny_bundle

START_SECONDS = 120
STOP_SECONDS = 30
FOUND_DAGS = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag("/app/dags")
print(json.dumps([sorted(bag.dags), bag.import_errors]))
"""

console = Console(highlight=False, markup=False, soft_wrap=True)


class CheckError(Exception):
    """An image does not do what it should."""


def main() -> int:
    """Build and check both images, and say what each step took; 0 when they work."""
    try:
        console.print("looking for an engine and a base image, which buildah may have to make first")
        with container_engine() as engine:
            console.print(
                f"images by {type(engine).__name__}, on {engine.base or 'the base of the Dockerfile'}"
            )
            for target in ("api", "airflow"):
                with _step(f"{target}: built"):
                    engine.build(target)
                with _step(f"{target}: runs as a user without rights"):
                    _check_user(engine, target)
            with _step("api: ready, healthy, and its slate follows a click"):
                _check_api(engine)
            with _step("airflow: the locked version, and every DAG"):
                _check_airflow(engine)
    except (CheckError, EngineError, TimeoutError) as error:
        console.print(f"FAILED {error}")
        return 1
    return 0


@contextmanager
def _step(fact: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(fact):
        yield
    console.print(f"ok     {fact} ({time.monotonic() - started:.0f} s)")


def _check_user(engine: Engine, target: str) -> None:
    if _output(engine.run(target, "id", "--user")) == "0":
        raise CheckError(f"{target} runs as root")


def _check_api(engine: Engine) -> None:
    with TemporaryDirectory(prefix="freshet-home-") as folder:
        settings = Settings(home=Path(folder), redis_url=None, redis_port=free_port(), port=free_port())
        publish(settings.models_dir, tiny_bundle())
        with embedded_redis(settings) as url:
            variables = ("--env", f"FRESHET_PORT={settings.port}", "--env", f"FRESHET_REDIS_URL={url}")
            models = ("--volume", f"{settings.models_dir}:/app/var/models:ro")
            served = engine.run("api", "freshet", "serve", options=(*variables, *models))
            with _served(served, settings.port, Path(folder) / "api.log") as client:
                _check_slate(client)
                _output(engine.run("api", *engine.health_check("api"), options=variables))


@contextmanager
def _served(command: list[str], port: int, log: Path) -> Iterator[httpx.Client]:
    """Client of an API that runs while the context lasts."""
    with log.open("wb") as stream, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
        try:
            wait_until(lambda: process.poll() is not None or _is_ready(client), START_SECONDS)
            if process.poll() is not None:
                raise CheckError(f"the API ended:\n{log.read_text()}")
            yield client
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def _check_slate(client: httpx.Client) -> None:
    clicked, neighbours = next(iter(NEIGHBOURS.items()))
    click = {Event.TYPE: EventType.CLICK, Event.VISITOR: "anna", Event.ITEM: clicked}
    client.post("/v1/events", json={"events": [click]}).raise_for_status()
    reply = client.post(
        "/v1/recommendations", json={"visitor_id": "anna", "k": len(neighbours)}
    ).raise_for_status()
    slate = [item["item_id"] for item in reply.json()["items"]]
    if slate != list(neighbours):
        raise CheckError(f"after a click on {clicked} the slate is {slate}, and should be {list(neighbours)}")


def _check_airflow(engine: Engine) -> None:
    locked = version("apache-airflow")
    if (found := _output(engine.run("airflow", "airflow", "version"))) != locked:
        raise CheckError(f"airflow is {found}, and should be {locked}")
    dags, errors = json.loads(_output(engine.run("airflow", "python", "-c", FOUND_DAGS)))
    expected = sorted(path.stem for path in (ROOT / "dags").glob("*.py") if "@dag(" in path.read_text())
    if errors or dags != expected:
        raise CheckError(f"airflow finds the DAGs {dags} of {expected}; errors: {errors}")


def _output(command: list[str]) -> str:
    """Last line that a command prints; CheckError when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip().rpartition("\n")[2]


if __name__ == "__main__":
    sys.exit(main())
