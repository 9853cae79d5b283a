"""Ids that nobody else has: of requests, and of events that came without one."""

import random
from typing import Final

BITS: Final = 128
# Ids have to be different, not hard to guess; asking the system for each would cost more than logging an event.
_random = random.Random()  # noqa: S311


def random_id() -> str:
    """32 hexadecimal digits, all values alike."""
    return f"{_random.getrandbits(BITS):0{BITS // 4}x}"


def is_among(share: float, identifier: str) -> bool:
    """Whether a random id belongs to this share of all; the answer stays the same."""
    return int(identifier, 16) < share * 2**BITS
