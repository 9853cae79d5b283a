"""A shop so small that the right answers are known.

Ten items in three categories, in order of popularity, and three shoppers, one for each category. The ranker prefers
neighbours of the last item, by their co-visitation score, and then what is popular:

    kettle -> teapot, mug      lamp -> bulb, shade      desk -> chair
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import lightgbm
import numpy as np
import orjson
import pyarrow as pa

from feature_repo.arrays import Float32, Int32
from feature_repo.batch_features import ITEM_STATISTICS, USER_STATISTICS
from feature_repo.ranking_features import RANKING_COLUMNS, RANKING_HASH, ItemColumns
from feature_repo.schema import DAY, ITEM_SCHEMA, EventType, Item
from feature_repo.session_features import Window
from feature_repo.user_tower import UserTower
from serving.bundle import Availability, Bundle, Manifest, UserColumns
from serving.bundle_files import write_bundle
from serving.calibration import Calibration
from serving.indexes import GroupedLists, Neighbours, PopularityLists, Segments, SessionIndex, UserHistories
from serving.live_version import set_current
from serving.ranking import Ranker, Rankers
from serving.session_encoder import AGES, QUERY, STEPS, TYPES, VALUES, EncoderItems, SessionEncoder
from serving.text_index import TextIndex
from serving.vector_index import NO_VECTORS, VectorIndex

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
WALKED = {
    "kettle": ("teapot", "tray"),
    "teapot": ("kettle", "mug"),
    "lamp": ("bulb", "shade"),
    "bulb": ("lamp", "shade"),
    "desk": ("chair",),
}
"""Where walks over the co-visited items end, the best first."""
BOUGHT_TOGETHER = {"kettle": ("tray", "mug"), "lamp": ("bulb",), "desk": ("chair", "lamp")}
"""Complements, the best first."""
ALIKE = {"mug": ("teapot", "tray"), "lamp": ("chair",), "desk": ("rug", "shade"), "bulb": ("shade",)}
"""Items that are alike in content, the best first: all of one brand."""
SESSIONS = (("kettle", "teapot", "mug"), ("desk", "chair"), ("kettle", "tray"), ("lamp", "bulb"))
"""What the sessions of the log held, a minute apart; the newest ended when the training did, each a day before."""
TRENDING = {"tray": 3.0, "shade": 2.0}
"""How many times more these are met than they used to be."""
SEGMENT_POPULAR = (("kettle", "teapot"), ("lamp", "desk"))
"""What those who like the kitchen buy, and what those who do not."""
SHOPPERS = ("u:ada", "u:bea", "u:cal")
TASTES = np.eye(len(SHOPPERS), len(CATEGORIES), dtype=np.float32)
"""Known shoppers; one likes the kitchen, one light, one the office."""
KNOWN_SHOPPER = SHOPPERS[0]
VISITS = ({"mug": 3, "teapot": 2}, {"lamp": 2, "bulb": 1}, {"desk": 1})
"""Of each known shopper: in how many visits an item was met, first 20 days before the training, last 5 days.

