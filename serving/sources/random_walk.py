"""Items related to those of the window through others, though nobody may have met both."""

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import RECENT_ITEMS, Reach, Retrieved, around


def random_walk(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Where random walks from the newest items most often stand, each item weighing less with its age in steps."""
    recent = interest.recent.newest(RECENT_ITEMS)
    return reach.best(*around(bundle.walked, recent.items, recent.weights()))
