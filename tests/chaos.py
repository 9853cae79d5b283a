"""``make chaos``: the platform's promise about events, while its processes are killed again and again.

Producers post events to two API processes until each batch is acknowledged. Redis (``appendfsync always``), the API
processes and two of ``freshet stream`` get SIGKILL meanwhile and are started again at once. In the end, each event
that was sent must be in the archive once, and windows and item counts must be those that the archive gives.
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import IO, Final

from feature_repo.archive import Archive
from feature_repo.log_reader import LogReader
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.settings import Settings
from tests.chaos_traffic import Fields, batches, distinct_events
from tests.chaos_verdict import (
    archive_differences,
    archived_events,
    count_differences,
    window_differences,
)
from tests.conftest import free_port, wait_until
from training.stream.groups import groups

FRESHET: Final = str(Path(sys.executable).with_name("freshet"))
PRODUCERS: Final = 4
EVENTS_PER_BATCH: Final = 200
KILLS_PER_PROCESS: Final = 3
PATIENCE: Final = 180.0
"""Seconds for a process to come up, or for the consumers to catch up, on a busy machine."""
REQUEST_SECONDS: Final = 20.0
LONGEST_DELAY: Final = 0.05
"""Seconds between handing out a batch and a kill: what is under way differs each time."""
STOP_SECONDS: Final = 30.0


@dataclass
class KillableProcess:
    """One process of the platform; ``port`` answers as soon as it is at work."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    port: int
    log: IO[bytes]
    kills: int = 0

    def start(self) -> None:
        """Start it, or start it again."""
        self._process = subprocess.Popen(
            self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )

    def wait_until_up(self) -> None:
        """Return when it listens; raises TimeoutError."""
        wait_until(self._listens, PATIENCE)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise SystemExit(
                f"{self.name} ended by itself with {self._process.returncode}: see {self.log.name}"
            )
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        try:
            connection.connect()
        except OSError:
            return False
        connection.close()
        return True


