"""Sessions of the log, to find those that went like a new one."""

from typing import Final

import numpy as np

from feature_repo.encoded_log import EncodedLog
from serving.indexes import SessionIndex

SESSIONS_PER_ITEM: Final = 1000
"""Newest sessions of each item that are kept: what is asked for reads no more."""
LONGEST: Final = 200
"""Newest items of a session that are kept: more tell of a crawler, not of a shopper."""


def session_index(log: EncodedLog) -> SessionIndex:
    """Index of the interactions of ``log``: a silence of SESSION_GAP ends a session, reloads count once."""
    active = log.interactions()
    session = active.session()
    reload = (np.diff(active.item, prepend=-1) == 0) & (np.diff(session, prepend=-1) == 0)
    item, session, time = active.item[~reload], session[~reload], active.time[~reload]

    sessions = int(session[-1]) + 1 if session.size else 0
    from_end = np.searchsorted(session, session, side="right") - 1 - np.arange(session.size)
    keep = from_end < LONGEST
    item, session, time = item[keep], session[keep], time[keep]
    last = np.searchsorted(session, np.arange(sessions), side="right") - 1
    newest_first = np.argsort(-time[last], kind="stable")
    number = np.empty(sessions, np.int64)
    number[newest_first] = np.arange(sessions)

    session = number[session]
    order = np.argsort(session, kind="stable")
    item, session, time = item[order], session[order], time[order]
    offsets = np.searchsorted(session, np.arange(sessions + 1))
    moment = np.cumsum(np.diff(time, prepend=time[:1]) != 0)
    items = len(log.item_ids)
    pairs = np.unique(item.astype(np.int64) * max(sessions, 1) + session)
    of_item, of_session = np.divmod(pairs, max(sessions, 1))
    item_offsets = np.searchsorted(of_item, np.arange(items + 1))
    rarity = np.log((sessions + 1) / (np.diff(item_offsets) + 1)).astype(np.float32)
    newest = np.arange(of_item.size) - item_offsets[of_item] < SESSIONS_PER_ITEM
    return SessionIndex(
        session_offsets=offsets,
        session_items=item.astype(np.int32),
        session_steps=(moment - moment[offsets[session]]).astype(np.int32),
        session_time=time[offsets[1:] - 1],
        item_offsets=np.searchsorted(of_item[newest], np.arange(items + 1)),
        item_sessions=of_session[newest].astype(np.int32),
        rarity=rarity,
    )
