"""The ranker's rows are real candidates, drawn evenly, and what decides is learned."""

import numpy as np
import pytest

from feature_repo.ranking_features import RANKING_COLUMNS
from serving.recommender import Recommender
from tests.tiny_bundle import NAMES, SOLD_OUT, tiny_bundle
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.config import RankerConfig
from training.ranker import MIN_GROUPS, RankerRows, fit_ranker, ranker_rows
from training.replay import Replay, replay

CANDIDATES = 10
CONFIG = RankerConfig(negatives=3, trees=30, threads=1)
ITEM = RANKING_COLUMNS.index("item_log_price")
"""Prices of the tiny shop are distinct, so they tell which item a row is of."""


def lamp_after_mug(shoppers: int) -> Replay:
    """Requests whose window is a mug and whose target is a lamp."""
    log = []
    for number in range(shoppers):
        log += [Happened(f"s{number:04}", "mug", number), Happened(f"s{number:04}", "lamp", number + 1)]
    return replay(encoded(log), NOON, at(10**6), 64, 10**15).with_window()


def names_of(rows: RankerRows) -> "np.typing.NDArray[np.object_]":
    """The item of each row."""
    return np.array(NAMES, dtype=object)[np.rint(np.expm1(rows.features[:, ITEM]) / 10 - 1).astype(int)]


@pytest.fixture
def recommender() -> Recommender:
    return Recommender(tiny_bundle(), CANDIDATES)


def test_each_request_gives_its_target_and_as_many_negatives_as_asked_for(recommender: Recommender) -> None:
    rows = ranker_rows(recommender, lamp_after_mug(300), CONFIG)
    assert rows.groups.tolist() == [1 + CONFIG.negatives] * 300
    assert rows.features.shape == (1200, len(RANKING_COLUMNS))
    by_group = rows.relevant.reshape(300, -1)
    assert (by_group.sum(axis=1) == 1).all()
    assert set(names_of(rows)[rows.relevant == 1]) == {"lamp"}


def test_negatives_are_drawn_evenly_from_what_could_have_been_shown(recommender: Recommender) -> None:
    requests = 2000
    rows = ranker_rows(recommender, lamp_after_mug(requests), CONFIG)
    drawn, counts = np.unique(names_of(rows)[rows.relevant == 0], return_counts=True)
    others = set(NAMES) - {"mug", "lamp", SOLD_OUT}  # not the last item, the target, or what is not sold
    assert set(drawn) == others
    expected = requests * CONFIG.negatives / len(others)
    assert counts == pytest.approx(expected, abs=5 * expected**0.5)


def test_with_fewer_candidates_than_negatives_all_are_taken(recommender: Recommender) -> None:
    rows = ranker_rows(recommender, lamp_after_mug(3), RankerConfig(negatives=100))
    assert rows.groups.tolist() == [len(NAMES) - 2] * 3  # without the last item and what is not sold


def test_a_request_whose_target_was_not_retrieved_gives_no_rows(recommender: Recommender) -> None:
    known, unknown = lamp_after_mug(2), encoded([Happened("z", "mug", 0), Happened("z", "never sold", 1)])
    assert len(ranker_rows(recommender, known, CONFIG).groups) == 2
    rows = ranker_rows(recommender, replay(unknown, NOON, at(9), 64, 10**15).with_window(), CONFIG)
    assert rows.features.shape == (0, len(RANKING_COLUMNS))
    assert rows.groups.tolist() == []


def test_rows_are_the_features_that_are_served(recommender: Recommender) -> None:
    found = lamp_after_mug(5)
    rows = ranker_rows(recommender, found, RankerConfig(negatives=100))
    queries = [query for chunk in found.queries(recommender.bundle, k=1) for query in chunk]
    served = [slate.features for slate in recommender.recommend(queries)]
    np.testing.assert_array_equal(rows.features, np.concatenate(served))


def planted(groups: int, seed: int) -> RankerRows:
    """Rows of noise in which one column is highest where the row is relevant."""
    rng = np.random.default_rng(seed)
    size = 12
    features = rng.random((groups * size, len(RANKING_COLUMNS))).astype(np.float32)
    relevant = np.zeros((groups, size), np.int32)
    relevant[np.arange(groups), rng.integers(size, size=groups)] = 1
    features[:, RANKING_COLUMNS.index("similarity_session")] += relevant.ravel()
    return RankerRows(features, relevant.ravel(), np.full(groups, size, np.int64))


def test_what_decides_is_learned() -> None:
    booster = fit_ranker(planted(400, seed=1), CONFIG)
    assert booster is not None
    assert booster.feature_name() == list(RANKING_COLUMNS)
    fresh = planted(200, seed=2)
    scores = np.asarray(booster.predict(fresh.features)).reshape(200, -1)
    assert (scores.argmax(axis=1) == fresh.relevant.reshape(200, -1).argmax(axis=1)).mean() > 0.98


def test_the_same_rows_give_the_same_ranker() -> None:
    models = [fit_ranker(planted(100, seed=1), CONFIG) for _ in range(2)]
    assert models[0] is not None
    assert models[1] is not None
    assert models[0].model_to_string() == models[1].model_to_string()


def test_with_too_few_requests_there_is_no_ranker() -> None:
    assert fit_ranker(planted(MIN_GROUPS - 1, seed=1), CONFIG) is None
    assert fit_ranker(planted(MIN_GROUPS, seed=1), CONFIG) is not None
