"""Items that are like those of the window in title, category, brand, tags and looks."""

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import RECENT_ITEMS, Reach, Retrieved, recent_items, summed


def content(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """The nearest in content to the newest items, each item's weight falling with its age in steps."""
    recent = recent_items(interest.active, RECENT_ITEMS)
    neighbours = bundle.alike.items[recent.items].ravel()
    scores = (bundle.alike.scores[recent.items] * recent.weights()[:, None]).ravel()
    known = neighbours >= 0
    return reach.best(*summed(neighbours[known], scores[known]))
