"""A server that the benchmarks ask, in a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench_client import connected
from tests.conftest import free_port

FRESHET: Final = str(Path(sys.executable).with_name("freshet"))
PATIENCE: Final = 5
"""Seconds that a server takes for Redis and for a slate: a stall of a shared machine is to show as latency."""
PATIENTLY: Final = {
    "FRESHET_REDIS_TIMEOUT_SECONDS": str(PATIENCE),
    "FRESHET_SLATE_SECONDS": str(PATIENCE),
    "FRESHET_MAX_CONCURRENT_REQUESTS": "256",  # more than all clients of a benchmark have under way
}
"""Settings of a server that answers everything in full, however long it takes."""


class RunningServer(NamedTuple):
    """Where a server answers, where its Redis does, and its process."""

    port: int
    redis_port: int
    pid: int


@contextmanager
def running(command: Sequence[str], environment: dict[str, str]) -> Iterator[RunningServer]:
    """A server that takes its port from FRESHET_PORT, from when it answers to its end."""
    port, redis_port = free_port(), free_port()
    ports = {"FRESHET_PORT": str(port), "FRESHET_REDIS_PORT": str(redis_port)}
    # Feast, once imported here, would have the server write each of its metrics to a file.
    own = {name: value for name, value in environment.items() if not name.startswith("PROMETHEUS_")}
    process = subprocess.Popen(command, env=own | ports, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with connected(port) as ask:
                    ask("/healthz", None)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[-1]} did not come up") from None
                time.sleep(0.05)
        yield RunningServer(port, redis_port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
