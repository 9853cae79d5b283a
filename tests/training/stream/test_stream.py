"""``freshet stream`` as people run it: real processes over a real Redis."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from redis import Redis

from feature_repo.archive import Archive
from feature_repo.item_activity import ACTIVITY_FEATURES, ACTIVITY_WINDOWS
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import HOUR
from feature_repo.settings import Settings
from tests.conftest import free_port, wait_until
from tests.feature_repo.log_events import event
from tests.serving.conftest import running_api
from tests.tiny_bundle import publish, tiny_bundle

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

FRESHET = Path(sys.executable).with_name("freshet")
_, _, HOURS = ACTIVITY_WINDOWS


@contextmanager
def streaming(settings: Settings, redis_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A stream process, which has counted what the log held when this begins."""
    environment = {
        **os.environ,
        "FRESHET_HOME": str(settings.home),
        "FRESHET_REDIS_URL": redis_url,
        "FRESHET_STREAM_METRICS_PORT": str(settings.stream_metrics_port),
        "FRESHET_CONSUMER_IDLE_SECONDS": str(settings.consumer_idle_seconds),
    }
    process = subprocess.Popen([FRESHET, "stream"], env=environment, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def metric(settings: Settings, line: str) -> float:
    """Value of a line of the metrics, -1 while there is none."""
    try:
        text = httpx.get(f"http://127.0.0.1:{settings.stream_metrics_port}/metrics").text
    except httpx.TransportError:
        return -1
    return next((float(row.split()[-1]) for row in text.splitlines() if row.startswith(line)), -1)


@pytest.fixture
def streamed(settings: Settings) -> Settings:
    return settings.model_copy(update={"stream_metrics_port": free_port(), "consumer_idle_seconds": 0.5})


async def test_events_are_archived_and_counted_while_it_runs_and_it_ends_in_order(
    streamed: Settings, clean_redis: Redis, redis_url: str
) -> None:
    log = RedisEventLog.connect(redis_url, streamed)
    now = time.time_ns() // 1000
    await log.append([event(number, user_id=f"user-{number}", timestamp=now) for number in range(50)])
    with streaming(streamed, redis_url) as process:
        wait_until(lambda: metric(streamed, 'freshet_stream_done_total{group="archive"}') == 50)
        wait_until(lambda: metric(streamed, 'freshet_stream_done_total{group="aggregates"}') == 50)
        assert metric(streamed, "freshet_dead_letters") == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert len(Archive(streamed.archive_dir)) == 50
    found: Counter[str] = Counter()
    for partition in range(log.partitions):
        [counts] = await log.item_counts(partition, [(HOURS.name, HOURS.bucket_of(now))])
        found.update(counts)
    assert found == {f"view:i{number}": 1 for number in range(50)}
    await log.aclose()


def test_a_second_process_at_the_same_port_says_how_to_run_it(streamed: Settings, redis_url: str) -> None:
    with (
        socket.create_server(("127.0.0.1", streamed.stream_metrics_port)),
        streaming(streamed, redis_url) as process,
    ):
        assert process.wait(60) == 1
        assert process.stderr is not None
        [line] = process.stderr.read().decode().splitlines()
    assert f"port {streamed.stream_metrics_port} of 127.0.0.1 is taken" in line
    assert "FRESHET_STREAM_METRICS_PORT" in line


async def test_what_a_killed_process_had_taken_is_done_by_the_next(
    streamed: Settings, clean_redis: Redis, redis_url: str
) -> None:
    log = RedisEventLog.connect(redis_url, streamed)
    now = time.time_ns() // 1000 // HOUR * HOUR
    await log.append([event(number, user_id=f"user-{number}", timestamp=now) for number in range(20)])
    for group in ("archive", "aggregates"):
        dead = log.reader(group, "dead")
        for partition in range(log.partitions):
            await dead.deliver(partition, 100)
    with streaming(streamed, redis_url):
        wait_until(lambda: metric(streamed, 'freshet_stream_taken_over_total{group="archive"}') == 20)
        wait_until(lambda: metric(streamed, 'freshet_stream_done_total{group="aggregates"}') == 20)
        wait_until(lambda: len(Archive(streamed.archive_dir)) == 20)
    await log.aclose()


async def test_what_happens_to_an_item_reaches_the_ranker_of_a_server_within_5_seconds(
    streamed: Settings, clean_redis: Redis, redis_url: str
) -> None:
    publish(streamed.models_dir, tiny_bundle())
    log = RedisEventLog.connect(redis_url, streamed)
    share = ACTIVITY_FEATURES.index("item_log_share_5m")
    async with running_api(streamed, log) as api:
        bundle = api.service.model.recommender.bundle
        lamp = np.array([bundle.item_index["lamp"]], np.int32)

        def known() -> float:
            return float(api.service.slates.activity.of(bundle).features(lamp)[0, share])

        with streaming(streamed, redis_url):
            await _until(lambda: known() == 0)  # counted, and nothing happened so far
            await api.send({"event_type": "view", "visitor_id": "vera", "item_id": "lamp"})
            acknowledged = time.monotonic()
            await _until(lambda: known() > 0)
            assert time.monotonic() - acknowledged < 5


async def _until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return when the condition holds, while the server in this process goes on."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)
