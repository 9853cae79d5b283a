"""Above so many requests in work the surplus is told to come back, at once, and nothing else changes."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from feature_repo.event_log import Verdict
from feature_repo.events import LoggedEvent
from feature_repo.settings import Settings
from serving.error_replies import RETRY_SECONDS
from tests.serving.conftest import Api, BreakableLog, click, logged, running_api

pytestmark = pytest.mark.anyio

MOST = 3
PATIENCE = 10
"""Seconds after which what should be answered at once never will be."""


class SlowLog(BreakableLog):
    """A log that takes events when the test lets it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.may_append = asyncio.Event()
        self.waiting = 0

    async def append(self, events: Sequence[LoggedEvent]) -> list[Verdict]:
        self.waiting += 1
        await self.may_append.wait()
        return await super().append(events)


@pytest.fixture
async def slow_log(api_settings: Settings) -> SlowLog:
    return SlowLog(api_settings)


@pytest.fixture
async def api(api_settings: Settings, slow_log: SlowLog) -> AsyncIterator[Api]:
    """A server that works on MOST requests at once."""
    limited = api_settings.model_copy(update={"max_concurrent_requests": MOST})
    async with running_api(limited, slow_log) as running:
        yield running


async def send(api: Api, number: int) -> tuple[int, str | None]:
    """Status and Retry-After of a click's way into the log."""
    events = [click("kettle", event_id=f"{number:02}")]
    reply = await api.client.post("/v1/events", json={"events": events})
    return reply.status_code, reply.headers.get("Retry-After")


async def filled(api: Api, log: SlowLog) -> list[asyncio.Task[tuple[int, str | None]]]:
    """So many requests in work that there is room for no other."""
    tasks = [asyncio.create_task(send(api, number)) for number in range(MOST)]
    async with asyncio.timeout(PATIENCE):
        while log.waiting < MOST:
            await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize("surplus", [0, 1, 7])
async def test_exactly_the_surplus_is_refused_and_what_was_let_in_is_answered(
    api: Api, slow_log: SlowLog, surplus: int
) -> None:
    accepted = await filled(api, slow_log)
    async with asyncio.timeout(PATIENCE):
        refused = await asyncio.gather(*(send(api, number) for number in range(MOST, MOST + surplus)))
    assert refused == [(503, str(RETRY_SECONDS))] * surplus
    assert not any(task.done() for task in accepted)
    assert await api.metric('freshet_turned_away_total{why="busy"}') == surplus
    slow_log.may_append.set()
    assert await asyncio.gather(*accepted) == [(200, None)] * MOST
    assert [event.event_id for event in await logged(slow_log)] == ["00", "01", "02"]


async def test_a_refusal_says_what_is_full_and_what_to_do(api: Api, slow_log: SlowLog) -> None:
    accepted = await filled(api, slow_log)
    reply = await api.client.get("/v1/items/kettle")
    assert reply.json() == {
        "detail": "the server works on 3 requests, the most at once (FRESHET_MAX_CONCURRENT_REQUESTS): "
        "try again after Retry-After"
    }
    slow_log.may_append.set()
    await asyncio.gather(*accepted)


async def test_a_full_server_tells_its_health_and_its_metrics(api: Api, slow_log: SlowLog) -> None:
    accepted = await filled(api, slow_log)
    assert (await api.client.get("/healthz")).status_code == 200
    assert (await api.client.get("/readyz")).json()["event_log"] == "available"
    assert await api.metric("freshet_requests_in_work") == MOST
    slow_log.may_append.set()
    await asyncio.gather(*accepted)
    assert await api.metric("freshet_requests_in_work") == 0


async def test_whatever_ends_a_request_makes_room(api: Api, slow_log: SlowLog) -> None:
    accepted = await filled(api, slow_log)
    accepted[0].cancel()
    await asyncio.gather(accepted[0], return_exceptions=True)
    slow_log.away = True
    slow_log.may_append.set()
    assert await asyncio.gather(*accepted[1:]) == [(503, "1")] * 2
    slow_log.away = False
    assert await asyncio.gather(*(send(api, number) for number in range(MOST))) == [(200, None)] * MOST
    assert await api.metric("freshet_requests_in_work") == 0
