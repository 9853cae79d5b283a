"""What a slate costs in a shop of 100,000 items and 100,000 shoppers, beside its floor and beside Feast's read.

Run by ``make bench-slates``. The floor is what nobody can do without: HTTP, a
round trip to Redis, one search among the items' vectors, one prediction of the candidates. All of it in one run,
since machines differ and are shared.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import psutil
import pyarrow.parquet as pq

from feature_repo.arrays import Int32
from feature_repo.feature_store import open_store
from feature_repo.offline_store import ITEM_KEY, SNAPSHOT_SCHEMAS, View
from feature_repo.ranking_features import RANKING_COLUMNS
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import Event
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.live_version import read_live_bundle
from tests.bench_client import connected
from tests.bench_load import Driven, Load, at_rate, one_after_another
from tests.bench_server import FRESHET, RunningServer, running
from tests.bench_setup import make_shop
from tests.bench_table import print_header, print_machine, print_row
from tests.bench_wrk import wrk
from training.features import bring_online, build_features

ITEMS: Final = 100_000
SHOPPERS: Final = 100_000
EVENTS: Final = 1_500_000
CANDIDATES: Final = 300
HISTORY: Final = 10
"""Newest items of each shopper that the log of events gets."""
BATCH: Final = 1000
RATE: Final = 200
RATE_SECONDS: Final = 20.0
CONCURRENCY: Final = (1, 8, 32)
REPEATS: Final = 200
LIGHT_TRAINING: Final = {"FRESHET_TRAINING_EXAMPLES": "200000", "FRESHET_TRAINING_REQUESTS": "2000"}
"""What a slate costs does not depend on how well its model is trained."""


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as home:
        prepare(home)
        print_machine()
        measure(home)
    return 0


def prepare(home: str) -> None:
    """Make the shop, and train on it."""
    size = [f"--items={ITEMS}", f"--users={SHOPPERS}", f"--events={EVENTS}", "--days=30"]
    make_shop({**os.environ, "FRESHET_HOME": home, **LIGHT_TRAINING}, 1, *size)


def measure(home: str) -> None:
    """Print the table of a prepared home."""
    environment = {**os.environ, "FRESHET_HOME": home}
    shoppers = histories(Path(home) / "simulated" / "events.parquet")
    ask = Load("/v1/recommendations", partial(question, list(shoppers)))
    with running([sys.executable, "-m", "tests.bench_floor"], environment) as bare:
        no_op = one_after_another(bare.port, Load("/v1/events", no_events), 1)
    with running([FRESHET, "serve"], environment) as server:
        settings = Settings(home=Path(home), redis_url=f"redis://127.0.0.1:{server.redis_port}")
        browse(server.port, shoppers)
        bundle = read_live_bundle(settings.models_dir)
        print_header(
            f"slates of {len(bundle.item_ids):,} items, {len(shoppers):,} shoppers", f"{'per core':>10}"
        )
        print_row("no-op (POST)", "1", no_op)
        alone = print_served(
            server, "slate, all sources, one by one", "1", lambda: one_after_another(server.port, ask, 1)
        )
        for clients in CONCURRENCY:
            print_served(server, "slate, by wrk", str(clients), partial(wrk, server.port, ask, clients))
        print_served(
            server,
            "slate, as shoppers come",
            f"{RATE}/s",
            lambda: at_rate(server.port, ask, RATE, RATE_SECONDS),
        )
        print_rungs(server.port)
        print_floor(settings, bundle, list(shoppers), no_op, alone)


def print_served(server: RunningServer, name: str, clients: str, drive: Callable[[], Driven]) -> Driven:
    """Print a row with the requests per second of a core that the server took."""
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    found = drive()
    after = process.cpu_times()
    busy = after.user + after.system - before.user - before.system
    print_row(name, clients, found, f"{found.latencies.size / busy:>10,.0f}")
    return found


def print_floor(
    settings: Settings, bundle: Bundle, visitors: list[str], no_op: Driven, alone: Driven
) -> None:
    """Print what the parts of the floor take, Feast's read, and how the slate compares; medians, milliseconds."""
    random = np.random.default_rng(0)
    rows = random.choice(len(bundle.item_ids), CANDIDATES, replace=False).astype(np.int32)
    parts = {
        "no-op (POST)": float(np.median(no_op.latencies)) * 1000,
        "Redis round trip": asyncio.run(round_trip(settings, visitors)),
        "search in the items' vectors": median(
            lambda: bundle.tower_index.search(bundle.tower.embeddings[rows[0]], 150)
        ),
        f"LightGBM, {CANDIDATES} candidates": median(lambda: predict(bundle)),
    }
    floor, slate = sum(parts.values()), float(np.median(alone.latencies)) * 1000
    read = feast_read(settings, bundle, rows)
    for name, milliseconds in {**parts, "floor": floor, "slate": slate, "Feast's read": read}.items():
        print(f"{name:<40}{milliseconds:>9.2f} ms")
    print(
        f"slate / floor {slate / floor:.2f} (at most 2)\nFeast's read / slate {read / slate:.1f} (at least 8)"
    )


