"""From events to a vector: the user tower of the collaborative-filtering model, in numpy.

The trainer learns its parameters; batch features, replay and request all come here to apply them, so a new
shopper is folded in by the same arithmetic that gave the known ones their vectors.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from feature_repo.arrays import Float32, Float64, Int8, Int32
from feature_repo.session_features import Window

Vectors = TypeVar("Vectors", Float32, Float64)


@dataclass(frozen=True)
class UserTower:
    """Learned item embeddings and the weights by which events add up to a user embedding.

    embeddings float32[items, d]: unit vectors, zero for items never learned; item_weight float32[items];
    recency float32[L]: log-weight of the last, the last but one, ... event; event_type
    float32[types]: log-weight.
    """

    embeddings: Float32
    item_weight: Float32
    recency: Float32
    event_type: Float32

    def session_vector(self, window: Window) -> Float32:
        """float32[d] unit vector of the newest L interactions, the latest weighing most; zero for none.

        ``window`` holds interactions only.
        """
        recent = window.take(slice(-len(self.recency), None))
        log_weight = self.recency[: recent.items.size][::-1] + self.event_type[recent.types]
        return self._weighted_mean(recent.items, log_weight)

    def user_vector(self, items: Int32, types: Int8) -> Float32:
        """float32[d] unit vector of a whole history, all ages alike: the long-term taste; zero for none."""
        return self._weighted_mean(items, self.event_type[types])

    def _weighted_mean(self, items: Int32, log_weight: Float32) -> Float32:
        weight = np.exp(log_weight) * self.item_weight[items]
        return unit(weight @ self.embeddings[items])


def unit(vector: Float32) -> Float32:
    """The vector at length one; the zero vector stays zero."""
    length = float(np.sqrt(vector @ vector))
    return vector / np.float32(length) if length > 0 else vector


def unit_rows(vectors: Vectors) -> Vectors:
    """Each row of [n, d] at length one; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    divisors: Any = np.where(lengths > 0, lengths, 1)  # of the vectors' own type
    return vectors / divisors
