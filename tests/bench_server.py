"""A server that the benchmarks drive, in a process of its own, and one request to it."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.conftest import free_port

FRESHET: Final = str(Path(sys.executable).with_name("freshet"))


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
