"""A shop so small that the right answers are known.

Ten items in three categories, in order of popularity. The ranker prefers neighbours of the last item, by
their co-visitation score, and then what is popular:

    kettle -> teapot, mug      lamp -> bulb, shade      desk -> chair
"""

from functools import cache
from pathlib import Path

import lightgbm
import numpy as np
import orjson
import pyarrow as pa

from feature_repo.batch_features import ITEM_STATISTICS, USER_STATISTICS
from feature_repo.ranking_features import RANKING_COLUMNS, RANKING_HASH, ItemColumns
from feature_repo.schema import DAY, ITEM_SCHEMA, EventType, Item
from feature_repo.user_tower import UserTower
from serving.bundle import (
    Bundle,
    Manifest,
    RetrievalArrays,
    UserColumns,
    set_current,
    write_bundle,
)

TRAINED_AT = 1_750_000_000_000_000
"""2025-06-15, in microseconds: the training of the tiny bundle ends here."""

NAMES = ("mug", "kettle", "lamp", "desk", "teapot", "bulb", "chair", "shade", "tray", "rug")
"""Items, the most popular first."""
CATEGORIES = ("home > kitchen", "home > light", "office")
CATEGORY_OF = dict(
    zip(NAMES, (0, 0, 1, 2, 0, 1, 2, 1, 0, 2), strict=True),
)
BRANDS = ("brookside", "fern")
"""Of the items in turn."""
NEIGHBOURS = {
    "kettle": ("teapot", "mug"),
    "teapot": ("kettle", "tray"),
    "lamp": ("bulb", "shade"),
    "bulb": ("lamp",),
    "desk": ("chair",),
}
"""Co-visited items, the best first."""
SOLD_OUT = "rug"
KNOWN_SHOPPER = "u:ada"
K = 2


def price_of(name: str) -> float:
    """Price of an item: 10 for the most popular, 10 more for each after it."""
    return 10.0 * (NAMES.index(name) + 1)


def tiny_bundle(version: str = "v1", prefix: str = "") -> Bundle:
    """The shop's model; ``prefix`` stands before every item id, so that versions can be told apart."""
    n = len(NAMES)
    category = np.array([CATEGORY_OF[name] for name in NAMES], np.int32)
    prices = np.array([price_of(name) for name in NAMES], np.float32)
    return Bundle(
        manifest=Manifest(
            version=version,
            created=TRAINED_AT,
            training_start=TRAINED_AT - 30 * DAY,
            training_end=TRAINED_AT,
            feature_hash=RANKING_HASH,
            feature_columns=list(RANKING_COLUMNS),
            metrics={},
            git_revision="unknown",
            checksums={},
        ),
        item_ids=np.array([prefix + name for name in NAMES], dtype=object),
        catalog=_catalog(prefix),
        categories=list(CATEGORIES),
        shopper_keys=np.array([KNOWN_SHOPPER], dtype=object),
        items=ItemColumns(
            statistics=np.zeros((n, len(ITEM_STATISTICS)), np.float32),
            first_seen=np.full(n, TRAINED_AT - 20 * DAY, np.int64),
            last_seen=np.full(n, TRAINED_AT - DAY, np.int64),
            category=category,
            department=np.array([0, 0, 1], np.int32)[category],
            brand=np.arange(n, dtype=np.int32) % len(BRANDS),
            price=prices,
            price_missing=np.zeros(n, bool),
        ),
        tower=UserTower(
            embeddings=np.eye(len(CATEGORIES), dtype=np.float32)[category],
            item_weight=np.ones(n, np.float32),
            recency=np.zeros(5, np.float32),
            event_type=np.zeros(len(EventType), np.float32),
        ),
        retrieval=_retrieval(category),
        users=UserColumns(
            statistics=np.zeros((1, len(USER_STATISTICS)), np.float32),
            embeddings=np.eye(1, len(CATEGORIES), dtype=np.float32),
        ),
        ranker=tiny_ranker(),
    )


def publish(models: Path, bundle: Bundle) -> Path:
    """Write a bundle under ``models`` and make it the live one; returns its directory."""
    directory = models / bundle.manifest.version
    write_bundle(bundle, directory)
    set_current(models, bundle.manifest.version)
    return directory


@cache
def tiny_ranker() -> lightgbm.Booster:
    """A score that rises with last_item_covisitation_score, then with popular_score, and with nothing else."""
    last_item = RANKING_COLUMNS.index("last_item_covisitation_score")
    popular = RANKING_COLUMNS.index("popular_score")
    scores = np.arange(len(NAMES) + 1, dtype=np.float32)
    pairs = np.array([(a, b) for a in np.arange(K + 1) for b in scores for _ in range(3)], np.float32)
    rows = np.zeros((len(pairs), len(RANKING_COLUMNS)), np.float32)
    rows[:, [last_item, popular]] = pairs
    parameters = {
        "objective": "regression",
        "learning_rate": 1.0,
        "num_leaves": 64,
        "min_data_in_leaf": 1,
        "min_data_in_bin": 1,
        "num_threads": 1,
        "deterministic": True,
        "verbose": -1,
    }
    data = lightgbm.Dataset(rows, pairs[:, 0] * 100 + pairs[:, 1])
    return lightgbm.train(parameters, data, num_boost_round=1)


def _retrieval(category: "np.typing.NDArray[np.int32]") -> RetrievalArrays:
    neighbours = np.full((len(NAMES), K), -1, np.int32)
    for name, near in NEIGHBOURS.items():
        neighbours[NAMES.index(name), : len(near)] = [NAMES.index(other) for other in near]
    popularity = np.arange(len(NAMES), 0, -1, dtype=np.float32)
    by_category = np.argsort(category, kind="stable").astype(np.int32)
    return RetrievalArrays(
        neighbours=neighbours,
        neighbour_scores=np.tile(np.arange(K, 0, -1, dtype=np.float32), (len(NAMES), 1)),
        popular=np.arange(len(NAMES), dtype=np.int32),
        popular_scores=popularity,
        category_popular=by_category,
        category_popular_scores=popularity[by_category],
        category_offsets=np.searchsorted(category[by_category], np.arange(len(CATEGORIES) + 1)).astype(
            np.int32
        ),
        available=np.array([name != SOLD_OUT for name in NAMES]),
    )


def _catalog(prefix: str) -> pa.Table:
    rows = [
        {
            Item.ID: prefix + name,
            Item.TITLE: name.capitalize(),
            Item.CATEGORY: CATEGORIES[CATEGORY_OF[name]],
            Item.BRAND: BRANDS[index % len(BRANDS)],
            Item.PRICE: price_of(name),
            Item.AVAILABLE: name != SOLD_OUT,
            Item.PROPERTIES: orjson.dumps({"rank": index}).decode(),
        }
        for index, name in enumerate(NAMES)
    ]
    return pa.Table.from_pylist(rows, schema=ITEM_SCHEMA)
