"""From a shop's files to a slate that a click changes, through the commands and the server that people run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from feature_repo.schema import Event
from serving.bundle import Bundle
from serving.live_version import read_live_bundle
from tests.conftest import free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.integration]

FRESHET = Path(sys.executable).with_name("freshet")
MAPS = Path(__file__).parent.parent / "training" / "maps"
REAL_SHOPS = {
    "online_retail": "transactions_train.parquet",
    "retailrocket_mb": "events_train.parquet",
    "bol_clicks": "events_train.parquet",
}

LIGHTLY = {"FRESHET_TRAINING_EXAMPLES": "60000", "FRESHET_TRAINING_REQUESTS": "3000"}
"""What a training does is the same, only less of it."""
PATIENTLY = {"FRESHET_SLATE_SECONDS": "5"}
"""A slate is what it is on a machine of its own."""


@dataclass(frozen=True)
class Shop:
    """A trained shop: its home, and the commands' environment."""

    home: Path
    environment: dict[str, str]

    @classmethod
    def at(cls, home: Path) -> "Shop":
        ports = {"FRESHET_PORT": str(free_port()), "FRESHET_REDIS_PORT": str(free_port())}
        return cls(home, {**os.environ, "FRESHET_HOME": str(home), **ports, **LIGHTLY, **PATIENTLY})

    def run(self, *command: str | Path) -> str:
        done = subprocess.run(
            [FRESHET, *command], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def bundle(self) -> Bundle:
        return read_live_bundle(self.home / "models")

    @contextmanager
    def server(self) -> Iterator[httpx.Client]:
        process = subprocess.Popen([FRESHET, "serve"], env=self.environment, stderr=subprocess.DEVNULL)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{self.environment['FRESHET_PORT']}") as client:
                wait_until(lambda: process.poll() is None and is_ready(client), seconds=60)
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def slate(client: httpx.Client, visitor: str) -> list[str]:
    reply = post(client, "/v1/recommendations", {"visitor_id": visitor, "k": 20})
    return [item["item_id"] for item in reply["items"]]


def click(client: httpx.Client, visitor: str, items: list[str]) -> None:
    for item in items:
        event = {Event.TYPE: "click", Event.VISITOR: visitor, Event.ITEM: item}
        post(client, "/v1/events", {"events": [event]})


def similar_items(bundle: Bundle) -> list[int]:
    """A popular item, and the two that shoppers meet with it most, that met many others themselves."""
    neighbours = bundle.covisited.items
    popular = next(item for item in bundle.popularity.items if (neighbours[item, :20] >= 0).all())
    return [int(popular), *map(int, neighbours[popular, :2])]


def mean_covisitation(bundle: Bundle, shown: list[str], clicked: list[int]) -> float:
    """Mean score of the shown items among the neighbours of the clicked ones, 0 for those that are none."""
    codes = np.array([bundle.item_index[item] for item in shown])
    rows, places = np.nonzero(np.isin(bundle.covisited.items[clicked], codes))
    return float(bundle.covisited.scores[clicked][rows, places].sum() / (codes.size * len(clicked)))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop.at(tmp_path_factory.mktemp("simulated"))
    folder = shop.home / "simulated"
    shop.run("simulate", "--events", "60000", "--users", "2000", "--items", "1000")
    shop.run(
        "import", "--events", folder / "events.parquet", "--items", folder / "items.parquet", "--shift-to-now"
    )
    shop.run("train", "--epochs", "3")
    return shop


def test_three_clicks_in_a_category_bring_more_of_it_in_the_very_next_answer(simulated: Shop) -> None:
    bundle = simulated.bundle()
    category = bundle.items.category
    leaf = np.bincount(category[bundle.popularity.items[:200]]).argmax()
    clicked = [int(item) for item in bundle.popularity.items if category[item] == leaf][:3]
    with simulated.server() as client:
        before = slate(client, "newcomer")
        click(client, "newcomer", [bundle.item_ids[item] for item in clicked])
        after = slate(client, "newcomer")

    def in_leaf(shown: list[str]) -> int:
        return sum(category[bundle.item_index[item]] == leaf for item in shown)

    assert in_leaf(after) > in_leaf(before)


def test_what_the_server_took_is_in_the_archive_after_ingest_and_learned_from(simulated: Shop) -> None:
    with simulated.server() as client:
        item = str(simulated.bundle().item_ids[0])
        click(client, "archived-visitor", [item])
        simulated.run("ingest")
    simulated.run("train", "--epochs", "1", "--force", "the test trains less")
    assert "v:archived-visitor" in simulated.bundle().shopper_index


@pytest.mark.parametrize("name", REAL_SHOPS)
def test_a_real_shop_imports_trains_serves_and_its_slates_follow_three_clicks(
    name: str, tmp_path: Path
) -> None:
    if "FRESHET_DATA" not in os.environ:
        pytest.skip("FRESHET_DATA does not name the folder of real shops' logs")
    shop = Shop.at(tmp_path)
    log = Path(os.environ["FRESHET_DATA"]) / name / REAL_SHOPS[name]
    shop.run("import", "--events", log, "--map", MAPS / f"{name}.yaml", "--shift-to-now")
    shop.run("train", "--epochs", "2")
    bundle = shop.bundle()
    clicked = similar_items(bundle)
    with shop.server() as client:
        before = slate(client, "newcomer")
        click(client, "newcomer", [bundle.item_ids[item] for item in clicked])
        after = slate(client, "newcomer")
    assert after != before
    assert mean_covisitation(bundle, after, clicked) > mean_covisitation(bundle, before, clicked)
