"""Load on a server, from a process of its own: clients that ask one after another, and arrivals at a fixed rate."""

import itertools
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, Self, TypeVar

import numpy as np

from feature_repo.arrays import Float64
from tests.bench_client import connected

SECONDS: Final = 5.0
"""How long clients that ask one after another do so."""
CONNECTIONS: Final = 32
"""So many requests of a fixed rate can be under way; more wait, and the wait counts."""

Body = Callable[[int], bytes | None]
"""The body of the n-th request; None for GET."""
T = TypeVar("T")


@dataclass(frozen=True)
class Load:
    """What to send: the path, and the body of the n-th request."""

    path: str
    body: Body


@dataclass(frozen=True)
class Driven:
    """Latencies in seconds, how long it took, and the CPU seconds that the asking process spent meanwhile."""

    latencies: Float64
    seconds: float
    cpu: float


class Moment(NamedTuple):
    """A moment by the clock, and the CPU seconds that this process had spent by then."""

    clock: float
    cpu: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.perf_counter(), time.process_time())


class Arrivals:
    """Numbers and moments of requests by independent shoppers: a Poisson process that begins now.

    An iterator that threads share.
    """

    def __init__(self, rate: float, seconds: float) -> None:
        gaps = np.random.default_rng(0).exponential(1 / rate, round(rate * seconds))
        self._moments = (time.perf_counter() + np.cumsum(gaps)).tolist()
        self._size = len(self._moments)
        self._numbers = itertools.count()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, float]:
        number = next(self._numbers)
        if number >= self._size:
            raise StopIteration
        return number, self._moments[number]

    def end(self) -> None:
        """Nobody arrives any more."""
        self._size = 0


def one_after_another(port: int, load: Load, clients: int) -> Driven:
    """What ``clients`` see that ask one thing after another."""
    return in_own_process(partial(_one_after_another, port, load, clients))


def at_rate(port: int, load: Load, rate: float, seconds: float) -> Driven:
    """What shoppers see that arrive at a rate, whether or not those before them were answered."""
    return in_own_process(partial(_at_rate, port, load, rate, seconds))


def in_own_process(work: Callable[[], T]) -> T:
    """What the work returns or raises in a process that does nothing else."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work).result()


def answered(port: int, load: Load, arrivals: Arrivals) -> list[float]:
    """Latencies of the arrivals that one connection gets hold of, from when each was due: waiting counts."""
    latencies = []
    with connected(port) as ask:
        for number, due in arrivals:
            content = load.body(number)
            time.sleep(max(0.0, due - time.perf_counter()))
            ask(load.path, content)
            latencies.append(time.perf_counter() - due)
    return latencies


def driven(clients: Sequence[Future[list[float]]], began: Moment) -> Driven:
    """What clients in this process saw from ``began`` on. Raises what one of them died of."""
    latencies = np.array([latency for client in clients for latency in client.result()])
    ended = Moment.now()
    return Driven(latencies, ended.clock - began.clock, ended.cpu - began.cpu)


def _one_after_another(port: int, load: Load, clients: int) -> Driven:
    numbers = itertools.count()
    began = Moment.now()

    def client() -> list[float]:
        latencies = []
        with connected(port) as ask:
            while time.perf_counter() < began.clock + SECONDS:
                content = load.body(next(numbers))
                sent = time.perf_counter()
                ask(load.path, content)
                latencies.append(time.perf_counter() - sent)
        return latencies

    with ThreadPoolExecutor(clients) as pool:
        return driven([pool.submit(client) for _ in range(clients)], began)


def _at_rate(port: int, load: Load, rate: float, seconds: float) -> Driven:
    began, arrivals = Moment.now(), Arrivals(rate, seconds)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return driven([pool.submit(answered, port, load, arrivals) for _ in range(CONNECTIONS)], began)
