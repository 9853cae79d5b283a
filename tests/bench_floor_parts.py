"""What any server that answers with slates is made of, and what Feast takes to read the items: each part alone.

Searched for and predicted is what shoppers of the shop ask for: zeros would take one way through all trees, and the
same vector would find everything in the caches.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_repo.arrays import Float32
from feature_repo.feature_store import open_store
from feature_repo.offline_store import ITEM_KEY, SNAPSHOT_SCHEMAS, View
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import SECOND, EventType, shopper_key
from feature_repo.session_window import WindowEvent
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.plan import EVERYTHING
from serving.query import Question
from serving.recommender import Recommender
from training.features import bring_online, build_features

CANDIDATES: Final = 300
REPEATS: Final = 200


@dataclass(frozen=True)
class Asked:
    """What shoppers ask of the vectors and of the ranker: float32[d] each, float32[candidates, columns] each."""

    vectors: Sequence[Float32]
    features: Sequence[Float32]


def floor_parts(settings: Settings, bundle: Bundle, shoppers: Mapping[str, list[str]]) -> dict[str, float]:
    """Medians of a Redis round trip, of a search and of a prediction; milliseconds."""
    asked = what_they_ask(bundle, dict(list(shoppers.items())[:REPEATS]))
    ranker, quota = bundle.rankers.session, EVERYTHING["session_embedding"].quota
    assert ranker is not None
    return {
        "Redis round trip": asyncio.run(round_trip(settings, list(shoppers))),
        "search in the items' vectors": median(
            lambda number: bundle.tower_index.search(asked.vectors[number], quota)
        ),
        f"LightGBM, {CANDIDATES} candidates": median(
            lambda number: ranker.booster.predict(asked.features[number], num_threads=1)
        ),
    }


def what_they_ask(bundle: Bundle, shoppers: Mapping[str, list[str]]) -> Asked:
    """Of shoppers, by their ids, who viewed items half a minute each."""
    recommender, as_of = Recommender(bundle, CANDIDATES), time.time_ns() // 1000
    vectors, features = [], []
    for name, items in shoppers.items():
        viewed = [
            WindowEvent(as_of - (len(items) - number) * 30 * SECOND, str(number), EventType.VIEW, item)
            for number, item in enumerate(items)
        ]
        query = Question(events=viewed, shopper_key=shopper_key(name, None), as_of=as_of).encode(bundle)
        interest = recommender.encode(query)
        vectors.append(interest.session)
        features.append(recommender.features(recommender.retrieve(query, interest), query, interest))
    return Asked(vectors, features)


async def round_trip(settings: Settings, shoppers: Sequence[str]) -> float:
    """Reading a shopper."""
    log = RedisEventLog.connect(redis_url(settings), settings)
    taken = []
    for number in range(REPEATS):
        started = time.perf_counter()
        await log.shopper(shoppers[number % len(shoppers)], None)
        taken.append(time.perf_counter() - started)
    await log.aclose()
    return float(np.median(taken)) * 1000


def feast_read(settings: Settings, bundle: Bundle) -> tuple[int, float]:
    """Columns of Feast's own read of the ranker's scalar item columns, and its milliseconds, of as many items."""
    as_of = bundle.manifest.training_end
    build_features(settings, as_of)
    bring_online(settings, as_of, [View.ITEM_STATISTICS, View.ITEM_WINDOWS])
    store = open_store(settings, redis_url(settings))
    features = [
        f"{view}:{name}"
        for view in (View.ITEM_STATISTICS, View.ITEM_WINDOWS)
        for name in SNAPSHOT_SCHEMAS[view].names
        if name not in (ITEM_KEY, "event_timestamp")
    ]
    rows = np.random.default_rng(0).choice(len(bundle.item_ids), CANDIDATES, replace=False)
    entities = [{ITEM_KEY: item_id} for item_id in bundle.item_ids[rows]]
    return len(features), median(
        lambda _: store.get_online_features(features=features, entity_rows=entities), REPEATS // 4
    )


def redis_url(settings: Settings) -> str:
    """Of the server's Redis."""
    assert settings.redis_url is not None
    return settings.redis_url.get_secret_value()


def median(work: Callable[[int], object], repeats: int = REPEATS) -> float:
    """Milliseconds of the work, which is done for number after number."""
    taken = []
    for number in range(repeats):
        started = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1000
