"""Replay of arrivals: a known shopper comes back, and nobody knows yet what for."""

import numpy as np

from feature_repo.arrays import Bool, Int32
from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import EventType
from feature_repo.session_features import IS_INTERACTION, SESSION_GAP, UNKNOWN_ITEM
from training.replay import EVENT_WORTH, Replay, remembered_from


def replay_arrivals(log: EncodedLog, start: int, end: int, window_size: int, window_ttl: int) -> Replay:
    """Requests at the beginning of the visits that began in [start, end), in time order.

    A request wants every item of its visit, and may be answered with any item: shoppers come back for the same.
    Windows are as ``replay`` makes them; visits of shoppers without one are left out.
    """
    log = log.select(log.type != EventType.IMPRESSION.code)
    session = log.session()
    inside = (log.time >= start) & (log.time < end) & log.identified
    begins = (np.diff(session, prepend=-1) != 0) & inside
    position = np.arange(len(log))
    window = np.maximum(remembered_from(log, window_ttl), position - window_size)
    first = np.flatnonzero(begins & (window < position))
    first = first[np.argsort(log.time[first], kind="stable")]
    ends = np.searchsorted(session, session[first], side="right")
    visits = [_met(log, slice(*visit)) for visit in zip(first, ends, strict=True)]
    sizes = np.array([items.size for items, _ in visits], np.int64)
    nothing = np.zeros(0, np.int32)
    return Replay(
        log=log,
        shopper=log.shopper[first],
        start=window[first],
        stop=first,
        as_of=log.time[first],
        wanted=np.concatenate([nothing, *(items for items, _ in visits)]),
        offsets=np.append(0, np.cumsum(sizes)),
        excluded=np.stack([first, first], axis=1),
        worth=np.concatenate([nothing, *(worth for _, worth in visits)]),
    ).take(np.flatnonzero(sizes))


def in_session(requests: Replay) -> Bool:
    """bool[n]: True where the shopper did something in the session that goes on when asking."""
    newest = requests.log.time[np.maximum(requests.stop - 1, 0)]
    return (requests.stop > requests.start) & (requests.as_of - newest <= SESSION_GAP)


def _met(log: EncodedLog, visit: slice) -> tuple[Int32, Int32]:
    """The items of a visit, and the most that each was worth in it."""
    met = IS_INTERACTION[log.type[visit]] & (log.item[visit] != UNKNOWN_ITEM)
    items, slot = np.unique(log.item[visit][met], return_inverse=True)
    worth = np.zeros(items.size, np.int32)
    np.maximum.at(worth, slot, EVENT_WORTH[log.type[visit][met]])
    return items, worth
