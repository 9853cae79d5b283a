"""What many buy: overall, right now, in the shopper's categories, among shoppers of a like taste."""

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import NOTHING, RECENT_ITEMS, Reach, Retrieved, totalled


def popular(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """The shop's most popular items."""
    return reach.cut(bundle.popularity.items, bundle.popularity.scores)


def trending(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Items that are met more than they used to be."""
    return reach.cut(bundle.popularity.trending, bundle.popularity.trending_scores)


def category_popular(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Popular items of the categories of the window, each category by its weight in the window."""
    recent = interest.recent.newest(RECENT_ITEMS)
    of_item = bundle.items.category[recent.items]
    known = of_item >= 0
    categories, weights = totalled(of_item[known], recent.weights()[known])
    return reach.best(*bundle.category_popularity.weighted(categories, weights))


def segment_popular(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Popular items among the shoppers whose taste is nearest to the shopper's."""
    if not shopper.user.embedding.any() or not len(bundle.segments.centroids):
        return NOTHING
    return reach.cut(*bundle.segment_popularity.of(bundle.segments.nearest(shopper.user.embedding)))
