"""Slates by their deadline: whatever hangs, fails or takes long, there is an answer, and it says what it lacks."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from serving import retrieval
from serving.in_time.attempt import Hurried, Pace, Rung
from serving.in_time.breakers import MOST_MISSES, Breakers
from serving.in_time.deadlines import Deadlines
from serving.in_time.workers import MOST_STUCK, Workers
from serving.metrics import Metrics
from serving.query import Query, Slate
from serving.recommender import Recommender
from serving.sources.source import Retrieved
from tests.serving.conftest import Api, click, item_ids
from tests.serving.tiny_shopper import TINY, shopper

pytestmark = pytest.mark.anyio

SECONDS = 0.2
"""Of an attempt that is going to be late."""


@contextmanager
def broken(source: str, instead: Callable[..., Retrieved]) -> Iterator[None]:
    """While open, the source does something else."""
    retrievers: Any = retrieval.RETRIEVERS
    whole = retrievers[source]
    retrievers[source] = instead
    try:
        yield
    finally:
        retrievers[source] = whole


class Hanging:
    """A source that does not come back before it is let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.let_go = threading.Event()

    def __call__(self, *_: object) -> Retrieved:
        self.asked += 1
        self.let_go.wait()
        return Retrieved(np.zeros(0, np.int32), np.zeros(0, np.float32))


def fails(*_: object) -> Retrieved:
    """A source with an error in it."""
    raise ZeroDivisionError


async def slate(deadlines: Deadlines, seconds: float) -> tuple[Slate, list[str]]:
    """What a shopper who viewed the kettle gets within some seconds."""
    query = Query(shopper=shopper("kettle"), k=3)
    return await deadlines.recommend(Recommender(TINY, 10), query, time.monotonic() + seconds)


@pytest.fixture
def breakers() -> Breakers:
    """Breakers that are all closed."""
    return Breakers()


@pytest.fixture
def deadlines(breakers: Breakers) -> Deadlines:
    """The slates of a server that just started."""
    return Deadlines(breakers, Metrics())


async def test_in_time_a_slate_is_that_of_the_recommender(deadlines: Deadlines) -> None:
    query = Query(shopper=shopper("kettle"), k=3)
    [whole] = Recommender(TINY, 10).recommend([query])
    found, left_out = await slate(deadlines, 30)
    assert (found.ranked_by, left_out) == (Rung.RANKERS, [])
    np.testing.assert_array_equal(found.items, whole.items)
    np.testing.assert_array_equal(found.scores, whole.scores)


async def test_a_source_that_hangs_costs_its_findings_and_no_more_than_the_time(deadlines: Deadlines) -> None:
    hanging = Hanging()
    with broken("random_walk", hanging):
        started = time.monotonic()
        found, left_out = await slate(deadlines, SECONDS)
        took = time.monotonic() - started
        hanging.let_go.set()
    assert SECONDS <= took < SECONDS + 5  # the margin is for a machine that others use, too
    assert found.ranked_by == Rung.NEIGHBOURS
    assert "random_walk" in left_out
    assert "covisitation" not in left_out
    assert found.items.size == 3


async def test_a_source_that_goes_on_hanging_is_left_alone(deadlines: Deadlines, breakers: Breakers) -> None:
    hanging = Hanging()
    with broken("random_walk", hanging):
        for _ in range(MOST_MISSES):
            await slate(deadlines, SECONDS)
        found, left_out = await slate(deadlines, 30)
        hanging.let_go.set()
    assert hanging.asked == MOST_MISSES
    assert (found.ranked_by, left_out) == (Rung.RANKERS, ["random_walk"])
    assert breakers.open() == ["random_walk"]


async def test_a_source_that_fails_is_left_out_alone(
    deadlines: Deadlines, caplog: pytest.LogCaptureFixture
) -> None:
    with broken("covisitation", fails):
        found, left_out = await slate(deadlines, 30)
    assert (found.ranked_by, left_out) == (Rung.RANKERS, ["covisitation"])
    assert "covisitation failed" in caplog.text


async def test_the_list_that_hung_is_not_asked_again_for_the_stopgap(deadlines: Deadlines) -> None:
    hanging = Hanging()
    with broken("covisitation", hanging):
        found, left_out = await slate(deadlines, SECONDS)
        assert hanging.asked == 1
        hanging.let_go.set()
    assert found.ranked_by == Rung.NEIGHBOURS
    assert "covisitation" in left_out
    assert "random_walk" not in left_out


