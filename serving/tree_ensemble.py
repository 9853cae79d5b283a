"""Scores by the trees of a LightGBM model: for a few hundred rows several times as fast as LightGBM itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import lightgbm
import numpy as np

from feature_repo.arrays import Bool, Float32, Float64, Int32, Int64, UInt64
from feature_repo.compiled import (
    BOOLS,
    FLOAT32_ROWS,
    FLOAT32S,
    FLOAT64_ROWS,
    INT,
    INT32S,
    INT64S,
    UINT64S,
    compiled,
    together,
)

MOST_LEAVES: Final = 64
"""Of a tree: each is a bit of an integer."""
DE_BRUIJN: Final = 0x03F79D71B4CB0A89
"""Times a power of two, it has other highest six bits for each (Leiserson, Prokop and Randall, 1998)."""
HIGHEST: Final = 58
"""Of the product, the bit where these six begin."""
ALL: Final = (1 << MOST_LEAVES) - 1


@dataclass(frozen=True)
class TreeEnsemble:
    """Trees as QuickScorer walks them (Lucchese et al., SIGIR 2015).

    Leaves are numbered from left to right. Each split that sends a row to the right strikes out all leaves on its
    left; when all splits of a tree have been asked, in any order, the first leaf that is left is the row's. Nothing
    depends on what was asked before, so that many rows are asked at once. What comes out is what LightGBM says, to
    the last bit; only LightGBM takes numbers of less than 1e-35 for zero.

    Splits of tree t lie at [offsets[t], offsets[t + 1]), offsets int64[trees + 1]: column int32[splits]; a row goes
    left if its value is no greater than threshold float32[splits], a value that is missing if missing_left
    bool[splits]; else of all leaves stay those of kept uint64[splits]. values float64[trees, MOST_LEAVES]: of each
    leaf, in the place that ``_place`` gives it.
    """

    offsets: Int64
    column: Int32
    threshold: Float32
    missing_left: Bool
    kept: UInt64
    values: Float64

    @classmethod
    def of(cls, booster: lightgbm.Booster) -> Self:
        """The trees of a model whose raw sums are its scores, one for a row, as a ranker's are.

        Raises ValueError for trees that this cannot walk.
        """
        model = booster.dump_model()
        if model["average_output"]:
            raise ValueError("the trees are to be averaged, not summed: train without boosting=rf")
        trees = model["tree_info"]
        offsets, splits = [0], list[_Split]()
        values = np.zeros((len(trees), MOST_LEAVES))
        for tree, own in zip(trees, values, strict=True):
            leaves = list[float]()
            splits += _splits(tree["tree_structure"], leaves)
            offsets.append(len(splits))
            if len(leaves) > MOST_LEAVES:
                raise ValueError(
                    f"a tree of {len(leaves)} leaves has more than {MOST_LEAVES}: train with fewer"
                )
            for leaf, value in enumerate(leaves):
                own[_place(leaf)] = value
        return cls(
            np.array(offsets),
            np.array([split.column for split in splits], np.int32),
            np.array([split.threshold for split in splits], np.float32),
            np.array([split.missing_left for split in splits], np.bool_),
            np.array([ALL ^ split.left for split in splits], np.uint64),
            values,
        )

    def scores(self, features: Float32, trees: int) -> Float64:
        """float64[n]: of rows float32[n, columns] by the first ``trees``; quickest where these lie by columns."""
        splits = (self.column, self.threshold, self.missing_left, self.kept)
        return _scores(np.ascontiguousarray(features.T), trees, self.offsets, splits, self.values)


class _Split(NamedTuple):
    """Of a tree; left: a bit for each leaf on its left."""

    column: int
    threshold: np.float32
    missing_left: bool
    left: int


def _splits(node: Mapping[str, Any], leaves: list[float]) -> Iterator[_Split]:
    """The splits from a node on; the values of the leaves are appended to ``leaves``, from left to right."""
    if "split_feature" not in node:
        leaves.append(node["leaf_value"])
        return
    if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
        raise ValueError(
            f"a split by {node['decision_type']} with missing {node['missing_type']} is none of numbers"
        )
    first, threshold = len(leaves), node["threshold"]
    yield from _splits(node["left_child"], leaves)
    # Without missing values in training LightGBM takes one for zero.
    missing_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0
    left = (1 << len(leaves)) - (1 << first)
    yield _Split(node["split_feature"], _rounded_down(threshold), missing_left, left)
    yield from _splits(node["right_child"], leaves)


def _rounded_down(threshold: float) -> np.float32:
    """The highest float32 up to a threshold: what is no greater than one is no greater than the other."""
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
    return np.nextafter(nearest, np.float32(-np.inf)) if float(nearest) > threshold else nearest


def _place(leaf: int) -> int:
    """Where the value of a leaf lies: where its bit leads in ``_scores``."""
    return (DE_BRUIJN << leaf & ALL) >> HIGHEST


@compiled(FLOAT32_ROWS, INT, INT64S, together(INT32S, FLOAT32S, BOOLS, UINT64S), FLOAT64_ROWS)
def _scores(
    columns: Float32, trees: int, offsets: Int64, splits: tuple[Int32, Float32, Bool, UInt64], values: Float64
) -> Float64:
    """float64[n]: of rows that lie as columns float32[columns, n]."""
    column, threshold, missing_left, kept = splits
    scores = np.zeros(columns.shape[1], np.float64)
    left = np.empty(columns.shape[1], np.uint64)
    for tree in range(trees):
        left[:] = ALL
        for split in range(offsets[tree], offsets[tree + 1]):
            asked, most, others = columns[column[split]], threshold[split], kept[split]
            if missing_left[split]:
                for row in range(asked.size):
                    if asked[row] > most:
                        left[row] &= others
            else:
                for row in range(asked.size):
                    if not asked[row] <= most:
                        left[row] &= others
        for row in range(scores.size):
            first = left[row] & (~left[row] + np.uint64(1))
            scores[row] += values[tree, (first * np.uint64(DE_BRUIJN)) >> np.uint64(HIGHEST)]
    return scores
