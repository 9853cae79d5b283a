"""The token bucket: a limit on how often something happens that lets short bursts pass."""

import time
from collections.abc import Callable


class TokenBucket:
    """Fills by ``per_second`` tokens a second, up to a second's worth of them and at least one; begins full."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._size = max(per_second, 1.0)
        self._clock = clock
        self._tokens = self._size
        self._filled_at = clock()

    def take(self) -> float:
        """Take a token and return 0; or take none, and return the seconds until there is one."""
        now = self._clock()
        self._tokens = min(self._size, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_second
        self._tokens -= 1
        return 0.0
