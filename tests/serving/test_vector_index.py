"""The index of vectors: exact in a small shop, nearly so and scored exactly in a large one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from feature_repo.user_tower import unit_rows
from serving.vector_index import EXACT_BELOW, FARTHEST, SAMPLE, Near, VectorIndex

SIZE = EXACT_BELOW + 500
UNKNOWN = np.arange(0, SIZE, 100)


@pytest.fixture(scope="module")
def vectors() -> Float32:
    """Vectors around 200 centres, as those of items lie around their categories; some are not known."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(200, 16))
    found = centres[random.integers(200, size=SIZE)] + 0.5 * random.normal(size=(SIZE, 16))
    found[UNKNOWN] = 0
    return unit_rows(found.astype(np.float32))


@pytest.fixture(scope="module")
def large(vectors: Float32) -> VectorIndex:
    """An index that does not look at all of them."""
    return VectorIndex.of(vectors)


def test_in_a_small_shop_all_vectors_are_compared() -> None:
    vectors = np.array([[1, 0], [0, 0], [0.6, 0.8]], np.float32)
    near = VectorIndex.of(vectors).search(np.array([0, 1], np.float32), 1)
    assert near.whole
    assert near.items.tolist() == [0, 1, 2]
    assert near.cosines.tolist() == pytest.approx([0, FARTHEST, 0.8])


def test_a_large_one_finds_nearly_all_of_the_nearest_and_scores_them_exactly(
    large: VectorIndex, vectors: Float32
) -> None:
    recalls = []
    for query in vectors[1:1000:37]:
        near = large.search(query, 100)
        assert not near.whole
        assert near.items.size == np.unique(near.items).size == 100
        np.testing.assert_allclose(near.cosines, vectors[near.items] @ query, atol=1e-6)
        recalls.append(np.isin(np.argsort(-(vectors @ query))[:100], near.items).mean())
    assert np.mean(recalls) > 0.9
    assert not np.isin(near.items, UNKNOWN).any()


def test_where_not_all_are_allowed_none_is_missed(large: VectorIndex, vectors: Float32) -> None:
    near = large.search(vectors[1], 100, allowed=np.ones(SIZE, bool))
    assert near.whole
    assert near.items.size == SIZE
    assert (near.cosines[UNKNOWN] == FARTHEST).all()


def test_a_query_that_points_nowhere_is_compared_with_all(large: VectorIndex, vectors: Float32) -> None:
    nowhere = np.zeros_like(vectors[0])
    near = large.search(nowhere, 100)
    assert near.items.size == SIZE
    assert large.log_total(near, nowhere, 5.0) == pytest.approx(np.log(SIZE), abs=0.1)


@given(st.lists(st.integers(0, SIZE - 1), max_size=20), st.integers(1, SIZE - 1))
def test_cosines_are_those_of_the_items_that_are_asked_for_in_their_order(
    large: VectorIndex, vectors: Float32, items: list[int], asked: int
) -> None:
    found = large.cosines_of(np.array(items, np.int32), vectors[asked])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [vectors[item] @ vectors[asked] for item in items], atol=1e-6)


@pytest.mark.parametrize("scale", [5.0, 15.0])
def test_what_was_not_found_is_estimated_in_the_sum_of_all(
    large: VectorIndex, vectors: Float32, scale: float
) -> None:
    for query in vectors[1:500:61]:
        whole = np.log(np.exp(scale * (vectors @ query).astype(np.float64)).sum())
        assert large.log_total(large.search(query, 500), query, scale) == pytest.approx(whole, abs=0.15)


@given(
    st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=400, unique=True),
    st.integers(1, SIZE - 1),
    st.floats(0.5, 60),
)
def test_what_was_not_found_weighs_on_average_what_farther_ones_of_a_sample_do(
    large: VectorIndex, vectors: Float32, found: list[int], asked: int, scale: float
) -> None:
    query = vectors[asked]
    items = np.array(found, np.int32)
    near = Near(items, large.cosines_of(items, query), whole=False)
    sampled = large.cosines_of(np.arange(0, SIZE, SIZE // SAMPLE, dtype=np.int32), query)
    farther = sampled[sampled < near.cosines.min()]
    total = np.exp(scale * near.cosines.astype(np.float64)).sum()
    if farther.size:
        total += (SIZE - items.size) * np.exp(scale * farther.astype(np.float64)).mean()
    assert large.log_total(near, query, scale) == pytest.approx(np.log(total), abs=1e-4)


def test_the_same_vectors_make_the_same_file_and_it_searches_alike(
    large: VectorIndex, vectors: Float32, tmp_path: Path
) -> None:
    large.save(tmp_path / "one")
    VectorIndex.of(vectors).save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    read = VectorIndex.load(vectors, tmp_path / "one")
    for query in vectors[1:500:61]:
        np.testing.assert_array_equal(read.search(query, 50).items, large.search(query, 50).items)


def test_a_small_index_needs_no_file(tmp_path: Path) -> None:
    vectors = np.eye(3, dtype=np.float32)
    VectorIndex.of(vectors).save(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert VectorIndex.load(vectors, tmp_path / "none").search(vectors[0], 1).whole
