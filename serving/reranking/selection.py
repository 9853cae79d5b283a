"""Selection: which candidates take the places of a slate, one place after the other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Float32, Int32, Int64
from serving.best_first import best_first
from serving.reranking.diversity import Diversity, Gains, RankersOrder

NOT_CAPPED: Final = -1
"""Group of a candidate that a cap does not count."""
MAX_CAPS: Final = 62
"""Each is a bit of an int64 that has one bit more to spare."""
PLACED: Final = 1 << MAX_CAPS


@dataclass(frozen=True)
class Cap:
    """At most ``most`` items of a group on one page: group int32[n] of the candidates, NOT_CAPPED for none.

    Raises ValueError for less than one: what must not be shown is no candidate.
    """

    name: str
    group: Int32
    most: int

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(
                f"cap {self.name} of {self.most} must be 1 or more: filter what may not be shown"
            )

    def of(self, rows: Int64) -> "Cap":
        """The cap for the candidates of these rows."""
        return replace(self, group=self.group[rows])


class Selection(NamedTuple):
    """rows int64[k']: the candidates of a slate in its order; relaxed: names of the caps that it does not keep."""

    rows: Int64
    relaxed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """What a slate has to keep besides the ranker's order.

    fixed: row of the candidate that holds a place, by the place, from 0; caps: the most important first.
    """

    fixed: Mapping[int, int] = field(default_factory=dict)
    caps: Sequence[Cap] = ()
    diversity: Diversity | None = None


NO_RULES: Final = Rules()


def select(items: Int32, scores: Float32, k: int, rules: Rules = NO_RULES) -> Selection:
    """Choose at most ``k`` of the candidates ``items`` int32[n], each there once, by finite ``scores`` float32[n].

    Who holds a fixed place counts in the caps, but none keeps it out; who holds one after the end of the slate is a
    candidate like all others. The other places go to the best by score or, where the rules ask for diversity, by
    gain; equals in order of the item's index. Whoever would break a cap waits until nobody is left who would not;
    then the last cap gives way first. Without rules this is the ranker's order. Raises ValueError for a candidate
    that is fixed twice, and for more than MAX_CAPS caps.
    """
    if len(rules.caps) > MAX_CAPS:
        raise ValueError(f"{len(rules.caps)} caps are too many: a slate keeps at most {MAX_CAPS}")
    if not rules.fixed and not rules.caps and rules.diversity is None:
        return Selection(best_first(items, scores, k))
    order = best_first(items, scores, items.size)
    k = min(k, order.size)
    page = _Page(_gains(rules, scores, order, k), [cap.of(order) for cap in rules.caps])
    standing = np.argsort(order)
    held = {place: int(standing[row]) for place, row in rules.fixed.items() if place < k}
    for candidate in held.values():
        page.put(candidate)
    for place in range(k):
        if place not in held:
            held[place] = page.best()
            page.put(held[place])
    return Selection(order[[held[place] for place in range(k)]], page.relaxed())


def _gains(rules: Rules, scores: Float32, order: Int64, k: int) -> Gains:
    if rules.diversity is None:
        return RankersOrder(order.size)
    return rules.diversity.gains(scores, order, k)


class _Page:
    """What stands on a page, and what may come.

    Candidates are numbered in the ranker's order, in which argmax finds the first of equals. _breaks int64[n]: the
    caps that each would break now, a bit for each cap, the more important the higher, and above them PLACED.
    """

    def __init__(self, gains: Gains, caps: Sequence[Cap]) -> None:
        self._gains = gains
        self._caps = caps[::-1]
        self._counts: list[Counter[int]] = [Counter() for _ in caps]
        self._breaks = np.zeros(gains.gain.size, np.int64)
        self._broken = 0

    def put(self, candidate: int) -> None:
        """Put a candidate on the page, whatever it breaks."""
        if self._breaks[candidate] >= PLACED:
            raise ValueError("a candidate is fixed at two places: a slate shows it once")
        self._broken |= int(self._breaks[candidate])
        self._breaks[candidate] |= PLACED
        for bit, (cap, count) in enumerate(zip(self._caps, self._counts, strict=True)):
            group = int(cap.group[candidate])
            count[group] += 1
            if group != NOT_CAPPED and count[group] == cap.most:
                self._breaks[cap.group == group] |= 1 << bit
        self._gains.choose(candidate)

    def best(self) -> int:
        """The candidate of the highest gain among those that break the least, while some are not on the page."""
        (eligible,) = (self._breaks == self._breaks.min()).nonzero()
        return int(eligible[self._gains.gain[eligible].argmax()])

    def relaxed(self) -> tuple[str, ...]:
        """Names of the caps that the page breaks, the most important first."""
        return tuple(cap.name for bit, cap in enumerate(self._caps) if self._broken >> bit & 1)[::-1]
