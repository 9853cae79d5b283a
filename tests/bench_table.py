"""The table that the benchmarks print."""

import os
import platform

import numpy as np

from tests.bench_load import Driven
from tests.bench_server import PATIENCE


def print_machine() -> None:
    """What the figures were taken on."""
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, shared by a server, its Redis and a process of clients.\n"
        f"The server takes up to {PATIENCE} s: a stall shows as latency, not as 503 or as less than a full slate.\n"
        "Clients that are counted ask one thing after another. Clients at N/s come independently of each other\n"
        "(Poisson), and their latency counts from when they came, even if nobody had time for them.\n"
        "client %: what the clients took of a core; near 100, they were the limit."
    )


def print_header(title: str, more: str = "") -> None:
    """Name the columns; ``more`` are those of print_row's ``more``."""
    print(
        f"\n{title:<40}{'clients':>8}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'per s':>9}{'client %':>10}{more}",
        flush=True,
    )


def print_row(name: str, clients: str, found: Driven, more: str = "") -> None:
    """A row; ``clients`` says how many there were, or at which rate they came."""
    p50, p90, p99 = np.quantile(found.latencies, [0.5, 0.9, 0.99]) * 1000
    rate, busy = found.latencies.size / found.seconds, found.cpu / found.seconds
    print(
        f"{name:<40}{clients:>8}{p50:>9.2f}{p90:>9.2f}{p99:>9.2f}{rate:>9,.0f}{busy:>10.0%}{more}",
        flush=True,
    )
