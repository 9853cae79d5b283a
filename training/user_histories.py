"""Every shopper's whole history by item."""

import numpy as np

from feature_repo.arrays import Bool
from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import EventType
from serving.indexes import UserHistories


def user_histories(log: EncodedLog, known: Bool) -> UserHistories:
    """Histories of the shoppers that are ``known`` (bool[shoppers of the log]), in their order.

    A visit is a session, as the log counts them.
    """
    active = log.interactions()
    visit = active.session()
    begins = np.diff(visit, prepend=-1) != 0
    users = np.flatnonzero(known)
    number = np.cumsum(known) - 1
    items = len(log.item_ids)
    key = number[active.shopper].astype(np.int64) * items + active.item
    pairs, pair = np.unique(key, return_inverse=True)
    most = int(visit.max(initial=0)) + 1
    visits = np.bincount(np.unique(pair * most + visit) // most, minlength=pairs.size)
    bought = active.type == EventType.PURCHASE.code
    first = np.full(pairs.size, np.iinfo(np.int64).max)
    last = np.zeros(pairs.size, np.int64)
    np.minimum.at(first, pair, active.time)
    np.maximum.at(last, pair, active.time)
    return UserHistories(
        offsets=np.searchsorted(pairs // items, np.arange(users.size + 1)),
        items=(pairs % items).astype(np.int32),
        visits=visits.astype(np.float32),
        purchases=np.bincount(pair, bought, minlength=pairs.size).astype(np.float32),
        first=first,
        last=last,
        total_visits=np.bincount(number[active.shopper[begins]], minlength=users.size).astype(np.int32),
    )
