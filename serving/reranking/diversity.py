"""Diversity: how much a candidate adds to what is already chosen.

A candidate's gain is its relevance plus ``dial`` times its novelty, which falls as others are chosen. Relevance
falls like odds, exponentially in the score, but in units of how far the best stands above the place YARDSTICK: the
dial then means the same whatever the scale of a ranker's scores is (docs/reranking.md compares other ways).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import numpy as np

from feature_repo.arrays import Float32, Int64

YARDSTICK: Final = 20
"""Place in the ranker's order whose distance from the best is the unit of relevance."""
STEEPNESS: Final = np.float32(2)
"""Relevance at YARDSTICK is exp(-STEEPNESS)."""
CONTENT_SHARE: Final = 0.45
"""Of how alike two items are, what the catalog says of them; the rest is that the same shoppers want them."""
SHORTEST: Final = 1e-6
"""A vector shorter than this says nothing."""
LEAST_SQUARED: Final = np.float32(1e-4)
"""Length, squared, below which a vector is taken to lie among the chosen: float32 cannot tell."""


class DiversityKind(StrEnum):
    """How novelty is measured."""

    MMR = "mmr"
    DPP = "dpp"


@dataclass(frozen=True)
class Diversity:
    """How different the items of a slate shall be.

    dial 0..1: what a unit of novelty counts against one of relevance, from the ranker's order to slates whose items
    differ above all; vectors float32[n, d]: unit vectors of the candidates, zero for what is like nothing else.
    """

    dial: float
    vectors: Float32
    kind: DiversityKind = DiversityKind.MMR

    def gains(self, scores: Float32, order: Int64, k: int) -> "Gains":
        """Gains of the candidates with these scores float32[n], in the ranker's ``order``, for a slate of ``k``."""
        worth, vectors = relevance(scores[order]), self.vectors[order]
        if self.kind == DiversityKind.DPP:
            return DeterminantalGains(worth, vectors, self.dial, k)
        return MarginalGains(worth, vectors, self.dial)


class Gains(Protocol):
    """What each candidate, in the ranker's order, would add to those that were chosen: gain float32[n]."""

    gain: Float32

    def choose(self, place: int) -> None:
        """Take note that the candidate of this place in the ranker's order was chosen."""
        ...


class RankersOrder:
    """Gains of a slate that need not be diverse."""

    def __init__(self, n: int) -> None:
        self.gain = -np.arange(n, dtype=np.float32)

    def choose(self, place: int) -> None:
        """Nothing changes."""


class MarginalGains:
    """Marginal relevance: novelty is minus the cosine to the sum of all that was chosen, to the slate as a whole.

    Carbonell and Goldstein, SIGIR 1998, with dial = (1 - lambda) / lambda, but they look at the most similar item
    alone, which lets many come that are half alike. What points away from the slate is more novel than what has
    nothing to do with it.
    """

    def __init__(self, relevance: Float32, vectors: Float32, dial: float) -> None:
        self.gain = self._relevance = relevance
        self._vectors = vectors
        self._dial = np.float32(dial)
        self._sum = np.zeros(vectors.shape[1], np.float32)

    def choose(self, place: int) -> None:
        """Costs n * d."""
        self._sum += self._vectors[place]
        length = max(np.sqrt(self._sum @ self._sum), np.float32(1))  # what cancels out is not all the same
        self.gain = self._relevance - self._dial * (self._vectors @ (self._sum / length))


class DeterminantalGains:
    """Greedy MAP of a determinantal point process: novelty is the log of the length that a vector adds.

    By that length, at right angles to all that are chosen, the volume grows that they span.
    Chen et al., "Fast greedy MAP inference for determinantal point process to improve recommendation diversity",
    NeurIPS 2018: rows of a Cholesky factor grow with every choice, so no determinant is computed.
    """

    def __init__(self, relevance: Float32, vectors: Float32, dial: float, k: int) -> None:
        self.gain = self._relevance = relevance
        self._vectors = vectors
        self._half_dial = np.float32(dial / 2)  # the log of a length is half that of its square
        self._rows = np.zeros((k, len(vectors)), np.float32)
        self._squared = np.ones(len(vectors), np.float32)
        self._chosen = 0

    def choose(self, place: int) -> None:
        """Costs n * (d + items chosen so far)."""
        if self._squared[place] <= LEAST_SQUARED:
            return  # it adds nothing to what is spanned
        before = self._rows[: self._chosen]
        likeness = self._vectors @ self._vectors[place]
        row = (likeness - before[:, place] @ before) / np.sqrt(self._squared[place])
        self._rows[self._chosen] = row
        self._chosen += 1
        self._squared -= row * row
        np.maximum(self._squared, LEAST_SQUARED, out=self._squared)
        novelty: Float32 = np.log(self._squared)
        self.gain = self._relevance + self._half_dial * novelty


def likeness_vectors(content: Float32, learned: Float32) -> Float32:
    """float32[n, c + d]: unit vectors whose cosine says how alike items are, by both kinds of their unit vectors.

    content float32[n, c]: what the catalog says, for CONTENT_SHARE of the cosine; learned float32[n, d]: who wants
    them, for the rest. Zero stands for an item without; it is judged by the other kind alone.
    """
    shares = np.sqrt(np.array([CONTENT_SHARE, 1 - CONTENT_SHARE], np.float32))
    both = np.hstack([shares[0] * content, shares[1] * learned])
    lengths = np.linalg.norm(both, axis=1, keepdims=True)
    return (both / np.where(lengths > SHORTEST, lengths, np.inf)).astype(np.float32)


def relevance(scores: Float32) -> Float32:
    """float32[n]: relevance, 1 of the best, of finite scores float32[n] that fall."""
    if not scores.size:
        return scores
    below = scores[0] - scores
    unit = below[min(YARDSTICK, below.size) - 1]
    return np.exp(-STEEPNESS * below / max(unit, np.finfo(np.float32).eps))