@dataclass
class Producers:
    """Threads that post batches to any of the API's ports, each again and again until it is acknowledged."""

    ports: Sequence[int]
    waiting: "Queue[list[Fields] | None]" = field(default_factory=lambda: Queue(PRODUCERS))
    answers: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take batches from ``waiting``; when this ends all are acknowledged."""
        with ThreadPoolExecutor(PRODUCERS) as threads:
            ends = [threads.submit(self._produce, number) for number in range(PRODUCERS)]
            try:
                yield
            finally:
                for _ in ends:
                    self.waiting.put(None, timeout=PATIENCE)
        for end in ends:
            end.result()

    def _produce(self, number: int) -> None:
        tries = number
        while (batch := self.waiting.get()) is not None:
            body = json.dumps({"events": batch}).encode()
            while (answer := self._post(self.ports[tries % len(self.ports)], body)) != "200":
                self.answers[answer] += 1
                tries += 1
                time.sleep(LONGEST_DELAY)
            self.answers[answer] += 1

    def _post(self, port: int, body: bytes) -> str:
        """The status of the answer, or the name of the reason why there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)
        try:
            connection.request("POST", "/v1/events", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            text = reply.read()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()
        if reply.status not in (200, 503):
            raise RuntimeError(f"the API answered {reply.status}: {text[:500]!r}")
        return str(reply.status)


@dataclass(frozen=True)
class Outcome:
    """What a run did, and what is wrong after it: nothing, if all is well."""

    kills: dict[str, int]
    answers: Counter[str]
    differences: list[str]


def main() -> int:
    """Run it as told on the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--kills", type=int, default=KILLS_PER_PROCESS, help="of each of the five processes")
    options = parser.parse_args()
    print(f"{options.events} events, seed {options.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        outcome = chaos(Path(home), options.events, options.seed, options.kills)
    retries = {answer: number for answer, number in outcome.answers.items() if answer != "200"}
    print(
        f"killed {outcome.kills}; batches acknowledged: {outcome.answers['200']}, tried again after: {retries}"
    )
    for difference in outcome.differences:
        print(f"WRONG: {difference}")
    print(
        f"{time.monotonic() - began:.0f} s: {'NOT as it must be' if outcome.differences else 'all is well'}"
    )
    return 1 if outcome.differences else 0


def chaos(home: Path, events: int, seed: int, kills_per_process: int) -> Outcome:
    """Do it all with state under ``home``."""
    rng = random.Random(seed)
    sent = distinct_events(events, time.time_ns() // 1000, rng)
    with ExitStack() as stack:
        settings = Settings(home=home, redis_url=None, redis_port=free_port(), redis_timeout_seconds=5)
        processes = platform(settings, stack)
        apis = [process for process in processes if process.name.startswith("api")]
        producers = Producers([api.port for api in apis])
        victims = processes * kills_per_process
        rng.shuffle(victims)
        with producers.running():
            feed(producers, batches(sent, EVENTS_PER_BATCH, rng), victims, rng)
        differences = asyncio.run(verify(settings, sent))
    return Outcome({process.name: process.kills for process in processes}, producers.answers, differences)


def feed(
    producers: Producers,
    waiting: Sequence[list[Fields]],
    victims: Sequence[KillableProcess],
    rng: random.Random,
) -> None:
    """Hand out the batches; each victim is killed at a moment of its own while some are under way."""
    moments = sorted(rng.sample(range(len(waiting)), len(victims)))
    turns = dict(zip(moments, victims, strict=True))
    for number, batch in enumerate(waiting):
        victim = turns.get(number)
        if victim:
            victim.wait_until_up()
        producers.waiting.put(batch, timeout=PATIENCE)
        if victim:
            time.sleep(rng.uniform(0, LONGEST_DELAY))
            victim.kill()
            victim.start()


def platform(settings: Settings, stack: ExitStack) -> list[KillableProcess]:
    """Redis, two API processes and two stream processes, which run until the stack ends."""
    own_redis = {
        **os.environ,
        "FRESHET_HOME": str(settings.home),
        "FRESHET_REDIS_PORT": str(settings.redis_port),
        "FRESHET_REDIS_APPENDFSYNC": "always",
        "FRESHET_REDIS_TIMEOUT_SECONDS": str(settings.redis_timeout_seconds),
        "FRESHET_CONSUMER_IDLE_SECONDS": "5",
    }
    own_redis.pop("FRESHET_REDIS_URL", None)
    shared_redis = {**own_redis, "FRESHET_REDIS_URL": f"redis://127.0.0.1:{settings.redis_port}"}
    log = stack.enter_context((settings.home / "processes.log").open("ab"))
    processes = [KillableProcess("redis", [FRESHET, "redis"], own_redis, settings.redis_port, log)]
    for kind, command, port_setting in (
        ("api", "serve", "FRESHET_PORT"),
        ("stream", "stream", "FRESHET_STREAM_METRICS_PORT"),
    ):
        for number in (1, 2):
            port = free_port()
            environment = {**shared_redis, port_setting: str(port)}
            processes.append(KillableProcess(f"{kind} {number}", [FRESHET, command], environment, port, log))
    for process in processes:
        process.start()
        stack.callback(process.stop)
    for process in processes:
        process.wait_until_up()
    return processes


async def verify(settings: Settings, sent: Sequence[Fields]) -> list[str]:
    """Wait until every consumer has passed everything; then say what is wrong."""
    log = RedisEventLog.connect(f"redis://127.0.0.1:{settings.redis_port}", settings)
    archive = Archive(settings.archive_dir)
    try:
        readers = [log.reader(group.name, "chaos") for group in groups(settings)]
        deadline = time.monotonic() + PATIENCE
        while waiting := [lag for reader in readers for lag in await lags(reader) if lag]:
            if time.monotonic() > deadline:
                return [f"{sum(waiting)} entries are still not processed after {PATIENCE:.0f} s"]
            await asyncio.sleep(LONGEST_DELAY)
        archive.compact()
        archived = archived_events(archive)
        buried = [await readers[0].dead_letter_count(partition) for partition in range(log.partitions)]
        return [
            *archive_differences(sent, archived),
            *await window_differences(log, archived, settings.window_size),
            *await count_differences(log, archived),
            *([f"{sum(buried)} dead letters"] if any(buried) else []),
        ]
    finally:
        await log.aclose()


async def lags(reader: LogReader) -> list[int]:
    """Entries of each partition that the reader's group is not done with."""
    return [(await reader.lag(partition)).entries for partition in range(reader.partitions)]


if __name__ == "__main__":
    sys.exit(main())
