"""Slate rules, for every list of scored items."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.arrays import Bool, Float32, Int32
from serving.reranking import best, fill, may_show

SHOP = 12
items = st.lists(st.integers(0, SHOP - 1), unique=True, max_size=SHOP).map(
    lambda ids: np.array(ids, np.int32)
)
masks = st.lists(st.booleans(), min_size=SHOP, max_size=SHOP).map(lambda flags: np.array(flags, bool))
lengths = st.integers(0, SHOP + 2)


@st.composite
def scored(draw: st.DrawFn) -> tuple[Int32, Float32]:
    """Items and scores, few enough of them that they tie."""
    found = draw(items)
    scores = draw(st.lists(st.sampled_from([-1.5, 0, 2, 2.5]), min_size=found.size, max_size=found.size))
    return found, np.array(scores, np.float32)


def test_the_best_come_first_and_equals_in_order_of_their_index() -> None:
    found, scores = best(np.array([4, 2, 7, 1], np.int32), np.array([1, 3, 1, 2], np.float32), 3)
    assert found.tolist() == [2, 1, 4]
    assert scores.tolist() == [3, 2, 1]


@given(scored(), lengths)
def test_the_best_are_the_sorted_beginning_of_all(scored: tuple[Int32, Float32], k: int) -> None:
    found, scores = best(*scored, k)
    ranked = sorted(zip(*(column.tolist() for column in scored), strict=True), key=lambda s: (-s[1], s[0]))
    assert list(zip(found.tolist(), scores.tolist(), strict=True)) == ranked[:k]


@given(scored(), st.randoms(use_true_random=False), lengths)
def test_the_best_do_not_depend_on_the_order_of_the_candidates(
    scored: tuple[Int32, Float32], random: Random, k: int
) -> None:
    order = list(range(scored[0].size))
    random.shuffle(order)
    found, scores = best(scored[0][order], scored[1][order], k)
    expected, expected_scores = best(*scored, k)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(scores, expected_scores)


def test_a_short_slate_is_filled_up_in_the_order_of_the_fallback() -> None:
    found, scores = fill(
        np.array([5, 3], np.int32), np.array([0.5, 0.25], np.float32), np.array([9, 3, 1, 2], np.int32), 4
    )
    assert found.tolist() == [5, 3, 9, 1]
    assert scores.tolist() == [0.5, 0.25, -0.75, -1.75]


@given(scored(), items, lengths)
def test_filling_keeps_what_is_there_repeats_nothing_and_ranks_below_it(
    scored: tuple[Int32, Float32], fallback: Int32, k: int
) -> None:
    slate, slate_scores = best(*scored, k)
    found, scores = fill(slate, slate_scores, fallback, k)
    np.testing.assert_array_equal(found[: slate.size], slate)
    np.testing.assert_array_equal(scores[: slate.size], slate_scores)
    lacking = [item for item in fallback.tolist() if item not in slate]
    assert found[slate.size :].tolist() == lacking[: k - slate.size]
    assert len(set(found.tolist())) == found.size
    assert (np.diff(scores[max(slate.size - 1, 0) :]) < 0).all()
    assert (found.dtype, scores.dtype) == (slate.dtype, slate_scores.dtype)


@given(items, items, masks, st.none() | masks)
def test_shown_is_what_is_available_allowed_and_not_excluded(
    candidates: Int32, excluded: Int32, available: Bool, allowed: Bool | None
) -> None:
    shown = may_show(candidates, excluded, available, allowed)
    assert shown.tolist() == [
        bool(available[item] and item not in excluded and (allowed is None or allowed[item]))
        for item in candidates
    ]
