"""Segments find tastes that were planted, and what is popular among them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from feature_repo.schema import MINUTE
from tests.training.tiny_log import Happened, at, encoded
from training import segments as building
from training.popularity import HALF_LIFE
from training.segments import MOST_SEGMENTS, USERS_PER_SEGMENT, segment_popularity, segments

HALF_LIFE_IN_MINUTES = HALF_LIFE // MINUTE


def checker_board(users: int, tastes: int, seed: int = 2) -> Float32:
    """Unit vectors of shoppers whose tastes take turns: each near an axis of its own."""
    noise = np.random.default_rng(seed).normal(scale=0.1, size=(users, tastes))
    vectors = np.eye(tastes)[np.arange(users) % tastes] + noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_two_tastes_never_mix() -> None:
    vectors = checker_board(2 * USERS_PER_SEGMENT, tastes=2)
    found, own = segments(vectors)
    assert len(found.centroids) == 2
    assert set(own[::2]) != set(own[1::2])
    for taste in range(2):
        assert len(set(own[taste::2])) == 1
        assert found.nearest(np.eye(2, dtype=np.float32)[taste]) == own[taste]


def test_every_shopper_is_in_the_segment_that_is_nearest() -> None:
    vectors = checker_board(4 * USERS_PER_SEGMENT, tastes=3)
    found, own = segments(vectors)
    assert own.size == len(vectors)
    assert [found.nearest(vector) for vector in vectors[:50]] == own[:50].tolist()
    assert np.linalg.norm(found.centroids, axis=1) == pytest.approx(1, rel=1e-5)


def test_arrays_have_the_types_that_a_bundle_promises() -> None:
    found, own = segments(checker_board(40, tastes=2))
    assert found.centroids.dtype == np.float32
    assert own.dtype == np.int32


@pytest.mark.parametrize(
    ("users", "expected"), [(1, 1), (USERS_PER_SEGMENT - 1, 1), (3 * USERS_PER_SEGMENT, 3)]
)
def test_a_shop_has_as_many_segments_as_it_has_shoppers_for(users: int, expected: int) -> None:
    found, own = segments(checker_board(users, tastes=4))
    assert own.size == users
    assert len(found.centroids) == expected


def test_there_are_never_more_segments_than_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "USERS_PER_SEGMENT", 1)
    found, _ = segments(checker_board(2 * MOST_SEGMENTS, tastes=8))
    assert len(found.centroids) == MOST_SEGMENTS


def test_the_same_shoppers_have_the_same_segments() -> None:
    vectors = checker_board(3 * USERS_PER_SEGMENT, tastes=3)
    (first, own), (second, again) = segments(vectors), segments(vectors)
    np.testing.assert_array_equal(own, again)
    np.testing.assert_array_equal(first.centroids, second.centroids)


def test_a_shopper_without_a_vector_is_in_the_first_segment() -> None:
    vectors = checker_board(2 * USERS_PER_SEGMENT, tastes=2)
    vectors[5] = 0
    assert segments(vectors)[1][5] == 0


def test_a_shop_without_shoppers_has_no_segments() -> None:
    found, own = segments(np.zeros((0, 4), np.float32))
    assert found.centroids.shape == (0, 4)
    assert own.size == 0
    lists = segment_popularity(encoded([], items=["a"]), own, 0, at(0))
    assert (lists.items.size, lists.offsets.tolist()) == (0, [0])


def test_what_a_segment_likes_is_what_its_shoppers_met_the_old_counting_half() -> None:
    log = encoded(
        [
            Happened("ann", "a", 0),
            Happened("ann", "b", HALF_LIFE_IN_MINUTES),
            Happened("bob", "a", HALF_LIFE_IN_MINUTES),
            Happened("cyd", "b", HALF_LIFE_IN_MINUTES),
            Happened("dan", "c", HALF_LIFE_IN_MINUTES),
        ]
    )
    segment = np.array([2, 2, 0, -1], np.int32)  # dan's taste is not known
    lists = segment_popularity(log, segment, 3, at(HALF_LIFE_IN_MINUTES))
    assert lists.offsets.tolist() == [0, 1, 1, 3]
    assert lists.of(0)[0].tolist() == [1]
    assert lists.of(2)[0].tolist() == [0, 1]
    assert lists.of(2)[1].tolist() == pytest.approx([1.5 / 2.5, 1 / 2.5])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abcd")), min_size=1, max_size=30))
def test_two_segments_together_like_what_all_like(met: list[tuple[int, str]]) -> None:
    log = encoded([Happened(f"s{shopper}", item, 0) for shopper, item in met], items=list("abcd"))
    segment = (np.arange(len(log.shopper_keys)) % 2).astype(np.int32)
    lists = segment_popularity(log, segment, 2, at(0))
    sizes = np.bincount(segment[log.shopper], minlength=2)
    total = np.zeros(4)
    for group in range(2):
        items, shares = lists.of(group)
        total[items] += shares * sizes[group]
    np.testing.assert_allclose(total, np.bincount(log.item, minlength=4), rtol=1e-5)
