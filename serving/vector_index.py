"""Nearest vectors: compared one by one in a small shop, found by an inverted file in a large one."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import faiss
import numpy as np

from feature_repo.arrays import Bool, Float32, Int32

EXACT_BELOW: Final = 20_000
"""Vectors that are rather all compared: that takes no longer, and none is missed."""
LISTS: Final = 512
"""Cells of the inverted file, each a list of the vectors that are nearest to its centre."""
LISTS_SEARCHED: Final = 32
SAMPLE: Final = 2048
"""Vectors that stand for all where only their distribution matters."""
FARTHEST: Final = np.float32(-1)
"""Cosine of a vector that is not known."""


@dataclass(frozen=True)
class Near:
    """Vectors that were found: items int32[m] in no order, cosines float32[m]; whole: these are all, in order."""

    items: Int32
    cosines: Float32
    whole: bool


class VectorIndex:
    """Searches unit vectors float32[n, d]; one that is zero is not known, and as far away as can be.

    The inverted file keeps a byte for each number and says where to look; what it finds is scored exactly.
    """

    def __init__(self, vectors: Float32, inverted: faiss.Index | None) -> None:
        self.vectors = vectors
        self._inverted = inverted
        faiss.omp_set_num_threads(1)  # to wake a second thread takes longer than a search

    @classmethod
    def of(cls, vectors: Float32) -> Self:
        """An index of vectors. The same vectors make the same index."""
        known = np.flatnonzero(vectors.any(axis=1))
        if known.size < EXACT_BELOW:
            return cls(vectors, None)
        d = vectors.shape[1]
        inverted = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(d), d, LISTS, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        inverted.nprobe = LISTS_SEARCHED  # is kept in the file
        inverted.train(vectors[known])
        inverted.add_with_ids(vectors[known], known)
        return cls(vectors, inverted)

    def save(self, path: Path) -> None:
        """Write the inverted file, if there is one."""
        if self._inverted is not None:
            faiss.write_index(self._inverted, str(path))

    @classmethod
    def load(cls, vectors: Float32, path: Path) -> Self:
        """The index of ``vectors`` whose inverted file, if it has one, is mapped into memory."""
        if not path.exists():
            return cls(vectors, None)
        return cls(vectors, faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))

    def search(self, query: Float32, size: int, allowed: Bool | None = None) -> Near:
        """At least the ``size`` nearest, or nearly so: in a small shop, or where not all are ``allowed``, all."""
        if self._inverted is None or allowed is not None:
            return Near(self._all, self.cosines(query), whole=True)
        _, [found] = self._inverted.search(query[None], size)
        items = found[found >= 0].astype(np.int32)
        return Near(items, self.vectors[items] @ query, whole=False)

    def cosines(self, query: Float32) -> Float32:
        """float32[n]: cosine of every vector with the query, FARTHEST of those that are not known."""
        cosines = self.vectors @ query
        cosines[self._unknown] = FARTHEST
        return cosines

    def log_total(self, near: Near, query: Float32, scale: float) -> float:
        """Log of the sum over all vectors of exp(scale * cosine); of those not found, a sample stands for all."""
        best = near.cosines.max()
        total = float(np.exp(scale * (near.cosines - best)).sum())
        if not near.whole:
            others = self._sample @ query
            others = others[others < near.cosines.min()]
            unfound = len(self.vectors) - near.items.size
            total += unfound * float(np.exp(scale * (others - best)).sum()) / max(others.size, 1)
        return float(scale * best + np.log(total))

    @cached_property
    def _all(self) -> Int32:
        return np.arange(len(self.vectors), dtype=np.int32)

    @cached_property
    def _unknown(self) -> Int32:
        return np.flatnonzero(~self.vectors.any(axis=1)).astype(np.int32)

    @cached_property
    def _sample(self) -> Float32:
        return np.ascontiguousarray(self.vectors[:: max(1, len(self.vectors) // SAMPLE)])


NO_VECTORS: Final = VectorIndex(np.zeros((0, 1), np.float32), None)
