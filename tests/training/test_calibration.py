"""Calibrated probabilities say how often a thing happens, and only where that can be known."""

from pathlib import Path

import numpy as np
import pytest

from feature_repo.schema import DAY, HOUR, MINUTE, EventType
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
from training.replay import Replay, replay


def shown(n: int = 40_000, seed: int = 1) -> ShownItems:
    """Items taken with the logistic probability of their score, and bought with a tenth of that."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=n).astype(np.float32)
    chance = 1 / (1 + np.exp(-scores))
    return ShownItems(scores, random.random(n) < chance, random.random(n) < chance / 10, np.ones(n, bool))


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
        np.concatenate([first.followed, second.followed]),
    )
    assert reliability(changed)["click"].error > 0.2


def test_too_few_outcomes_make_no_curve() -> None:
    scores = np.arange(1000, dtype=np.float32)
    rare = np.arange(1000) < MIN_OUTCOMES - 1
    calibration = calibrate(ShownItems(scores, ~rare, rare, np.ones(1000, bool)))
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
    found = shown_items(Recommender(bundle, 10), first, at(2 * day))
    [query] = first.queries(bundle, 20)
    [slate] = Recommender(bundle, 10).recommend([query])
    names = bundle.item_ids[slate.items[: len(slate.items) - slate.filled]]
    assert names[found.taken].tolist() == ["teapot"]
    assert names[found.bought].tolist() == ["mug"]
    assert found.followed.all()
    np.testing.assert_array_equal(found.scores, slate.scores[: len(names)])


def bought_twelve_hours_later(days: float) -> ShownItems:
    """Shown to 500 who view the kettle in the newest days of a log, and buy the teapot 12 hours later."""
    views = [(f"s{n:03}", n * days * DAY / MINUTE / 500) for n in range(500)]
    later = [(shopper, minute + 12 * HOUR / MINUTE) for shopper, minute in views]
    end = days * DAY / MINUTE
    log = encoded(
        [
            *(Happened(shopper, "kettle", minute) for shopper, minute in views),
            *(
                Happened(shopper, "teapot", minute, EventType.PURCHASE)
                for shopper, minute in later
                if minute < end
            ),
        ]
    )
    viewed = np.flatnonzero(log.type == EventType.VIEW.code)
    teapot = np.full(500, np.flatnonzero(log.item_ids == "teapot")[0], np.int32)
    requests = Replay(log, log.shopper[viewed], viewed, viewed + 1, log.time[viewed], teapot, np.arange(501))
    return shown_items(Recommender(tiny_bundle(), 10), requests, at(end))


def test_whom_the_log_does_not_follow_for_a_day_says_nothing_of_purchases() -> None:
    shown = bought_twelve_hours_later(days=2)
    teapots = shown.scores == shown.scores.max()
    assert np.count_nonzero(teapots) == 500
    assert np.count_nonzero(teapots & shown.followed) == 251  # those of the first day, and its last moment
    assert shown.bought[teapots].mean() == 0.75
    calibration = calibrate(shown)
    assert calibration.purchase(shown.scores.max()[None]) == pytest.approx([1])
    assert calibration.click(shown.scores.max()[None]) == pytest.approx([1])
    assert reliability(shown)["purchase"].error == pytest.approx(0, abs=1e-6)


def test_where_nobody_is_followed_for_a_day_there_is_no_curve_of_purchases() -> None:
    shown = bought_twelve_hours_later(days=1)
    assert np.count_nonzero(shown.bought) >= MIN_OUTCOMES
    calibration = calibrate(shown)
    assert np.isnan(calibration.purchase(shown.scores)).all()
    assert not np.isnan(calibration.click(shown.scores)).any()
    assert set(reliability(shown)) == {"click"}


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    plot_reliability(reliability(shown(2000)), tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
    plot_reliability({}, tmp_path / "empty.png")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["empty.png", "reliability.png"]
