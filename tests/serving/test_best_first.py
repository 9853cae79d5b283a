"""The order of scored items against a full sort."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from feature_repo.arrays import Float32
from serving.best_first import best_first

few = st.sampled_from([-np.inf, -2.5, -0.0, 0.0, 1e-45, 2.5, np.inf])


@given(
    arrays(np.float32, st.integers(0, 40), elements=few | st.floats(allow_nan=False, width=32)),
    st.integers(0, 45),
)
def test_the_best_are_the_beginning_of_a_full_sort(scores: Float32, size: int) -> None:
    items = np.random.default_rng(scores.size).permutation(scores.size).astype(np.int32)
    expected = sorted(range(scores.size), key=lambda row: (-scores[row], items[row]))[:size]
    assert best_first(items, scores, size).tolist() == expected


def test_equals_come_in_order_of_their_index_wherever_the_list_is_cut() -> None:
    items = np.array([7, 3, 9, 1, 5], np.int32)
    scores = np.array([1, 1, 2, 1, -0.0], np.float32)
    for cut, alike in product(range(6), (scores, np.zeros_like(scores))):
        in_order = [9, 1, 3, 7, 5] if alike is scores else [1, 3, 5, 7, 9]
        assert items[best_first(items, alike, cut)].tolist() == in_order[:cut]
