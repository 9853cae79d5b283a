"""Sources of candidates: what each finds of what was wanted, and what it costs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Bool, Float64, Int32
from feature_repo.ranking_features import SOURCES, Interest
from serving.bundle import Bundle
from serving.plan import EVERYTHING, weights
from serving.query import Query
from serving.retrieval import RETRIEVERS, fuse
from serving.sources.source import NOTHING, Reach, Retrieved

ENCODER_SOURCE: Final = "next_item"
FUSED_SIZES: Final = (100, 200, 300, 400)
"""Candidates after fusion whose recall is reported."""


class LookedUp(NamedTuple):
    """What the model makes of a query's shopper, and what each of SOURCES finds."""

    interest: Interest
    retrieved: Sequence[Retrieved]

    def without_source(self, source: str) -> "LookedUp":
        """The same where a source finds nothing: its candidates and its feature columns are gone."""
        kept = [
            NOTHING if name == source else found for name, found in zip(SOURCES, self.retrieved, strict=True)
        ]
        return LookedUp(self.interest, kept)

    def without_encoder(self) -> "LookedUp":
        """The same where the session encoder expects nothing."""
        interest = replace(self.interest, expected=None)
        return LookedUp(interest, self.without_source(ENCODER_SOURCE).retrieved)


@dataclass(frozen=True)
class SourceReport:
    """A source alone: share of the wanted items in its ``quota``, and what it adds to the others.

    alone: of the wanted items that any source found, the share that this one alone did; milliseconds: mean per
    request.
    """

    quota: int
    recall: float
    alone: float
    milliseconds: float


@dataclass
class SourceTally:
    """Counts what the sources find, request by request.

    found: a bool[wanted, len(SOURCES)] of each request; place: the place of each wanted item after fusion,
    FUSED_SIZES[-1] where it is not among so many; seconds float64[len(SOURCES)] spent in each source.
    """

    found: list[Bool] = field(default_factory=list)
    place: list[Int32] = field(default_factory=list)
    seconds: Float64 = field(default_factory=lambda: np.zeros(len(SOURCES)))

    def look_up(self, bundle: Bundle, query: Query) -> LookedUp:
        """Ask every source of the query's mixture, as ``serving.retrieval.retrieve`` does."""
        interest = bundle.interest(query.shopper)
        retrieved = [NOTHING] * len(SOURCES)
        for number, (name, source) in enumerate(RETRIEVERS.items()):
            if name in query.plan.mixture:
                started = time.perf_counter()
                reach = Reach(query.plan.mixture[name].quota, query.allowed)
                retrieved[number] = source(bundle, query.shopper, interest, reach)
                self.seconds[number] += time.perf_counter() - started
        return LookedUp(interest, retrieved)

    def count(self, looked_up: LookedUp, wanted: Int32) -> None:
        """Take in what was found for a request that wanted these items."""
        self.found.append(np.stack([np.isin(wanted, found.items) for found in looked_up.retrieved], axis=1))
        fused = fuse(looked_up.retrieved, weights(EVERYTHING), FUSED_SIZES[-1])
        place = np.full(wanted.size, FUSED_SIZES[-1], np.int32)
        at, which = np.nonzero(fused.items[:, None] == wanted[None, :])
        place[which] = at
        self.place.append(place)

    def reports(self) -> dict[str, SourceReport]:
        """What was counted, by source."""
        found = np.concatenate(self.found)
        finders = found.sum(axis=1)
        found_at_all = max(int(np.count_nonzero(finders)), 1)
        return {
            name: SourceReport(
                quota=EVERYTHING[name].quota,
                recall=float(found[:, number].mean()),
                alone=float(np.count_nonzero(found[:, number] & (finders == 1)) / found_at_all),
                milliseconds=float(1000 * self.seconds[number] / len(self.found)),
            )
            for number, name in enumerate(SOURCES)
            if name in EVERYTHING
        }

    def fused_recall(self) -> dict[int, float]:
        """Share of the wanted items among the best candidates after fusion, by their number."""
        place = np.concatenate(self.place)
        return {size: float((place < size).mean()) for size in FUSED_SIZES}
