"""Nearest vectors: compared one by one in a small shop, found by an inverted file in a large one."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import faiss
import numpy as np

from feature_repo.arrays import Bool, Float32, Int32
from feature_repo.compiled import FLOAT32, FLOAT32_ROWS, FLOAT32S, INT, INT32S, compilable, compiled

EXACT_BELOW: Final = 20_000
"""Vectors that are rather all compared: that takes no longer, and none is missed."""
LISTS: Final = 512
"""Cells of the inverted file, each a list of the vectors that are nearest to its centre."""
LISTS_SEARCHED: Final = 40
CODE_BITS: Final = 4
"""Of each number, in the inverted file: sixteen values fit into a register of the processor."""
ONE_QUERY: Final = 11
"""faiss's loop (``implem``) for a single query, the best kept unsorted: its own choice is made for many at once."""
LOOKED_UP: Final = 1.5
"""Vectors that the inverted file is asked for, for each that is wanted: its order is a rough one."""
SAMPLE: Final = 1024
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

    The inverted file keeps four bits for each number, of its distance from the centre of the cell (a product
    quantizer, scanned after André et al., VLDB 2015). It says where to look; what it finds is scored exactly.
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
        inverted = faiss.IndexIVFPQFastScan(
            faiss.IndexFlatIP(d), d, LISTS, d, CODE_BITS, faiss.METRIC_INNER_PRODUCT
        )
        inverted.by_residual = True
        inverted.nprobe, inverted.implem = LISTS_SEARCHED, ONE_QUERY  # are kept in the file
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
        """The ``size`` nearest, or nearly so: in a small shop, or where not all are ``allowed``, all.

        All, too, of a query that is zero, which is near to none: the inverted file has nothing for it.
        """
        if self._inverted is None or allowed is not None or not query.any():
            return Near(self._all, self.cosines(query), whole=True)
        _, [found] = self._inverted.search(query[None], int(size * LOOKED_UP))
        items = found[found >= 0].astype(np.int32)
        cosines = self.cosines_of(items, query)
        if items.size > size:
            nearest = np.argpartition(cosines, -size)[-size:]
            items, cosines = items[nearest], cosines[nearest]
        return Near(items, cosines, whole=False)

    def cosines_of(self, items: Int32, query: Float32) -> Float32:
        """float32[m]: cosine of each of the ``items`` with the query; zero of one that is not known."""
        return _dot_products(self.vectors, items, query)

    def cosines(self, query: Float32) -> Float32:
        """float32[n]: cosine of every vector with the query, FARTHEST of those that are not known."""
        cosines = self.vectors @ query
        cosines[self._unknown] = FARTHEST
        return cosines

    def log_total(self, near: Near, query: Float32, scale: float) -> float:
        """Log of the sum over all vectors of exp(scale * cosine); of those not found, a sample stands for all."""
        if near.whole:
            best = near.cosines.max()
            return float(scale * best + np.log(np.exp(scale * (near.cosines - best)).sum()))
        unfound = len(self.vectors) - near.items.size
        return _log_total(near.cosines, unfound, self._sample, query, scale)

    @cached_property
    def _all(self) -> Int32:
        return np.arange(len(self.vectors), dtype=np.int32)

    @cached_property
    def _unknown(self) -> Int32:
        return np.flatnonzero(~self.vectors.any(axis=1)).astype(np.int32)

    @cached_property
    def _sample(self) -> Float32:
        return np.ascontiguousarray(self.vectors[:: max(1, len(self.vectors) // SAMPLE)])


@compilable
def _dot_product(one: Float32, other: Float32) -> np.float32:
    """One formula for all loops, so that what was found is not farther away than itself."""
    product = np.float32(0)
    for column in range(other.size):
        product += one[column] * other[column]
    return product


@compiled(FLOAT32_ROWS, INT32S, FLOAT32S)
def _dot_products(vectors: Float32, rows: Int32, query: Float32) -> Float32:
    """float32[m]: of these ``rows`` with the query; they lie anywhere, and are not copied together."""
    products = np.empty(rows.size, np.float32)
    for place in range(rows.size):
        products[place] = _dot_product(vectors[rows[place]], query)
    return products


@compiled(FLOAT32S, INT, FLOAT32_ROWS, FLOAT32S, FLOAT32)
def _log_total(found: Float32, unfound: int, sample: Float32, query: Float32, scale: float) -> float:
    """Log of the sum of exp(scale * cosine) of those ``found`` and of so many ``unfound``.

    One of these counts for what those of the sample do, on average, that are farther away than all that were found.
    """
    best, farthest = found.max(), found.min()
    total, sampled, farther = 0.0, 0.0, 0
    for cosine in found:
        total += np.exp(scale * (cosine - best))
    for row in range(len(sample)):
        cosine = _dot_product(sample[row], query)
        if cosine < farthest:
            sampled += np.exp(scale * (cosine - best))
            farther += 1
    return scale * best + np.log(total + unfound * sampled / max(farther, 1))


NO_VECTORS: Final = VectorIndex(np.zeros((0, 1), np.float32), None)
