"""The search finds settings that order the newest requests better, and leaves well alone."""

from dataclasses import replace

import numpy as np

from feature_repo.ranking_features import RANKING_COLUMNS
from training.config import RankerConfig
from training.ranker import MIN_GROUPS, RankerRows
from training.ranker_search import search_ranker

WIDTH = 10
HOPELESS = RankerConfig(leaves=7, learning_rate=0.02, trees=50, least_rows=500, threads=1)
"""So few rows never fill a leaf, so no tree grows."""


def rows(requests: int) -> RankerRows:
    """Requests whose wanted item has the highest price."""
    random = np.random.default_rng(1)
    features = random.random((requests * WIDTH, len(RANKING_COLUMNS))).astype(np.float32)
    price = features[:, RANKING_COLUMNS.index("item_log_price")].reshape(requests, WIDTH)
    relevance = (price == price.max(axis=1, keepdims=True)).astype(np.int32)
    return RankerRows(features, relevance.ravel(), np.full(requests, WIDTH, dtype=np.int64))


def test_a_search_improves_on_a_hopeless_start() -> None:
    found = search_ranker(rows(100), replace(HOPELESS, trials=6))
    assert found.least_rows < HOPELESS.least_rows


def test_no_trials_and_too_few_requests_change_nothing() -> None:
    assert search_ranker(rows(200), HOPELESS) == HOPELESS
    few = replace(HOPELESS, trials=3)
    assert search_ranker(rows(2 * MIN_GROUPS - 1), few) == few
