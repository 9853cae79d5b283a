"""What an event costs on its way in, beside a route that does nothing and the bare function in Redis.

Part of ``make bench``; alone: ``python -m tests.bench_ingest``.
"""

import asyncio
import http.client
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import psutil

from feature_repo.event_log import partition_of
from feature_repo.events import LoggedEvent
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.redis_functions import Call
from feature_repo.schema import Event
from feature_repo.settings import Settings
from tests.bench_server import FRESHET, RunningServer, drive, running, send

EVENTS_PER_BATCH: Final = 1000
SHOPPERS: Final = 1000
ITEMS: Final = 2000
PAIRS: Final = 60
"""Batches over HTTP that are timed in turn with batches of the bare function."""
MOST: Final = 3.0
"""So many times the bare function an event of a batch may cost."""


def events(size: int, number: int) -> list[dict[str, Any]]:
    """The events of the n-th request; no event_id comes twice."""
    return [
        {
            Event.ID: f"{time.monotonic_ns():x}-{number}-{n}",
            Event.TYPE: "view",
            Event.VISITOR: f"bench-{(number * size + n) % SHOPPERS}",
            Event.ITEM: f"item-{(number * size + n) * 7 % ITEMS}",
        }
        for n in range(size)
    ]


def body(size: int, number: int) -> bytes:
    """The n-th request."""
    return json.dumps({"events": events(size, number)}).encode()


def measure(environment: dict[str, str]) -> bool:
    """Print the table; whether an event of a batch costs at most MOST times the bare function."""
    print(f"{'ingestion':<34}{'clients':>8}{'p50 ms':>9}{'p99 ms':>9}{'events/s':>10}{'CPU us/event':>14}")
    with (
        running([sys.executable, "-m", "tests.bench_floor"], environment) as floor,
        running([FRESHET, "serve"], environment) as server,
    ):
        for size, clients in itertools.product((1, EVENTS_PER_BATCH), (1, 8)):
            for name, process in (("no-op route", floor), ("POST /v1/events", server)):
                report(f"{name}, {size} a request", process, size, clients)
        over_http, bare = asyncio.run(in_turn(server))
    ratio = over_http / bare
    print(
        f"{'bare function, pipelined':<34}{1:>8}{bare * EVENTS_PER_BATCH * 1e3:>9.2f}{'':>9}{1 / bare:>10,.0f}\n"
        f"an event of a batch takes {over_http * 1e6:.0f} us over HTTP, {bare * 1e6:.0f} us by the bare function "
        f"in turn with it: {ratio:.1f} times as long (at most {MOST:.0f})\n"
    )
    return ratio <= MOST


def report(name: str, server: RunningServer, size: int, clients: int) -> None:
    """Drive a server and print a row; CPU is that of its process alone."""
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    latencies, seconds = drive(server.port, "/v1/events", partial(body, size), clients)
    after = process.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    sent = latencies.size * size
    p50, p99 = np.quantile(latencies, [0.5, 0.99]) * 1000
    print(
        f"{name:<34}{clients:>8}{p50:>9.2f}{p99:>9.2f}{sent / seconds:>10,.0f}{cpu / sent * 1e6:>14.0f}",
        flush=True,
    )


async def in_turn(server: RunningServer) -> tuple[float, float]:
    """Median seconds per event of batches over HTTP and of the bare function, timed in turn: noise hits both."""
    log = RedisEventLog.connect(
        f"redis://127.0.0.1:{server.redis_port}", Settings(redis_url=None, redis_timeout_seconds=5)
    )
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    over_http, bare = [], []
    for number in range(PAIRS):
        content = body(EVENTS_PER_BATCH, number)
        calls = append_calls(log, events(EVENTS_PER_BATCH, PAIRS + number))
        start = time.perf_counter()
        send(connection, "/v1/events", content)
        between = time.perf_counter()
        await log._functions.call(calls)
        over_http.append(between - start)
        bare.append(time.perf_counter() - between)
    await log.aclose()
    return (
        statistics.median(over_http) / EVENTS_PER_BATCH,
        statistics.median(bare) / EVENTS_PER_BATCH,
    )


def append_calls(log: RedisEventLog, batch: Sequence[dict[str, Any]]) -> list[Call]:
    """The calls that log a batch, their arguments encoded already."""
    now = time.time_ns() // 1000
    partitions: dict[int, list[LoggedEvent]] = defaultdict(list)
    for fields in batch:
        event = LoggedEvent(**fields, timestamp=now, arrival_time=now)
        partitions[partition_of(event.shopper, log.partitions)].append(event)
    return [log._append_call(partition, logged) for partition, logged in partitions.items()]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        sys.exit(not measure({**os.environ, "FRESHET_HOME": home}))
