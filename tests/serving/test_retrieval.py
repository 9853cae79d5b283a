"""Candidate generation: each source on the tiny shop, and how their findings become one list."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from feature_repo.ranking_features import SOURCES, ShopperState
from feature_repo.schema import HOUR, MINUTE, EventType
from feature_repo.session_features import encode_window
from feature_repo.session_window import WindowEvent
from serving.bundle import Bundle
from serving.retrieval import (
    FUSION_CONSTANT,
    NOTHING,
    QUOTAS,
    RECENCY_DECAY,
    RETRIEVERS,
    Reach,
    Retrieved,
    fuse,
    recent_items,
    retrieve,
)
from tests.tiny_bundle import NAMES, TRAINED_AT, tiny_bundle

NOW = TRAINED_AT + HOUR
TINY = tiny_bundle()


def shopper(*names: str, bundle: Bundle = TINY) -> ShopperState:
    """A stranger who viewed the items, a minute apart."""
    events = [
        WindowEvent(NOW - (len(names) - number) * MINUTE, f"e{number}", "view", name)
        for number, name in enumerate(names)
    ]
    window = encode_window(events, bundle.item_index)
    return ShopperState(window, bundle.user_row(None, window), NOW)


def found(source: str, *names: str, quota: int = 100, bundle: Bundle = TINY) -> dict[str, Any]:
    """Names and scores that a source brings to who viewed the items, in its order."""
    state = shopper(*names, bundle=bundle)
    items, scores = RETRIEVERS[source](bundle, state, state.window.interactions(), Reach(quota))
    assert (items.dtype, scores.dtype) == (np.dtype(np.int32), np.dtype(np.float32))
    return {NAMES[item]: pytest.approx(score) for item, score in zip(items, scores.tolist(), strict=True)}


def brought(items: list[int], scores: list[float]) -> Retrieved:
    return Retrieved(np.array(items, np.int32), np.array(scores, np.float32))


def rows(table: Float32) -> list[list[float | None]]:
    """A table as lists, None for NaN."""
    return [[None if np.isnan(value) else value for value in row] for row in table.tolist()]


def test_reciprocal_rank_fusion_by_hand() -> None:
    k = FUSION_CONSTANT
    candidates = fuse([brought([7, 3, 5], [8, 4, 2]), brought([3, 9], [0.5, 0.25]), NOTHING], 3)
    assert candidates.items.tolist() == [3, 7, 9]
    np.testing.assert_allclose(candidates.fused, [1 / (k + 1) + 1 / k, 1 / k, 1 / (k + 1)], rtol=1e-6)
    assert rows(candidates.scores) == [[4, 0.5, None], [8, None, None], [None, 0.25, None]]
    assert rows(candidates.ranks) == [[1, 0, None], [0, None, None], [None, 1, None]]
    assert rows(candidates.relative) == [[0.5, 1, None], [1, None, None], [None, 0.5, None]]
    assert {table.dtype for table in (candidates.fused, candidates.scores, candidates.ranks)} == {
        np.dtype(np.float32)
    }


def test_candidates_of_equal_rank_come_in_order_of_their_index() -> None:
    assert fuse([brought([9, 4], [1, 1]), brought([2, 6], [1, 1])], 10).items.tolist() == [2, 9, 4, 6]


def test_where_a_sources_best_score_is_not_positive_nothing_is_relative_to_it() -> None:
    assert rows(fuse([brought([1, 2], [0, -1])], 2).relative) == [[None], [None]]


def test_sources_that_find_nothing_make_no_candidates() -> None:
    candidates = fuse([NOTHING] * len(SOURCES), 5)
    assert candidates.items.tolist() == []
    assert candidates.scores.shape == (0, len(SOURCES))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 20), unique=True, max_size=12), min_size=1, max_size=5),
    st.integers(1, 15),
)
def test_fusion_keeps_the_best_of_the_union_once_each(lists: list[list[int]], size: int) -> None:
    candidates = fuse([brought(items, [float(-at) for at in range(len(items))]) for items in lists], size)
    expected = {
        item: sum(1 / (FUSION_CONSTANT + items.index(item)) for items in lists if item in items)
        for items_of_one in lists
        for item in items_of_one
    }
    best = sorted(expected, key=lambda item: (-np.float32(expected[item]), item))[:size]
    assert candidates.items.tolist() == best
    np.testing.assert_allclose(candidates.fused, [expected[item] for item in best], rtol=1e-6)


def test_revisits_are_the_shoppers_own_items_the_newest_first() -> None:
    assert found("revisits", "desk", "mug", "desk", "lamp") == {
        "lamp": 1,
        "desk": RECENCY_DECAY,
        "mug": RECENCY_DECAY**2,
    }
    assert list(found("revisits", "desk", "mug", "desk", "lamp")) == ["lamp", "desk", "mug"]


def test_covisitation_adds_up_the_neighbours_of_recent_items_by_their_age() -> None:
    near = found("covisitation", "teapot", "kettle")
    assert near == {
        "teapot": 2,
        "kettle": 2 * RECENCY_DECAY,
        "mug": 1,
        "tray": RECENCY_DECAY,
    }
    assert list(near) == ["teapot", "kettle", "mug", "tray"]
    assert found("covisitation", "lamp", "bulb") == {
        "lamp": 2,
        "bulb": 2 * RECENCY_DECAY,
        "shade": RECENCY_DECAY,
    }


def test_a_neighbour_of_two_recent_items_counts_for_both() -> None:
    retrieval = TINY.retrieval
    neighbours = np.full_like(retrieval.neighbours, -1)
    neighbours[[NAMES.index("desk"), NAMES.index("lamp")], 0] = NAMES.index("rug")
    bundle = replace(TINY, retrieval=replace(retrieval, neighbours=neighbours))
    assert found("covisitation", "desk", "lamp", bundle=bundle) == {"rug": 2 + 2 * RECENCY_DECAY}


def test_neighbours_of_the_last_item_come_in_their_own_order() -> None:
    assert found("last_item_covisitation", "lamp", "kettle") == {"teapot": 2, "mug": 1}
    assert list(found("last_item_covisitation", "lamp", "kettle")) == ["teapot", "mug"]
    assert found("last_item_covisitation", "kettle", "bulb") == {"lamp": 2}
    assert found("last_item_covisitation", "shade") == {}


def test_the_session_vector_finds_the_items_that_point_its_way() -> None:
    office = {"desk": 1, "chair": 1, "rug": 1}
    assert found("session_embedding", "desk", quota=3) == office
    mixed = found("session_embedding", "desk", "chair", "lamp", quota=6)
    assert list(mixed) == ["desk", "chair", "rug", "lamp", "bulb", "shade"]
    assert mixed["desk"] == 2 / np.sqrt(5)
    assert mixed["lamp"] == 1 / np.sqrt(5)


def test_the_user_vector_finds_items_for_who_has_no_window() -> None:
    bundle = TINY
    ada = ShopperState(shopper().window, bundle.user_row("u:ada", shopper().window), NOW)
    items, _ = RETRIEVERS["user_embedding"](bundle, ada, ada.window, Reach(4))
    assert [NAMES[item] for item in items] == ["mug", "kettle", "teapot", "tray"]
    assert found("session_embedding") == {}


def test_popular_items_of_recent_categories_are_weighed_by_their_age() -> None:
    near = found("category_popular", "desk", "lamp")
    assert list(near) == ["lamp", "desk", "bulb", "chair", "shade", "rug"]
    assert near["lamp"] == 8
    assert near["desk"] == 7 * RECENCY_DECAY


def test_items_without_a_category_bring_no_category() -> None:
    items = TINY.items
    bundle = replace(TINY, items=replace(items, category=np.full_like(items.category, -1)))
    assert found("category_popular", "desk", bundle=bundle) == {}


def test_popular_items_come_for_everybody() -> None:
    assert found("popular", quota=3) == {"mug": 10, "kettle": 9, "lamp": 8}
    assert found("popular", "desk", quota=3) == found("popular", quota=3)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("quota", [1, 2, 5])
def test_a_source_brings_the_first_of_what_it_has_up_to_its_quota(source: str, quota: int) -> None:
    history = ("desk", "teapot", "lamp", "kettle")
    assert list(found(source, *history, quota=quota)) == list(found(source, *history))[:quota]


@pytest.mark.parametrize("source", SOURCES)
@given(st.lists(st.sampled_from(NAMES), max_size=12))
@settings(deadline=None, max_examples=25)
def test_a_source_brings_no_item_twice_and_the_best_first(source: str, history: list[str]) -> None:
    state = shopper(*history)
    items, scores = RETRIEVERS[source](TINY, state, state.window.interactions(), Reach(4))
    assert len(set(items.tolist())) == len(items) <= 4
    assert (np.diff(scores) <= 0).all()


def test_items_equally_near_come_in_order_of_their_index_also_where_the_quota_cuts() -> None:
    kitchen = ["mug", "kettle", "teapot", "tray"]
    for quota in range(1, 5):
        assert list(found("session_embedding", "teapot", quota=quota)) == kitchen[:quota]


def test_sources_stand_in_the_order_of_the_ranking_schema_each_with_a_quota() -> None:
    assert tuple(RETRIEVERS) == SOURCES
    assert set(QUOTAS) == set(SOURCES)


def test_a_stranger_gets_what_is_popular() -> None:
    candidates = retrieve(TINY, shopper(), 4)
    assert [NAMES[item] for item in candidates.items] == ["mug", "kettle", "lamp", "desk"]
    only_popular = np.arange(len(SOURCES)) == SOURCES.index("popular")
    np.testing.assert_array_equal(np.isnan(candidates.scores), np.tile(~only_popular, (4, 1)))


def test_impressions_and_searches_steer_no_source() -> None:
    bundle = TINY
    events = [
        WindowEvent(NOW, "e1", EventType.IMPRESSION.value, "desk"),
        WindowEvent(NOW, "e2", EventType.SEARCH.value, None, "lamp"),
        WindowEvent(NOW, "e3", EventType.RETURN.value, "kettle"),
    ]
    window = encode_window(events, bundle.item_index)
    state = ShopperState(window, bundle.user_row(None, window), NOW)
    np.testing.assert_array_equal(retrieve(bundle, state, 10).scores, retrieve(bundle, shopper(), 10).scores)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*NAMES, "unheard of"]), max_size=20), st.integers(1, 12))
def test_candidates_are_distinct_and_the_best_of_all_that_was_found(history: list[str], size: int) -> None:
    state = shopper(*history)
    candidates = retrieve(TINY, state, size)
    everything = retrieve(TINY, state, len(NAMES))
    assert len(set(candidates.items.tolist())) == candidates.items.size
    assert candidates.items.tolist() == everything.items.tolist()[:size]
    assert (np.diff(candidates.fused) <= 0).all()


def test_recent_items_are_distinct_and_the_newest_first() -> None:
    active = shopper("mug", "desk", "mug", "lamp", "lamp").window
    assert [NAMES[item] for item in recent_items(active, 2)] == ["lamp", "mug"]
    assert [NAMES[item] for item in recent_items(active, 9)] == ["lamp", "mug", "desk"]


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_fills_its_quota_from_what_is_allowed(source: str) -> None:
    state = shopper("desk", "kettle", "mug")
    active = state.window.interactions()
    everything, _ = RETRIEVERS[source](TINY, state, active, Reach(len(NAMES)))
    allowed = np.arange(len(NAMES)) % 2 == 1
    items, _ = RETRIEVERS[source](TINY, state, active, Reach(2, allowed))
    assert items.tolist() == everything[allowed[everything]][:2].tolist()


def test_candidates_of_a_filtered_request_are_as_many_as_without_and_all_allowed() -> None:
    allowed = np.arange(len(NAMES)) % 2 == 1
    candidates = retrieve(TINY, shopper("desk", "kettle"), 3, allowed)
    assert candidates.items.size == 3
    assert allowed[candidates.items].all()
