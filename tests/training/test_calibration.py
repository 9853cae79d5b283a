"""Calibrated probabilities say how often a thing happens, and only where that can be known."""

from pathlib import Path

import numpy as np
import pytest

from feature_repo.schema import DAY, MINUTE, EventType
from serving.calibration import UNCALIBRATED
from serving.recommender import Recommender
from tests.tiny_bundle import tiny_bundle
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.calibration import (
    MIN_OUTCOMES,
    ShownItems,
    calibrate,
    plot_reliability,
    reliability,
    shown_items,
)
from training.replay import replay


def shown(n: int = 40_000, seed: int = 1) -> ShownItems:
    """Items taken with the logistic probability of their score, and bought with a tenth of that."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=n).astype(np.float32)
    chance = 1 / (1 + np.exp(-scores))
    return ShownItems(scores, random.random(n) < chance, random.random(n) < chance / 10)


def test_the_curves_find_the_probabilities_that_the_outcomes_were_drawn_with() -> None:
    calibration = calibrate(shown())
    scores = np.array([-1.5, 0, 1.5], np.float32)
    expected = 1 / (1 + np.exp(-scores))
    assert calibration.click(scores) == pytest.approx(expected, abs=0.03)
    assert calibration.purchase(scores) == pytest.approx(expected / 10, abs=0.015)


def test_a_higher_score_never_means_a_lower_probability() -> None:
    calibration = calibrate(shown(2000))
    probabilities = calibration.click(np.linspace(-9, 9, 500, dtype=np.float32))
    assert (np.diff(probabilities) >= 0).all()
    assert 0 <= probabilities.min() <= probabilities.max() <= 1


def test_forecasts_hold_on_items_that_were_not_used_for_them() -> None:
    found = reliability(shown())
    assert set(found) == {"click", "purchase"}
    assert found["click"].error < 0.02
    assert found["click"].forecast == pytest.approx(found["click"].observed, abs=0.05)


def test_a_forecast_that_does_not_hold_is_told() -> None:
    first, second = shown(2000), shown(2000, seed=2)
    changed = ShownItems(
        np.concatenate([first.scores, second.scores]),
        np.concatenate([first.taken, ~second.taken]),
        np.concatenate([first.bought, second.bought]),
    )
    assert reliability(changed)["click"].error > 0.2


def test_too_few_outcomes_make_no_curve() -> None:
    scores = np.arange(1000, dtype=np.float32)
    rare = np.arange(1000) < MIN_OUTCOMES - 1
    calibration = calibrate(ShownItems(scores, ~rare, rare))
    assert np.isnan(calibration.purchase(scores)).all()
    assert not np.isnan(calibration.click(scores)).any()
    assert np.isnan(UNCALIBRATED.click(scores)).all()


def test_what_was_shown_knows_what_was_taken_next_and_what_was_bought_within_a_day() -> None:
    day = DAY // MINUTE
    log = encoded(
        [
            Happened("ann", "kettle", 0),
            Happened("ann", "teapot", 1),
            Happened("ann", "mug", 2, EventType.PURCHASE),
            Happened("ann", "tray", day + 5, EventType.PURCHASE),
        ]
    )
    first = replay(log, NOON, at(10**6), 64, 10**15).with_window().take(np.array([0]))
    bundle = tiny_bundle()
    found = shown_items(Recommender(bundle, 10), first)
    [query] = first.queries(bundle, 20)
    [slate] = Recommender(bundle, 10).recommend([query])
    names = bundle.item_ids[slate.items[: len(slate.items) - slate.filled]]
    assert names[found.taken].tolist() == ["teapot"]
    assert names[found.bought].tolist() == ["mug"]
    np.testing.assert_array_equal(found.scores, slate.scores[: len(names)])


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    plot_reliability(reliability(shown(2000)), tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
    plot_reliability({}, tmp_path / "empty.png")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["empty.png", "reliability.png"]
