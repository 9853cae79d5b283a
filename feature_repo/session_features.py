"""Session features: one pure function of a window and a moment, run by request, replay and stream alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Bool, Float32, Int8, Int32, Int64
from feature_repo.compiled import INT, INT8S, INT32S, INT64S, compiled
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

ADD_TO_CART: Final = EventType.ADD_TO_CART.code
PURCHASE: Final = EventType.PURCHASE.code
SEARCH: Final = EventType.SEARCH.code


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
    return _moments_back(window.times)


@compiled(INT64S)
def _moments_back(times: Int64) -> Int64:
    back = np.zeros(times.size, np.int64)
    for place in range(times.size - 2, -1, -1):
        back[place] = back[place + 1] + (times[place + 1] > times[place])
    return back


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
    return Recent(*_recent_items(active.items, moments_back(active)))


@compiled(INT32S, INT64S)
def _recent_items(items: Int32, steps: Int64) -> tuple[Int32, Int64]:
    recent, steps_back = np.empty_like(items), np.empty_like(steps)
    size = 0
    for place in range(items.size - 1, -1, -1):
        if items[place] not in recent[:size]:
            recent[size], steps_back[size] = items[place], steps[place]
            size += 1
    return recent[:size], steps_back[:size]


def session_features(window: Window, as_of: int) -> Float32:
    """float32[len(SESSION_FEATURES)] of a window at ``as_of`` (microseconds); log columns are log(1 + s)."""
    return _session_features(window.items, window.types, window.times, as_of)


@compiled(INT64S, INT)
def _session_start(times: Int64, as_of: int) -> int:
    """Where the events begin that belong to the session going on at ``as_of`` (microseconds)."""
    start, later = times.size, as_of
    while start > 0 and later - times[start - 1] <= SESSION_GAP:
        start -= 1
        later = times[start]
    return start


@compiled(INT32S, INT8S, INT64S, INT)
def _session_features(items: Int32, types: Int8, times: Int64, as_of: int) -> Float32:
    start = _session_start(times, as_of)
    active = (items != UNKNOWN_ITEM) & IS_INTERACTION[types]
    session, session_active = types[start:], active[start:]
    duration = times[-1] - times[start] if start < times.size else 0
    silence = float(max(as_of - times[-1], 0)) if times.size else np.nan
    features = (
        session_active.sum(),
        np.unique(items[start:][session_active]).size,
        (session == ADD_TO_CART).sum(),
        (session == PURCHASE).sum(),
        (session == SEARCH).sum(),
        np.log1p(duration / SECOND),
        active.sum(),
        (active & (types == PURCHASE)).sum(),
        np.log1p(silence / SECOND),
    )
    return np.array(features, dtype=np.float32)
