"""The frontier of diversity: how much less alike the items of a slate are along the dial, and what that costs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from tqdm import tqdm

from feature_repo.arrays import Float32, Int32
from serving.bundle import Bundle
from serving.ranking import rank
from serving.recommender import Recommender
from serving.reranking import Diversity, DiversityKind, Rules, likeness_vectors, select
from training.evaluation.metrics import (
    CUTOFF,
    NDCG_CUTOFF,
    NO_ITEM,
    Difference,
    intra_list_diversity,
    paired_bootstrap,
    slate_quality,
)
from training.replay import Replay

REQUESTS: Final = 1000
"""Most requests that are asked."""
DIALS: Final = tuple(tenths / 10 for tenths in range(11))


@dataclass(frozen=True)
class Similarity:
    """Mean cosine of two items of a slate: of its first NDCG_CUTOFF items, and of all CUTOFF."""

    of_first: float
    of_all: float


@dataclass(frozen=True)
class DialPoint:
    """Slates at one place of the dial.

    content, learned: similarity by what the catalog says of the items, and by the tower's embeddings, which say who
    wants them; cost: NDCG@10 compared with that at the beginning of the dial, on the same requests.
    """

    dial: float
    recall_at_20: float
    ndcg_at_10: float
    content: Similarity
    learned: Similarity
    cost: Difference


Frontier = dict[DiversityKind, list[DialPoint]]
"""Points by how novelty is measured, along the dial."""


def frontier(requests: Replay, recommender: Recommender) -> Frontier:
    """Answer requests with what the recommender ranks, selected at every place of the dial; shows progress.

    What lengthens a slate whose candidates are used up is left out: no dial changes it.
    """
    bundle = recommender.bundle
    ranked = list(
        tqdm(_ranked(requests, recommender), "diversity", len(requests), leave=False, unit="request")
    )
    wanted = requests.codes(bundle)[requests.wanted]

    def points(kind: DiversityKind) -> Iterator[DialPoint]:
        base = None
        for dial in DIALS:
            slates = np.stack([_slate(*candidates, bundle, dial, kind) for candidates in ranked])
            found = slate_quality(slates, wanted, requests.offsets)
            base = found if base is None else base
            yield DialPoint(
                dial=dial,
                recall_at_20=float(found.recall_at_20.mean()),
                ndcg_at_10=float(found.ndcg_at_10.mean()),
                content=_similarity(slates, bundle.items.content),
                learned=_similarity(slates, bundle.tower.embeddings),
                cost=paired_bootstrap(found.ndcg_at_10, base.ndcg_at_10, requests.shopper),
            )

    return {kind: list(points(kind)) for kind in DiversityKind}


def _ranked(requests: Replay, recommender: Recommender) -> Iterator[tuple[Int32, Float32]]:
    """Candidates of each request and their scores."""
    for chunk in requests.chunks():
        for slate in recommender.recommend(chunk.queries(recommender.bundle, CUTOFF)):
            yield slate.candidates.items, rank(recommender.bundle.rankers, slate.features)


def _slate(items: Int32, scores: Float32, bundle: Bundle, dial: float, kind: DiversityKind) -> Int32:
    """int32[CUTOFF]: the slate, NO_ITEM where it is shorter."""
    vectors = likeness_vectors(bundle.items.content[items], bundle.tower.embeddings[items])
    rules = Rules(diversity=Diversity(dial, vectors, kind))
    rows = select(items, scores, CUTOFF, rules).rows
    slate = np.full(CUTOFF, NO_ITEM, np.int32)
    slate[: rows.size] = items[rows]
    return slate


def _similarity(slates: Int32, vectors: Float32) -> Similarity:
    return Similarity(
        *(1 - intra_list_diversity(slates, vectors, best) for best in (NDCG_CUTOFF, CUTOFF)),
    )
