"""Baselines: what the field compares with, each a few parameters that are tuned and a fit on a past.

A fitted baseline gives scores to items; ``answers`` makes slates of them by the rules that hold for every method.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple, Protocol

import numpy as np
import scipy.sparse
from implicit.cpu.als import AlternatingLeastSquares

from feature_repo.arrays import Bool, Float32, Int32, Int64
from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import DAY, EventType
from feature_repo.session_features import Window, recent_items
from serving.indexes import Neighbours, SessionIndex
from serving.reranking import fill, may_show
from serving.sources.session_neighbours import NeighbourWeights, neighbour_scores
from serving.sources.source import NOTHING, Reach, around, summed
from training.covisitation import covisitation
from training.evaluation.metrics import CUTOFF, NO_ITEM
from training.popularity import most_popular, popularity
from training.replay import CHUNK, Replay
from training.session_index import session_index


@dataclass(frozen=True)
class Past:
    """What baselines are fitted on: the events before ``until`` (microseconds).

    available bool[items]: what may be shown. What several fits count is counted once.
    """

    log: EncodedLog
    until: int
    available: Bool

    @classmethod
    def before(cls, until: int, log: EncodedLog, available: Bool) -> "Past":
        """The past of a moment of a log that goes on."""
        return cls(log.before(until), until, available)

    @cached_property
    def active(self) -> EncodedLog:
        """The interactions."""
        return self.log.interactions()

    @cached_property
    def counts(self) -> Int64:
        """int64[items]: interactions with each."""
        return np.bincount(self.active.item, minlength=len(self.available))

    @cached_property
    def offsets(self) -> Int64:
        """int64[shoppers + 1]: the interactions of shopper s are [offsets[s], offsets[s + 1])."""
        return self.active.offsets()

    @cached_property
    def covisited(self) -> Neighbours:
        """Items met soon after one another."""
        return covisitation(self.log)

    @cached_property
    def sessions(self) -> SessionIndex:
        """Sessions by item."""
        return session_index(self.log)

    def whole_history(self, asked: "Asked") -> Window:
        """The shopper's interactions up to now: those of the past, and those of the window that came since."""
        span = slice(self.offsets[asked.shopper], self.offsets[asked.shopper + 1])
        since = asked.active.take(asked.active.times >= self.until)
        return Window(
            np.concatenate([self.active.item[span], since.items]),
            np.concatenate([self.active.type[span], since.types]),
            np.concatenate([self.active.time[span], since.times]),
        )


class Asked(NamedTuple):
    """A request as baselines see it, in the codes of the log.

    shopper: code; active: interactions of the window; as_of: microseconds; excluded int32[m]: not to be shown.
    """

    shopper: int
    active: Window
    as_of: int
    excluded: Int32


class Scored(NamedTuple):
    """Items int32[n], each once, and scores float32[n], in no order."""

    items: Int32
    scores: Float32


Fitted = Callable[[Sequence[Asked]], Iterator[Scored]]
"""Scores items for each request; those it leaves out count as worse than all others."""


class Baseline(Protocol):
    """Parameters of a baseline."""

    def fit(self, past: Past) -> Fitted:
        """Learn from a past."""
        ...


@dataclass(frozen=True)
class Popularity:
    """The most popular items; an interaction ``half_life`` days old counts half."""

    half_life: float

    def shares(self, past: Past) -> Float32:
        """float32[items]: share of the interactions."""
        return popularity(past.active, past.until, int(self.half_life * DAY))

    def order(self, past: Past) -> Int32:
        """The items that may be shown, the most popular first."""
        items, _ = most_popular(self.shares(past))
        return items[past.available[items]]

    def fit(self, past: Past) -> Fitted:
        """Count."""
        scored = Scored(np.arange(len(past.available), dtype=np.int32), self.shares(past))
        return lambda requests: (scored for _ in requests)


@dataclass(frozen=True)
class Covisitation:
    """Neighbours of the window's newest items, each step back in the window weighing ``decay`` of the one after."""

    decay: float
    items: int = 10

    def fit(self, past: Past) -> Fitted:
        """Count pairs."""
        neighbours = past.covisited

        def score(asked: Asked) -> Scored:
            recent = recent_items(asked.active).newest(self.items)
            weights = (self.decay**recent.steps).astype(np.float32)
            return Scored(*around(neighbours, recent.items, weights))

        return partial(map, score)


