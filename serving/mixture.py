"""Mixtures: which sources of candidates are asked, and how much each counts."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from feature_repo.ranking_features import SOURCES


class Share(NamedTuple):
    """What a source may bring, and how much its ranks weigh in the fusion."""

    quota: int
    weight: float


Mixture = Mapping[str, Share]
"""Which sources are asked; the others bring nothing."""

EVERYTHING: Final[Mixture] = {
    "revisits": Share(64, 2.0),
    "repeats": Share(200, 1.0),
    "next_item": Share(300, 1.0),
    "session_neighbours": Share(300, 1.0),
    "covisitation": Share(150, 0.5),
    "last_item_covisitation": Share(50, 0.3),
    "bought_together": Share(100, 0.5),
    "random_walk": Share(300, 1.0),
    "session_embedding": Share(150, 0.3),
    "user_embedding": Share(100, 0.3),
    "similar_users": Share(100, 0.3),
    "content": Share(50, 0.2),
    "category_popular": Share(50, 0.2),
    "segment_popular": Share(50, 0.2),
    "trending": Share(30, 0.1),
    "popular": Share(50, 0.2),
}
"""The mixture that the rankers learn on: of every source but that of searches, which no replay asks."""


def weights(mixture: Mixture) -> list[float]:
    """Of each of SOURCES in the fusion."""
    return [mixture[name].weight if name in mixture else 0.0 for name in SOURCES]
