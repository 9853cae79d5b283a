"""What a slate costs in a shop of 100,000 items and 100,000 shoppers, beside its floor and beside Feast's read.

Run by ``make bench-slates``. The floor is what any such server is made of: HTTP, a round trip to Redis, one search
among the items' vectors, one prediction of the candidates by LightGBM itself. All of it in one run, since machines
differ and are shared.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import psutil
import pyarrow.parquet as pq

from feature_repo.schema import Event
from feature_repo.settings import Settings
from serving.live_version import read_live_bundle
from tests.bench_client import connected
from tests.bench_floor_parts import feast_read, floor_parts
from tests.bench_load import Driven, Load, at_rate, one_after_another
from tests.bench_server import FRESHET, PATIENTLY, RunningServer, running
from tests.bench_setup import make_shop
from tests.bench_slates_plot import Costs, plot_costs
from tests.bench_table import print_header, print_machine, print_row
from tests.bench_wrk import wrk, wrk_command

ITEMS: Final = 100_000
SHOPPERS: Final = 100_000
EVENTS: Final = 1_500_000
HISTORY: Final = 10
"""Newest items of each shopper that the log of events gets."""
BATCH: Final = 1000
RATES: Final = (50, 100, 200)
RATE_SECONDS: Final = 20.0
CONCURRENCY: Final = (1, 8, 32)
LIGHT_TRAINING: Final = {"FRESHET_TRAINING_EXAMPLES": "200000", "FRESHET_TRAINING_REQUESTS": "2000"}
"""What a slate costs does not depend on how well its model is trained."""


def main() -> int:
    """Print the table; draw it where the command line says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", help="a prepared shop; made anew if missing")
    parser.add_argument("--plot", type=Path, help="where to write a PNG of the table")
    arguments = parser.parse_args()
    wrk_command()  # rather now than after ten minutes
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.home or folder
        if not arguments.home:
            prepare(home)
        print_machine()
        costs = measure(home)
    if arguments.plot:
        arguments.plot.write_bytes(plot_costs(costs))
    return 0


def prepare(home: str) -> None:
    """Make the shop, and train on it."""
    size = [f"--items={ITEMS}", f"--users={SHOPPERS}", f"--events={EVENTS}", "--days=30"]
    make_shop({**os.environ, "FRESHET_HOME": home, **LIGHT_TRAINING}, 1, *size)


def measure(home: str) -> Costs:
    """Print the table of a prepared home."""
    environment = {**os.environ, "FRESHET_HOME": home, **PATIENTLY}
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
        wrk(server.port, ask, 1)  # not counted: what is mapped is read in when it is first touched
        drives = {"1": partial(one_after_another, server.port, ask, 1)}
        drives |= {f"{clients} by wrk": partial(wrk, server.port, ask, clients) for clients in CONCURRENCY}
        drives |= {f"{rate}/s": partial(at_rate, server.port, ask, rate, RATE_SECONDS) for rate in RATES}
        found = {clients: print_served(server, clients, drive) for clients, drive in drives.items()}
        print_rungs(server.port)
        floor = {"no-op (POST)": milliseconds(no_op), **floor_parts(settings, bundle, shoppers)}
        columns, feast = feast_read(settings, bundle)
    slate = milliseconds(found["1"])
    print_parts(
        {**floor, "floor": sum(floor.values()), "slate": slate, f"Feast reads {columns} columns": feast}
    )
    print(
        f"slate / floor {slate / sum(floor.values()):.2f} (at most 2)\n"
        f"Feast's read / slate {feast / slate:.1f} (at least 8)"
    )
    return Costs(floor, slate, feast, {clients: driven.latencies for clients, driven in found.items()})


def milliseconds(driven: Driven) -> float:
    """The median."""
    return float(np.median(driven.latencies)) * 1000


def print_served(server: RunningServer, clients: str, drive: Callable[[], Driven]) -> Driven:
    """Print a row with the requests per second of a core that the server took."""
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    found = drive()
    after = process.cpu_times()
    busy = after.user + after.system - before.user - before.system
    print_row("slate, all sources", clients, found, f"{found.latencies.size / busy:>10,.0f}")
    return found


def print_parts(parts: Mapping[str, float]) -> None:
    """Print what each takes, in milliseconds."""
    print()
    for name, took in parts.items():
        print(f"{name:<40}{took:>9.2f} ms")


def histories(events: Path) -> Mapping[str, list[str]]:
    """The newest items that each shopper of a log viewed, by a user's id."""
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
