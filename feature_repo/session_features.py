"""Session features: one pure function of a window and a moment, run by request, replay and stream alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Bool, Float32, Int8, Int32, Int64
from feature_repo.schema import EVENT_CODES, INTERACTION_TYPES, MINUTE, SECOND, EventType
from feature_repo.session_window import WindowEvent

SESSION_GAP: Final = 30 * MINUTE
"""A silence longer than this starts a new session (the industry's customary half hour)."""

UNKNOWN_ITEM: Final = -1

RECENCY_DECAY: Final = 0.8
"""Weight of each step back in the window, against the step after it."""

SESSION_FEATURES: Final = (
    "session_interactions",
    "session_distinct_items",
    "session_carts",
    "session_purchases",
    "session_searches",
    "session_log_seconds",
    "window_interactions",
    "window_purchases",
    "log_seconds_since_last",
)

IS_INTERACTION: Final = np.isin(np.arange(len(EventType)), [t.code for t in INTERACTION_TYPES])
"""bool[event types]: True where the code belongs to INTERACTION_TYPES."""


@dataclass(frozen=True, slots=True)
class Window:
    """A shopper's window as aligned columns, oldest event first.

    items int32[n]: index of the item, UNKNOWN_ITEM where the event has none or the model does not know it;
    types int8[n]: event type codes; times int64[n]: microseconds since 1970, UTC.
    """

    items: Int32
    types: Int8
    times: Int64

    def interactions(self) -> "Window":
        """Only the events that show interest in an item the model knows."""
        keep = (self.items != UNKNOWN_ITEM) & IS_INTERACTION[self.types]
        return self if keep.all() else self.take(keep)

    def newest_item(self) -> Int32:
        """The item of the newest interaction, int32[1]; int32[0] where there is none that the model knows."""
        items = self.items[np.flatnonzero(IS_INTERACTION[self.types])[-1:]]
        return items[items != UNKNOWN_ITEM]

    def take(self, keep: Bool | slice) -> "Window":
        """The events that ``keep`` selects, in order."""
        return Window(self.items[keep], self.types[keep], self.times[keep])


def encode_window(events: Sequence[WindowEvent], item_index: Mapping[str, int]) -> Window:
    """Columns of raw window events; item ids that ``item_index`` lacks become UNKNOWN_ITEM."""
    return Window(
        items=np.fromiter(
            (item_index.get(e.item_id or "", UNKNOWN_ITEM) for e in events), np.int32, len(events)
        ),
        types=np.fromiter((EVENT_CODES[e.event_type] for e in events), np.int8, len(events)),
        times=np.fromiter((e.timestamp for e in events), np.int64, len(events)),
    )


def moments_back(window: Window) -> Int64:
    """int64[n]: how many distinct later moments the window holds after each event; 0 for the newest."""
    later = np.diff(window.times, append=window.times[-1:]) > 0
    return np.cumsum(later[::-1], dtype=np.int64)[::-1]


class Recent(NamedTuple):
    """Distinct items of a window, the newest first: items int32[n]; steps int64[n]: newer moments than each one's.

    Items of one moment, such as a basket, are equally recent.
    """

    items: Int32
    steps: Int64

    def newest(self, size: int) -> "Recent":
        """The first ``size`` of them."""
        return Recent(self.items[:size], self.steps[:size])

    def weights(self) -> Float32:
        """float32[n]: how much each counts, falling with its steps."""
        return (RECENCY_DECAY**self.steps).astype(np.float32)


def recent_items(active: Window) -> Recent:
    """The distinct items of a window of interactions."""
    newest_first = active.items[::-1]
    _, first = np.unique(newest_first, return_index=True)
    place = np.sort(first)
    return Recent(newest_first[place], moments_back(active)[::-1][place])


def current_session(window: Window, as_of: int) -> Window:
    """Tail of the window that belongs to the session going on at ``as_of`` (microseconds)."""
    ends = np.append(window.times, as_of)
    breaks = np.flatnonzero(np.diff(ends) > SESSION_GAP)
    return window.take(slice(int(breaks[-1]) + 1 if breaks.size else 0, None))


def session_features(window: Window, as_of: int) -> Float32:
    """float32[len(SESSION_FEATURES)] of a window at ``as_of`` (microseconds); log columns are log(1 + s)."""
    session = current_session(window, as_of)
    active = session.interactions()
    history = window.interactions()
    counts = np.bincount(session.types, minlength=len(EventType))
    first, last = (session.times[0], session.times[-1]) if session.times.size else (as_of, as_of)
    silence = max(as_of - int(window.times[-1]), 0) if window.times.size else np.nan
    return np.array(
        [
            active.items.size,
            np.unique(active.items).size,
            counts[EventType.ADD_TO_CART.code],
            counts[EventType.PURCHASE.code],
            counts[EventType.SEARCH.code],
            np.log1p((last - first) / SECOND),
            history.items.size,
            np.count_nonzero(history.types == EventType.PURCHASE.code),
            np.log1p(silence / SECOND),
        ],
        dtype=np.float32,
    )