Each item was purchased once.
"""
ALL_VISITS = (4, 2, 1)
"""Of each known shopper."""
CALIBRATION = Calibration(
    click_scores=np.array([0, 200], np.float32),
    click_probabilities=np.array([0, 0.5], np.float32),
    purchase_scores=np.zeros(0, np.float32),
    purchase_probabilities=np.zeros(0, np.float32),
)
"""How often an item of a score is taken next; of purchases the training saw too few."""
SOLD_OUT = "rug"
UNKNOWN_TO_ENCODER = "rug"
K = 2


EMBEDDINGS = np.eye(len(CATEGORIES), dtype=np.float32)[[CATEGORY_OF[name] for name in NAMES]]
"""Of each item: that of its category."""


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
        shopper_keys=np.array(SHOPPERS, dtype=object),
        items=ItemColumns(
            statistics=np.zeros((n, len(ITEM_STATISTICS)), np.float32),
            first_seen=np.full(n, TRAINED_AT - 20 * DAY, np.int64),
            last_seen=np.full(n, TRAINED_AT - DAY, np.int64),
            category=category,
            department=np.array([0, 0, 1], np.int32)[category],
            brand=np.arange(n, dtype=np.int32) % len(BRANDS),
            price=prices,
            price_missing=np.zeros(n, bool),
            content=np.eye(len(BRANDS), dtype=np.float32)[np.arange(n) % len(BRANDS)],
        ),
        availability=Availability(np.array([name != SOLD_OUT for name in NAMES])),
        tower=UserTower(
            embeddings=EMBEDDINGS,
            item_weight=np.ones(n, np.float32),
            recency=np.zeros(5, np.float32),
            event_type=np.zeros(len(EventType), np.float32),
        ),
        tower_index=VectorIndex.of(EMBEDDINGS),
        encoder=None,
        encoder_index=NO_VECTORS,
        covisited=neighbours(NEIGHBOURS),
        walked=neighbours(WALKED),
        bought_together=neighbours(BOUGHT_TOGETHER),
        alike=neighbours(ALIKE),
        sessions=session_index(SESSIONS),
        popularity=PopularityLists(
            items=np.arange(n, dtype=np.int32),
            scores=np.arange(n, 0, -1, dtype=np.float32),
            trending=codes(TRENDING),
            trending_scores=np.array(list(TRENDING.values()), np.float32),
        ),
        category_popularity=_lists(
            [[name for name in NAMES if CATEGORY_OF[name] == code] for code in range(len(CATEGORIES))]
        ),
        segments=Segments(np.array([[1, 0, 0], [0, 0.5**0.5, 0.5**0.5]], np.float32)),
        segment_popularity=_lists(SEGMENT_POPULAR),
        users=UserColumns(
            statistics=np.zeros((len(SHOPPERS), len(USER_STATISTICS)), np.float32),
            embeddings=TASTES,
        ),
        user_index=VectorIndex.of(TASTES),
        histories=_histories(),
        rankers=Rankers(session=tiny_ranker(), arrival=tiny_ranker()),
        texts=TextIndex.of(NAMES),
        calibration=CALIBRATION,
    )


def publish(models: Path, bundle: Bundle) -> Path:
    """Write a bundle under ``models`` and make it the live one; returns its directory."""
    directory = models / bundle.manifest.version
    write_bundle(bundle, directory)
    set_current(models, bundle.manifest.version)
    return directory


@cache
def tiny_ranker() -> Ranker:
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
    return Ranker(lightgbm.train(parameters, data, num_boost_round=1))


def tiny_encoder(history: int = 3) -> SessionEncoder:
    """An encoder that expects more of the newest item's category: its answer is the newest item's unit vector.

    Vectors are those of the tower; the cosine is doubled to a logit; it cannot know UNKNOWN_TO_ENCODER.
    """
    known = np.array([name != UNKNOWN_TO_ENCODER for name in NAMES], np.float32)
    category = [CATEGORY_OF[name] for name in NAMES]
    return SessionEncoder(
        EncoderItems(
            embeddings=np.eye(len(CATEGORIES), dtype=np.float32)[category] * known[:, None],
            item_weight=3 * known,
            scale=np.array([2], np.float32),
            history=np.array([history], np.int32),
        ),
        newest_item_network(len(CATEGORIES)),
    )


def with_encoder(bundle: Bundle, encoder: SessionEncoder) -> Bundle:
    """The bundle with this encoder and an index of its items."""
    return replace(bundle, encoder=encoder, encoder_index=VectorIndex.of(encoder.items.embeddings))


def log_probability(encoder: SessionEncoder, active: Window, as_of: int) -> Float32:
    """float32[items]: of every item to be the next."""
    expected = encoder.expected(VectorIndex.of(encoder.items.embeddings), active, as_of)
    assert expected is not None
    return expected.log_probability(np.arange(len(encoder.items.embeddings), dtype=np.int32))


@cache
def newest_item_network(dimensions: int) -> bytes:
    """A network (ONNX) that answers with the newest item's vector at length one."""
    from onnx import TensorProto, helper

    length = "length"
    inputs = [
        helper.make_tensor_value_info(VALUES, TensorProto.FLOAT, [1, length, dimensions]),
        helper.make_tensor_value_info(TYPES, TensorProto.INT64, [1, length]),
        helper.make_tensor_value_info(STEPS, TensorProto.INT64, [1, length]),
        helper.make_tensor_value_info(AGES, TensorProto.FLOAT, [1, length]),
    ]
    nodes = [
        helper.make_node("Gather", [VALUES, "newest"], ["vector"], axis=1),
        helper.make_node("LpNormalization", ["vector"], [QUERY], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "newest item",
        inputs,
        [helper.make_tensor_value_info(QUERY, TensorProto.FLOAT, [1, dimensions])],
        [helper.make_tensor("newest", TensorProto.INT64, [], [0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def codes(names: Sequence[str] | Mapping[str, object]) -> Int32:
    """int32: the indexes of items."""
    return np.array([NAMES.index(name) for name in names], np.int32)


def neighbours(of: Mapping[str, Sequence[str]]) -> Neighbours:
    """The neighbours of items by name, at most K of each; the scores of each item's are K, K - 1, ..."""
    items = np.full((len(NAMES), K), -1, np.int32)
    for name, near in of.items():
        items[NAMES.index(name), : len(near)] = codes(near)
    return Neighbours(items, np.tile(np.arange(K, 0, -1, dtype=np.float32), (len(NAMES), 1)))


def session_index(sessions: Sequence[Sequence[str]], newest: int = TRAINED_AT) -> SessionIndex:
    """An index of sessions, the newest first: each a day older than the one before, their items a minute apart."""
    held = [sorted({number for number, session in enumerate(sessions) if name in session}) for name in NAMES]
    lengths = [len(session) for session in sessions]
    return SessionIndex(
        session_offsets=np.cumsum([0, *lengths]),
        session_items=codes([name for session in sessions for name in session]),
        session_steps=np.array([step for length in lengths for step in range(length)], np.int32),
        session_time=newest - np.arange(len(sessions)) * DAY,
        item_offsets=np.cumsum([0, *map(len, held)]),
        item_sessions=np.array([number for numbers in held for number in numbers], np.int32),
        rarity=np.log([(len(sessions) + 1) / (len(numbers) + 1) for numbers in held]).astype(np.float32),
    )


def _lists(groups: Sequence[Sequence[str]]) -> GroupedLists:
    """Lists of items, each item with its score in the overall popularity."""
    items = codes([name for group in groups for name in group])
    offsets = np.cumsum([0, *map(len, groups)]).astype(np.int32)
    return GroupedLists(items, (len(NAMES) - items).astype(np.float32), offsets)


def _histories() -> UserHistories:
    items = codes([name for visits in VISITS for name in visits])  # named in order of their index
    return UserHistories(
        offsets=np.cumsum([0, *map(len, VISITS)]),
        items=items,
        visits=np.array([count for visits in VISITS for count in visits.values()], np.float32),
        purchases=np.ones(items.size, np.float32),
        first=np.full(items.size, TRAINED_AT - 20 * DAY),
        last=np.full(items.size, TRAINED_AT - 5 * DAY),
        total_visits=np.array(ALL_VISITS, np.int32),
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
