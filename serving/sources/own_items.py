"""Sources from the shopper's own past: what was just met, and what is met again and again."""

from typing import Final

import numpy as np

from feature_repo.ranking_features import Interest, ShopperState
from feature_repo.user_history import days_since
from serving.bundle import Bundle
from serving.sources.source import NOTHING, Reach, Retrieved

MEMORY_DAYS: Final = 90.0
"""An item that was last met so long ago counts half."""


def revisits(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """The shopper's own items of the window, the newest first."""
    return reach.best(interest.recent.items, interest.recent.weights())


def repeats(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Items of the shopper's whole history by the share of visits they were met in, old ones counting less."""
    history = shopper.user.history
    if not history.items.size:
        return NOTHING
    memory = np.exp2(-days_since(history.last, shopper.as_of) / MEMORY_DAYS)
    scores = history.visits / history.total_visits * memory
    return reach.best(history.items, scores.astype(np.float32))
