"""Exploration: the chances that are told are the chances that there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.reranking import Rules, explore, select

DRAWS = 20_000
rows = st.lists(st.integers(0, 19), unique=True, max_size=8).map(lambda found: np.array(found, np.int64))
places = st.lists(st.integers(0, 9), unique=True, max_size=4)
SCORES = np.random.default_rng(5).normal(size=20).astype(np.float32)


@given(rows, places, st.floats(1e-3, 1e3), st.integers(0, 2**32))
def test_places_are_filled_with_different_items_while_there_are_any(
    eligible: np.ndarray, places: list[int], temperature: float, seed: int
) -> None:
    found = explore(SCORES, eligible, places, temperature, np.random.default_rng(seed))
    assert list(found.fixed) == places[: eligible.size]
    assert len(set(found.fixed.values())) == len(found.fixed)
    assert set(found.fixed.values()) <= set(eligible.tolist())
    assert found.chance.keys() == set(found.fixed.values())
    assert all(0 < chance <= 1 + 1e-9 for chance in found.chance.values())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("slots", [1, 3])
def test_an_item_is_shown_as_often_as_its_chance_says_in_all_places_alike(
    slots: int, temperature: float
) -> None:
    eligible, random = np.arange(3, 9), np.random.default_rng(1)
    shown, told = np.zeros((slots, 20)), np.zeros(20)
    for _ in range(DRAWS):
        found = explore(SCORES, eligible, range(slots), temperature, random)
        for place, row in found.fixed.items():
            shown[place, row] += 1 / DRAWS
            told[row] = found.chance[row]
    np.testing.assert_allclose(shown.sum(axis=0), told, atol=0.015)
    np.testing.assert_allclose(shown, np.tile(told / slots, (slots, 1)), atol=0.015)
    assert told.sum() == pytest.approx(slots)
    uncertain = told[eligible] < 1
    ratio = told[eligible] / np.exp(SCORES[eligible] / temperature)
    assert np.ptp(ratio[uncertain]) < 1e-5


def test_a_seed_draws_the_same_again() -> None:
    once, again = (explore(SCORES, np.arange(9), [2, 5], 1.0, np.random.default_rng(7)) for _ in range(2))
    assert once == again


def test_what_is_not_drawn_is_certain() -> None:
    items = np.arange(20, dtype=np.int32)
    found = explore(SCORES, np.array([4, 7, 9]), [1], 1.0, np.random.default_rng(3))
    slate = select(items, SCORES, 5, Rules(found.fixed)).rows
    drawn = found.fixed[1]
    assert slate[1] == drawn
    odds = np.exp(SCORES[[4, 7, 9]].astype(float))
    expected = [1, np.exp(float(SCORES[drawn])) / odds.sum(), 1, 1, 1]
    np.testing.assert_allclose(found.propensity(slate), expected)


def test_a_temperature_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        explore(SCORES, np.arange(3), [0], 0.0, np.random.default_rng(0))
