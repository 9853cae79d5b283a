"""Ablations: what each part of the recommender is worth, by answering the same requests without it.

All answers come from the recommender that serves. The rankers stay as they were trained, with all parts in place:
an ablation says what this model loses, not what another one, trained without the part, would reach.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from tqdm import tqdm

from feature_repo.arrays import Int32
from feature_repo.item_activity import UNKNOWN_ACTIVITY
from feature_repo.ranking_features import SOURCES, Candidates, Interest
from serving.bundle import Bundle
from serving.in_time.attempt import UNHURRIED, Attempt
from serving.plan import EVERYTHING, weights
from serving.query import Query
from serving.ranking import Rankers
from serving.recommender import Recommender
from serving.retrieval import fuse
from training.evaluation.methods import ranked_slates, slates
from training.evaluation.metrics import CUTOFF, NO_ITEM
from training.evaluation.sources import LookedUp, SourceReport, SourceTally
from training.replay import Replay

FRESHET: Final = "Freshet"
NO_SESSION: Final = "without the session"
NO_USER_HISTORY: Final = "without user history"
NO_RANKERS: Final = "without the rankers"
NO_ENCODER: Final = "without the session encoder"
NO_ACTIVITY: Final = "without live item counts"


def source_off(source: str) -> str:
    """Name of the ablation of a source."""
    return f"without {source}"


class PreparedRecommender(Recommender):
    """The recommender that serves, with what was looked up for each of the queries it is going to be asked."""

    def __init__(
        self, bundle: Bundle, candidates: int, queries: Sequence[Query], looked_up: Sequence[LookedUp]
    ) -> None:
        super().__init__(bundle, candidates)
        self._looked_up = {id(query): found for query, found in zip(queries, looked_up, strict=True)}

    def encode(self, query: Query) -> Interest:
        """What was made of the shopper."""
        return self._looked_up[id(query)].interest

    def retrieve(self, query: Query, interest: Interest, attempt: Attempt = UNHURRIED) -> Candidates:
        """What was found, fused and cut to the number of candidates."""
        return fuse(self._looked_up[id(query)].retrieved, weights(query.plan.mixture), self.candidates)


@dataclass(frozen=True)
class Ablations:
    """Slates int32[n, CUTOFF] of Freshet and of each ablation; sources; recall by number of fused candidates."""

    slates: dict[str, Int32]
    sources: dict[str, SourceReport]
    fused_recall: dict[int, float]


def ablate(requests: Replay, bundle: Bundle, candidates: int) -> Ablations:
    """Answer requests with the recommender, whole and without each of its parts; shows progress."""
    names = [FRESHET, NO_RANKERS, NO_ENCODER, NO_USER_HISTORY, NO_ACTIVITY, *map(source_off, EVERYTHING)]
    found = {name: np.full((len(requests), CUTOFF), NO_ITEM, np.int32) for name in names}
    tally, wanted = SourceTally(), iter(requests.wanted_in(bundle))
    done = 0
    with tqdm(total=len(requests), desc="Freshet and its ablations", unit="request", leave=False) as progress:
        for chunk in requests.chunks():
            queries = chunk.queries(bundle, CUTOFF)
            looked_up = [tally.look_up(bundle, query) for query in queries]
            for one in looked_up:
                tally.count(one, next(wanted))
            for name, answers in _answers(bundle, candidates, queries, looked_up):
                for row, items in enumerate(answers, start=done):
                    found[name][row, : items.size] = items
            done += len(queries)
            progress.update(len(queries))
    ranked = ranked_slates(Recommender(bundle, candidates))
    found[NO_SESSION] = slates(requests.without_windows(), bundle, ranked, NO_SESSION)
    return Ablations(found, tally.reports(), tally.fused_recall())


def _answers(
    bundle: Bundle, candidates: int, queries: Sequence[Query], looked_up: Sequence[LookedUp]
) -> Iterator[tuple[str, list[Int32]]]:
    """Slates of the queries by each method."""

    def answer(model: Bundle, asked: Sequence[Query], found: Sequence[LookedUp]) -> list[Int32]:
        return [
            slate.items for slate in PreparedRecommender(model, candidates, asked, found).recommend(asked)
        ]

    whole = answer(bundle, queries, looked_up)
    yield FRESHET, whole
    yield NO_RANKERS, answer(replace(bundle, rankers=Rankers(None, None)), queries, looked_up)
    yield NO_ENCODER, answer(bundle, queries, [found.without_encoder() for found in looked_up])
    yield NO_ACTIVITY, answer(bundle, [_without_activity(query) for query in queries], looked_up)
    strangers = [_of_a_stranger(query, bundle) for query in queries]
    yield NO_USER_HISTORY, ranked_slates(Recommender(bundle, candidates))(strangers)
    for source in EVERYTHING:
        number = SOURCES.index(source)
        # Where a source found nothing, it cannot be missed.
        rows = [row for row, found in enumerate(looked_up) if found.retrieved[number].items.size]
        without = [looked_up[row].without_source(source) for row in rows]
        answers = dict(zip(rows, answer(bundle, [queries[row] for row in rows], without), strict=True))
        yield source_off(source), [answers.get(row, items) for row, items in enumerate(whole)]


def _of_a_stranger(query: Query, bundle: Bundle) -> Query:
    """The same query of a shopper of whom nothing but the window is known."""
    return replace(query, shopper=replace(query.shopper, user=bundle.user_row(None, query.shopper.window)))


def _without_activity(query: Query) -> Query:
    """The same query where nobody counts what happens to the items."""
    return replace(query, shopper=replace(query.shopper, activity=UNKNOWN_ACTIVITY))
