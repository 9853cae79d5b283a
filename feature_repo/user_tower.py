"""From events to a vector: the user tower of the collaborative-filtering model, in numpy.

The trainer learns its parameters; batch features, replay and request all come here to apply them, so a new
shopper is folded in by the same arithmetic that gave the known ones their vectors.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from feature_repo.arrays import Float32, Float64, Int8, Int32
from feature_repo.compiled import FLOAT32_ROWS, FLOAT32S, INT8S, INT32S, compilable, compiled, together
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
        return self._weighted_mean(self.recency, window.items, window.types)

    def user_vector(self, items: Int32, types: Int8) -> Float32:
        """float32[d] unit vector of a whole history, all ages alike: the long-term taste; zero for none."""
        return self._weighted_mean(np.zeros(items.size, np.float32), items, types)

    def _weighted_mean(self, recency: Float32, items: Int32, types: Int8) -> Float32:
        log_weight = recency, self.event_type
        return _weighted_mean(self.embeddings, self.item_weight, log_weight, items, types)


@compilable
def unit(vector: Float32) -> Float32:
    """The vector at length one; the zero vector stays zero."""
    length = np.sqrt((vector * vector).sum())
    return vector / length if length > 0 else vector


@compiled(FLOAT32_ROWS, FLOAT32S, together(FLOAT32S, FLOAT32S), INT32S, INT8S)
def _weighted_mean(
    embeddings: Float32, item_weight: Float32, log_weight: tuple[Float32, Float32], items: Int32, types: Int8
) -> Float32:
    """float32[d]: direction of the sum of the embeddings of the last items, as many as there are recencies."""
    recency, event_type = log_weight
    total = np.zeros(embeddings.shape[1], np.float32)
    for back in range(min(items.size, recency.size)):
        event = items.size - 1 - back
        item = items[event]
        weight = np.exp(recency[back] + event_type[types[event]]) * item_weight[item]
        for column in range(total.size):
            total[column] += weight * embeddings[item, column]
    return unit(total)


def unit_rows(vectors: Vectors) -> Vectors:
    """Each row of [n, d] at length one; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    divisors: Any = np.where(lengths > 0, lengths, 1)  # of the vectors' own type
    return vectors / divisors
