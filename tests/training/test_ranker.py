"""The ranker's rows are real candidates, drawn evenly, and what decides is learned."""

from dataclasses import replace

import numpy as np
import pytest

from feature_repo.ranking_features import RANKING_COLUMNS
from feature_repo.schema import EventType
from serving.recommender import Recommender
from tests.tiny_bundle import NAMES, SOLD_OUT, tiny_bundle
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.config import RankerConfig
from training.ranker import MIN_GROUPS, RankerRows, fit_ranker, ranker_rows, together
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
    by_group = rows.relevance.reshape(300, -1)
    assert (by_group.sum(axis=1) == 1).all()
    assert set(names_of(rows)[rows.relevance == 1]) == {"lamp"}


def test_all_that_a_request_wants_and_that_was_retrieved_is_relevant_by_what_it_is_worth(
    recommender: Recommender,
) -> None:
    log = encoded([Happened("ann", "mug", 0), Happened("ann", "lamp", 1)], items=["desk", SOLD_OUT])
    wanted = np.searchsorted(log.item_ids, ["desk", "lamp", SOLD_OUT]).astype(np.int32)
    found = replay(log, NOON, at(9), 64, 10**15).with_window()
    asked = replace(found, wanted=wanted, offsets=np.array([0, 3]), worth=np.array([1, 3, 2], np.int32))
    rows = ranker_rows(recommender, asked, RankerConfig(negatives=100))
    assert rows.groups.tolist() == [len(NAMES) - 2]  # without the last item and what is not sold
    worth = dict(zip(names_of(rows), rows.relevance.tolist(), strict=True))
    assert {name: value for name, value in worth.items() if value} == {"desk": 1, "lamp": 3}
    few = ranker_rows(recommender, asked, CONFIG)
    assert few.groups.tolist() == [2 + CONFIG.negatives]


def test_what_was_bought_next_is_worth_more_than_what_was_looked_at(recommender: Recommender) -> None:
    log = []
    for number, kind in enumerate([EventType.VIEW, EventType.ADD_TO_CART, EventType.PURCHASE]):
        log += [Happened(f"s{number}", "mug", number), Happened(f"s{number}", "lamp", number + 0.5, kind)]
    rows = ranker_rows(recommender, replay(encoded(log), NOON, at(99), 64, 10**15).with_window(), CONFIG)
    assert rows.relevance.reshape(3, -1).max(axis=1).tolist() == [1, 2, 3]
    assert rows.weight().tolist() == np.repeat([1, 2, 3], 1 + CONFIG.negatives).tolist()


def test_rows_know_whose_session_goes_on(recommender: Recommender) -> None:
    log = [Happened("ann", "mug", 0), Happened("ann", "lamp", 1)]
    log += [Happened("bob", "mug", 0), Happened("bob", "lamp", 500)]
    found = replay(encoded(log), NOON, at(999), 64, 10**15).with_window()
    rows = ranker_rows(recommender, found, CONFIG)
    assert rows.in_session().tolist() == [True, False]
    lost = ranker_rows(recommender, found.without_windows(), CONFIG)
    assert lost.in_session().tolist() == [False, False]


def test_rows_of_chosen_requests_and_of_several_parts_are_theirs(recommender: Recommender) -> None:
    rows = ranker_rows(recommender, lamp_after_mug(3), CONFIG)
    width = 1 + CONFIG.negatives
    middle = rows.take(np.array([False, True, False]))
    assert middle.groups.tolist() == [width]
    np.testing.assert_array_equal(middle.features, rows.features[width : 2 * width])
    both = together(middle, rows)
    assert both.groups.tolist() == [width] * 4
    np.testing.assert_array_equal(both.features, np.concatenate([middle.features, rows.features]))
    np.testing.assert_array_equal(both.relevance, np.concatenate([middle.relevance, rows.relevance]))


def test_negatives_are_drawn_evenly_from_what_could_have_been_shown(recommender: Recommender) -> None:
    requests = 2000
    rows = ranker_rows(recommender, lamp_after_mug(requests), CONFIG)
    drawn, counts = np.unique(names_of(rows)[rows.relevance == 0], return_counts=True)
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
    queries = found.queries(recommender.bundle, k=1)
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
    ranker = fit_ranker(planted(400, seed=1), CONFIG)
    assert ranker is not None
    assert ranker.booster.feature_name() == list(RANKING_COLUMNS)
    fresh = planted(200, seed=2)
    scores = ranker.scores(fresh.features).reshape(200, -1)
    assert (scores.argmax(axis=1) == fresh.relevance.reshape(200, -1).argmax(axis=1)).mean() > 0.98


def test_the_same_rows_give_the_same_ranker() -> None:
    models = [fit_ranker(planted(100, seed=1), CONFIG) for _ in range(2)]
    assert models[0] is not None
    assert models[1] is not None
    assert models[0].booster.model_to_string() == models[1].booster.model_to_string()


def test_with_too_few_requests_there_is_no_ranker() -> None:
    assert fit_ranker(planted(MIN_GROUPS - 1, seed=1), CONFIG) is None
    assert fit_ranker(planted(MIN_GROUPS, seed=1), CONFIG) is not None
