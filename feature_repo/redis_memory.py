"""How much of Redis' memory events and shoppers take, to know before there are any.

The constants are those of Valkey 9.1 on a 64-bit machine with its default encodings, allocators' rounding averaged;
``make bench-memory`` holds the formula against a server.
"""

from typing import Final

from feature_repo.event_log import window_event
from feature_repo.events import LoggedEvent
from feature_repo.online_user import user_key
from feature_repo.redis_layout import encode_link, encode_window_event, key
from feature_repo.schema import shopper_key
from feature_repo.settings import Settings

_KEY: Final = 66
"""Bytes of a key that expires, beside its name: the object and its slots in two hash tables."""
_STREAM_ENTRY: Final = 17
"""Bytes of an entry beside its JSON."""
_LISTPACK: Final = 30
_LISTPACK_MEMBER: Final = 13
_SKIPLIST: Final = 700
_SKIPLIST_MEMBER: Final = 67
"""Bytes of a sorted set, and of a member beside its name. A small set is a listpack, any other a skip list."""
_LISTPACK_MEMBERS: Final = 128
_LISTPACK_NAME_BYTES: Final = 64
"""Redis' own zset-max-listpack-entries and zset-max-listpack-value."""


_FEATURES: Final = 600
"""Bytes of a shopper's features beside the vector: a hash of statistics, the model's version and two moments."""


def logged_event_bytes(event: LoggedEvent) -> int:
    """Bytes for an event in the log (until the consumers have passed it) and its dedup mark (until it expires)."""
    return _STREAM_ENTRY + len(event.to_json()) + _KEY + len(key(0, "seen", event.event_id))


def shopper_bytes(
    event: LoggedEvent, impression: LoggedEvent, settings: Settings, *, events: int, impressions: int
) -> int:
    """Bytes for a shopper with so many events like ``event``, and so many items shown by ``impression``.

    Counts the window, the exposures and, where the event names a visitor and a user, the link.
    """
    member = len(encode_window_event(window_event(event)))
    size = _sorted_set("window", event.shopper, min(events, settings.window_size), member)
    shown = min(impressions, settings.exposures_size)
    size += _sorted_set("shown", event.shopper, shown, len((impression.item_id or "").encode()))
    if event.visitor_id and event.user_id:
        link = len(encode_link(event.event_id, event.user_id))
        size += _sorted_set("link", shopper_key(None, event.visitor_id), 1, link)
    return size


def online_features_bytes(shopper: str, width: int) -> int:
    """Bytes for the statistics and the vector, of so many numbers, that Feast has online of a shopper's key."""
    return _KEY + len(user_key(shopper)) + _FEATURES + 4 * width


def _sorted_set(kind: str, shopper: str, members: int, name: int) -> int:
    """Bytes of a sorted set whose members have names of so many bytes; nothing when there are none."""
    if not members:
        return 0
    small = members <= _LISTPACK_MEMBERS and name <= _LISTPACK_NAME_BYTES
    whole, each = (_LISTPACK, _LISTPACK_MEMBER) if small else (_SKIPLIST, _SKIPLIST_MEMBER)
    return _KEY + len(key(0, kind, shopper)) + whole + members * (each + name)
