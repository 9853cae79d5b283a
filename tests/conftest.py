"""What many tests need: a Redis of their own, and an empty event log of either kind."""

import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import prometheus_client  # noqa: F401  before Feast is, which makes it count in files that all apps share
import pytest
from redis import Redis
from redis.exceptions import RedisError

from feature_repo.event_log import EventLog
from feature_repo.memory_event_log import MemoryEventLog
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis

OpenLog = Callable[[Settings], AbstractAsyncContextManager[EventLog]]
"""Opens an empty event log, for one event loop."""


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], seconds: float = 20, every: float = 0.02) -> None:
    """Return when the condition holds; a server that does not answer yet is asked again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(RedisError):
            if condition():
                return
        time.sleep(every)
    raise TimeoutError(f"did not come true within {seconds} s")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a Freshet whose state lies in the test's own folder; patient, since tests share cores."""
    return Settings(
        home=tmp_path, redis_url=None, redis_port=free_port(), redis_timeout_seconds=5, slate_seconds=5
    )


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis that all tests of a run share."""
    home = tmp_path_factory.mktemp("redis")
    with embedded_redis(Settings(home=home, redis_url=None, redis_port=free_port())) as url:
        yield url


@pytest.fixture
def clean_redis(redis_url: str) -> Iterator[Redis]:
    """Client of the shared Redis, which is empty when the test begins."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session", params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
def open_log(request: pytest.FixtureRequest) -> OpenLog:
    """Both kinds of event log: whoever uses this runs once with each."""
    if request.param == "memory":
        return _open_memory_log
    url = request.getfixturevalue("redis_url")

    @asynccontextmanager
    async def open_redis_log(settings: Settings) -> AsyncIterator[EventLog]:
        with Redis.from_url(url) as client:
            client.flushall()
        log = RedisEventLog.connect(url, settings)
        yield log
        await log.aclose()

    return open_redis_log


@asynccontextmanager
async def _open_memory_log(settings: Settings) -> AsyncIterator[EventLog]:
    yield MemoryEventLog(settings)


@pytest.fixture
async def log(open_log: OpenLog, settings: Settings) -> AsyncIterator[EventLog]:
    """An empty event log."""
    async with open_log(settings) as opened:
        yield opened
