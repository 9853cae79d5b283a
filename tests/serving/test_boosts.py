"""Boosts multiply odds; what was shown in vain is buried, and recovers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.schema import HOUR
from serving.reranking import boosted, fatigue
from serving.reranking.scores import LEAST_FACTOR

factors = st.floats(0.01, 100)


@given(st.floats(-20, 20), factors, factors)
def test_a_factor_multiplies_the_odds_and_factors_multiply(score: float, first: float, second: float) -> None:
    scores = np.array([score], np.float32)
    once = boosted(scores, np.array([first], np.float32))
    assert float(once[0]) == pytest.approx(score + np.log(first), abs=1e-5)
    twice = boosted(once, np.array([second], np.float32))
    assert float(twice[0]) == pytest.approx(score + np.log(first * second), abs=1e-4)
    assert twice.dtype == np.float32


def test_what_is_buried_by_0_stands_last_and_is_not_lost() -> None:
    scores = boosted(np.array([3, -3], np.float32), np.array([0, 1], np.float32))
    assert np.isfinite(scores).all()
    assert scores[0] == pytest.approx(3 + np.log(LEAST_FACTOR))


@pytest.mark.parametrize("factor", [-1, np.nan, np.inf])
def test_a_factor_that_is_none_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        boosted(np.zeros(1, np.float32), np.array([factor], np.float32))


@given(
    st.lists(st.integers(0, 20), unique=True),
    st.dictionaries(st.integers(0, 30), st.integers(-HOUR, 100 * HOUR)),
    st.floats(0, 1),
)
def test_fatigue_halves_with_every_half_life(items: list[int], ages: dict[int, int], weight: float) -> None:
    now = 1000 * HOUR
    shown = {item: now - age for item, age in ages.items()}
    found = fatigue(np.array(items, np.int32), shown, now, weight, HOUR)
    expected = [1 - weight * 2 ** (-max(ages[item], 0) / HOUR) if item in ages else 1.0 for item in items]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
