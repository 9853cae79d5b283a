"""What shoppers of a like taste met: user to user to item."""

from typing import Final

import numpy as np

from feature_repo.ranking_features import Interest, ShopperState
from serving.bundle import Bundle
from serving.sources.source import NOTHING, Reach, Retrieved, summed

NEAREST_USERS: Final = 50


def similar_users(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Items of the nearest users, each user's share of visits with an item times the cosine of the two users."""
    own = shopper.user.embedding
    if not own.any():
        return NOTHING
    near = bundle.user_index.search(own, NEAREST_USERS)
    alike = near.cosines > 0
    users, cosines = near.items[alike], near.cosines[alike]
    if users.size > NEAREST_USERS:
        nearest = np.argpartition(cosines, -NEAREST_USERS)[-NEAREST_USERS:]
        users, cosines = users[nearest], cosines[nearest]
    return reach.best(*summed(*bundle.histories.shares(users, cosines)))
