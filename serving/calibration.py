"""From ranking scores to probabilities: a score orders items, a probability can be multiplied by a price."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_repo.arrays import Float32


@dataclass(frozen=True)
class Calibration:
    """Two rising curves through points (score, probability), found by isotonic regression.

    click_scores and click_probabilities float32[n]: that a shown item is what the shopper takes next;
    purchase_scores and purchase_probabilities float32[m]: that the shopper buys it within a day. Empty where a
    training had too little to find out.
    """

    click_scores: Float32
    click_probabilities: Float32
    purchase_scores: Float32
    purchase_probabilities: Float32

    def click(self, scores: Float32) -> Float32:
        """float32[n]: probability that each item of a slate is taken next; NaN where it is not known."""
        return _interpolated(scores, self.click_scores, self.click_probabilities)

    def purchase(self, scores: Float32) -> Float32:
        """float32[n]: probability that each item of a slate is bought within a day; NaN where it is not known."""
        return _interpolated(scores, self.purchase_scores, self.purchase_probabilities)


def _interpolated(scores: Float32, known: Float32, probabilities: Float32) -> Float32:
    if not known.size:
        return np.full(scores.size, np.nan, dtype=np.float32)
    return np.interp(scores, known, probabilities).astype(np.float32)


_NOTHING: Final = np.zeros(0, np.float32)
UNCALIBRATED: Final = Calibration(_NOTHING, _NOTHING, _NOTHING, _NOTHING)
