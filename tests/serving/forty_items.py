"""A shop of forty items, what may be asked of it, and what it may answer."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from feature_repo.encoded_log import encode_log
from feature_repo.events import LoggedEvent, to_table
from feature_repo.ranking_features import RANKING_COLUMNS
from feature_repo.schema import CATEGORY_SEPARATOR, DAY, HOUR, ITEM_SCHEMA, MINUTE, SECOND, EventType, Item
from feature_repo.session_window import WindowEvent
from feature_repo.user_tower import UserTower
from serving.bundle import Bundle
from serving.query import Filters, Question, Slate
from serving.ranking import Ranker, Rankers
from serving.recommender import Recommender
from serving.session_encoder import EncoderItems, SessionEncoder
from tests.tiny_bundle import TRAINED_AT, newest_item_network, tiny_bundle
from training.assemble import assemble, describe_shop
from training.learned import Learned

NOW = TRAINED_AT + HOUR
SHOPPERS = 10
SHOP = [f"item {number:02}" for number in range(40)]
SOLD_OUT = SHOP[::7]
CATEGORIES = ("home > kitchen", "home > light", "homeware", "office")
CANDIDATES = 15
INTERESTS = ("view", "click", "add_to_cart", "favorite", "purchase", "rate")


@cache
def shop(first: int = 0) -> Bundle:
    """Forty items, a log of 600 random events in visits, random embeddings, rankers that use every feature.

    Without the ``first`` items it is another model, in which all others have other indexes.
    """
    names = SHOP[first:]
    random = np.random.default_rng(11)
    events = to_table(
        LoggedEvent(
            event_id=f"e{number:03}",
            event_type=random.choice([kind.value for kind in EventType]),
            user_id=f"s{random.integers(SHOPPERS)}",
            item_id=names[min(random.geometric(0.08) - 1, len(names) - 1)],
            timestamp=TRAINED_AT
            - int(random.integers(1, 20)) * 36 * HOUR
            - int(random.integers(20 * MINUTE)),
            arrival_time=TRAINED_AT,
        )
        for number in range(600)
    )
    catalog = pa.Table.from_pylist(
        [
            {
                Item.ID: name,
                Item.CATEGORY: CATEGORIES[number % len(CATEGORIES)] if number % 9 else None,
                Item.BRAND: f"brand {number % 3}",
                Item.PRICE: float(number) if number % 5 else None,
                Item.AVAILABLE: name not in SOLD_OUT,
                Item.CREATED_AT: datetime.fromtimestamp((TRAINED_AT - number * DAY) / SECOND, UTC)
                if number % 4
                else None,
                Item.MARGIN: number / 100 if number % 6 else None,
            }
            for number, name in enumerate(SHOP)
            if name in names
        ],
        schema=ITEM_SCHEMA,
    )
    described = describe_shop(events, catalog)
    vectors = random.normal(size=(len(names), 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tower = UserTower(
        embeddings=vectors,
        item_weight=random.random(len(names), dtype=np.float32),
        recency=-0.3 * np.arange(8, dtype=np.float32),
        event_type=random.normal(size=len(EventType)).astype(np.float32),
    )
    encoder = SessionEncoder(
        EncoderItems(
            embeddings=vectors[::-1].copy(),
            item_weight=random.random(len(names), dtype=np.float32),
            scale=np.array([5], np.float32),
            history=np.array([6], np.int32),
        ),
        newest_item_network(vectors.shape[1]),
    )
    log = encode_log(events, described.item_ids)
    learned = Learned(tower, encoder)
    assembled = assemble(log, described, tiny_bundle().manifest, learned, as_of=TRAINED_AT)
    rankers = Rankers(*(_random_ranker(random) for _ in Rankers._fields))
    return replace(assembled, rankers=rankers)


def _random_ranker(random: np.random.Generator) -> Ranker:
    rows = random.normal(size=(2000, len(RANKING_COLUMNS)))
    labels = rows @ random.normal(size=len(RANKING_COLUMNS))
    rows[random.random(rows.shape) < 0.2] = np.nan
    parameters = {"verbose": -1, "num_threads": 1, "deterministic": True, "seed": 1}
    return Ranker(lightgbm.train(parameters, lightgbm.Dataset(rows, labels), num_boost_round=20))


some_items = st.sampled_from([*SHOP, "unheard of"])
filters = st.builds(
    Filters,
    category=st.none() | st.sampled_from(["home", *CATEGORIES]),
    brands=st.none() | st.lists(st.sampled_from(["brand 0", "brand 1", "brand 2"]), max_size=2),
    min_price=st.none() | st.integers(0, 40),
    max_price=st.none() | st.integers(0, 40),
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Any question to the shop, of a known shopper or a stranger, its clock at most 5 minutes ahead."""
    times = draw(st.lists(st.integers(NOW - 3 * DAY, NOW + 5 * MINUTE), max_size=10).map(sorted))
    kinds = st.sampled_from([kind.value for kind in EventType if kind != EventType.IMPRESSION])
    return Question(
        events=[
            WindowEvent(time, f"e{number}", draw(kinds), draw(st.none() | some_items))
            for number, time in enumerate(times)
        ],
        shopper_key=draw(st.sampled_from([None, "u:nobody", *(f"u:s{n}" for n in range(SHOPPERS))])),
        as_of=NOW,
        k=draw(st.integers(1, len(SHOP) + 5)),
        context_items=draw(st.lists(some_items, max_size=3)),
        cart=draw(st.lists(some_items, max_size=3)),
        filters=draw(st.just(Filters()) | filters),
        repeat_last=draw(st.booleans()),
    )


def answers(bundle: Bundle, *asked: Question) -> list[Slate]:
    return Recommender(bundle, CANDIDATES).recommend([question.encode(bundle) for question in asked])


def shown(question: Question) -> list[str]:
    """What the shop may answer, by the words of the question alone."""
    wanted = question.filters
    last = [e.item_id for e in question.events if e.event_type in INTERESTS][-1:]
    hidden = {*question.context_items, *question.cart, *([] if question.repeat_last else last), *SOLD_OUT}
    rows = shop().catalog.to_pylist()
    guessed = dict(zip(SHOP, shop().items.price_missing, strict=True))

    def meets(row: dict[str, Any]) -> bool:
        category, price = row[Item.CATEGORY], row[Item.PRICE]
        return (
            (
                wanted.category is None
                or category == wanted.category
                or (category or "").startswith(wanted.category + CATEGORY_SEPARATOR)
            )
            and (wanted.brands is None or row[Item.BRAND] in wanted.brands)
            and (wanted.min_price is None or (not guessed[row[Item.ID]] and price >= wanted.min_price))
            and (wanted.max_price is None or (not guessed[row[Item.ID]] and price <= wanted.max_price))
        )

    return [row[Item.ID] for row in rows if row[Item.ID] not in hidden and meets(row)]
