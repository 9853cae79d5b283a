"""A server that the benchmarks drive, in a process of its own, and requests to it."""

import http.client
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from feature_repo.arrays import Float64
from tests.conftest import free_port

FRESHET: Final = str(Path(sys.executable).with_name("freshet"))
SECONDS: Final = 5.0
"""How long a server is driven for a row."""

Body = Callable[[int], bytes | None]
"""The body of the n-th request; None for GET."""


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
    process = subprocess.Popen(command, env=environment | ports, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                send(http.client.HTTPConnection("127.0.0.1", port), "/healthz", None)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[-1]} did not come up") from None
                time.sleep(0.05)
        yield RunningServer(port, redis_port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def send(connection: http.client.HTTPConnection, path: str, body: bytes | None) -> dict[str, Any]:
    """One request; the reply's JSON."""
    connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    reply = response.read()
    if response.status != 200:
        raise SystemExit(f"{path} answered {response.status}: {reply[:200]!r}")
    return json.loads(reply)


def drive(port: int, path: str, body: Body, clients: int) -> tuple[Float64, float]:
    """Latencies in seconds of ``clients`` connections that ask one thing after another, and the time it took."""
    numbers = itertools.count()
    latencies: list[list[float]] = [[] for _ in range(clients)]
    stop = time.perf_counter() + SECONDS

    def client(mine: list[float]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.perf_counter() < stop:
            content = body(next(numbers))
            start = time.perf_counter()
            send(connection, path, content)
            mine.append(time.perf_counter() - start)

    started = time.perf_counter()
    threads = [threading.Thread(target=client, args=(mine,)) for mine in latencies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.concatenate([np.array(mine) for mine in latencies]), time.perf_counter() - started
