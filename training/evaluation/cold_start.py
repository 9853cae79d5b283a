"""Cold start: groups of requests by how little was known of the shopper, or of the item that was wanted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from feature_repo.arrays import Bool, Int32, Int64
from training.evaluation.metrics import Quality, Scores
from training.evaluation.next_item import interactions_before
from training.replay import Replay

NEW: Final = "0"
"""Name of the group of shoppers who had met nothing before."""
REGULAR: Final = 3
"""Interactions from which on a shopper is no newcomer."""
RARE: Final = 5
"""Interactions up to which an item is rarely met."""


@dataclass(frozen=True)
class ColdStart:
    """Scores of each method by name, by group of next-item requests.

    by_shopper: by how many interactions the shopper had had; by_item: by how many the wanted item had had before
    the test part; never_met_share: share of all targets that had had none, which are no targets elsewhere;
    never_met: the recommender's scores with those as targets.
    """

    by_shopper: Mapping[str, Mapping[str, Scores]]
    by_item: Mapping[str, Mapping[str, Scores]]
    never_met_share: float
    never_met: Scores


def shopper_groups(requests: Replay) -> dict[str, Bool]:
    """bool[n] by name: the requests of shoppers who had had so many interactions; all had had some."""
    before = interactions_before(requests)
    return {str(n): before == n for n in range(1, REGULAR)} | {f"{REGULAR}+": before >= REGULAR}


def item_groups(requests: Replay, interactions: Int64) -> dict[str, Bool]:
    """bool[n] by name: the requests whose one wanted item had had so many ``interactions``, int64[items]."""
    count = interactions[requests.wanted]
    return {f"1-{RARE}": count <= RARE, f"{RARE + 1}+": count > RARE}


def scores_by_group(
    quality: Mapping[str, Quality], shopper: Int32, groups: Mapping[str, Bool]
) -> dict[str, dict[str, Scores]]:
    """Scores of each method in each group, bool[n], of the requests that each ``shopper`` int32[n] made."""
    return {
        group: {name: Scores.of(found.take(rows), shopper[rows]) for name, found in quality.items()}
        for group, rows in groups.items()
    }
