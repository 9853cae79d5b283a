"""A slate as it was served: its items, what brought them, and the features they were ranked by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from feature_repo.arrays import Bool, Float32, Float64, Strings
from feature_repo.ranking_features import POSITION, RANKING_COLUMNS
from serving.bundle import Bundle
from serving.in_time.attempt import Rung
from serving.plan import Rule
from serving.query import Question, Slate

_POSITION: Final = RANKING_COLUMNS.index(POSITION)


@dataclass(frozen=True)
class ServedItems:
    """Candidates of one request, those of the slate first and in its order.

    item_ids[n]; scores float32[shown]; propensity float64[shown] and placed_by: see Slate; brought
    bool[n, len(SOURCES)]: by which sources, none for an item that popularity filled in or a rule brought; features
    float32[n, len(RANKING_COLUMNS)], NaN for an item that was filled in.
    """

    item_ids: Strings
    scores: Float32
    propensity: Float64
    placed_by: Sequence[Rule | None]
    brought: Bool
    features: Float32

    def ranked_scores(self) -> Float32:
        """float32[shown]: the scores, NaN of what was filled in: that is only placed below all others."""
        filled_in = np.isnan(self.features[: self.scores.size, _POSITION])
        return np.where(filled_in, np.float32(np.nan), self.scores)

    @classmethod
    def shown(cls, slate: Slate, bundle: Bundle) -> Self:
        """The items of the slate alone."""
        same = slate.items[:, None] == slate.candidates.items[None, :]
        ranked, rows = np.unravel_index(np.flatnonzero(same), same.shape)  # nonzero of a table takes longer
        n = slate.items.size
        brought = np.zeros((n, slate.candidates.ranks.shape[1]), dtype=bool)
        brought[ranked] = ~np.isnan(slate.candidates.ranks[rows])
        features = np.full((n, len(RANKING_COLUMNS)), np.nan, dtype=np.float32)
        features[ranked] = slate.features[rows]
        return cls(
            bundle.item_ids[slate.items], slate.scores, slate.propensity, slate.placed_by, brought, features
        )

    @property
    def ranked(self) -> Bool:
        """bool[n]: the items that have features."""
        return ~np.isnan(self.features[:, _POSITION])

    def with_others(self, slate: Slate, bundle: Bundle) -> Self:
        """The items of the slate, then all other candidates."""
        others = np.flatnonzero(~np.isin(slate.candidates.items, slate.items))
        return replace(
            self,
            item_ids=np.concatenate([self.item_ids, bundle.item_ids[slate.candidates.items[others]]]),
            brought=np.concatenate([self.brought, ~np.isnan(slate.candidates.ranks[others])]),
            features=np.concatenate([self.features, slate.features[others]]),
        )


@dataclass(frozen=True, kw_only=True)
class ServedRequest:
    """One answered request, without its slate.

    ``user_id`` given, or found by the visitor's link; bundle: where the model's bundle stands under ``models/``;
    candidates: how many were to reach the ranker; catalog_state, activity_state: what lay over the bundle's items,
    None where that is not certain, or nothing is known; degraded: what had to be left out.
    """

    request_id: str
    user_id: str | None
    visitor_id: str | None
    placement: str | None
    model_version: str
    bundle: str
    question: Question
    candidates: int
    catalog_state: str | None
    activity_state: str | None
    degraded: Sequence[str]
    ranked_by: Rung

    @property
    def as_of(self) -> int:
        """Moment of the request, in microseconds since 1970, UTC."""
        return self.question.as_of


@dataclass(frozen=True, kw_only=True)
class ServedSlate(ServedRequest):
    """One answered request, to be written down with the items of its slate."""

    items: ServedItems
