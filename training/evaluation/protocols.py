"""Protocols: which requests are asked, what their shoppers wanted, and where time is cut for it.

All rank the full catalogue. An item that nobody had met when the methods were fitted is no target, since few of
them could find it; the ceiling says which share of the targets remains.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from feature_repo.encoded_log import EncodedLog
from feature_repo.errors import InputError
from feature_repo.schema import DAY
from feature_repo.settings import Settings
from training.dataset import Split
from training.evaluation.baskets import basket_completion, next_basket
from training.evaluation.next_item import next_item
from training.evaluation.protocol import Protocol
from training.evaluation.requests import Requests

TEST_SHARE: Final = 0.1
"""Of the time that the log spans, for the next item."""
RANKER_SHARE: Final = 0.1
"""Of the interactions before the test part."""
BASKET_PERIOD: Final = 28 * DAY
"""Time whose baskets are predicted."""

Ask = Callable[[EncodedLog, int, int, Settings], Requests]
"""The requests of a log whose targets lie in [start, end), microseconds, and were known before ``start``."""


def cut_next_item(active: EncodedLog) -> Split:
    """Test on the newest TEST_SHARE of the time that the interactions span."""
    begin, end = int(active.time.min()), int(active.time.max()) + 1
    return _split(active, int(end - TEST_SHARE * (end - begin)), end)


def cut_baskets(active: EncodedLog) -> Split:
    """Test on the newest BASKET_PERIOD. Raises InputError for a log of which too little would be left."""
    begin, end = int(active.time.min()), int(active.time.max()) + 1
    if end - begin <= 2 * BASKET_PERIOD:
        raise InputError(
            f"the log spans {(end - begin) / DAY:.0f} days, but it takes more than {2 * BASKET_PERIOD // DAY} to "
            "learn from baskets, tune on some and test on others: evaluate it with --protocol next_item"
        )
    return _split(active, end - BASKET_PERIOD, end)


def _split(active: EncodedLog, test: int, end: int) -> Split:
    before = active.time[active.time < test]
    return Split(int(np.quantile(before, 1 - RANKER_SHARE)), test, end)


def tuned_from(protocol: Protocol, split: Split) -> int:
    """The moment (microseconds) from which on, up to the test part, baselines are tuned."""
    return split.test - BASKET_PERIOD if protocol == Protocol.NEXT_BASKET else split.ranker


ASK: Final[Mapping[Protocol, Ask]] = {
    Protocol.NEXT_ITEM: next_item,
    Protocol.NEXT_BASKET: next_basket,
    Protocol.BASKET_COMPLETION: basket_completion,
}
CUT: Final[Mapping[Protocol, Callable[[EncodedLog], Split]]] = {
    Protocol.NEXT_ITEM: cut_next_item,
    Protocol.NEXT_BASKET: cut_baskets,
    Protocol.BASKET_COMPLETION: cut_baskets,
}
"""How each protocol cuts the time of the log's interactions."""
TUNED_BY: Final[Mapping[Protocol, str]] = {
    Protocol.NEXT_ITEM: "ndcg_at_10",
    Protocol.NEXT_BASKET: "recall_at_20",
    Protocol.BASKET_COMPLETION: "recall_at_20",
}
"""The metric that counts most: baselines are tuned to raise it."""