@dataclass(frozen=True)
class ImplicitALS:
    """Matrix factorization of implicit feedback by alternating least squares (Hu, Koren and Volinsky, ICDM 2008).

    An item met n times is preferred with confidence ``alpha`` * n. A shopper's factors are solved for anew from the
    whole history up to the request.
    """

    factors: int
    regularization: float
    alpha: float
    iterations: int
    seed: int = 20

    def fit(self, past: Past) -> Fitted:
        """Factorize."""
        items = len(past.available)
        shoppers, row = np.unique(past.active.shopper, return_inverse=True)
        met = scipy.sparse.csr_matrix(
            (np.ones(row.size, np.float32), (row, past.active.item)), (shoppers.size, items)
        )
        model = AlternatingLeastSquares(
            factors=self.factors,
            regularization=self.regularization,
            alpha=self.alpha,
            iterations=self.iterations,
            random_state=self.seed,
        )
        model.fit(met, show_progress=False)
        everything = np.arange(items, dtype=np.int32)

        def score(requests: Sequence[Asked]) -> Iterator[Scored]:
            histories = [past.whole_history(asked).items for asked in requests]
            row = np.repeat(np.arange(len(requests)), [history.size for history in histories])
            column = np.concatenate(histories)
            met = scipy.sparse.csr_matrix(
                (np.ones(column.size, np.float32), (row, column)), (len(requests), items)
            )
            factors = model.recalculate_user(np.arange(len(requests)), met)
            for history, of_shopper in zip(histories, factors, strict=True):
                yield (
                    Scored(everything, model.item_factors @ of_shopper) if history.size else Scored(*NOTHING)
                )

        return score


@dataclass(frozen=True)
class SessionNeighbours:
    """Items of the sessions that went like the window: V-STAN, or VMIS-kNN with some of its ``weights`` neutral."""

    weights: NeighbourWeights

    def score(self, past: Past, asked: Asked) -> Scored:
        """Scores of the neighbours' items."""
        recent = recent_items(asked.active).newest(self.weights.items)
        return Scored(*neighbour_scores(past.sessions, recent, asked.as_of, self.weights))

    def fit(self, past: Past) -> Fitted:
        """Index the sessions."""
        return partial(map, partial(self.score, past))


@dataclass(frozen=True)
class OwnItemsFirst:
    """V-STAN, and since shoppers go back, the items of the window itself.

    One that is n steps back scores ``boost`` * exp(-n / ``decay``) of the best neighbours' item more.
    """

    neighbours: SessionNeighbours
    boost: float
    decay: float

    def fit(self, past: Past) -> Fitted:
        """Index the sessions."""

        def score(asked: Asked) -> Scored:
            found = self.neighbours.score(past, asked)
            own = recent_items(asked.active)
            best = found.scores.max(initial=0) or 1
            boosts = best * self.boost * np.exp(-own.steps / self.decay)
            items = np.concatenate([found.items, own.items])
            return Scored(*summed(items, np.concatenate([found.scores, boosts.astype(np.float32)])))

        return partial(map, score)


@dataclass(frozen=True)
class PersonalFrequency:
    """What the shopper met most, in the whole history up to now.

    An interaction ``half_life`` days old counts half, a purchase as much as ``purchase`` other interactions.
    """

    half_life: float
    purchase: float

    def fit(self, past: Past) -> Fitted:
        """Nothing is learned but what each shopper did."""

        def score(asked: Asked) -> Scored:
            own = past.whole_history(asked)
            age = np.maximum(asked.as_of - own.times, 0) / DAY
            weights = np.exp2(-age / self.half_life)
            weights[own.types == EventType.PURCHASE.code] *= self.purchase
            return Scored(*summed(own.items, weights.astype(np.float32)))

        return partial(map, score)


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline that was fitted on a past; ``popular`` items, best first, stand behind those that it scores."""

    past: Past
    fitted: Fitted
    popular: Int32

    def answers(self, requests: Replay) -> Int32:
        """int32[n, CUTOFF]: the best items for each request, NO_ITEM where there are fewer."""
        slates = np.full((len(requests), CUTOFF), NO_ITEM, dtype=np.int32)
        for first in range(0, len(requests), CHUNK):
            chunk = [_asked(requests, row) for row in range(first, min(first + CHUNK, len(requests)))]
            for row, (asked, scored) in enumerate(zip(chunk, self.fitted(chunk), strict=True), start=first):
                items = self._slate(scored, asked)
                slates[row, : items.size] = items
        return slates

    def _slate(self, scored: Scored, asked: Asked) -> Int32:
        keep = may_show(scored.items, asked.excluded, self.past.available, allowed=None)
        best = Reach(CUTOFF).best(scored.items[keep], scored.scores[keep])
        behind = self.popular[: 2 * CUTOFF + asked.excluded.size]
        behind = behind[~np.isin(behind, asked.excluded)]
        return fill(best.items, best.scores, behind, CUTOFF)[0]


def _asked(requests: Replay, row: int) -> Asked:
    active = requests.window(row).interactions()
    return Asked(int(requests.shopper[row]), active, int(requests.as_of[row]), requests.excluded_items(row))
