"""Attempts: how much time a slate is given, and what is left out when it runs short."""

import logging
import time
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Final, Protocol

from feature_repo.arrays import Float32
from serving.in_time.breakers import Breakers
from serving.sources.source import NOTHING, Retrieved

logger = logging.getLogger(__name__)

Measure = Callable[[str, float], None]
"""Called with a stage's name and the seconds that it took."""

TOO_LONG: Final = 0.5
"""Share of an attempt's time that no source may take alone."""
FIRST_TREES_SHARE: Final = 0.2
"""Share of the rankers' trees that rank where there is no time for all: boosting puts what matters most first."""
PACE_MEMORY: Final = 0.9
"""Weight of the past in the running mean of what ranking takes."""


class Rung(StrEnum):
    """Who put a slate in order, from the best down to what is left when nothing else answers in time."""

    RANKERS = "rankers"
    FIRST_TREES = "first_trees"
    NEIGHBOURS = "neighbours"
    POPULAR = "popular"


class Attempt(Protocol):
    """Goes with a slate through the recommender's stages."""

    def begin(self, stage: str) -> None:
        """A stage begins; the one before has ended."""
        ...

    def end(self) -> None:
        """The last stage has ended."""
        ...

    def ask(self, source: str, find: Callable[[], Retrieved]) -> Retrieved:
        """What a source finds, or nothing."""
        ...

    def rank(self, score: Callable[[Rung], list[Float32]]) -> tuple[Rung, list[Float32]]:
        """The scores by the highest rung that there is time for."""
        ...


class Unhurried:
    """An attempt with all the time there is, and every error raised: for replays, batches, evaluations."""

    def begin(self, stage: str) -> None:
        """Measures nothing."""

    def end(self) -> None:
        """Measures nothing."""

    def ask(self, source: str, find: Callable[[], Retrieved]) -> Retrieved:
        """What the source finds."""
        return find()

    def rank(self, score: Callable[[Rung], list[Float32]]) -> tuple[Rung, list[Float32]]:
        """The scores of the rankers."""
        return Rung.RANKERS, score(Rung.RANKERS)


UNHURRIED: Final = Unhurried()


class Again(Unhurried):
    """An attempt that leaves out what another one left out, and ranks as that one did."""

    def __init__(self, left_out: Collection[str], rung: Rung) -> None:
        self._left_out = left_out
        self._rung = rung

    def ask(self, source: str, find: Callable[[], Retrieved]) -> Retrieved:
        """What the source finds, unless it is left out."""
        return NOTHING if source in self._left_out else find()

    def rank(self, score: Callable[[Rung], list[Float32]]) -> tuple[Rung, list[Float32]]:
        """The scores of the same rung."""
        return self._rung, score(self._rung)


class Pace:
    """How long ranking takes on this machine: running mean, seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def took(self, seconds: float) -> None:
        """Take note of one more."""
        self.seconds = PACE_MEMORY * self.seconds + (1 - PACE_MEMORY) * seconds


class Hurried:
    """An attempt until a deadline, in a thread that nobody waits for beyond it.

    until: seconds on ``clock``; left_out: the sources that were not asked, failed or came too late.
    """

    def __init__(
        self,
        until: float,
        breakers: Breakers,
        pace: Pace,
        measure: Measure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.left_out: list[str] = []
        self._until = until
        self._longest = TOO_LONG * (until - clock())
        self._breakers = breakers
        self._pace = pace
        self._measure = measure
        self._clock = clock
        self._stage: str | None = None
        self._began = 0.0
        self._asking: str | None = None
        self._has_asked = False
        self._given_up = False

    def begin(self, stage: str) -> None:
        """Measures the stage from here on. Raises TimeoutError once the attempt was given up."""
        self._go_on()
        self.end()
        self._stage, self._began = stage, self._clock()

    def end(self) -> None:
        """The stage took until now, if there is one."""
        if self._stage is not None:
            self._measure(self._stage, self._clock() - self._began)
            self._stage = None

    def ask(self, source: str, find: Callable[[], Retrieved]) -> Retrieved:
        """What the source finds; nothing, and it is left out, once time is up, its breaker is open or it fails.

        Raises TimeoutError when time is up before any source was asked.
        """
        self._go_on()
        started = self._clock()
        if started >= self._until and not self._has_asked:
            self.end()
            raise TimeoutError
        self._has_asked = True
        if started >= self._until or not self._breakers.lets_through(source):
            self.left_out.append(source)
            return NOTHING
        self._asking = source
        try:
            found = find()
        except Exception:
            logger.exception("source %s failed", source)
            self._miss()
            return NOTHING
        self._go_on()
        if self._clock() - started > self._longest:
            self._breakers.missed(source)
        else:
            self._breakers.answered(source)
        self._asking = None
        return found

    def rank(self, score: Callable[[Rung], list[Float32]]) -> tuple[Rung, list[Float32]]:
        """The scores of the rankers, of their first trees, or of the sources' order."""
        started = self._clock()
        left = self._until - started
        if left < self._pace.seconds:
            rung = Rung.NEIGHBOURS if left < FIRST_TREES_SHARE * self._pace.seconds else Rung.FIRST_TREES
            return rung, score(rung)
        scores = score(Rung.RANKERS)
        self._pace.took(self._clock() - started)
        return Rung.RANKERS, scores

    def give_up(self) -> None:
        """Nobody waits any longer: what is still being asked has missed, and nothing more is begun."""
        self._given_up = True
        self._miss()

    def _miss(self) -> None:
        source, self._asking = self._asking, None
        if source is not None:
            self._breakers.missed(source)
            self.left_out.append(source)

    def _go_on(self) -> None:
        if self._given_up:
            self.end()
            raise TimeoutError
