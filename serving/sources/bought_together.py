"""What is bought together with what the shopper is about to buy."""

from typing import Final

import numpy as np

from feature_repo.distinct_values import distinct
from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import RECENT_ITEMS, Reach, Retrieved, around

OF_RECENT: Final = 100
"""Complements of each recent item that are looked up; of the page, which is one thing, all are."""


def bought_together(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Complements of the page's items and of the cart; without a page, of the newest items, these most."""
    page = np.concatenate([shopper.page.items, shopper.page.cart])
    if page.size:
        page = page[distinct(page)[0]]
        return reach.best(*around(bundle.bought_together, page, np.ones(page.size, np.float32)))
    recent = interest.recent.newest(RECENT_ITEMS)
    return reach.best(*around(bundle.bought_together, recent.items, recent.weights(), OF_RECENT))
