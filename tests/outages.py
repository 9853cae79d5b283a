"""``make outages``: slates while Redis is killed, a source hangs and a corrupt bundle is published.

All that at less than half of what the server can answer. Shoppers come independently of each other. No slate may
fail, each that lacks something says so, and none keeps its shopper waiting. Then twice as many come as the server
can answer: some are told at once to come again.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from feature_repo.schema import Event
from serving.live_version import current_version, set_current
from tests.bench_client import connected
from tests.bench_load import Arrivals, in_own_process
from tests.bench_server import FRESHET, running
from tests.bench_setup import make_shop
from tests.conftest import free_port, wait_until
from tests.faulty_server import HANG

SHARE_OF_CAPACITY: Final = 0.4
CONNECTIONS: Final = 32
SHOPPERS: Final = 500
LIGHTLY: Final = {"FRESHET_TRAINING_EXAMPLES": "60000", "FRESHET_TRAINING_REQUESTS": "3000"}
"""How well a model is trained is nothing here."""
SECONDS: Final = 10.0
"""Of each outage."""


@dataclass(frozen=True)
class Answers:
    """What shoppers got: seconds each waited, statuses, who put slates in order, what they lacked."""

    latencies: list[float]
    statuses: Counter[int]
    ranked_by: Counter[str]
    degraded: Counter[str]
    come_again: int

    def p99(self) -> float:
        """Milliseconds, of what was answered."""
        return float(np.quantile(self.latencies, 0.99)) * 1000


def main(seconds: float = SECONDS) -> int:
    """Print the table; 1 when a slate failed that should not have."""
    with tempfile.TemporaryDirectory() as home:
        prepare(Path(home))
        outcome = dict(outages(Path(home), seconds))
    for name, answers in outcome.items():
        print(name, dict(answers.statuses), dict(answers.ranked_by), dict(answers.degraded))
        print(f"  p50 {np.median(answers.latencies) * 1000:.1f} ms, p99 {answers.p99():.1f} ms", flush=True)
    return int(any(set(answers.statuses) != {200} for name, answers in outcome.items() if name != ABOVE))


ABOVE: Final = "above capacity"


def prepare(home: Path) -> None:
    """A shop with a model."""
    make_shop({**os.environ, "FRESHET_HOME": str(home), **LIGHTLY}, 1)


def outages(home: Path, seconds: float) -> Iterator[tuple[str, Answers]]:
    """What shoppers got, by what was the matter."""
    environment = {**os.environ, "FRESHET_HOME": str(home)}
    redis_port = free_port()
    environment["FRESHET_REDIS_URL"] = f"redis://127.0.0.1:{redis_port}"
    redis = Redis(home, redis_port)
    redis.start()
    try:
        with running([sys.executable, "-m", "tests.faulty_server"], environment) as server:
            browse(server.port)
            capacity = in_own_process(Capacity(server.port))
            rate = SHARE_OF_CAPACITY * capacity
            print(f"{capacity:.0f} slates/s at most; {rate:.0f} come in a second", flush=True)

            def during(trouble: Callable[[], None], rate: float = rate) -> Answers:
                before = slates(server.port)
                with ThreadPoolExecutor(1) as pool:
                    asked = pool.submit(in_own_process, Asked(server.port, rate, seconds))
                    wait_until(lambda: slates(server.port) > before)  # shoppers have begun to come
                    trouble()
                    return asked.result()

            yield "calm", during(lambda: None)
            yield "Redis is killed, and comes back", during(lambda: redis.is_away_for(seconds / 4))
            with hanging(home):
                yield "a source hangs", during(lambda: None)
            yield "a corrupt bundle is published", during(lambda: publish_corrupt(home / "models"))
            yield "calm again", during(lambda: None)
            yield ABOVE, during(lambda: None, 2 * capacity)
    finally:
        redis.kill()


class Redis:
    """The Redis of a home, as a process that can be killed."""

    def __init__(self, home: Path, port: int) -> None:
        self._environment = {**os.environ, "FRESHET_HOME": str(home), "FRESHET_REDIS_PORT": str(port)}
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it takes connections."""
        self._process = subprocess.Popen([FRESHET, "redis"], env=self._environment, stdout=subprocess.DEVNULL)
        wait_until(self._answers)

    def kill(self) -> None:
        """By SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def is_away_for(self, seconds: float) -> None:
        """Kill it, and start it again later."""
        self.kill()
        time.sleep(seconds)
        self.start()

    def _answers(self) -> bool:
        try:
            with connected(self._port):
                return True
        except OSError:
            return False


@contextmanager
def hanging(home: Path) -> Iterator[None]:
    """A source hangs meanwhile."""
    (home / HANG).touch()
    try:
        yield
    finally:
        (home / HANG).unlink()


def slates(port: int) -> float:
    """So many the server has made."""
    with connected(port) as ask:
        said = ask("/metrics", None).decode().splitlines()
    return sum(float(line.split()[-1]) for line in said if line.startswith("freshet_slates_total"))


def publish_corrupt(models: Path) -> None:
    """Make a copy of the live model live, one byte of which is wrong."""
    version = current_version(models)
    assert version is not None
    broken = models / f"{version}-broken"
    shutil.copytree(models / version, broken)
    file = broken / "tower.embeddings.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    set_current(models, broken.name)


def browse(port: int) -> None:
    """Every shopper views what its neighbour bought."""
    with connected(port) as ask:
        slate = orjson.loads(ask("/v1/recommendations", b'{"k": 50}'))
        items = [item["item_id"] for item in slate["items"]]
        events = [
            {
                Event.TYPE: "view",
                Event.VISITOR: f"s{shopper}",
                Event.ITEM: items[(shopper + view) % len(items)],
            }
            for shopper in range(SHOPPERS)
            for view in range(5)
        ]
        for start in range(0, len(events), 500):
            ask("/v1/events", orjson.dumps({"events": events[start : start + 500]}))


@dataclass(frozen=True)
class Capacity:
    """Slates per second of four clients that ask one after another."""

    port: int

    def __call__(self) -> float:
        began = time.perf_counter()

        def client(number: int) -> int:
            answered = 0
            with connected(self.port) as ask:
                while time.perf_counter() < began + 5:
                    ask("/v1/recommendations", question(number + 4 * answered))
                    answered += 1
            return answered

        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(client, range(4))) / (time.perf_counter() - began)


@dataclass(frozen=True)
class Asked:
    """Shoppers who come at a rate."""

    port: int
    rate: float
    seconds: float

    def __call__(self) -> Answers:
        arrivals = Arrivals(self.rate, self.seconds)
        answers = Answers([], Counter(), Counter(), Counter(), 0)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            told = sum(pool.map(lambda _: self._connection(arrivals, answers), range(CONNECTIONS)))
        return Answers(answers.latencies, answers.statuses, answers.ranked_by, answers.degraded, told)

    def _connection(self, arrivals: Arrivals, answers: Answers) -> int:
        told = 0
        link = HTTPConnection("127.0.0.1", self.port, timeout=30)
        for number, due in arrivals:
            time.sleep(max(0.0, due - time.perf_counter()))
            sent = due
            link.request(
                "POST", "/v1/recommendations", question(number), {"Content-Type": "application/json"}
            )
            reply = link.getresponse()
            body = orjson.loads(reply.read())
            answers.statuses[reply.status] += 1
            if reply.status == 200:
                answers.latencies.append(time.perf_counter() - sent)
                answers.ranked_by[body["ranked_by"]] += 1
                answers.degraded.update(body["degraded"])
            told += reply.status == 503 and reply.headers["Retry-After"] is not None
        link.close()
        return told


def question(number: int) -> bytes:
    """One of the shoppers asks for a slate."""
    return orjson.dumps({"visitor_id": f"s{number % SHOPPERS}"})


if __name__ == "__main__":
    sys.exit(main())
