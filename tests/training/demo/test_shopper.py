"""The demo's shopper, against the API as people run it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from tests.conftest import free_port, wait_until
from tests.training.conftest import TrainedShop
from training.demo.screen import Screen
from training.demo.shopper import CLICKS, Shopper, Visit, show

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(trained: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Client of a server over the trained shop."""
    home = tmp_path_factory.mktemp("shopper") / "home"
    trained.copied_to(home)
    port = free_port()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")} | {
        "FRESHET_HOME": str(home),
        "FRESHET_PORT": str(port),
        "FRESHET_REDIS_PORT": str(free_port()),
        "FRESHET_SLATE_SECONDS": "5",
    }
    freshet = Path(sys.executable).with_name("freshet")
    with (
        subprocess.Popen([freshet, "serve"], env=variables, stderr=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        try:
            wait_until(lambda: is_ready(client), seconds=60)
            yield client
        finally:
            process.send_signal(signal.SIGTERM)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def visit(api: httpx.Client) -> Visit:
    return Shopper(api).visit()


def test_three_clicks_in_a_category_bring_more_of_it(api: httpx.Client, visit: Visit) -> None:
    categories = {Shopper(api).item(item)["category"] for item in visit.liking.clicks}
    assert categories == {visit.liking.words.removeprefix("the category ")}
    assert visit.of_kind_after > visit.of_kind_before


def test_each_click_changes_the_next_slate_at_once(visit: Visit) -> None:
    assert len(visit.milliseconds) == CLICKS
    assert max(visit.milliseconds) < 2000


def test_two_visits_are_of_two_visitors_who_begin_with_the_same_slate(
    api: httpx.Client, visit: Visit
) -> None:
    other = Shopper(api).visit()
    assert other.visitor != visit.visitor
    assert other.before.items == visit.before.items


def test_the_screen_tells_titles_and_why_each_item_is_there(api: httpx.Client, visit: Visit) -> None:
    screen = Screen(Console(file=StringIO(), width=200))
    show(visit, Shopper(api), screen)
    assert isinstance(screen.console.file, StringIO)
    shown = screen.console.file.getvalue()
    for item in (*visit.before.items, *visit.after.items):
        assert Shopper(api).item(item)["title"] in shown
    for sources in visit.after.sources:
        assert ", ".join(sources[:3]) in shown
    assert ("..." in shown) == any(
        len(sources) > 3 for sources in (*visit.before.sources, *visit.after.sources)
    )
    assert " · ".join(Shopper(api).item(item)["title"] for item in visit.liking.clicks) in shown
