"""Replay: the requests that shoppers would have made in a stretch of the log, with what they did next."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from feature_repo.arrays import Bool, Float32, Int32, Int64
from feature_repo.encoded_log import EncodedLog
from feature_repo.online_user import OnlineUser
from feature_repo.ranking_features import ShopperState
from feature_repo.schema import EventType
from feature_repo.session_features import IS_INTERACTION, SESSION_GAP, UNKNOWN_ITEM, Window
from serving.bundle import Bundle
from serving.query import Query

CHUNK: Final = 256
"""Queries that are ranked in one call; bounds the memory of a replay."""


@dataclass(frozen=True)
class Replay:
    """Requests of a log, one per next item: a request's window is the events [start, stop) of the log.

    target int32[n]: code of the item that came next; shopper int32[n]; as_of int64[n], microseconds: the moment of
    the newest event, when its page asks for a slate, or of the next visit where a session has ended between;
    user_statistics float32[n, len(USER_STATISTICS)]: of each shopper at that moment, NaN where unknown; None
    takes the bundle's.
    """

    log: EncodedLog
    start: Int64
    stop: Int64
    target: Int32
    as_of: Int64
    user_statistics: Float32 | None = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def shopper(self) -> Int32:
        """int32[n]: code of the shopper of each request."""
        return self.log.shopper[self.stop]

    def take(self, rows: Int64) -> "Replay":
        """The requests of these rows."""
        statistics = None if self.user_statistics is None else self.user_statistics[rows]
        return Replay(
            self.log, self.start[rows], self.stop[rows], self.target[rows], self.as_of[rows], statistics
        )

    def sample(self, size: int, seed: int) -> "Replay":
        """At most ``size`` requests, drawn evenly, in their order."""
        if len(self) <= size:
            return self
        rows = np.random.default_rng(seed).choice(len(self), size, replace=False)
        return self.take(np.sort(rows))

    def with_window(self) -> "Replay":
        """Only the requests of shoppers who have done something before."""
        return self.take(np.flatnonzero(self.stop > self.start))

    def with_lost_windows(self, share: float, seed: int) -> "Replay":
        """The same requests, of which a share drawn evenly has lost its window: the log was away, or is young."""
        lost = np.random.default_rng(seed).random(len(self)) < share
        start = np.where(lost, self.stop, self.start)
        return replace(self, start=start)

    def without_windows(self) -> "Replay":
        """The same requests of shoppers whose session is not known."""
        return replace(self, start=self.stop)

    def with_user_statistics(self, statistics: Float32) -> "Replay":
        """The same requests, each with what was known of its shopper at its moment."""
        return replace(self, user_statistics=statistics)

    def queries(self, bundle: Bundle, k: int) -> Iterator[list[Query]]:
        """The requests in the indexes of ``bundle``, CHUNK at a time."""
        codes = np.array(
            [bundle.item_index.get(item, UNKNOWN_ITEM) for item in self.log.item_ids], dtype=np.int32
        )
        for first in range(0, len(self), CHUNK):
            yield [self._query(row, bundle, codes, k) for row in range(first, min(first + CHUNK, len(self)))]

    def targets(self, bundle: Bundle) -> Int32:
        """int32[n]: the targets in the indexes of ``bundle``, UNKNOWN_ITEM where it does not know the item."""
        return np.array(
            [bundle.item_index.get(self.log.item_ids[t], UNKNOWN_ITEM) for t in self.target], np.int32
        )

    def _query(self, row: int, bundle: Bundle, codes: Int32, k: int) -> Query:
        raw = self.log.window(int(self.start[row]), int(self.stop[row]))
        window = Window(
            np.where(raw.items == UNKNOWN_ITEM, UNKNOWN_ITEM, codes[raw.items]), raw.types, raw.times
        )
        key = self.log.shopper_keys[self.log.shopper[self.stop[row]]]
        user = bundle.user_row(key, window, self._online(row))
        return Query(
            shopper=ShopperState(window, user, int(self.as_of[row])),
            k=k,
            excluded=window.newest_item(),
        )

    def _online(self, row: int) -> OnlineUser | None:
        """What would have been online of a request's shopper; vectors are those of the model that is replayed."""
        if self.user_statistics is None or np.isnan(self.user_statistics[row]).all():
            return None
        return OnlineUser(self.user_statistics[row], None, None, int(self.as_of[row]))


def replay(log: EncodedLog, start: int, end: int, window_size: int, window_ttl: int) -> Replay:
    """Requests whose next item came in [start, end), in time order: one for each interaction that is not a reload.

    What a visitor did before anybody could know which user it is, is no request, since its window holds what the
    user did elsewhere. Windows are as the event log keeps them: the newest ``window_size`` events without
    impressions, none from before a silence of ``window_ttl`` microseconds. ``log`` may begin long before ``start``.
    """
    log = log.select(log.type != EventType.IMPRESSION.code)
    position = np.arange(len(log))
    new_shopper = np.diff(log.shopper, prepend=-1) != 0
    forgotten = new_shopper | (np.diff(log.time, prepend=log.time[:1]) > window_ttl)
    begin = np.maximum.accumulate(np.where(forgotten, position, 0))
    begin = np.maximum(begin, position - window_size)
    choice = IS_INTERACTION[log.type] & (log.item != UNKNOWN_ITEM)
    inside = (log.time >= start) & (log.time < end) & log.identified
    stop = np.flatnonzero(choice & inside & (log.item != _previous_item(log, choice)))
    stop = stop[np.argsort(log.time[stop], kind="stable")]
    newest = np.where(begin[stop] < stop, log.time[stop - 1], log.time[stop])
    same_session = log.time[stop] - newest <= SESSION_GAP
    return Replay(
        log=log,
        start=begin[stop],
        stop=stop,
        target=log.item[stop],
        as_of=np.where(same_session, newest, log.time[stop]),
    )


def _previous_item(log: EncodedLog, choice: Bool) -> Int32:
    """int32[n]: the item of the shopper's interaction before each event, UNKNOWN_ITEM for the first."""
    position = np.arange(len(log))
    newest_choice = np.maximum.accumulate(np.where(choice, position, -1))
    before = np.concatenate([[-1], newest_choice])[:-1]
    known = (before >= 0) & (log.shopper[before] == log.shopper)
    return np.where(known, log.item[before], UNKNOWN_ITEM)