async def test_without_time_from_the_start_a_slate_is_made_of_lists(deadlines: Deadlines) -> None:
    found, _ = await slate(deadlines, 0)
    assert found.ranked_by == Rung.NEIGHBOURS
    assert found.items.size == 3
    stranger = Query(shopper=shopper(), k=3)
    popular, _ = await deadlines.recommend(Recommender(TINY, 10), stranger, time.monotonic())
    assert popular.ranked_by == Rung.POPULAR
    assert [TINY.item_ids[item] for item in popular.items] == ["mug", "kettle", "lamp"]


@pytest.mark.parametrize(
    ("left", "rung"),
    [(1.1, Rung.RANKERS), (0.9, Rung.FIRST_TREES), (0.3, Rung.FIRST_TREES), (0.1, Rung.NEIGHBOURS)],
)
def test_the_less_time_is_left_for_ranking_the_lower_is_the_rung(left: float, rung: Rung) -> None:
    pace = Pace()
    pace.seconds = 1.0
    attempt = Hurried(100.0, Breakers(), pace, Metrics().stage_took, clock=lambda: 100.0 - left)
    assert attempt.rank(lambda _: [])[0] == rung


def test_when_time_is_up_the_sources_that_are_left_are_not_asked() -> None:
    now = [0.0]
    attempt = Hurried(1.0, Breakers(), Pace(), Metrics().stage_took, clock=lambda: now[0])

    def slow() -> Retrieved:
        now[0] = 2.0
        return Retrieved(np.ones(1, np.int32), np.ones(1, np.float32))

    assert attempt.ask("content", slow).items.tolist() == [1]
    assert attempt.ask("popular", slow).items.size == 0
    assert attempt.left_out == ["popular"]


def test_when_time_is_up_before_any_source_was_asked_the_attempt_is_over() -> None:
    attempt = Hurried(1.0, Breakers(), Pace(), Metrics().stage_took, clock=lambda: 1.0)
    with pytest.raises(TimeoutError):
        attempt.ask("content", Hanging())


async def test_threads_that_are_stuck_are_bounded_and_come_back() -> None:
    workers, hanging = Workers(), Hanging()
    for _ in range(MOST_STUCK):
        with pytest.raises(TimeoutError):
            await workers.run(hanging, time.monotonic() + 0.01)
    with pytest.raises(TimeoutError):
        await workers.run(lambda: "not begun", time.monotonic() + 30)
    assert hanging.asked == MOST_STUCK
    hanging.let_go.set()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await workers.run(lambda: "done", time.monotonic() + 30) == "done"
                break
            except TimeoutError:
                await asyncio.sleep(0.005)


async def test_an_error_of_the_work_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        await Workers().run(fails, time.monotonic() + 30)
    with pytest.raises(RuntimeError, match="StopIteration"):  # which no future can hold
        await Workers().run(lambda: next(iter(())), time.monotonic() + 30)


async def test_threads_end_with_the_server_and_one_that_hangs_when_it_comes_back() -> None:
    workers, hanging = Workers(), Hanging()
    threads: list[threading.Thread] = []

    def hang() -> None:
        threads.append(threading.current_thread())
        hanging()

    with pytest.raises(TimeoutError):
        await workers.run(hang, time.monotonic() + SECONDS)
    free = await workers.run(threading.current_thread, time.monotonic() + 30)
    workers.close()
    free.join(20)
    [stuck] = threads
    assert (free.is_alive(), stuck.is_alive()) == (False, True)
    hanging.let_go.set()
    stuck.join(20)
    assert not stuck.is_alive()


async def test_what_a_slate_lacks_is_said_and_counted(api: Api) -> None:
    await api.send(click("kettle"))
    with broken("covisitation", fails):
        reply = await api.recommend(visitor_id="vera", k=2)
    assert (reply["degraded"], reply["ranked_by"]) == (["covisitation"], "rankers")
    assert len(item_ids(reply)) == 2
    assert await api.metric('freshet_degraded_total{what="covisitation"}') == 1
    assert await api.metric('freshet_slates_total{ranked_by="rankers"}') == 1
    assert await api.metric("freshet_breakers_open") == 0
