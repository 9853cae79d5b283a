"""What shoppers of a like taste met: user to user to item."""

from typing import Final

import numpy as np

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import NOTHING, Reach, Retrieved, summed

NEAREST_USERS: Final = 50
SEGMENTS_SEARCHED: Final = 2
"""The nearest users are looked for in so many segments, the nearest ones (an inverted file index)."""


def similar_users(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Items of the nearest users, each user's share of visits with an item times the cosine of the two users."""
    own = shopper.user.embedding
    if not own.any() or not len(bundle.segments.centroids):
        return NOTHING
    users = bundle.segments.members(own, SEGMENTS_SEARCHED)
    cosines = bundle.users.embeddings[users] @ own
    users, cosines = users[cosines > 0], cosines[cosines > 0]
    if users.size > NEAREST_USERS:
        near = np.argpartition(cosines, -NEAREST_USERS)[-NEAREST_USERS:]
        users, cosines = users[near], cosines[near]
    items, shares, lengths = bundle.histories.of_users(users)
    return reach.best(*summed(items, shares * np.repeat(cosines, lengths)))
