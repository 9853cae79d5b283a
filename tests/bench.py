"""``make bench``: what ingestion and recommendation cost on this machine, beside the bare HTTP floor.

Simulates a shop, trains on it, starts the real server and drives it over loopback from a second process. Machines
differ and are shared: compare the rows of one run.
"""

import http.client
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from feature_repo.arrays import Float64
from feature_repo.schema import Event, Item
from tests import bench_ingest
from tests.bench_server import FRESHET, SECONDS, Body, drive, running, send

SHOPPERS = 1000


@dataclass(frozen=True)
class Load:
    """What to send: the path, and the body of the n-th request."""

    name: str
    path: str
    body: Body


def main() -> int:
    """Print the tables; returns the exit status, 1 when an event costs more than it may."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "FRESHET_HOME": home}
        folder = Path(home) / "simulated"
        files = [f"--{name}={folder / name}.parquet" for name in ("events", "items")]
        for command in (["simulate"], ["import", *files, "--shift-to-now"], ["train", "--epochs", "3"]):
            print("freshet", *command, flush=True)
            freshet(command, environment)
        items = pq.read_table(folder / "items.parquet")[Item.ID].to_pylist()
        print(
            f"\n{platform.machine()}, {os.cpu_count()} cores; one server process, Redis on loopback; "
            f"{len(items)} items; {SECONDS:.0f} s a row\n"
        )
        print(f"{'load':<34}{'clients':>8}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'per s':>10}")
        with running([FRESHET, "serve"], environment) as server:
            for load, clients in itertools.product(loads(), (1, 8)):
                report(load, clients, *drive(server.port, load.path, load.body, clients))
            latency = [click_to_slate(server.port, items, n) for n in range(500)]
            report(Load("click to changed slate", "", lambda n: None), 1, np.array(latency), sum(latency))
        print()
        within_bounds = bench_ingest.measure(environment)
    return 0 if within_bounds else 1


def loads() -> list[Load]:
    """The rows of the table."""

    return [
        Load("no-op (GET /healthz)", "/healthz", lambda n: None),
        Load(
            "recommendation, 20 items",
            "/v1/recommendations",
            lambda n: json.dumps({"visitor_id": f"bench-{n % SHOPPERS}"}).encode(),
        ),
    ]


def click_to_slate(port: int, items: list[str], n: int) -> float:
    """Seconds from sending a click to holding a slate; fails when the slate is the one from before."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    question = json.dumps({"visitor_id": f"clicker-{n}"}).encode()
    before = send(connection, "/v1/recommendations", question)["items"]
    click = {Event.TYPE: "click", Event.VISITOR: f"clicker-{n}", Event.ITEM: items[n * 7 % len(items)]}
    start = time.perf_counter()
    send(connection, "/v1/events", json.dumps({"events": [click]}).encode())
    after = send(connection, "/v1/recommendations", question)["items"]
    seconds = time.perf_counter() - start
    if before == after:
        raise SystemExit(f"the slate of clicker-{n} did not change after a click")
    return seconds


def report(load: Load, clients: int, latencies: Float64, seconds: float) -> None:
    """Print one row."""
    p50, p90, p99 = np.quantile(latencies, [0.5, 0.9, 0.99]) * 1000
    rate = latencies.size / seconds
    print(f"{load.name:<34}{clients:>8}{p50:>9.2f}{p90:>9.2f}{p99:>9.2f}{rate:>10,.0f}", flush=True)


def freshet(command: list[str], environment: dict[str, str]) -> None:
    """Run a subcommand; its output is shown only if it fails."""
    done = subprocess.run([FRESHET, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    sys.exit(main())
