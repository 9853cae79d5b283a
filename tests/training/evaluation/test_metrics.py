"""Metrics computed by hand, and their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Bool, Float64, Int32
from training.evaluation.metrics import (
    CUTOFF,
    NDCG_CUTOFF,
    NO_ITEM,
    Quality,
    Scores,
    bootstrap,
    coverage,
    hits,
    intra_list_diversity,
    novelty,
    paired_bootstrap,
    quality,
    slate_quality,
    to_text,
)


def shoppers(count: int) -> Int32:
    return np.arange(count, dtype=np.int32)


def places(*hit: int) -> Bool:
    """bool[CUTOFF]: a slate with hits at these places, counted from 0."""
    return np.isin(np.arange(CUTOFF), hit)


def slate(*items: int) -> Int32:
    """A slate of these items."""
    return np.array([*items, *[NO_ITEM] * (CUTOFF - len(items))], np.int32)


def wanted_one(*hit: int | None) -> Quality:
    """Quality of requests that wanted one item each and got it at these places."""
    rows = np.array([places() if place is None else places(place) for place in hit])
    return quality(rows, np.ones(len(hit), np.int64))


def test_of_one_wanted_item_the_place_decides() -> None:
    found = wanted_one(0, 2, NDCG_CUTOFF, CUTOFF - 1, None)
    assert found.recall_at_20.tolist() == [1, 1, 1, 1, 0]
    assert found.mrr_at_20 == pytest.approx([1, 1 / 3, 1 / 11, 1 / 20, 0])
    assert found.ndcg_at_10 == pytest.approx([1, 1 / 2, 0, 0, 0])


def test_of_several_wanted_items_all_hits_count() -> None:
    found = quality(np.array([places(1, 3, 15)]), np.array([4]))
    assert found.recall_at_20 == pytest.approx([3 / 4])
    assert found.mrr_at_20 == pytest.approx([1 / 2])
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4) + 1 / np.log2(5)
    assert found.ndcg_at_10 == pytest.approx([(1 / np.log2(3) + 1 / np.log2(5)) / ideal])


@pytest.mark.parametrize("wanted", [1, 2, NDCG_CUTOFF, CUTOFF, 100])
def test_a_slate_that_begins_with_what_was_wanted_is_perfect(wanted: int) -> None:
    found = quality(np.array([places(*range(min(wanted, CUTOFF)))]), np.array([wanted]))
    assert [float(values[0]) for values in found] == pytest.approx([1, 1, 1])


def test_a_hit_is_what_the_request_itself_wanted() -> None:
    slates = np.array([slate(5, 6), slate(5, 6, 7)])
    found = hits(slates, np.array([6, 7, 5], np.int32), np.array([0, 1, 3]))
    assert found[:, :3].tolist() == [[False, True, False], [True, False, True]]
    assert not found[:, 3:].any()


def test_neither_no_item_nor_an_unknown_one_is_a_hit() -> None:
    slates = np.array([slate(0), slate(9)])
    assert not hits(slates, np.array([-1, -1], np.int32), np.array([0, 1, 2])).any()


def test_slates_are_scored_by_their_hits() -> None:
    found = slate_quality(np.array([slate(5, 6), slate()]), np.array([6, 7], np.int32), np.array([0, 1, 2]))
    assert found.mrr_at_20.tolist() == [0.5, 0]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60), st.lists(st.floats(0, 1), min_size=60, max_size=60)
)
def test_an_interval_covers_the_mean_when_there_are_shoppers_enough(
    codes: list[int], drawn: list[float]
) -> None:
    shopper = np.array([*codes, *range(20)], np.int32)
    values = np.array([*drawn[: len(codes)], *np.linspace(0, 1, 20)])
    interval = bootstrap(values, shopper)
    assert interval.lower <= interval.mean <= interval.upper
    assert interval.mean == pytest.approx(values.mean())


@pytest.mark.parametrize("count", [1, 2, 50])
def test_the_interval_of_a_constant_has_no_width(count: int) -> None:
    interval = bootstrap(np.full(3 * count, 0.25), np.repeat(shoppers(count), 3))
    assert (interval.lower, interval.mean, interval.upper) == pytest.approx((0.25, 0.25, 0.25))


def test_an_interval_has_the_width_that_statistics_expect() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=4000)
    interval = bootstrap(values, shoppers(4000))
    expected = 2 * 1.96 * values.std() / 4000**0.5
    assert interval.upper - interval.lower == pytest.approx(expected, rel=0.1)


def test_requests_of_one_shopper_that_go_together_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    values: Float64 = np.repeat(rng.random(100), 25)
    alike = bootstrap(values, np.repeat(shoppers(100), 25))
    taken_for_independent = bootstrap(values, shoppers(2500))
    ratio = (alike.upper - alike.lower) / (taken_for_independent.upper - taken_for_independent.lower)
    assert ratio == pytest.approx(5, rel=0.2)  # the square root of 25


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(1).random(50)
    assert bootstrap(values, shoppers(50)) == bootstrap(values, shoppers(50))


def test_no_requests_have_no_scores() -> None:
    interval = bootstrap(np.zeros(0), shoppers(0))
    assert np.isnan([interval.mean, interval.lower, interval.upper]).all()
    assert np.isnan(paired_bootstrap(np.zeros(0), np.zeros(0), shoppers(0)).absolute.mean)


def test_a_method_is_better_than_itself_by_exactly_nothing() -> None:
    values = np.random.default_rng(1).random(200)
    difference = paired_bootstrap(values, values, np.repeat(shoppers(50), 4))
    for interval in (difference.absolute, difference.relative):
        assert (interval.lower, interval.mean, interval.upper) == (0, 0, 0)


def test_a_gain_on_every_request_is_certain_however_much_requests_differ() -> None:
    other = np.random.default_rng(1).random(200)
    difference = paired_bootstrap(other + 0.01, other, shoppers(200))
    assert (difference.absolute.lower, difference.absolute.upper) == pytest.approx((0.01, 0.01))
    assert difference.relative.mean == pytest.approx(0.01 / other.mean())
    apart = bootstrap(other, shoppers(200))
    assert apart.upper - apart.lower > 0.01


def test_a_gain_relative_to_nothing_is_unknown() -> None:
    difference = paired_bootstrap(np.ones(3), np.zeros(3), shoppers(3))
    assert difference.absolute.mean == 1
    assert np.isnan(difference.relative.mean)


def test_coverage_counts_each_item_that_is_shown_once() -> None:
    assert coverage(np.array([slate(1, 2), slate(2, 3)]), catalogue=12) == pytest.approx(3 / 12)


def test_a_slate_of_one_kind_has_no_diversity_and_one_of_unlike_items_has_all() -> None:
    embeddings = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert intra_list_diversity(np.array([slate(0, 1)]), embeddings) == pytest.approx(0)
    assert intra_list_diversity(np.array([slate(0, 2)]), embeddings) == pytest.approx(1)
    assert intra_list_diversity(np.array([slate(0, 1, 2)]), embeddings) == pytest.approx(2 / 3)
    assert intra_list_diversity(np.array([slate(0, 1), slate(0, 2)]), embeddings) == pytest.approx(1 / 2)


def test_a_slate_of_one_item_has_no_pairs_to_differ() -> None:
    embeddings = np.eye(3, dtype=np.float32)
    assert np.isnan(intra_list_diversity(np.array([slate(0)]), embeddings))
    assert intra_list_diversity(np.array([slate(0), slate(0, 2)]), embeddings) == pytest.approx(1)


def test_an_item_that_fewer_have_met_is_more_novel() -> None:
    interactions = np.array([7, 3, 1, 1])  # shares of 8, 4, 2 and 2 in 16, with one more each
    assert novelty(np.array([slate(0)]), interactions) == pytest.approx(1)
    assert novelty(np.array([slate(0, 2)]), interactions) == pytest.approx((1 + 3) / 2)


def test_the_table_has_a_line_per_method_with_mean_and_bounds() -> None:
    text = to_text({"popularity": Scores.of(wanted_one(0, 0), shoppers(2))})
    header, line = text.splitlines()
    assert header.split() == ["method", "requests", "recall_at_20", "mrr_at_20", "ndcg_at_10"]
    assert line.split() == ["popularity", "2", *["1.0000", "[1.0000,", "1.0000]"] * 3]
