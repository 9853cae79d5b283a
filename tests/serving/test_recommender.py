"""The stages as one: slates of a shop of forty items, and what holds for every question."""

from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.encoded_log import encode_log
from feature_repo.events import LoggedEvent, to_table
from feature_repo.ranking_features import RANKING_COLUMNS
from feature_repo.schema import CATEGORY_SEPARATOR, DAY, HOUR, ITEM_SCHEMA, MINUTE, EventType, Item
from feature_repo.session_window import WindowEvent
from feature_repo.user_tower import UserTower
from serving.attempt import Unhurried
from serving.bundle import Bundle, read_bundle, write_bundle
from serving.plan import Plan
from serving.query import Filters, Question, Slate
from serving.ranking import Rankers, rank
from serving.recommender import Recommender
from serving.session_encoder import EncoderItems, SessionEncoder
from tests.tiny_bundle import NAMES, TRAINED_AT, newest_item_network, tiny_bundle
from training.assemble import assemble, describe_shop
from training.learned import Learned

NOW = TRAINED_AT + HOUR
SHOPPERS = 10
SHOP = [f"item {number:02}" for number in range(40)]
SOLD_OUT = SHOP[::7]
CATEGORIES = ("home > kitchen", "home > light", "homeware", "office")
CANDIDATES = 15
INTERESTS = ("view", "click", "add_to_cart", "favorite", "purchase", "rate")


def tiny_slate(*history: str, bundle: Bundle | None = None, **question: Any) -> list[str]:
    """Names of the tiny shop's slate for a stranger who viewed these items."""
    events = [
        WindowEvent(NOW - (len(history) - number) * MINUTE, f"e{number}", "view", name)
        for number, name in enumerate(history)
    ]
    asked = Question(events=events, shopper_key=None, as_of=NOW, **question)
    bundle = bundle or tiny_bundle()
    [slate] = Recommender(bundle, CANDIDATES).recommend([asked.encode(bundle)])
    return [NAMES[item] for item in slate.items]


