"""A log with two groups of shoppers who never meet each other's items."""

import numpy as np

from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import EventType
from tests.training.tiny_log import Happened, encoded

GROUP = 12
"""Items of each group."""
NEVER = "never met"


def checker_board(seed: int = 1, shoppers: int = 60, length: int = 12) -> EncodedLog:
    """Even shoppers buy even items, odd ones odd items; nobody meets the last."""
    rng = np.random.default_rng(seed)
    log = []
    for shopper in range(shoppers):
        for step in range(length):
            item = 2 * rng.integers(GROUP) + shopper % 2
            kind = EventType.PURCHASE if step % 3 == 2 else EventType.VIEW
            log.append(Happened(f"s{shopper:02}", f"i{item:02}", 100 * step + shopper, kind))
    return encoded(log, items=[NEVER])
