"""``make bench-memory``: what shoppers and events take of Redis' memory, beside what the formula says.

Fills an embedded Redis through the event log and through Feast, and exits 1 when a formula is off by more than
TOLERANCE.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
from redis import Redis

from feature_repo.events import LoggedEvent
from feature_repo.offline_store import View, write_snapshot
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.redis_memory import logged_event_bytes, online_features_bytes, shopper_bytes
from feature_repo.schema import SECOND, EventType
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis
from tests.conftest import free_port
from tests.feature_repo.feature_rows import NOON, same_everywhere, user_embeddings
from training.config import SequenceConfig
from training.manifest import new_version

TOLERANCE: Final = 0.2
BATCH: Final = 1000
MIB: Final = 2**20


@dataclass(frozen=True)
class Shop:
    """So many shoppers, with so many events and impressions each."""

    shoppers: int
    events: int
    impressions: int

    def logged(self) -> Iterator[LoggedEvent]:
        """All events, those of one shopper far apart."""
        for number in range(self.events):
            for shopper in range(self.shoppers):
                yield event_of(shopper, number, EventType.VIEW)
        for number in range(self.impressions):
            for shopper in range(self.shoppers):
                yield event_of(shopper, number, EventType.IMPRESSION)

    def predicted(self, settings: Settings) -> int:
        """Bytes that the formula gives."""
        view, impression = event_of(0, 0, EventType.VIEW), event_of(0, 0, EventType.IMPRESSION)
        each = shopper_bytes(view, impression, settings, events=self.events, impressions=self.impressions)
        each += self.events * logged_event_bytes(view) + self.impressions * logged_event_bytes(impression)
        return self.shoppers * each


@dataclass(frozen=True)
class Known:
    """So many shoppers whose statistics and vectors, of so many numbers, are online."""

    shoppers: int
    width: int

    def keys(self) -> list[str]:
        """Visitors with random ids."""
        return [f"v:{UUID(int=number, version=4).hex}" for number in range(self.shoppers)]

    def predicted(self) -> int:
        """Bytes that the formula gives."""
        return sum(online_features_bytes(key, self.width) for key in self.keys())

    def measured(self, home: Path) -> int:
        """Bytes that a Redis takes for them, without those of an empty one."""
        from feature_repo.feature_store import materialize, open_store

        settings = Settings(home=home, redis_url=None, redis_port=free_port())
        vector = list(np.linspace(-1, 1, self.width))
        tables = {
            View.USER_STATISTICS: same_everywhere(self.keys(), 1.5),
            View.USER_EMBEDDING: user_embeddings(dict.fromkeys(self.keys(), vector), new_version(NOON)),
        }
        for view, rows in tables.items():
            write_snapshot(settings.features_dir, view, rows, NOON)
        with embedded_redis(settings) as url, Redis.from_url(url) as client:
            empty = used_memory(client)
            materialize(open_store(settings, url), NOON, NOON, tables)
            return used_memory(client) - empty


KNOWN: Final = Known(100_000, width=SequenceConfig().dimensions)
"""Shoppers whose features are online, with vectors as a training makes them."""
SHOPS: Final = (Shop(100_000, events=4, impressions=2), Shop(1000, events=80, impressions=220))
"""Many who look around, and a few who fill windows and exposures."""


def event_of(shopper: int, number: int, kind: EventType) -> LoggedEvent:
    """An event as browsers send it: a random id, a visitor, where it happened; impressions name their request."""
    now = time.time_ns() // 1000
    return LoggedEvent(
        event_id=UUID(int=(kind.code << 100) + (shopper << 40) + number, version=4).hex,
        event_type=kind.value,
        visitor_id=f"visitor-{shopper:012}",
        item_id=f"item-{number:06}",
        timestamp=now - SECOND + number,
        arrival_time=now,
        placement="home",
        request_id=UUID(int=number, version=4).hex if kind == EventType.IMPRESSION else None,
        position=number % 20 if kind == EventType.IMPRESSION else None,
    )


def measured(shop: Shop, home: Path) -> int:
    """Bytes that a Redis takes for the shop, without those of an empty one."""
    settings = Settings(home=home, redis_url=None, redis_port=free_port(), redis_timeout_seconds=60)

    async def fill(url: str) -> None:
        log = RedisEventLog.connect(url, settings)
        events = shop.logged()
        while batch := list(islice(events, BATCH)):
            await log.append(batch)
        await log.aclose()

    with embedded_redis(settings) as url, Redis.from_url(url) as client:
        empty = used_memory(client)
        asyncio.run(fill(url))
        return used_memory(client) - empty


def used_memory(client: Any) -> int:
    """Bytes that Redis has allocated."""
    return int(client.info("memory")["used_memory"])


def main() -> int:
    """Print the table; returns the exit status."""
    view, impression = event_of(0, 0, EventType.VIEW), event_of(0, 0, EventType.IMPRESSION)
    settings = Settings()
    full = shopper_bytes(
        view, impression, settings, events=settings.window_size, impressions=settings.exposures_size
    )
    print(
        f"formula: a view {logged_event_bytes(view)} bytes, an impression {logged_event_bytes(impression)},"
    )
    print(f"a shopper with a full window and full exposures {full}\n")
    print(f"{'shoppers':>9}{'views':>7}{'impressions':>13}{'formula MiB':>13}{'Redis MiB':>11}{'off by':>9}")
    worst = 0.0
    for shop in SHOPS:
        with tempfile.TemporaryDirectory() as home:
            predicted, found = shop.predicted(settings), measured(shop, Path(home))
        off = predicted / found - 1
        worst = max(worst, abs(off))
        print(
            f"{shop.shoppers:>9}{shop.events:>7}{shop.impressions:>13}{predicted / MIB:>13.0f}"
            f"{found / MIB:>11.0f}{off:>9.1%}",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as home:
        predicted, found = KNOWN.predicted(), KNOWN.measured(Path(home))
    off = predicted / found - 1
    worst = max(worst, abs(off))
    each = predicted / KNOWN.shoppers
    print(
        f"\n{KNOWN.shoppers} shoppers with features, a vector of {KNOWN.width} among them: {each:.0f} bytes each, "
        f"formula {predicted / MIB:.0f} MiB, Redis {found / MIB:.0f} MiB, off by {off:.1%}"
    )
    return 1 if worst > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