@cache
def shop() -> Bundle:
    """Forty items, a log of 600 random events in visits, random embeddings, rankers that use every feature."""
    random = np.random.default_rng(11)
    events = to_table(
        LoggedEvent(
            event_id=f"e{number:03}",
            event_type=random.choice([kind.value for kind in EventType]),
            user_id=f"s{random.integers(SHOPPERS)}",
            item_id=SHOP[min(random.geometric(0.08) - 1, len(SHOP) - 1)],
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
            }
            for number, name in enumerate(SHOP)
        ],
        schema=ITEM_SCHEMA,
    )
    described = describe_shop(events, catalog)
    vectors = random.normal(size=(len(SHOP), 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tower = UserTower(
        embeddings=vectors,
        item_weight=random.random(len(SHOP), dtype=np.float32),
        recency=-0.3 * np.arange(8, dtype=np.float32),
        event_type=random.normal(size=len(EventType)).astype(np.float32),
    )
    encoder = SessionEncoder(
        EncoderItems(
            embeddings=vectors[::-1].copy(),
            item_weight=random.random(len(SHOP), dtype=np.float32),
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


def _random_ranker(random: np.random.Generator) -> lightgbm.Booster:
    rows = random.normal(size=(2000, len(RANKING_COLUMNS)))
    labels = rows @ random.normal(size=len(RANKING_COLUMNS))
    rows[random.random(rows.shape) < 0.2] = np.nan
    parameters = {"verbose": -1, "num_threads": 1, "deterministic": True, "seed": 1}
    return lightgbm.train(parameters, lightgbm.Dataset(rows, labels), num_boost_round=20)


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


def assert_same(slates: list[Slate], others: list[Slate]) -> None:
    """Equal to the last bit, in everything that a slate holds."""
    for slate, other in zip(slates, others, strict=True):
        np.testing.assert_array_equal(slate.items, other.items)
        np.testing.assert_array_equal(slate.scores, other.scores)
        np.testing.assert_array_equal(slate.features, other.features)
        np.testing.assert_array_equal(slate.candidates.items, other.candidates.items)
        np.testing.assert_array_equal(slate.candidates.fused, other.candidates.fused)
        assert slate.filled == other.filled


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


@settings(deadline=None, max_examples=40)
@given(st.lists(questions(), max_size=5))
def test_many_questions_at_once_are_answered_like_each_alone(asked: list[Question]) -> None:
    assert_same(answers(shop(), *asked), [slate for question in asked for slate in answers(shop(), question)])


@settings(deadline=None)
@given(questions())
def test_a_slate_is_full_while_the_shop_has_items_that_may_be_shown(asked: Question) -> None:
    [slate] = answers(shop(), asked)
    names = shop().item_ids[slate.items].tolist()
    allowed = shown(asked)
    assert set(names) <= set(allowed)
    assert len(set(names)) == len(names) == min(asked.k, len(allowed))


@settings(deadline=None)
@given(questions())
def test_scores_fall_and_what_was_filled_up_stands_last(asked: Question) -> None:
    [slate] = answers(shop(), asked)
    assert slate.items.size == slate.scores.size
    assert (np.diff(slate.scores) <= 0).all()
    assert slate.filled == max(slate.items.size - slate.candidates.items.size, 0)
    ranked = slate.items[: slate.items.size - slate.filled]
    assert set(ranked.tolist()) <= set(slate.candidates.items.tolist())
    assert not set(slate.items[ranked.size :].tolist()) & set(slate.candidates.items.tolist())


@settings(deadline=None)
@given(questions())
def test_the_slate_is_the_rankers_order_of_the_candidates(asked: Question) -> None:
    [slate] = answers(shop(), asked)
    assert slate.features.shape == (slate.candidates.items.size, len(RANKING_COLUMNS))
    scores = rank(shop().rankers, slate.features)
    best = np.lexsort((slate.candidates.items, -scores))[: asked.k]
    np.testing.assert_array_equal(slate.items[: best.size], slate.candidates.items[best])
    np.testing.assert_array_equal(slate.scores[: best.size], scores[best])


@settings(deadline=None, max_examples=25)
@given(asked=st.lists(questions(), min_size=1, max_size=4))
def test_a_bundle_from_disk_gives_the_same_slates(written: Bundle, asked: list[Question]) -> None:
    assert_same(answers(shop(), *asked), answers(written, *asked))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shop's bundle, after it was written and read."""
    directory: Path = tmp_path_factory.mktemp("models") / "v1"
    write_bundle(shop(), directory)
    return read_bundle(directory)


@settings(deadline=None, max_examples=25)
@given(questions())
def test_a_slate_is_the_same_every_time(asked: Question) -> None:
    assert_same(answers(shop(), asked), answers(shop(), asked))


@settings(deadline=None, max_examples=25)
@given(questions())
def test_a_longer_slate_begins_with_the_shorter(asked: Question) -> None:
    [slate], [longer] = answers(shop(), asked), answers(shop(), replace(asked, k=asked.k + 3))
    np.testing.assert_array_equal(longer.items[: slate.items.size], slate.items)


def test_no_questions_have_no_answers() -> None:
    assert answers(shop()) == []


def test_a_click_turns_the_slate() -> None:
    assert tiny_slate(k=2) == ["mug", "kettle"]
    assert tiny_slate("kettle", k=2) == ["teapot", "mug"]
    assert tiny_slate("kettle", "lamp", k=2) == ["bulb", "shade"]


def test_the_page_steers_the_slate_and_is_not_in_it() -> None:
    assert tiny_slate("kettle", k=2, context_items=["lamp"]) == ["bulb", "shade"]
    assert tiny_slate("kettle", k=2, cart=["lamp"]) == ["bulb", "shade"]
    everything = tiny_slate("kettle", k=20, cart=["lamp"], context_items=["mug"])
    assert not {"lamp", "mug", "kettle"} & set(everything)


def test_the_item_just_seen_comes_again_only_on_request() -> None:
    assert "kettle" not in tiny_slate("kettle", k=20)
    assert "kettle" in tiny_slate("kettle", k=20, repeat_last=True)
    assert "desk" in tiny_slate("desk", "kettle", k=20)


def test_what_is_sold_out_is_never_shown_not_even_to_fill_up() -> None:
    assert "rug" not in tiny_slate("desk", "chair", k=20)
    assert tiny_slate("desk", k=20, filters=Filters(category="office")) == ["chair"]


def test_a_category_holds_all_below_it_and_nothing_that_only_begins_alike() -> None:
    bundle = replace(tiny_bundle(), categories=["home", "home > light", "homeware"])
    home = tiny_slate(k=20, bundle=bundle, filters=Filters(category="home"))
    assert set(home) == {"mug", "kettle", "teapot", "tray", "lamp", "bulb", "shade"}
    assert set(tiny_slate(k=20, bundle=bundle, filters=Filters(category="homeware"))) == {"desk", "chair"}


def test_without_a_ranker_the_order_of_the_sources_stands() -> None:
    bundle = replace(shop(), rankers=Rankers(None, None))
    asked = Question(
        events=[WindowEvent(NOW - MINUTE, "e1", "view", SHOP[1])], shopper_key=None, as_of=NOW, k=5
    )
    [slate] = answers(bundle, asked)
    np.testing.assert_array_equal(slate.items, slate.candidates.items[:5])
    np.testing.assert_array_equal(slate.scores, slate.candidates.fused[:5])


def test_unknown_shoppers_are_folded_in_and_known_ones_are_not() -> None:
    bundle = shop()
    events = [WindowEvent(NOW - MINUTE, "e1", "view", SHOP[3])]
    unknown = Question(events=events, shopper_key="u:nobody", as_of=NOW).encode(bundle)
    known = Question(events=events, shopper_key="u:s1", as_of=NOW).encode(bundle)
    np.testing.assert_allclose(
        unknown.shopper.user.embedding, bundle.tower.embeddings[3], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(
        known.shopper.user.embedding, bundle.users.embeddings[bundle.shopper_index["u:s1"]]
    )


def test_each_stage_is_measured_once_per_call_in_the_order_of_the_work() -> None:
    names: list[str] = []

    class Noting(Unhurried):
        def stage(self, name: str) -> nullcontext[None]:
            names.append(name)
            return nullcontext()

    query = Question(events=[], shopper_key=None, as_of=NOW).encode(shop())
    Recommender(shop(), CANDIDATES).recommend([query, query], Noting())
    assert names == ["encode", "retrieve", "filter", "features", "rank", "rerank"]


@settings(deadline=None, max_examples=40)
@given(questions(), st.floats(0, 1))
def test_a_diverse_slate_is_as_full_and_begins_with_the_best(asked: Question, dial: float) -> None:
    [slate], [diverse] = answers(shop(), asked), answers(shop(), replace(asked, plan=Plan(diversity=dial)))
    assert diverse.items.size == slate.items.size == len(set(diverse.items.tolist()))
    np.testing.assert_array_equal(diverse.items[:1], slate.items[:1])
    assert set(shop().item_ids[diverse.items].tolist()) <= set(shown(asked))
    scored = dict(zip(diverse.candidates.items, rank(shop().rankers, diverse.features), strict=True))
    ranked = np.isin(diverse.items, diverse.candidates.items)
    assert diverse.scores[ranked].tolist() == [scored[item] for item in diverse.items[ranked]]
    assert (diverse.scores[~ranked] < diverse.scores[ranked].min(initial=np.inf)).all()


def test_the_more_diverse_the_less_alike_are_the_items() -> None:
    asked = Question(events=[], shopper_key=None, as_of=NOW, k=8)

    def likeness(dial: float) -> float:
        [slate] = answers(shop(), replace(asked, plan=Plan(diversity=dial)))
        vectors = shop().tower.embeddings[slate.items]
        return float(np.square(vectors.sum(axis=0)).sum())

    assert likeness(1) <= likeness(0.5) < likeness(0)
