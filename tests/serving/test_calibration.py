"""Probabilities from scores: points on the curves, and between them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.calibration import UNCALIBRATED, Calibration

CURVES = Calibration(
    click_scores=np.array([-1, 0, 4], np.float32),
    click_probabilities=np.array([0.1, 0.2, 0.6], np.float32),
    purchase_scores=np.array([0, 2], np.float32),
    purchase_probabilities=np.array([0, 0.5], np.float32),
)


def test_probabilities_lie_on_the_curve_between_its_points_and_end_where_it_ends() -> None:
    scores = np.array([-9, -1, 0, 1, 4, 99], np.float32)
    assert CURVES.click(scores).tolist() == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.6, 0.6])
    assert CURVES.purchase(scores).tolist() == pytest.approx([0, 0, 0, 0.25, 0.5, 0.5])
    assert CURVES.click(scores).dtype == np.float32


def test_what_was_too_rare_to_be_found_out_is_not_known() -> None:
    scores = np.array([1, 2], np.float32)
    assert np.isnan(UNCALIBRATED.click(scores)).all()
    assert np.isnan(UNCALIBRATED.purchase(scores)).all()
    assert UNCALIBRATED.click(scores[:0]).tolist() == []


@given(st.lists(st.floats(-5, 9, width=32), min_size=2, max_size=20))
def test_a_higher_score_never_has_a_lower_probability(scores: list[float]) -> None:
    assert (np.diff(CURVES.click(np.sort(np.array(scores, np.float32)))) >= 0).all()
