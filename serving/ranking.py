"""Ranking: the LightGBM model's score for every candidate."""

import lightgbm
import numpy as np

from feature_repo.arrays import Float32


def rank(ranker: lightgbm.Booster, features: Float32) -> Float32:
    """float32[n] scores of float32[n, len(RANKING_COLUMNS)] rows; a row's score depends on that row alone."""
    if not len(features):
        return np.zeros(0, np.float32)
    return np.asarray(ranker.predict(features, num_threads=1), dtype=np.float32)
