"""Selectors: which items a filter, or a rule of a placement, speaks of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_repo.arrays import Bool, Int32
from feature_repo.schema import CATEGORY_SEPARATOR
from serving.bundle import Bundle

EVERY_ITEM: Final = slice(None)


@dataclass(frozen=True)
class Selector:
    """Items of which all that is said holds; None says nothing.

    categories: paths, each with all below it; item_ids: ids that the model need not know; min_margin: the least
    margin in the catalog. What has no price or no margin is outside of any range.
    """

    categories: Sequence[str] | None = None
    brands: Sequence[str] | None = None
    item_ids: Sequence[str] | None = None
    min_price: float | None = None
    max_price: float | None = None
    min_margin: float | None = None

    def chooses(self, bundle: Bundle, items: Int32 | slice = EVERY_ITEM) -> Bool:
        """bool[n]: whether it speaks of each of the items, int32[n] or a range of a bundle's."""
        columns = bundle.items
        price = columns.price[items]
        chosen = np.ones(price.size, bool)
        if self.categories is not None:
            chosen &= _inside(self.categories, bundle)[columns.category[items]]
        if self.brands is not None:
            codes = [bundle.brand_code[name] for name in self.brands if name in bundle.brand_code]
            chosen &= np.isin(columns.brand[items], codes)
        if self.item_ids is not None:
            chosen &= np.isin(np.arange(len(bundle.item_ids))[items], bundle.known(self.item_ids))
        if self.min_price is not None:
            chosen &= ~columns.price_missing[items] & (price >= self.min_price)
        if self.max_price is not None:
            chosen &= ~columns.price_missing[items] & (price <= self.max_price)
        if self.min_margin is not None:
            chosen &= bundle.margin[items] >= self.min_margin
        return chosen


EVERYTHING_ALLOWED: Final = Selector()


def _inside(categories: Sequence[str], bundle: Bundle) -> Bool:
    """bool[categories + 1]: those that are one of the paths or below one; the last is what code -1 finds."""
    beginnings = tuple(path + CATEGORY_SEPARATOR for path in categories)
    inside = [(path + CATEGORY_SEPARATOR).startswith(beginnings) for path in bundle.categories]
    return np.array([*inside, False])
