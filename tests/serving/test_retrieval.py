"""Candidate generation: how the findings of all sources become one list, and what holds for every source."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from feature_repo.ranking_features import SOURCES, ShopperState
from feature_repo.schema import EventType
from feature_repo.session_features import encode_window
from feature_repo.session_window import WindowEvent
from serving.plan import EVERYTHING, Plan, Share, weights
from serving.query import Query
from serving.retrieval import FUSION_CONSTANT, RETRIEVERS, fuse, retrieve
from serving.sources.source import NOTHING, Reach, Retrieved
from tests.serving.tiny_shopper import NOW, TINY, bring, candidates, found, shopper
from tests.tiny_bundle import KNOWN_SHOPPER, NAMES, TRENDING

HISTORY = ("desk", "teapot", "lamp", "kettle")


def brought(items: list[int], scores: list[float]) -> Retrieved:
    return Retrieved(np.array(items, np.int32), np.array(scores, np.float32))


def rows(table: Float32) -> list[list[float | None]]:
    """A table as lists, None for NaN."""
    return [[None if np.isnan(value) else value for value in row] for row in table.tolist()]


def test_weighted_reciprocal_rank_fusion_by_hand() -> None:
    k = FUSION_CONSTANT
    fused = fuse([brought([7, 3, 5], [8, 4, 2]), brought([3, 9], [0.5, 0.25]), NOTHING], [1, 3, 5], 3)
    assert fused.items.tolist() == [3, 9, 7]
    np.testing.assert_allclose(fused.fused, [1 / (k + 1) + 3 / k, 3 / (k + 1), 1 / k], rtol=1e-6)
    assert rows(fused.scores) == [[4, 0.5, None], [None, 0.25, None], [8, None, None]]
    assert rows(fused.ranks) == [[1, 0, None], [None, 1, None], [0, None, None]]
    assert rows(fused.relative) == [[0.5, 1, None], [None, 0.5, None], [1, None, None]]
    assert {table.dtype for table in (fused.fused, fused.scores, fused.ranks)} == {np.dtype(np.float32)}


def test_candidates_of_equal_rank_come_in_order_of_their_index() -> None:
    both = [brought([9, 4], [1, 1]), brought([2, 6], [1, 1])]
    assert fuse(both, [1, 1], 10).items.tolist() == [2, 9, 4, 6]


def test_where_a_sources_best_score_is_not_positive_nothing_is_relative_to_it() -> None:
    assert rows(fuse([brought([1, 2], [0, -1])], [1], 2).relative) == [[None], [None]]


def test_sources_that_find_nothing_make_no_candidates() -> None:
    fused = fuse([NOTHING] * len(SOURCES), [1] * len(SOURCES), 5)
    assert fused.items.tolist() == []
    assert fused.scores.shape == (0, len(SOURCES))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.lists(st.integers(0, 20), unique=True, max_size=12)),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 15),
)
def test_fusion_keeps_the_best_of_the_union_once_each(lists: list[tuple[int, list[int]]], size: int) -> None:
    retrieved = [brought(items, [float(-at) for at in range(len(items))]) for _, items in lists]
    fused = fuse(retrieved, [weight for weight, _ in lists], size)
    expected = {
        item: sum(weight / (FUSION_CONSTANT + items.index(item)) for weight, items in lists if item in items)
        for _, items_of_one in lists
        for item in items_of_one
    }
    best = sorted(expected, key=lambda item: (-np.float32(expected[item]), item))[:size]
    assert fused.items.tolist() == best
    np.testing.assert_allclose(fused.fused, [expected[item] for item in best], rtol=1e-6)
    assert rows(fused.ranks) == [
        [items.index(item) if item in items else None for _, items in lists] for item in best
    ]
    assert rows(fused.scores) == [
        [None if rank is None else -rank for rank in ranks] for ranks in rows(fused.ranks)
    ]


def test_sources_stand_in_the_order_of_the_ranking_schema_each_with_a_quota_and_a_weight() -> None:
    assert tuple(RETRIEVERS) == SOURCES
    assert (*EVERYTHING, "text") == SOURCES
    assert min(share.quota for share in EVERYTHING.values()) > 0
    assert min(share.weight for share in EVERYTHING.values()) > 0


def test_a_source_that_a_mixture_leaves_out_brings_nothing() -> None:
    state = shopper(*HISTORY, key=KNOWN_SHOPPER)
    mixture = {"covisitation": Share(1, 1.0), "popular": Share(2, 0.5)}
    query = Query(state, k=1, plan=Plan(mixture))
    everything = retrieve(TINY, query, TINY.interest(state), len(NAMES))
    numbers = (~np.isnan(everything.ranks)).sum(axis=0)
    assert dict(zip(SOURCES, numbers.tolist(), strict=True)) == dict.fromkeys(SOURCES, 0) | {
        "covisitation": 1,
        "popular": 2,
    }


def test_a_candidates_fused_score_is_of_the_weights_and_ranks_of_the_sources_that_brought_it() -> None:
    everything = candidates(shopper(*HISTORY, key=KNOWN_SHOPPER), len(NAMES))
    weight = np.array(weights(EVERYTHING))
    expected = np.nansum(weight / (FUSION_CONSTANT + everything.ranks), axis=1)
    np.testing.assert_allclose(everything.fused, expected, rtol=1e-6)


def test_for_a_shopper_with_a_past_every_source_brings_something() -> None:
    everything = candidates(shopper(*HISTORY, key=KNOWN_SHOPPER), len(NAMES))
    assert [
        source for source, there in zip(SOURCES, ~np.isnan(everything.ranks.T), strict=True) if there.any()
    ] == list(EVERYTHING)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("quota", [1, 2, 5])
def test_a_source_brings_the_first_of_what_it_has_up_to_its_quota(source: str, quota: int) -> None:
    everything = list(found(source, *HISTORY, key=KNOWN_SHOPPER))
    assert everything
    assert list(found(source, *HISTORY, key=KNOWN_SHOPPER, quota=quota)) == everything[:quota]


@pytest.mark.parametrize("source", SOURCES)
@given(st.lists(st.sampled_from(NAMES), max_size=12), st.sampled_from([None, KNOWN_SHOPPER]))
@settings(deadline=None, max_examples=25)
def test_a_source_brings_no_item_twice_and_the_best_first(
    source: str, history: list[str], key: str | None
) -> None:
    items, scores = bring(source, shopper(*history, key=key), Reach(4))
    assert len(set(items.tolist())) == len(items) <= 4
    assert (np.diff(scores) <= 0).all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_fills_its_quota_from_what_is_allowed(source: str) -> None:
    state = shopper("desk", "kettle", "mug", key=KNOWN_SHOPPER)
    everything, _ = bring(source, state, Reach(len(NAMES)))
    allowed = np.arange(len(NAMES)) % 2 == 1
    items, _ = bring(source, state, Reach(2, allowed))
    assert items.tolist() == everything[allowed[everything]][:2].tolist()


@pytest.mark.parametrize("source", SOURCES)
def test_where_nothing_is_allowed_a_source_brings_nothing(source: str) -> None:
    state = shopper("desk", "kettle", "mug", key=KNOWN_SHOPPER)
    assert bring(source, state, Reach(5, np.zeros(len(NAMES), bool))).items.tolist() == []


def test_a_stranger_gets_what_is_popular_and_what_is_on_the_rise() -> None:
    everything = candidates(shopper(), len(NAMES))
    brings = {source: list(found(source)) for source in EVERYTHING}
    assert {source for source, names in brings.items() if names} == {"popular", "trending"}
    names = [NAMES[item] for item in everything.items]
    assert set(names[:2]) == set(TRENDING)
    assert names[2:] == [name for name in NAMES if name not in TRENDING]


def test_impressions_and_searches_steer_no_source() -> None:
    events = [
        WindowEvent(NOW, "e1", EventType.IMPRESSION.value, "desk"),
        WindowEvent(NOW, "e2", EventType.SEARCH.value, None, "lamp"),
        WindowEvent(NOW, "e3", EventType.RETURN.value, "kettle"),
    ]
    window = encode_window(events, TINY.item_index)
    state = ShopperState(window, TINY.user_row(None, window), NOW)
    np.testing.assert_array_equal(candidates(state, 10).scores, candidates(shopper(), 10).scores)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*NAMES, "unheard of"]), max_size=20), st.integers(1, 12))
def test_candidates_are_distinct_and_the_best_of_all_that_was_found(history: list[str], size: int) -> None:
    state = shopper(*history)
    best = candidates(state, size)
    everything = candidates(state, len(NAMES))
    assert len(set(best.items.tolist())) == best.items.size
    assert best.items.tolist() == everything.items.tolist()[:size]
    assert (np.diff(best.fused) <= 0).all()


def test_candidates_of_a_filtered_request_are_as_many_as_without_and_all_allowed() -> None:
    allowed = np.arange(len(NAMES)) % 2 == 1
    filtered = candidates(shopper("desk", "kettle"), 3, allowed)
    assert filtered.items.size == 3
    assert allowed[filtered.items].all()
