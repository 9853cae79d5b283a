"""Items near the shopper in the space of the collaborative-filtering embeddings."""

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import NOTHING, Reach, Retrieved


def session_embedding(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Items nearest to the vector of the window."""
    if not interest.session.any():
        return NOTHING
    return reach.nearest(bundle.tower_index, interest.session)


def user_embedding(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Items nearest to the shopper's long-term vector."""
    if not shopper.user.embedding.any():
        return NOTHING
    return reach.nearest(bundle.tower_index, shopper.user.embedding)
