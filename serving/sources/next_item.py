"""Items that the session encoder expects next."""

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import NOTHING, Reach, Retrieved


def next_item(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """The items of the highest log-probability."""
    if interest.expected is None:
        return NOTHING
    return reach.best(*interest.expected.likeliest(reach.allowed))
