"""Replay: the requests that shoppers would have made in a stretch of the log, with what they did next."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from feature_repo.arrays import Bool, Float32, Int32, Int64, rows_of_spans
from feature_repo.encoded_log import EncodedLog
from feature_repo.item_activity import UNKNOWN_ACTIVITY, Activity
from feature_repo.online_user import OnlineUser
from feature_repo.ranking_features import ShopperState
from feature_repo.schema import DAY, EventType
from feature_repo.session_features import IS_INTERACTION, SESSION_GAP, UNKNOWN_ITEM, Window
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.query import Query
from training.past_activity import ARRIVAL_DELAY, PastActivity

CHUNK: Final = 256
"""Queries that are ranked in one call; bounds the memory of a replay."""

NOT_KNOWN: Final = -1
"""Instead of the moment as of which the activity of the items is known."""

EVENT_WORTH: Final = np.ones(len(EventType), np.int32)
"""int32[event types]: what it counts by which event an item is taken: a purchase more than a cart than a look."""
EVENT_WORTH[[EventType.ADD_TO_CART.code, EventType.FAVORITE.code]] = 2
EVENT_WORTH[EventType.PURCHASE.code] = 3


@dataclass(frozen=True)
class Replay:
    """Requests of a log: a request's window is the events [start, stop) of the log, all of its shopper.

    shopper int32[n]: code of who asks; as_of int64[n], microseconds: the moment of asking; wanted int32[m]: codes
    of the items that the shopper took afterwards, those of request r at [offsets[r], offsets[r + 1]); offsets
    int64[n + 1]; user_statistics float32[n, len(USER_STATISTICS)]: of each shopper at that moment, NaN where
    unknown, None takes the bundle's; excluded int64[n, 2]: the items of the log's events [first, last) may not be
    shown, None takes the item of the window's newest interaction; worth int32[m] of wanted, None for equal ones;
    activity: what happened to the items, None where nobody counted, as it was known at activity_as_of int64[n],
    NOT_KNOWN where it was not.
    """

    log: EncodedLog
    shopper: Int32
    start: Int64
    stop: Int64
    as_of: Int64
    wanted: Int32
    offsets: Int64
    user_statistics: Float32 | None = None
    excluded: Int64 | None = None
    worth: Int32 | None = None
    activity: PastActivity | None = None
    activity_as_of: Int64 | None = None

    def __len__(self) -> int:
        return len(self.shopper)

    def take(self, rows: Int64) -> "Replay":
        """The requests of these rows."""
        lengths = np.diff(self.offsets)[rows]
        wanted = rows_of_spans(self.offsets[rows], lengths)
        return Replay(
            self.log,
            self.shopper[rows],
            self.start[rows],
            self.stop[rows],
            self.as_of[rows],
            self.wanted[wanted],
            np.append(0, np.cumsum(lengths)),
            None if self.user_statistics is None else self.user_statistics[rows],
            None if self.excluded is None else self.excluded[rows],
            None if self.worth is None else self.worth[wanted],
            self.activity,
            None if self.activity_as_of is None else self.activity_as_of[rows],
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

    def with_activity(self, activity: PastActivity) -> "Replay":
        """The same requests, asked of servers that know what happens to the items, a little late."""
        return replace(self, activity=activity, activity_as_of=self.as_of - ARRIVAL_DELAY)

    def with_lost_activity(self, share: float, seed: int) -> "Replay":
        """The same requests, of which for a share drawn evenly nobody counted what happens to the items."""
        if self.activity_as_of is None:
            return self
        lost = np.random.default_rng(seed).random(len(self)) < share
        return replace(self, activity_as_of=np.where(lost, NOT_KNOWN, self.activity_as_of))

    def wanting(self, worth: Bool) -> "Replay":
        """The requests for items that are ``worth`` it, bool[items]; those that then want none are left out."""
        wanted = worth[self.wanted]
        request = np.repeat(np.arange(len(self)), np.diff(self.offsets))[wanted]
        counts = np.bincount(request, minlength=len(self))
        offsets = np.append(0, np.cumsum(counts))
        left = replace(
            self,
            wanted=self.wanted[wanted],
            offsets=offsets,
            worth=None if self.worth is None else self.worth[wanted],
        )
        return left.take(np.flatnonzero(counts))

    def window(self, row: int) -> Window:
        """What a request's shopper did before, in the codes of the log."""
        return self.log.window(int(self.start[row]), int(self.stop[row]))

    def excluded_items(self, row: int) -> Int32:
        """int32: items that the answer to a request may not show, in the codes of the log."""
        if self.excluded is None:
            return self.window(row).newest_item()
        first, last = self.excluded[row]
        items = self.log.item[first:last]
        return items[items != UNKNOWN_ITEM]

    def chunks(self) -> list["Replay"]:
        """The requests in their order, CHUNK at a time."""
        rows = np.arange(len(self))
        return [self.take(rows[first : first + CHUNK]) for first in range(0, len(self), CHUNK)]

    def queries(self, bundle: Bundle, k: int) -> list[Query]:
        """The requests in the indexes of ``bundle``."""
        codes = self.codes(bundle)
        return [self._query(row, bundle, codes, k) for row in range(len(self))]

    def codes(self, bundle: Bundle) -> Int32:
        """int32[items of the log]: the index of each in ``bundle``, UNKNOWN_ITEM where it does not know it."""
        return np.array([bundle.item_index.get(item, UNKNOWN_ITEM) for item in self.log.item_ids], np.int32)

    def wanted_in(self, bundle: Bundle) -> list[Int32]:
        """What each request wanted, in the indexes of ``bundle``; UNKNOWN_ITEM where it does not know the item."""
        wanted = self.codes(bundle)[self.wanted]
        return [wanted[start:end] for start, end in pairwise(self.offsets)]

    def worth_of_wanted(self) -> list[Int32]:
        """What each item that a request wanted is worth; 1 where that is not known."""
        worth = np.ones(len(self.wanted), np.int32) if self.worth is None else self.worth
        return [worth[start:end] for start, end in pairwise(self.offsets)]

    def _query(self, row: int, bundle: Bundle, codes: Int32, k: int) -> Query:
        raw = self.window(row)
        window = Window(
            np.where(raw.items == UNKNOWN_ITEM, UNKNOWN_ITEM, codes[raw.items]), raw.types, raw.times
        )
        key = self.log.shopper_keys[self.shopper[row]]
        user = bundle.user_row(key, window, self._online(row))
        excluded = codes[self.excluded_items(row)]
        return Query(
            shopper=ShopperState(window, user, int(self.as_of[row]), self._activity(row, bundle, codes)),
            k=k,
            excluded=excluded[excluded != UNKNOWN_ITEM],
        )

    def _activity(self, row: int, bundle: Bundle, codes: Int32) -> Activity:
        if self.activity is None or self.activity_as_of is None or self.activity_as_of[row] == NOT_KNOWN:
            return UNKNOWN_ACTIVITY
        return self.activity.at(int(self.activity_as_of[row]), codes, len(bundle.item_ids))

    def _online(self, row: int) -> OnlineUser | None:
        """What would have been online of a request's shopper; vectors are those of the model that is replayed."""
        if self.user_statistics is None or np.isnan(self.user_statistics[row]).all():
            return None
        return OnlineUser(self.user_statistics[row], None, None, int(self.as_of[row]))


