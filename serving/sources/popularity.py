"""What many buy: overall, right now, in the shopper's categories, among shoppers of a like taste."""

import numpy as np

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import NOTHING, RECENT_ITEMS, Reach, Retrieved


def popular(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """The shop's most popular items."""
    return reach.cut(bundle.popularity.items, bundle.popularity.scores)


def trending(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Items that are met more than they used to be."""
    return reach.cut(bundle.popularity.trending, bundle.popularity.trending_scores)


def category_popular(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Popular items of the categories of the window, each category by its weight in the window."""
    recent = interest.recent.newest(RECENT_ITEMS)
    categories = bundle.items.category[recent.items]
    known = categories >= 0
    weights = np.bincount(categories[known], recent.weights()[known])
    lists = [(bundle.category_popularity.of(int(c)), weights[c]) for c in np.flatnonzero(weights)]
    if not lists:
        return NOTHING
    found = np.concatenate([items for (items, _), _ in lists])
    scores = np.concatenate([scores * weight for (_, scores), weight in lists])
    return reach.best(found, scores.astype(np.float32))


def segment_popular(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Popular items among the shoppers whose taste is nearest to the shopper's."""
    if not shopper.user.embedding.any() or not len(bundle.segments.centroids):
        return NOTHING
    return reach.cut(*bundle.segment_popularity.of(bundle.segments.nearest(shopper.user.embedding)))
