"""What was learned, for items that came after the training."""

import numpy as np
import pytest

from serving.indexes import Neighbours
from training.learned import vectors_from_covisitation

EAST, NORTH, NONE = [1, 0], [0, 1], [0, 0]


def neighbours(*rows: dict[int, float]) -> Neighbours:
    items = np.full((len(rows), 3), -1, np.int32)
    scores = np.zeros((len(rows), 3), np.float32)
    for number, row in enumerate(rows):
        items[number, : len(row)] = list(row)
        scores[number, : len(row)] = list(row.values())
    return Neighbours(items, scores)


def test_an_item_that_was_not_trained_lies_between_those_it_is_met_with() -> None:
    learned = np.array([EAST, NORTH, NONE, NONE, NONE], np.float32)
    covisited = neighbours({1: 1}, {0: 1}, {0: 3, 1: 4, 3: 9}, {2: 9}, {})
    found = vectors_from_covisitation(covisited, learned)
    assert found[2] == pytest.approx(
        [0.6, 0.8]
    )  # the others' scores count by the items that were trained alone
    assert found[3:].tolist() == [NONE, NONE]
    np.testing.assert_array_equal(found[:2], learned[:2])
    assert found.dtype == np.float32


def test_nothing_changes_where_all_items_were_trained() -> None:
    learned = np.array([EAST, NORTH], np.float32)
    np.testing.assert_array_equal(vectors_from_covisitation(neighbours({1: 1}, {0: 1}), learned), learned)
