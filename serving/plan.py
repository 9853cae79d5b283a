"""Plans: what a slate is made of: which sources are asked, who orders what they bring, what is kept in mind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from feature_repo.ranking_features import SOURCES
from serving.reranking import DiversityKind
from serving.selector import EVERYTHING_ALLOWED, Selector


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


Group = Literal["category", "department", "brand"]
"""Columns of the items by which they belong together."""


class RankedBy(StrEnum):
    """Who orders the candidates of a slate: the rankers, the fusion of what the sources say, or both together."""

    RANKERS = "rankers"
    SOURCES = "sources"
    BOTH = "both"


class FilledBy(StrEnum):
    """What lengthens a slate whose candidates are used up."""

    POPULAR = "popular"
    NOTHING = "nothing"


class Rule(StrEnum):
    """What may give an item its place, whatever its score is."""

    PIN = "pin"
    EXPLORE = "explore"


class Boost(NamedTuple):
    """By how much the odds of chosen items are multiplied: a factor below 1 buries them."""

    factor: float
    items: Selector


class Fatigue(NamedTuple):
    """How tired a shopper gets of what was shown in vain: see reranking.fatigue; half_life in microseconds."""

    weight: float
    half_life: int


class Exploration(NamedTuple):
    """Places of a listing, from 0, for items that arrived in the last ``newer_than`` microseconds."""

    places: Sequence[int]
    temperature: float
    newer_than: int


@dataclass(frozen=True)
class Plan:
    """What a slate is made of.

    same: what an item must share with the first that the page is about; beyond: of which an item must share none
    with what the shopper has bought or in the cart; allowed: what every item must be; boosts: those of an item
    multiply; pins: the id of the item that holds a place of the listing, by the place, from 0; caps: most items of
    a group on a page, the most important first; diversity: 0 for the order as it is, up to 1 for items that differ
    above all.
    """

    mixture: Mixture = field(default_factory=lambda: EVERYTHING)
    ranked_by: RankedBy = RankedBy.RANKERS
    filled_by: FilledBy = FilledBy.POPULAR
    same: Group | None = None
    beyond: Group | None = None
    allowed: Selector = EVERYTHING_ALLOWED
    boosts: Sequence[Boost] = ()
    fatigue: Fatigue | None = None
    exploration: Exploration | None = None
    pins: Mapping[int, str] = field(default_factory=dict)
    caps: Mapping[Group, int] = field(default_factory=dict)
    diversity: float = 0.0
    diversity_kind: DiversityKind = DiversityKind.MMR


FOR_ANYTHING: Final = Plan()
"""What the rankers learn on."""
