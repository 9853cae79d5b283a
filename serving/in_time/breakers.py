"""Breakers: what did not answer in time is left alone for a while."""

import time
from collections.abc import Callable
from typing import Final

MOST_MISSES: Final = 3
"""So many in a row open a breaker."""
OPEN_SECONDS: Final = 2.0


class Breakers:
    """One breaker for each name. They may be used from several threads: an update that is lost costs a miss."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._misses: dict[str, int] = {}
        self._open_until: dict[str, float] = {}

    def lets_through(self, name: str) -> bool:
        """Whether to ask. Once a breaker was open for OPEN_SECONDS, one caller is let through to try."""
        until = self._open_until.get(name)
        if until is None:
            return True
        if self._clock() < until:
            return False
        self._open_until[name] = self._clock() + OPEN_SECONDS
        return True

    def is_sound(self, name: str) -> bool:
        """Whether it has answered since it last missed."""
        return name not in self._misses

    def answered(self, name: str) -> None:
        """Close the breaker."""
        if name in self._misses:
            self._misses.pop(name, None)
            self._open_until.pop(name, None)

    def missed(self, name: str) -> None:
        """Count a miss, which may open the breaker."""
        self._misses[name] = self._misses.get(name, 0) + 1
        if self._misses[name] >= MOST_MISSES:
            self._open_until[name] = self._clock() + OPEN_SECONDS

    def open(self) -> list[str]:
        """Names of those that are open."""
        now = self._clock()
        return [name for name, until in list(self._open_until.items()) if now < until]