async def round_trip(settings: Settings, visitors: list[str]) -> float:
    """Reading a shopper from Redis."""
    log = RedisEventLog.connect(redis_url(settings), settings)
    taken = []
    for number in range(REPEATS):
        started = time.perf_counter()
        await log.shopper(None, visitors[number % len(visitors)])
        taken.append(time.perf_counter() - started)
    await log.aclose()
    return float(np.median(taken)) * 1000


def redis_url(settings: Settings) -> str:
    """Of the server's Redis."""
    assert settings.redis_url is not None
    return settings.redis_url.get_secret_value()


def predict(bundle: Bundle) -> object:
    """The ranker's scores of as many candidates."""
    ranker = bundle.rankers.session
    assert ranker is not None
    return ranker.predict(np.zeros((CANDIDATES, len(RANKING_COLUMNS)), np.float32), num_threads=1)


def feast_read(settings: Settings, bundle: Bundle, rows: Int32) -> float:
    """Feast's own read of the ranker's scalar item columns, of the same number of candidates, in this process."""
    as_of = bundle.manifest.training_end
    build_features(settings, as_of)
    bring_online(settings, as_of, [View.ITEM_STATISTICS, View.ITEM_WINDOWS])
    store = open_store(settings, redis_url(settings))
    features = [
        f"{view}:{name}"
        for view in (View.ITEM_STATISTICS, View.ITEM_WINDOWS)
        for name in SNAPSHOT_SCHEMAS[view].names
        if name not in (ITEM_KEY, "event_timestamp")
    ]
    print(f"Feast reads {len(features)} columns of {rows.size} items", flush=True)
    entities = [{ITEM_KEY: item_id} for item_id in bundle.item_ids[rows]]
    return median(lambda: store.get_online_features(features=features, entity_rows=entities), REPEATS // 4)


def median(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Milliseconds."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1000


def histories(events: Path) -> Mapping[str, list[str]]:
    """The newest items that each shopper of a log viewed, by a visitor's id."""
    table = pq.read_table(
        events, columns=[Event.USER, Event.VISITOR, Event.ITEM, Event.TYPE, Event.TIMESTAMP]
    )
    frame = table.to_pandas()
    viewed = frame[frame[Event.TYPE].eq("view")].sort_values(Event.TIMESTAMP)
    who = viewed[Event.USER].fillna(viewed[Event.VISITOR])
    return {name: items.tolist()[-HISTORY:] for name, items in viewed.groupby(who)[Event.ITEM]}


def browse(port: int, shoppers: Mapping[str, list[str]]) -> None:
    """Let every shopper view its items again."""
    events = [
        {Event.TYPE: "view", Event.USER: name, Event.ITEM: item}
        for name, items in shoppers.items()
        for item in items
    ]
    with connected(port) as ask:
        for start in range(0, len(events), BATCH):
            ask("/v1/events", orjson.dumps({"events": events[start : start + BATCH]}))


def no_events(_: int) -> bytes:
    """A body for the route that does nothing."""
    return b'{"events":[]}'


def print_rungs(port: int) -> None:
    """Who put the slates in order: all but the rankers for lack of time."""
    with connected(port) as ask:
        said = ask("/metrics", None).decode().splitlines()
    print(
        *(line for line in said if line.startswith(("freshet_slates_total", "freshet_degraded_total"))),
        sep="\n",
    )


def question(shoppers: list[str], number: int) -> bytes:
    """One of the shoppers asks for a slate."""
    return orjson.dumps({"user_id": shoppers[number * 7919 % len(shoppers)]})


if __name__ == "__main__":
    sys.exit(main())
