"""Items that shoppers meet soon after those of the window."""

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import NOTHING, RECENT_ITEMS, Reach, Retrieved, around


def covisitation(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Neighbours of the newest items, each item's weight falling with its age in steps."""
    recent = interest.recent.newest(RECENT_ITEMS)
    return reach.best(*around(bundle.covisited, recent.items, recent.weights()))


def last_item_covisitation(
    bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach
) -> Retrieved:
    """Neighbours of the newest item alone."""
    if not interest.active.items.size:
        return NOTHING
    newest = interest.active.items[-1]
    neighbours = bundle.covisited.items[newest]
    known = neighbours >= 0
    return reach.cut(neighbours[known], bundle.covisited.scores[newest][known])
