"""What the shopper searches for."""

from typing import Final

import numpy as np

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import NOTHING, Reach, Retrieved

LEAST_RELEVANCE: Final = 0.25
"""Share of the best score: what fits less shares a syllable with the query, not a meaning."""


def text(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Items whose text fits the query of the page."""
    scores = bundle.texts.scores(shopper.page.query) if shopper.page.query else NOTHING.scores
    if not scores.size:
        return NOTHING
    fitting = np.flatnonzero(scores > max(LEAST_RELEVANCE * scores.max(), 0)).astype(np.int32)
    return reach.best(fitting, scores[fitting])
