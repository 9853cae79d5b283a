"""What items are called, searched by pieces of words, so that a mistyped query finds what was meant."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import bm25s
import numpy as np

from feature_repo.arrays import Float32
from feature_repo.text import grams

logging.getLogger("bm25s").setLevel(logging.WARNING)  # else it tells its own developers what it does

FILES: Final = {
    "data_name": "text.weights.npy",
    "indices_name": "text.items.npy",
    "indptr_name": "text.offsets.npy",
    "vocab_name": "text.pieces.json",
    "params_name": "text.json",
}
"""What an index is kept in, in bm25s' words."""
LENGTH: Final = 0.5
"""b of BM25: how much a long text's pieces count less."""
SATURATION: Final = 0.6
"""k1 of BM25: that a piece comes twice says little in a title."""


class TextIndex:
    """BM25 (Robertson & Zaragoza, 2009) of the items' texts, whose terms are pieces of words; None for no text."""

    def __init__(self, retriever: bm25s.BM25 | None) -> None:
        self._retriever = retriever

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """The index of the text of each item, in their order."""
        terms = [grams(text) for text in texts]
        if not any(terms):
            return cls(None)
        # In an order of their own: bm25s would number the pieces otherwise in each process.
        pieces = sorted({piece for of_item in terms for piece in of_item})
        number = {piece: number for number, piece in enumerate(pieces)}
        retriever = bm25s.BM25(k1=SATURATION, b=LENGTH)
        retriever.index(
            ([[number[piece] for piece in of_item] for of_item in terms], number), show_progress=False
        )
        return cls(retriever)

    def scores(self, query: str) -> Float32:
        """float32[items]: how well each item's text fits; empty where no piece of the query is known."""
        terms = [] if self._retriever is None else self._retriever.get_tokens_ids(grams(query))
        if self._retriever is None or not terms:
            return np.zeros(0, np.float32)
        found: Float32 = self._retriever.get_scores_from_ids(terms)
        return found

    def save(self, directory: Path) -> None:
        """Write the index into a folder, if there is one."""
        if self._retriever is not None:
            self._retriever.save(directory, show_progress=False, **FILES)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Map the index of a folder into memory."""
        if not (directory / FILES["params_name"]).exists():
            return cls(None)
        return cls(bm25s.BM25.load(directory, mmap=True, **FILES))


NO_TEXT: Final = TextIndex(None)
