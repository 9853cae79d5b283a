"""What an event costs on its way in, beside a route that does nothing and the bare function in Redis.

Part of ``make bench``; alone: ``python -m tests.bench_ingest``.
"""

import asyncio
import itertools
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
import orjson
import psutil

from feature_repo.event_log import partition_of
from feature_repo.events import LoggedEvent
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.redis_functions import Call
from feature_repo.schema import Event
from feature_repo.settings import Settings
from tests.bench_client import connected
from tests.bench_load import Load, at_rate, one_after_another
from tests.bench_server import FRESHET, RunningServer, running
from tests.bench_table import print_header, print_machine, print_row

EVENTS_PER_BATCH: Final = 1000
SHOPPERS: Final = 1000
ITEMS: Final = 2000
PAIRS: Final = 60
"""Batches over HTTP that are timed in turn with batches of the bare function."""
MOST: Final = 3.0
"""So many times the bare function an event of a batch may cost."""
RATE: Final = 500
"""Single events a second that arrive whether or not those before them were answered."""
RATE_SECONDS: Final = 30.0
TARGET: Final = 0.010
"""Seconds below which the 99th percentile of single events at RATE is to be."""


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
    return orjson.dumps({"events": events(size, number)})


def measure(environment: dict[str, str]) -> bool:
    """Print the tables; whether an event of a batch costs at most MOST times the bare function."""
    with (
        running([sys.executable, "-m", "tests.bench_floor"], environment) as floor,
        running([FRESHET, "serve"], environment) as server,
    ):
        servers = {"no-op route": floor, "POST /v1/events": server}
        print_header(
            f"ingestion, appendfsync {Settings().redis_appendfsync}", f"{'events/s':>10}{'CPU us/event':>14}"
        )
        for size, clients in itertools.product((1, EVENTS_PER_BATCH), (1, 8)):
            for name, process in servers.items():
                report(f"{name}, {size} a request", process, size, clients)
        p99_at_rate("no-op route, 1 a request", floor)
        p99 = p99_at_rate("POST /v1/events, 1 a request", server)
        over_http, bare = asyncio.run(in_turn(server))
    ratio = over_http / bare
    print(
        f"p99 of a single event at {RATE}/s: {p99 * 1e3:.2f} ms, "
        f"{'within' if p99 < TARGET else 'which MISSES'} the target of {TARGET * 1e3:.0f} ms\n"
        f"an event of a batch takes {over_http * 1e6:.0f} us over HTTP, {bare * 1e6:.0f} us by the bare function "
        f"in turn with it: {ratio:.1f} times as long (at most {MOST:.0f})"
    )
    return ratio <= MOST


def report(name: str, server: RunningServer, size: int, clients: int) -> None:
    """Ask a server and print a row; the CPU of an event is that of the server's process alone."""
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    found = one_after_another(server.port, Load("/v1/events", partial(body, size)), clients)
    after = process.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    sent = found.latencies.size * size
    print_row(
        name,
        str(clients),
        found,
        f"{sent / found.seconds:>10,.0f}{cpu / sent * 1e6:>14.0f}",
    )


def p99_at_rate(name: str, server: RunningServer) -> float:
    """Print the row of single events at RATE; the 99th percentile of their latencies in seconds."""
    found = at_rate(server.port, Load("/v1/events", partial(body, 1)), RATE, RATE_SECONDS)
    print_row(name, f"{RATE}/s", found)
    return float(np.quantile(found.latencies, 0.99))


async def in_turn(server: RunningServer) -> tuple[float, float]:
    """Median seconds per event of batches over HTTP and of the bare function, timed in turn: noise hits both."""
    log = RedisEventLog.connect(
        f"redis://127.0.0.1:{server.redis_port}", Settings(redis_url=None, redis_timeout_seconds=5)
    )
    over_http, bare = [], []
    with connected(server.port) as ask:
        for number in range(PAIRS):
            content = body(EVENTS_PER_BATCH, number)
            calls = append_calls(log, events(EVENTS_PER_BATCH, PAIRS + number))
            start = time.perf_counter()
            ask("/v1/events", content)
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
    print_machine()
    with tempfile.TemporaryDirectory() as home:
        sys.exit(not measure({**os.environ, "FRESHET_HOME": home}))
