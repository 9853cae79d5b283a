"""Random walks over the co-visitation graph: known answers, and what holds of any graph."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.indexes import Neighbours
from training.random_walks import CONTINUE, NEIGHBOURS, STEPS, random_walks


def graph(rows: list[dict[int, float]]) -> Neighbours:
    """A table of neighbours from the scores of each item's."""
    width = max(map(len, rows), default=0) + 1
    found = Neighbours(np.full((len(rows), width), -1, np.int32), np.zeros((len(rows), width), np.float32))
    for item, row in enumerate(rows):
        best_first = sorted(row.items(), key=lambda pair: -pair[1])
        found.items[item, : len(row)] = [neighbour for neighbour, _ in best_first]
        found.scores[item, : len(row)] = [score for _, score in best_first]
    return found


def visits(walked: Neighbours, item: int) -> dict[int, float]:
    """What the table says of an item's walks."""
    known = walked.items[item] >= 0
    return dict(zip(walked.items[item][known].tolist(), walked.scores[item][known].tolist(), strict=True))


def test_a_chain_is_walked_to_its_end_ever_more_seldom() -> None:
    longer = STEPS + 2
    chain = [{item + 1: 0.3} for item in range(longer - 1)] + [{}]
    found = visits(random_walks(graph(chain)), 0)
    assert found == pytest.approx({step: CONTINUE**step for step in range(1, STEPS + 1)})
    assert list(found) == sorted(found)


def test_a_walk_goes_to_neighbours_in_proportion_to_their_scores_and_comes_back() -> None:
    # 0 -> 1; 1 -> 0 once and 2 three times of four; 2 -> 1
    found = random_walks(graph([{1: 2.0}, {0: 0.1, 2: 0.3}, {1: 1.0}]))
    back = CONTINUE**2
    expected = {1: CONTINUE * (1 + back + back**2), 2: 0.75 * back * (1 + back)}
    assert visits(found, 0) == pytest.approx(expected)


def test_no_item_is_its_own_end_and_one_without_neighbours_has_none() -> None:
    found = random_walks(graph([{1: 1.0}, {0: 1.0}, {}]))
    assert set(visits(found, 0)) == {1}
    assert visits(found, 2) == {}


def test_only_the_likeliest_ends_are_kept() -> None:
    star = [{item: float(item) for item in range(1, NEIGHBOURS + 6)}] + [{} for _ in range(NEIGHBOURS + 5)]
    found = random_walks(graph(star))
    assert found.items.shape == found.scores.shape == (len(star), NEIGHBOURS)
    assert found.items[0].tolist() == list(range(NEIGHBOURS + 5, 5, -1))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.integers(0, 6), st.floats(2**-6, 1, width=32), max_size=4), min_size=7, max_size=7
    )
)
def test_in_a_small_shop_the_walks_are_powers_of_the_graph(rows: list[dict[int, float]]) -> None:
    steps = np.zeros((7, 7))
    for item, row in enumerate(rows):
        for neighbour, score in row.items():
            steps[item, neighbour] = score / sum(row.values())
    expected = np.sum([np.linalg.matrix_power(CONTINUE * steps, n) for n in range(1, STEPS + 1)], axis=0)
    np.fill_diagonal(expected, 0)
    walked = random_walks(graph(rows))
    for item in range(7):
        reached = {int(end): expected[item, end] for end in np.flatnonzero(expected[item] > 0)}
        assert visits(walked, item) == pytest.approx(reached, rel=1e-4)


def test_an_empty_shop_has_no_walks() -> None:
    assert random_walks(graph([])).items.shape == (0, NEIGHBOURS)
