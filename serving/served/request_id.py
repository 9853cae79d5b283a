"""Ids of requests: they begin with their moment, so that the served log finds a request without an index."""

import secrets
from typing import Final

_MOMENT_DIGITS: Final = 13
"""Hexadecimal: microseconds since 1970 until the year 2112."""
_RANDOM_DIGITS: Final = 19
_RANDOM_BITS: Final = 4 * _RANDOM_DIGITS


def new_request_id(as_of: int) -> str:
    """A new id of 32 hexadecimal digits for a request of a moment, in microseconds since 1970, UTC."""
    return f"{as_of:0{_MOMENT_DIGITS}x}{secrets.randbits(_RANDOM_BITS):0{_RANDOM_DIGITS}x}"


def moment_of(request_id: str) -> int | None:
    """The moment of a request, in microseconds since 1970, UTC; None for what is no id of a request."""
    if len(request_id) != _MOMENT_DIGITS + _RANDOM_DIGITS or not set(request_id) <= set("0123456789abcdef"):
        return None
    return int(request_id[:_MOMENT_DIGITS], 16)


def is_among(share: float, request_id: str) -> bool:
    """Whether a request belongs to this share of all, drawn by the random part of its id; always the same."""
    return int(request_id[_MOMENT_DIGITS:], 16) < share * 2**_RANDOM_BITS


def seed_of(request_id: str) -> int:
    """What random draws of a request begin with: the random end of its id, 60 bits."""
    return int(request_id[-15:], 16)
