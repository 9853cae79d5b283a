"""Which model ranks for whom, and what it makes of rows."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from feature_repo.ranking_features import RANKING_COLUMNS
from serving.ranking import FUSED_SCORE, SESSION_INTERACTIONS, Ranker, Rankers, in_session, log_odds, rank
from serving.tree_ensemble import MOST_LEAVES


def ranker_of(column: str, sign: int) -> Ranker:
    """A score that rises with a column, or falls with it."""
    at = RANKING_COLUMNS.index(column)
    rows = np.zeros((200, len(RANKING_COLUMNS)), np.float32)
    rows[:, at] = np.arange(200) % 10
    parameters = {
        "objective": "regression",
        "learning_rate": 1.0,
        "min_data_in_leaf": 1,
        "num_threads": 1,
        "verbose": -1,
    }
    return Ranker(lightgbm.train(parameters, lightgbm.Dataset(rows, sign * rows[:, at]), num_boost_round=1))


SESSION, ARRIVAL = ranker_of("popular_score", 1), ranker_of("popular_score", -1)


def rows(*interactions: int) -> Float32:
    """A row for each, of a shopper with so many interactions in the session; popularity rises, fusion falls."""
    matrix = np.zeros((len(interactions), len(RANKING_COLUMNS)), np.float32)
    matrix[:, SESSION_INTERACTIONS] = interactions
    matrix[:, RANKING_COLUMNS.index("popular_score")] = np.arange(len(interactions))
    matrix[:, FUSED_SCORE] = np.exp(-np.arange(len(interactions)) / 100)
    return matrix


def test_a_session_is_ranked_by_one_model_and_an_arrival_by_another() -> None:
    scores = rank(Rankers(SESSION, ARRIVAL), rows(1, 1, 1))
    assert scores.tolist() == pytest.approx([0, 1, 2])
    assert scores.dtype == np.float32
    assert rank(Rankers(SESSION, ARRIVAL), rows(0, 0, 0)).tolist() == pytest.approx([0, -1, -2])
    assert in_session(rows(0, 1, 7)).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("rankers", "session", "arrival"),
    [
        (Rankers(SESSION, None), [0, 1, 2], [0, -0.01, -0.02]),
        (Rankers(None, ARRIVAL), [0, -0.01, -0.02], [0, -1, -2]),
        (Rankers(None, None), [0, -0.01, -0.02], [0, -0.01, -0.02]),
    ],
)
def test_for_whom_no_model_could_be_trained_the_order_of_the_fusion_stands(
    rankers: Rankers, session: list[float], arrival: list[float]
) -> None:
    assert rank(rankers, rows(2, 2, 2)).tolist() == pytest.approx(session)
    assert rank(rankers, rows(0, 0, 0)).tolist() == pytest.approx(arrival)


@pytest.mark.parametrize(
    ("columns", "leaves", "why"),
    [(3, 5, "a model of 3 columns cannot rank"), (len(RANKING_COLUMNS), MOST_LEAVES + 1, "train with fewer")],
)
def test_a_model_that_cannot_rank_is_refused_before_it_is_asked(columns: int, leaves: int, why: str) -> None:
    rows = np.random.default_rng(1).random((2000, columns))
    parameters = {"objective": "regression", "num_leaves": leaves, "min_data_in_leaf": 1, "verbose": -1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, rows[:, 0]), num_boost_round=1)
    with pytest.raises(ValueError, match=why):
        Ranker(booster)


def test_twice_the_fused_score_is_twice_the_odds_and_what_nobody_brought_stands_last() -> None:
    odds = np.exp(log_odds(np.array([0.02, 0.01, 0], np.float32)))
    assert odds[0] / odds[1] == pytest.approx(2, rel=1e-5)
    assert 0 < odds[2] < 1e-5


@pytest.mark.parametrize("rankers", [Rankers(SESSION, ARRIVAL), Rankers(None, None)])
def test_no_rows_have_no_scores(rankers: Rankers) -> None:
    assert rank(rankers, rows()).shape == (0,)


@settings(deadline=None)
@given(st.integers(0, 2), st.integers(1, 8))
def test_a_rows_score_depends_on_that_row_alone(interactions: int, candidates: int) -> None:
    matrix = rows(*[interactions] * candidates)
    together = rank(Rankers(SESSION, ARRIVAL), matrix)
    alone = [rank(Rankers(SESSION, ARRIVAL), row[None])[0] for row in matrix]
    assert together.tolist() == alone
