"""Ranking: the LightGBM model's score for every candidate."""

from typing import Final

import lightgbm
import numpy as np

from feature_repo.arrays import Float32
from feature_repo.ranking_features import RANKING_COLUMNS

FUSED_SCORE: Final = RANKING_COLUMNS.index("fused_score")


def rank(ranker: lightgbm.Booster | None, features: Float32) -> Float32:
    """float32[n] scores of float32[n, len(RANKING_COLUMNS)] rows; a row's score depends on that row alone.

    Without a ranker (a shop too young to train one) the order of the fused retrieval stands.
    """
    if ranker is None:
        return features[:, FUSED_SCORE]
    if not len(features):
        return np.zeros(0, np.float32)
    return np.asarray(ranker.predict(features, num_threads=1), dtype=np.float32)
