"""Diversity: how much a candidate adds to what is already chosen.

A candidate's gain is its relevance plus ``strength`` times its novelty, which falls as others are chosen. Relevance
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
STRONGEST: Final = 0.8
"""Strength at the end of the dial."""
LEAST_SQUARED: Final = np.float32(1e-4)
"""Length, squared, below which a vector is taken to lie among the chosen: float32 cannot tell."""


class DiversityKind(StrEnum):
    """How novelty is measured."""

    MMR = "mmr"
    DPP = "dpp"


@dataclass(frozen=True)
class Diversity:
    """How different the items of a slate shall be.

    dial 0..1: from the ranker's order to slates whose items differ above all; vectors float32[n, d]: unit
    vectors of the candidates, zero for what is like nothing else.
    """

    dial: float
    vectors: Float32
    kind: DiversityKind = DiversityKind.MMR

    @property
    def strength(self) -> float:
        """What a unit of novelty counts against one of relevance."""
        return STRONGEST * self.dial

    def gains(self, scores: Float32, order: Int64, k: int) -> "Gains":
        """Gains of the candidates with these scores float32[n], in the ranker's ``order``, for a slate of ``k``."""
        worth, vectors = relevance(scores[order]), self.vectors[order]
        if self.kind == DiversityKind.DPP:
            return DeterminantalGains(worth, vectors, self.strength, k)
        return MarginalGains(worth, vectors, self.strength)


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
    """Maximal marginal relevance: novelty is minus the cosine to the most similar item that was chosen.

    Carbonell and Goldstein, SIGIR 1998, with strength = (1 - lambda) / lambda. What points away from an item is as
    novel as what has nothing to do with it.
    """

    def __init__(self, relevance: Float32, vectors: Float32, strength: float) -> None:
        self.gain = self._relevance = relevance
        self._vectors = vectors
        self._strength = np.float32(strength)
        self._likeness = np.zeros(len(vectors), np.float32)

    def choose(self, place: int) -> None:
        """Costs n * d."""
        np.maximum(self._likeness, self._vectors @ self._vectors[place], out=self._likeness)
        self.gain = self._relevance - self._strength * self._likeness


class DeterminantalGains:
    """Greedy MAP of a determinantal point process: novelty is the log of the length that a vector adds.

    By that length, at right angles to all that are chosen, the volume grows that they span.
    Chen et al., "Fast greedy MAP inference for determinantal point process to improve recommendation diversity",
    NeurIPS 2018: rows of a Cholesky factor grow with every choice, so no determinant is computed.
    """

    def __init__(self, relevance: Float32, vectors: Float32, strength: float, k: int) -> None:
        self.gain = self._relevance = relevance
        self._vectors = vectors
        self._strength = np.float32(
            strength / 2
        )  # novelty is the log of a length, which is half that of its square
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
        self.gain = self._relevance + self._strength * novelty


def relevance(scores: Float32) -> Float32:
    """float32[n]: relevance, 1 of the best, of finite scores float32[n] that fall."""
    if not scores.size:
        return scores
    below = scores[0] - scores
    unit = below[min(YARDSTICK, below.size) - 1]
    return np.exp(-STEEPNESS * below / max(unit, np.finfo(np.float32).eps))
