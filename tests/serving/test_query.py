"""A question in a bundle's indexes: what the page shows, what is left out, what is allowed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feature_repo.ranking_features import RANKING_COLUMNS
from feature_repo.schema import HOUR, MINUTE, EventType
from feature_repo.session_features import UNKNOWN_ITEM
from feature_repo.session_window import WindowEvent
from serving.bundle import Bundle
from serving.query import Filters, Query, Question
from serving.recommender import Recommender
from tests.tiny_bundle import BRANDS, CATEGORIES, NAMES, TRAINED_AT, tiny_bundle

NOW = TRAINED_AT + HOUR
MUG, KETTLE, LAMP, DESK = (NAMES.index(name) for name in ("mug", "kettle", "lamp", "desk"))
VIEW, CART = EventType.VIEW.code, EventType.ADD_TO_CART.code


def seen(*names: str, last: int = NOW - MINUTE) -> list[WindowEvent]:
    """Views of items a minute apart, the last at ``last``."""
    return [
        WindowEvent(last - (len(names) - 1 - number) * MINUTE, f"e{number}", "view", name)
        for number, name in enumerate(names)
    ]


def encode(events: list[WindowEvent], **question: Any) -> Query:
    return Question(events=events, shopper_key=None, as_of=NOW, **question).encode(tiny_bundle())


def allowed(bundle: Bundle | None = None, **filters: Any) -> list[str]:
    """Names of the items that filters leave."""
    question = Question(events=[], shopper_key=None, as_of=NOW, filters=Filters(**filters))
    mask = question.encode(bundle or tiny_bundle()).allowed
    assert mask is not None
    assert mask.dtype == bool
    return [name for name, kept in zip(NAMES, mask, strict=True) if kept]


def test_the_window_comes_in_the_indexes_of_the_bundle() -> None:
    query = encode(seen("lamp", "sold by somebody else", "mug"), k=3)
    assert query.shopper.window.items.tolist() == [LAMP, UNKNOWN_ITEM, MUG]
    assert query.shopper.window.times.tolist() == [NOW - 3 * MINUTE, NOW - 2 * MINUTE, NOW - MINUTE]
    assert (query.shopper.as_of, query.k, query.allowed) == (NOW, 3, None)


def test_what_the_page_shows_is_seen_and_carted_right_now() -> None:
    window = encode(seen("desk"), cart=["mug"], context_items=["lamp", "kettle"]).shopper.window
    assert window.items.tolist() == [DESK, MUG, LAMP, KETTLE]
    assert window.types.tolist() == [VIEW, CART, VIEW, VIEW]
    assert window.times.tolist() == [NOW - MINUTE, NOW, NOW, NOW]


def test_the_page_is_newest_also_after_an_event_from_the_future() -> None:
    window = encode(seen("desk", last=NOW + 4 * MINUTE), context_items=["lamp"]).shopper.window
    assert window.items.tolist() == [DESK, LAMP]
    assert (np.diff(window.times) >= 0).all()


def test_a_clock_that_runs_ahead_makes_no_feature_nan() -> None:
    bundle = tiny_bundle()
    query = encode(seen("desk", last=NOW + 4 * MINUTE), context_items=["lamp"])
    recommender = Recommender(bundle, candidates=10)
    interest = recommender.encode(query)
    matrix = recommender.features(recommender.retrieve(query, interest), query, interest)
    seconds = matrix[:, RANKING_COLUMNS.index("session_log_seconds")]
    assert seconds.tolist() == [0] * len(seconds)


def test_the_page_leaves_the_callers_events_as_they_were() -> None:
    events = seen("desk")
    encode(events, context_items=["lamp"])
    assert events == seen("desk")


def test_what_the_page_shows_and_the_item_just_seen_are_excluded() -> None:
    assert encode(seen("desk", "mug")).excluded.tolist() == [MUG]
    query = encode(seen("desk", "mug"), cart=["lamp"], context_items=["kettle"])
    assert sorted(query.excluded) == [MUG, KETTLE, LAMP]


def test_the_item_just_seen_may_come_again_on_request_but_the_page_never() -> None:
    query = encode(seen("desk", "mug"), context_items=["kettle"], repeat_last=True)
    assert query.excluded.tolist() == [KETTLE]


def test_an_unknown_item_on_the_page_excludes_nothing() -> None:
    query = encode([], cart=["unheard of"], context_items=["neither"])
    assert query.excluded.tolist() == []
    assert query.excluded.dtype == np.int32
    assert query.shopper.window.items.tolist() == [UNKNOWN_ITEM, UNKNOWN_ITEM]


def test_the_item_just_seen_is_the_last_that_interest_was_shown_in() -> None:
    events = [*seen("mug"), WindowEvent(NOW, "e8", "search"), WindowEvent(NOW, "e9", "return", "lamp")]
    assert encode(events).excluded.tolist() == [MUG]


def test_after_an_item_that_the_model_does_not_know_the_one_before_it_may_come_again() -> None:
    assert encode([*seen("mug"), WindowEvent(NOW, "e9", "view", "unheard of")]).excluded.tolist() == []


def test_a_stranger_is_folded_in_from_window_and_page() -> None:
    bundle = tiny_bundle()
    query = encode([], context_items=["lamp"])
    np.testing.assert_array_equal(query.shopper.user.embedding, bundle.tower.embeddings[LAMP])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"category": "home > kitchen"}, ["mug", "kettle", "teapot", "tray"]),
        ({"category": "home"}, ["mug", "kettle", "lamp", "teapot", "bulb", "shade", "tray"]),
        ({"category": "home > kit"}, []),
        ({"category": "kitchen"}, []),
        ({"brands": [BRANDS[1]]}, ["kettle", "desk", "bulb", "shade", "rug"]),
        ({"brands": []}, []),
        ({"min_price": 80}, ["shade", "tray", "rug"]),
        ({"max_price": 20}, ["mug", "kettle"]),
        ({"min_price": 20, "max_price": 30}, ["kettle", "lamp"]),
        ({"category": "home", "brands": [BRANDS[0]], "max_price": 50}, ["mug", "lamp", "teapot"]),
    ],
)
def test_filters_allow_what_meets_all_of_them(filters: dict[str, Any], expected: list[str]) -> None:
    assert allowed(**filters) == expected


def test_a_category_whose_name_begins_alike_is_not_below() -> None:
    bundle = replace(tiny_bundle(), categories=["home", "home > light", "homeware"])
    assert allowed(bundle, category="home") == [
        "mug",
        "kettle",
        "lamp",
        "teapot",
        "bulb",
        "shade",
        "tray",
    ]
    assert allowed(bundle, category="homeware") == ["desk", "chair", "rug"]


def test_items_without_a_category_are_in_none() -> None:
    items = tiny_bundle().items
    category = items.category.copy()
    category[MUG] = -1
    bundle = replace(tiny_bundle(), items=replace(items, category=category))
    assert allowed(bundle, category="home > kitchen") == ["kettle", "teapot", "tray"]
    assert allowed(bundle, category=CATEGORIES[-1]) == ["desk", "chair", "rug"]


def test_a_shop_without_categories_has_nothing_in_any() -> None:
    items = tiny_bundle().items
    bundle = replace(
        tiny_bundle(), categories=[], items=replace(items, category=np.full_like(items.category, -1))
    )
    assert allowed(bundle, category="home") == []


def test_items_without_a_brand_are_of_none() -> None:
    items = tiny_bundle().items
    brand = items.brand.copy()
    brand[MUG] = -1
    bundle = replace(tiny_bundle(), items=replace(items, brand=brand))
    assert allowed(bundle, brands=[BRANDS[0], "unheard of"]) == ["lamp", "teapot", "chair", "tray"]


@pytest.mark.parametrize("bound", [{"min_price": 0}, {"max_price": 1000}])
def test_an_item_whose_price_is_a_guess_is_in_no_price_range(bound: dict[str, float]) -> None:
    items = tiny_bundle().items
    bundle = replace(tiny_bundle(), items=replace(items, price_missing=np.arange(len(NAMES)) == KETTLE))
    assert allowed(bundle, **bound) == [name for name in NAMES if name != "kettle"]
