"""Nothing in Redis grows without end: each key expires, or has a bound."""

import time
from typing import Any

import pandas as pd
import pytest
from feast import FeatureStore
from redis import Redis

from feature_repo.activity_message import MESSAGE_SECONDS
from feature_repo.archive import Archive
from feature_repo.catalog_changes import CatalogChange
from feature_repo.feature_store import materialize, open_store, push_item_windows
from feature_repo.item_activity import ACTIVITY_WINDOWS
from feature_repo.offline_store import ITEM_KEY, ITEM_WINDOWS, View, write_snapshot
from feature_repo.online_user import PROJECT
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.redis_layout import ACTIVITY_KEY, CATALOG_KEY
from feature_repo.schema import DAY, HOUR, SECOND, EventType
from feature_repo.settings import Settings
from tests.feature_repo.feature_rows import same_everywhere
from tests.feature_repo.log_events import event
from training.stream.activity_board import ActivityBoard
from training.stream.archiving import Archiving
from training.stream.consumer import Batches, Consumer, Group
from training.stream.counting import Counting

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

RESTARTS = 5
ROUNDS = 300
"""Events of each shopper: more than a window and an exposure set keep."""


class Refusing(Archiving):
    """An archive that takes nothing."""

    async def process(self, reader: object, batches: Batches) -> None:
        """See Group."""
        raise ValueError("not today")


async def traffic_of_all_kinds(log: RedisEventLog, settings: Settings) -> None:
    """Shoppers who browse and log in, consumers that die and come again, and one that buries what it is given."""
    archiving = Archiving(Archive(settings.archive_dir))
    for number in range(ROUNDS):
        now = time.time_ns() // 1000
        await log.append(
            [
                event(
                    number,
                    event_id=f"{kind}-{number}",
                    event_type=kind.value,
                    item_id=f"i{number}",
                    timestamp=now,
                    user_id="ann" if kind == EventType.PURCHASE else None,
                    visitor_id="vera",
                )
                for kind in EventType
            ]
        )
        if number % (ROUNDS // RESTARTS) == 0:
            groups: list[Group] = [Refusing(archiving._archive) if number == 0 else archiving, Counting()]
            for group in groups:
                reader = log.reader(group.name, f"process-{number}")
                consumer = Consumer(group, reader, batch_size=100, patience=1)
                await consumer.take_over(0)
                await consumer.round()


def features_of_all_kinds(store: FeatureStore, settings: Settings) -> None:
    """Users whose features were materialized, and items whose windows were pushed."""
    now = time.time_ns() // 1000
    write_snapshot(settings.features_dir, View.USER_STATISTICS, same_everywhere(["u:ann", "v:vera"], 1), now)
    materialize(store, now, now, [View.USER_STATISTICS])
    push_item_windows(store, pd.DataFrame([{ITEM_KEY: "mug", **dict.fromkeys(ITEM_WINDOWS, 1)}]), now)


def kind_of(key: bytes) -> str:
    """What a key is for: Feast's end with its project, the others name it."""
    if key.endswith(PROJECT.encode()):
        return "features"
    return key.decode().split(":")[1 if key in {ACTIVITY_KEY.encode(), CATALOG_KEY.encode()} else 2]


def size_of(redis: Redis, key: bytes) -> int:
    """Members, entries or bytes that a key holds."""
    counting = {b"stream": "XLEN", b"zset": "ZCARD", b"hash": "HLEN", b"string": "STRLEN"}
    return int(redis.execute_command(counting[redis.type(key)], key))  # type: ignore[index,no-untyped-call]


async def test_after_traffic_of_all_kinds_every_key_expires_or_is_bounded(
    clean_redis: Redis, redis_url: str, settings: Settings
) -> None:
    kept = 3
    settings = settings.model_copy(update={"dead_letters_kept": kept})
    log = RedisEventLog.connect(redis_url, settings)
    await traffic_of_all_kinds(log, settings)
    groups: list[Group] = [Archiving(Archive(settings.archive_dir)), Counting()]
    readers = [log.reader(group.name, "last") for group in groups]
    for group, reader in zip(groups, readers, strict=True):
        last = Consumer(group, reader, batch_size=10_000, patience=1)
        await last.round()
        await last.take_over(0)
    for partition in range(log.partitions):
        await readers[0].trim(partition)

    board = ActivityBoard(log)
    await board.look(now := time.time_ns() // 1000)
    await log.catalog.append([CatalogChange("mug", {"price": 1.0})])
    await log.publish_activity(board.activity(now).to_bytes())

    store = open_store(settings, redis_url)
    features_of_all_kinds(store, settings)

    lives = {
        "features": store.config.online_store.key_ttl_seconds * SECOND,
        "activity": MESSAGE_SECONDS * SECOND,
        "seen": settings.dedup_hours * HOUR,
        "window": settings.window_ttl_days * DAY,
        "shown": settings.exposures_ttl_days * DAY,
        "link": settings.link_ttl_days * DAY,
        "count": max(window.length for window in ACTIVITY_WINDOWS),
    }
    sizes = {
        "catalog": 1,
        "log": 1,
        "dead": kept,
        "window": settings.window_size,
        "shown": settings.exposures_size,
        "link": 1,
    }
    found: dict[str, Any] = {}
    for key in clean_redis.scan_iter():
        kind = kind_of(key)
        size, life = size_of(clean_redis, key), int(clean_redis.pttl(key))  # type: ignore[arg-type]
        if kind in lives:
            assert 0 < life <= lives[kind] / SECOND * 1000, key
        if kind in sizes:
            assert size <= sizes[kind], key
        assert kind in lives or kind in sizes, key
        found[kind] = max(size, found.get(kind, 0))
        if kind == "log":
            for one in clean_redis.xinfo_groups(key):  # type: ignore[union-attr]
                assert one["consumers"] <= 1, key
    assert found.keys() == lives.keys() | sizes.keys()
    assert found | sizes == found  # every bound was reached
    await log.aclose()
