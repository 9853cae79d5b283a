"""The API over a real Redis that goes away and comes back, without a restart of the server."""

import os
import shutil
import signal
from itertools import count
from pathlib import Path

import pytest
from redis import Redis

from feature_repo.archive import Archive
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import Event
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis
from tests.conftest import free_port
from tests.serving.conftest import Api, Fields, click, item_ids, running_api
from training.stream.consumer import Consumer
from training.stream.groups import groups

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def redis_settings(tiny_models: Path, tmp_path: Path) -> Settings:
    """Settings of the tiny shop with a Redis of its own."""
    settings = Settings(
        home=tmp_path, redis_url=None, redis_port=free_port(), redis_timeout_seconds=1, slate_seconds=2
    )
    shutil.copytree(tiny_models, settings.models_dir)
    return settings


async def degrades(api: Api) -> None:
    """What holds while Redis is away."""
    reply = await api.recommend(visitor_id="vera", k=2)
    assert (reply["degraded"], item_ids(reply)) == (["session_window"], ["mug", "kettle"])
    response = await api.client.post("/v1/events", json={"events": [click("lamp")]})
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    ready = await api.client.get("/readyz")
    assert (ready.status_code, ready.json()["event_log"]) == (200, "unavailable")


async def test_a_redis_that_is_stopped_and_started_again_is_used_again(redis_settings: Settings) -> None:
    url = f"redis://127.0.0.1:{redis_settings.redis_port}"
    async with running_api(redis_settings, RedisEventLog.connect(url, redis_settings)) as api:
        await degrades(api)  # not there yet
        with embedded_redis(redis_settings):
            await api.send(click("kettle"))
            assert item_ids(await api.recommend(visitor_id="vera", k=2)) == ["teapot", "mug"]
        await degrades(api)
        with embedded_redis(redis_settings):
            reply = await api.recommend(visitor_id="vera", k=2)
            assert (reply["degraded"], item_ids(reply)) == ([], ["teapot", "mug"])
            await api.send(click("lamp"))
            assert item_ids(await api.recommend(visitor_id="vera", k=2)) == ["bulb", "shade"]


async def test_a_redis_that_hangs_degrades_answers_until_it_goes_on(redis_settings: Settings) -> None:
    with embedded_redis(redis_settings) as url:
        with Redis.from_url(url) as client:
            pid = int(client.info()["process_id"])
        async with running_api(redis_settings, RedisEventLog.connect(url, redis_settings)) as api:
            await api.send(click("kettle"))
            os.kill(pid, signal.SIGSTOP)
            try:
                await degrades(api)
            finally:
                os.kill(pid, signal.SIGCONT)
            reply = await api.recommend(visitor_id="vera", k=2)
            assert reply["degraded"] == []


async def fill(api: Api) -> tuple[set[str], list[Fields]]:
    """Send clicks until they are refused: the event_ids that were acknowledged, and the batch that was not."""
    acknowledged: set[str] = set()
    for number in count():
        names = [f"{number}-{one}" for one in range(200)]
        batch = [click("lamp", event_id=name, visitor_id=name) for name in names]
        response = await api.client.post("/v1/events", json={"events": batch})
        if response.status_code == 503:
            assert int(response.headers["Retry-After"]) >= 1
            return acknowledged, batch
        assert {result["verdict"] for result in response.json()["events"]} == {"accepted"}
        acknowledged.update(names)
    raise AssertionError


async def consume(log: RedisEventLog, settings: Settings) -> None:
    """Have every group of consumers pass what the log holds; they are new to it."""
    consumers = [
        Consumer(group, log.reader(group.name, "one"), batch_size=500, patience=5)
        for group in groups(settings)
    ]
    more = True
    while more:
        more = any([(await consumer.round())[1] for consumer in consumers])


async def test_a_full_redis_refuses_events_but_not_slates_and_draining_it_makes_room(
    redis_settings: Settings,
) -> None:
    with embedded_redis(redis_settings) as url, Redis.from_url(url) as redis:
        log = RedisEventLog.connect(url, redis_settings)
        async with running_api(redis_settings, log) as api:
            await api.send(click("kettle", event_id="first"))
            used: int = redis.info("memory")["used_memory"]
            redis.config_set("maxmemory", used + 4_000_000)
            acknowledged, refused = await fill(api)
            await api.service.load_shedding.look()
            again = await api.client.post("/v1/events", json={"events": refused})
            assert again.status_code == 503
            reply = await api.recommend(visitor_id="vera", k=2)
            assert (reply["degraded"], item_ids(reply)) == ([], ["teapot", "mug"])
            await consume(log, redis_settings)
            await api.send(*refused)
            await api.send(click("lamp", event_id="last"))
            assert item_ids(await api.recommend(visitor_id="vera", k=2)) == ["bulb", "shade"]
            await consume(log, redis_settings)
    archive = Archive(redis_settings.archive_dir)
    archive.compact()
    archived = archive.event_ids().to_pylist()
    assert sorted(archived) == sorted({"first", "last", *acknowledged, *(one[Event.ID] for one in refused)})
