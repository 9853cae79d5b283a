"""The frontier: its beginning is the recommender, and along the dial slates grow less alike."""

import numpy as np
import pytest

from feature_repo.schema import DAY
from serving.recommender import Recommender
from serving.reranking import DiversityKind
from tests.tiny_bundle import tiny_bundle
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.evaluation.diversity import DIALS, DialPoint, frontier
from training.evaluation.methods import evaluate, ranked_slates
from training.replay import Replay, replay

RECOMMENDER = Recommender(tiny_bundle(), 10)


def requests() -> Replay:
    log = [Happened("bob", item, minute) for minute, item in enumerate(["lamp", "bulb", "kettle", "teapot"])]
    return replay(encoded(log), NOON, at(10**6), 64, 90 * DAY).with_window()


@pytest.fixture(scope="module", params=DiversityKind)
def points(request: pytest.FixtureRequest) -> list[DialPoint]:
    return frontier(requests(), RECOMMENDER)[request.param]


def test_the_dial_begins_with_the_recommender(points: list[DialPoint]) -> None:
    served = evaluate(requests(), RECOMMENDER.bundle, ranked_slates(RECOMMENDER), "served")
    assert points[0].ndcg_at_10 == pytest.approx(served.ndcg_at_10.mean)
    assert points[0].recall_at_20 == pytest.approx(served.recall_at_20.mean)
    assert points[0].cost.absolute.mean == 0


def test_the_cost_is_what_a_place_of_the_dial_loses(points: list[DialPoint]) -> None:
    assert [point.dial for point in points] == list(DIALS)
    for point in points:
        assert point.cost.absolute.mean == pytest.approx(point.ndcg_at_10 - points[0].ndcg_at_10)
        for alike in (point.content, point.learned):
            assert -1 <= alike.of_first <= 1
            assert -1 <= alike.of_all <= 1
        assert np.isfinite(point.recall_at_20)
