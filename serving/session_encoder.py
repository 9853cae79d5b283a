"""The session encoder: a network, trained in torch and run by ONNX Runtime, that expects the next item."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import onnxruntime

from feature_repo.arrays import Bool, Float32, Int32, Int64
from feature_repo.schema import SECOND
from feature_repo.session_features import Window, moments_back
from serving.vector_index import Near, VectorIndex

VALUES: Final = "values"
TYPES: Final = "types"
STEPS: Final = "steps"
AGES: Final = "ages"
"""Inputs of the network, all newest event first: float32[1, L, d], int64[1, L] twice, float32[1, L]."""
QUERY: Final = "query"
"""Its output: float32[1, d], a unit vector."""
LIKELIEST: Final = 300
"""Items that are looked up in a large shop: as many as their source may bring."""
AGE_SCALE: Final = 10.0
"""Divides the logarithm of an age in seconds, so that it is about one."""


@dataclass(frozen=True)
class EncoderItems:
    """Items as the session encoder knows them.

    embeddings float32[items, d]: unit vectors, zero for items it cannot know; item_weight float32[items]: length
    of the vectors that go in; scale float32[1]: of a cosine, to a logit; history int32[1]: L, how many
    interactions are read, the newest.
    """

    embeddings: Float32
    item_weight: Float32
    scale: Float32
    history: Int32


@dataclass(frozen=True)
class SessionEncoder:
    """The network as ONNX, and its items."""

    items: EncoderItems
    network: bytes

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(self.network, options, providers=["CPUExecutionProvider"])

    def query(self, active: Window, as_of: int) -> Float32:
        """float32[d]: unit vector of a window of one interaction or more."""
        newest_first = slice(None, -int(self.items.history[0]) - 1, -1)
        items = active.items[newest_first]
        values = self.items.embeddings[items] * self.items.item_weight[items, None]
        inputs = {
            VALUES: values[None],
            TYPES: active.types[newest_first].astype(np.int64)[None],
            STEPS: moments_back(active)[newest_first][None],
            AGES: log_age(as_of - active.times[newest_first])[None],
        }
        [query] = self._session.run([QUERY], inputs)
        return query[0]

    def expected(self, index: VectorIndex, active: Window, as_of: int) -> "Expected | None":
        """What comes next, of the items whose embeddings are in ``index``; None without an interaction."""
        if not active.items.size:
            return None
        query, scale = self.query(active, as_of), float(self.items.scale[0])
        near = index.search(query, LIKELIEST)
        return Expected(index, query, scale, near, index.log_total(near, query, scale))


@dataclass(frozen=True)
class Expected:
    """How likely each item is to be the next: a softmax over the cosines of a query, scaled.

    near: the likeliest, or all; log_total: log of what all items weigh together.
    """

    index: VectorIndex
    query: Float32
    scale: float
    near: Near
    log_total: float

    @property
    def best(self) -> float:
        """Log-probability of the likeliest item."""
        return self.scale * float(self.near.cosines.max()) - self.log_total

    def log_probability(self, items: Int32) -> Float32:
        """float32[m]: of these items."""
        cosines = self.near.cosines[items] if self.near.whole else self.index.cosines_of(items, self.query)
        return self._log(cosines)

    def likeliest(self, allowed: Bool | None) -> tuple[Int32, Float32]:
        """Items with their log-probabilities, in no order, the likeliest that are allowed among them."""
        near = self.near
        if allowed is not None and not near.whole:
            near = self.index.search(self.query, LIKELIEST, allowed)
        return near.items, self._log(near.cosines)

    def _log(self, cosines: Float32) -> Float32:
        return np.float32(self.scale) * cosines - np.float32(self.log_total)


def log_age(age: Int64) -> Float32:
    """float32: ages in microseconds as the network takes them."""
    return (np.log1p(np.maximum(age, 0) / SECOND) / AGE_SCALE).astype(np.float32)
