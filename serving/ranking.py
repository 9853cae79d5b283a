"""Ranking: the score of every candidate by LightGBM, one model for a session that goes on, one for an arrival."""

import math
from typing import Final, NamedTuple

import lightgbm
import numpy as np

from feature_repo.arrays import Bool, Float32
from feature_repo.ranking_features import RANKING_COLUMNS
from serving.tree_ensemble import TreeEnsemble

FUSED_SCORE: Final = RANKING_COLUMNS.index("fused_score")
LEAST_FUSED: Final = np.float32(1e-6)
"""Below any score that a source gives."""
SESSION_INTERACTIONS: Final = RANKING_COLUMNS.index("session_interactions")


class Ranker:
    """A LightGBM model of the ranking columns. Raises ValueError for one of others, or of other trees."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        columns = booster.num_feature()
        if columns != len(RANKING_COLUMNS):
            raise ValueError(
                f"a model of {columns} columns cannot rank by {len(RANKING_COLUMNS)}: train again"
            )
        self.booster = booster
        self._trees = TreeEnsemble.of(booster)

    def scores(self, features: Float32, share: float = 1.0) -> Float32:
        """float32[n]: of rows float32[n, len(RANKING_COLUMNS)] by the first ``share`` of the trees."""
        trees = math.ceil(share * self.booster.num_trees())
        return self._trees.scores(features, trees).astype(np.float32)


class Rankers(NamedTuple):
    """What ranks for a shopper who is in a session, and what ranks for one who arrives; None for lack of data.

    A click tells what is wanted right now, and drowns what is wanted every month: one model for both would serve
    neither. Where one could not be trained, the order of the fused retrieval stands: it knows what is popular with
    strangers, which the other would have to guess.
    """

    session: Ranker | None
    arrival: Ranker | None


NO_RANKERS: Final = Rankers(None, None)


def rank(rankers: Rankers, features: Float32, share: float = 1.0) -> Float32:
    """float32[n] scores of the candidates of one request by the first ``share`` of the trees.

    features: float32[n, len(RANKING_COLUMNS)]. A row's score depends on that row alone; which model gives it, on
    what all rows share.
    """
    if not len(features):
        return np.zeros(0, np.float32)
    [live] = in_session(features[:1])
    ranker = rankers.session if live else rankers.arrival
    if ranker is None:
        return log_odds(features[:, FUSED_SCORE])
    return ranker.scores(features, share)


def in_session(features: Float32) -> Bool:
    """bool[n]: True for rows of a shopper who did something in the session that goes on."""
    return features[:, SESSION_INTERACTIONS] > 0


def log_odds(fused: Float32) -> Float32:
    """float32[n]: a ranker's score for what the sources say: ratios of fused scores are ratios of odds, as it were.

    So a boost means the same whoever orders the candidates. What no source brought, fused score 0, stands last.
    """
    return np.log(np.maximum(fused, LEAST_FUSED))