def replay(log: EncodedLog, start: int, end: int, window_size: int, window_ttl: int) -> Replay:
    """Requests whose next item came in [start, end), in time order: one for each interaction that is not a reload.

    A request is asked at the moment of the newest event, when its page asks for a slate, or of the next visit where
    a session has ended between. What a visitor did before anybody could know which user it is, is no request, since
    its window holds what the user did elsewhere. Windows are as the event log keeps them: the newest
    ``window_size`` events without impressions, none from before a silence of ``window_ttl`` microseconds. ``log``
    may begin long before ``start``.
    """
    log = log.select(log.type != EventType.IMPRESSION.code)
    choice = IS_INTERACTION[log.type] & (log.item != UNKNOWN_ITEM)
    inside = (log.time >= start) & (log.time < end) & log.identified
    stop = np.flatnonzero(choice & inside & (log.item != _previous_item(log, choice)))
    stop = stop[np.argsort(log.time[stop], kind="stable")]
    begin = np.maximum(remembered_from(log, window_ttl)[stop], stop - window_size)
    newest = np.where(begin < stop, log.time[stop - 1], log.time[stop])
    same_session = log.time[stop] - newest <= SESSION_GAP
    return Replay(
        log=log,
        shopper=log.shopper[stop],
        start=begin,
        stop=stop,
        as_of=np.where(same_session, newest, log.time[stop]),
        wanted=log.item[stop],
        offsets=np.arange(stop.size + 1),
        worth=EVENT_WORTH[log.type[stop]],
    )


def window_ttl(settings: Settings) -> int:
    """Microseconds without a new event after which a window is forgotten."""
    return int(settings.window_ttl_days * DAY)


def remembered_from(log: EncodedLog, window_ttl: int) -> Int64:
    """int64[events]: the oldest event that the event log still remembers of a shopper when it takes in each event.

    It forgets them all in a silence of ``window_ttl`` microseconds.
    """
    new_shopper = np.diff(log.shopper, prepend=-1) != 0
    forgotten = new_shopper | (np.diff(log.time, prepend=log.time[:1]) > window_ttl)
    return np.maximum.accumulate(np.where(forgotten, np.arange(len(log)), 0))


def _previous_item(log: EncodedLog, choice: Bool) -> Int32:
    """int32[n]: the item of the shopper's interaction before each event, UNKNOWN_ITEM for the first."""
    position = np.arange(len(log))
    newest_choice = np.maximum.accumulate(np.where(choice, position, -1))
    before = np.concatenate([[-1], newest_choice])[:-1]
    known = (before >= 0) & (log.shopper[before] == log.shopper)
    return np.where(known, log.item[before], UNKNOWN_ITEM)
