"""What the trees say of rows, held against LightGBM itself."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from serving.tree_ensemble import MOST_LEAVES, TreeEnsemble

COLUMNS = 5
ZERO = 1e-35
"""LightGBM takes what is no larger for zero."""
REGRESSION = {
    "objective": "regression",
    "num_threads": 1,
    "verbose": -1,
    "min_data_in_leaf": 1,
    "deterministic": True,
}


def noise(seed: int, rows: int, missing: float) -> Float32:
    """Numbers of all sizes, among them zeros of both signs, and some that are missing or infinite."""
    random = np.random.default_rng(seed)
    values = (random.normal(size=(rows, COLUMNS)) * 10.0 ** random.integers(-6, 7, COLUMNS)).astype(
        np.float32
    )
    values[random.random(values.shape) < 0.1] = 0
    values[random.random(values.shape) < 0.05] = -0.0
    values[random.random(values.shape) < missing] = np.nan
    values[random.random(values.shape) < 0.02 * (missing > 0)] = np.inf
    return values


def model(seed: int, leaves: int, trees: int, missing: float, **parameters: object) -> lightgbm.Booster:
    rows = noise(seed, 600, missing)
    labels = np.nan_to_num(np.sign(rows) * np.log1p(np.abs(rows)), posinf=30) @ np.arange(1, COLUMNS + 1)
    data = lightgbm.Dataset(rows, labels)
    return lightgbm.train({**REGRESSION, "num_leaves": leaves, **parameters}, data, num_boost_round=trees)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    leaves=st.sampled_from([2, 3, 15, MOST_LEAVES]),
    trees=st.integers(1, 8),
    missing=st.sampled_from([0.0, 0.3]),
    rows=st.integers(0, 40),
)
def test_trees_say_what_lightgbm_says_to_the_last_bit(
    seed: int, leaves: int, trees: int, missing: float, rows: int
) -> None:
    booster = model(seed, leaves, trees, missing)
    ensemble = TreeEnsemble.of(booster)
    asked = noise(seed + 1, rows, missing=0.2)  # missing, too, where training had none
    for first in range(trees + 1):
        said = booster.predict(asked, num_iteration=first) if rows and first else np.zeros(rows)
        np.testing.assert_array_equal(ensemble.scores(asked, first), said)


def test_a_row_on_a_threshold_goes_left_and_one_just_above_it_right() -> None:
    booster = model(seed=1, leaves=31, trees=3, missing=0.0)
    ensemble = TreeEnsemble.of(booster)
    splits = np.flatnonzero(np.abs(ensemble.threshold) > ZERO)
    on = np.tile(noise(2, 1, 0.0), (splits.size, 1))
    above = on.copy()
    place = (np.arange(splits.size), ensemble.column[splits])
    on[place] = ensemble.threshold[splits]
    above[place] = np.nextafter(on[place], np.float32(np.inf))
    for asked in (on, above):
        np.testing.assert_array_equal(ensemble.scores(asked, 3), booster.predict(asked))
    assert (ensemble.scores(on, 3) != ensemble.scores(above, 3)).any()


def test_a_tree_without_a_split_says_the_same_of_all() -> None:
    rows = np.zeros((50, COLUMNS), np.float32)
    booster = lightgbm.train(REGRESSION, lightgbm.Dataset(rows, np.full(50, 7.0)), num_boost_round=1)
    np.testing.assert_array_equal(
        TreeEnsemble.of(booster).scores(noise(1, 4, 0.3), 1), booster.predict(rows[:4])
    )


@pytest.mark.parametrize(
    ("parameters", "categorical", "why"),
    [
        ({"num_leaves": MOST_LEAVES + 1}, [], f"more than {MOST_LEAVES}: train with fewer"),
        ({"zero_as_missing": True}, [], "missing Zero"),
        ({}, [0], "split by =="),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, [], "to be averaged, not summed"),
    ],
)
def test_what_these_trees_cannot_do_is_refused(
    parameters: dict[str, object], categorical: list[int], why: str
) -> None:
    rows = np.random.default_rng(3).integers(20, size=(2000, COLUMNS)).astype(np.float32)
    labels = rows[:, 0] * 7 % 11 + rows[:, 1]
    data = lightgbm.Dataset(rows, labels, categorical_feature=categorical)
    booster = lightgbm.train({**REGRESSION, **parameters}, data, num_boost_round=2)
    with pytest.raises(ValueError, match=why):
        TreeEnsemble.of(booster)
