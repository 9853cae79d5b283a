"""Names and values under which the event log lies in Redis.

    freshet:{p}:log             stream      every accepted event, as JSON in the field ``event``
    freshet:{p}:dead            stream      entries that a group could not process, with the group and the reason
    freshet:{p}:count:WINDOW:START hash     events by type and item, in the bucket that began then (microseconds)
    freshet:activity            string      what was last published of the items' activity, of all partitions
    freshet:catalog             stream      changes of the catalog, as JSON in the field ``change``
    freshet:{p}:seen:EVENT_ID   string      dedup mark
    freshet:{p}:window:SHOPPER  sorted set  newest events by (timestamp, event_id), impressions left out
    freshet:{p}:shown:SHOPPER   sorted set  item_id by the latest time it was shown
    freshet:{p}:link:SHOPPER    sorted set  the one newest user of a visitor, by (timestamp, event_id)

SHOPPER is the shopper key and ``p`` its partition. As a hash tag it keeps all that one call touches in one
slot of a cluster; it comes first, so braces in an id cannot move it. All but the streams expire; the log is trimmed
to what some group still needs, the dead letters to the newest.
"""

from collections.abc import Sequence
from typing import Final

import orjson
from msgspec.structs import asdict

from feature_repo.session_window import WindowEvent

EVENT_FIELD: Final = b"event"
CHANGE_FIELD: Final = b"change"
GROUP_FIELD: Final = b"group"
REASON_FIELD: Final = b"reason"
"""Of a dead letter, beside its event."""

_SEPARATOR: Final = b"\x1f"
"""Ends an id inside a member. No id contains it, and it sorts before every character that an id may have."""


def stream_key(partition: int) -> str:
    """Name of a partition's stream."""
    return f"freshet:{{{partition}}}:log"


def dead_key(partition: int) -> str:
    """Name of a partition's dead letters."""
    return f"freshet:{{{partition}}}:dead"


def count_key(partition: int, window: str, start: int) -> str:
    """Name of a bucket of a partition's item counts."""
    return f"freshet:{{{partition}}}:count:{window}:{start}"


ACTIVITY_KEY: Final = "freshet:activity"
CATALOG_KEY: Final = "freshet:catalog"


def count_field(event_type: str, item_id: str) -> str:
    """Field of a bucket; no event type contains a colon."""
    return f"{event_type}:{item_id}"


def key(partition: int, kind: str, name: str) -> str:
    """Name of any other key; ``kind`` is seen, window, shown or link."""
    return f"freshet:{{{partition}}}:{kind}:{name}"


LINK_PATTERN: Final = "freshet:{*}:link:*"
"""Matches the key of every link."""


def visitor_of_link(link: bytes) -> str:
    """The visitor whose link has this key."""
    return link.partition(b":link:v:")[2].decode()


def encode_window_event(event: WindowEvent) -> bytes:
    """Member of a window: the event_id, then what else is there; the time is the member's score."""
    rest = {name: value for name, value in asdict(event).items() if value is not None}
    del rest["timestamp"]
    return rest.pop("event_id").encode() + _SEPARATOR + orjson.dumps(rest)


def decode_window(members: Sequence[bytes]) -> list[WindowEvent]:
    """Events of a window's members, each followed by its score, in their order."""
    parts = [member.split(_SEPARATOR, 1) for member in members[::2]]
    rests = orjson.loads(b"[%b]" % b",".join([rest for _, rest in parts]))
    return [
        WindowEvent(int(score), event_id.decode(), **rest)
        for (event_id, _), score, rest in zip(parts, members[1::2], rests, strict=True)
    ]


def decode_exposures(members: Sequence[bytes]) -> dict[str, int]:
    """When each item was last shown, in microseconds, from members that are each followed by their score."""
    return {item_id.decode(): int(score) for item_id, score in zip(members[::2], members[1::2], strict=True)}


def encode_link(event_id: str, user_id: str) -> bytes:
    """Member of a link: the event that made it, then the user it points to."""
    return event_id.encode() + _SEPARATOR + user_id.encode()


def decode_link(members: Sequence[bytes]) -> str | None:
    """User that a link points to; None when there is no link."""
    return members[-1].split(_SEPARATOR)[1].decode() if members else None
