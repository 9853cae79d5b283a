"""The session encoder: a network, trained in torch and run by ONNX Runtime, that expects the next item."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import onnxruntime

from feature_repo.arrays import Float32, Int32, Int64
from feature_repo.schema import SECOND
from feature_repo.session_features import Window, moments_back

VALUES: Final = "values"
TYPES: Final = "types"
STEPS: Final = "steps"
AGES: Final = "ages"
"""Inputs of the network, all newest event first: float32[1, L, d], int64[1, L] twice, float32[1, L]."""
QUERY: Final = "query"
"""Its output: float32[1, d], a unit vector."""
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

    def log_probability(self, active: Window, as_of: int) -> Float32:
        """float32[items]: log-probability of each item to be the next; empty for a window without interaction."""
        if not active.items.size:
            return NOTHING_EXPECTED
        logits = self.items.embeddings @ self.query(active, as_of)
        logits[self.items.item_weight == 0] = -1  # as far away as can be
        logits *= self.items.scale[0]
        best = logits.max()
        return logits - (best + np.log(np.exp(logits - best).sum()))


NOTHING_EXPECTED: Final = np.zeros(0, np.float32)


def log_age(age: Int64) -> Float32:
    """float32: ages in microseconds as the network takes them."""
    return (np.log1p(np.maximum(age, 0) / SECOND) / AGE_SCALE).astype(np.float32)
