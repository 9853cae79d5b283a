"""Items that are like those of the window in title, category, brand, tags and looks."""

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import RECENT_ITEMS, Reach, Retrieved, around


def content(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """The nearest in content to the newest items, each item's weight falling with its age in steps."""
    recent = interest.recent.newest(RECENT_ITEMS)
    return reach.best(*around(bundle.alike, recent.items, recent.weights()))
