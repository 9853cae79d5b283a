"""Re-ranking: from scored candidates to the slate. Pure functions over plain arrays.

scores        what the ranker says, boosted, buried and tired of what was shown in vain
selection     which candidates take the slate's places: fixed places, caps, diversity
diversity     how much a candidate adds to what is chosen: MMR and DPP
exploration   places for new items, drawn, with the probability of each
paging        a token that keeps the next page from repeating this one
slate         what may be shown, the best of it, and what lengthens a slate that is too short
"""

from serving.reranking.diversity import Diversity, DiversityKind, likeness_vectors
from serving.reranking.exploration import Explored, explore
from serving.reranking.paging import MAX_SHOWN, PageToken
from serving.reranking.scores import boosted, fatigue
from serving.reranking.selection import NO_RULES, Cap, Rules, Selection, select
from serving.reranking.slate import best, fill, may_show

__all__ = [
    "MAX_SHOWN",
    "NO_RULES",
    "Cap",
    "Diversity",
    "DiversityKind",
    "Explored",
    "PageToken",
    "Rules",
    "Selection",
    "best",
    "boosted",
    "explore",
    "fatigue",
    "fill",
    "likeness_vectors",
    "may_show",
    "select",
]
