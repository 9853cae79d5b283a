"""Metrics of slates, and how sure they are.

All ranking is over the full catalogue. Intervals are 95% bootstrap intervals over shoppers: requests of one shopper
are not independent, so shoppers are what is drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Final, NamedTuple

import numpy as np
from pydantic import ConfigDict

from feature_repo.arrays import Bool, Float32, Float64, Int32, Int64

CUTOFF: Final = 20
NDCG_CUTOFF: Final = 10
RESAMPLES: Final = 1000
NO_ITEM: Final = -1
"""Fills the places of a slate that is shorter than CUTOFF."""


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its 95% interval; NaN where there was nothing to measure."""

    __pydantic_config__: ClassVar[ConfigDict] = {"ser_json_inf_nan": "strings"}  # so that NaN survives a file

    mean: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.lower:.4f}, {self.upper:.4f}]"


class Quality(NamedTuple):
    """Quality of the answer to each request: float64[n] per metric."""

    recall_at_20: Float64
    mrr_at_20: Float64
    ndcg_at_10: Float64

    def take(self, rows: Int64 | Bool) -> "Quality":
        """That of some of the requests."""
        return Quality(*(values[rows] for values in self))


@dataclass(frozen=True)
class Scores:
    """Quality of a method on a replay of ``requests`` requests."""

    requests: int
    recall_at_20: Interval
    mrr_at_20: Interval
    ndcg_at_10: Interval

    @classmethod
    def of(cls, quality: Quality, shopper: Int32) -> "Scores":
        """Means over the requests, which ``shopper`` int32[n] made."""
        return cls(len(shopper), *(bootstrap(values, shopper) for values in quality))


@dataclass(frozen=True)
class Difference:
    """How much better one method is than another on the same requests.

    relative: to the mean of the other method; NaN where that is zero.
    """

    absolute: Interval
    relative: Interval

    def __str__(self) -> str:
        absolute, relative = self.absolute, self.relative
        return (
            f"{absolute.mean:+.4f} [{absolute.lower:+.4f}, {absolute.upper:+.4f}], "
            f"{relative.mean:+.1%} [{relative.lower:+.1%}, {relative.upper:+.1%}]"
        )


def quality(hits: Bool, wanted: Int64) -> Quality:
    """Quality of slates: ``hits`` bool[n, CUTOFF] says which places hold what its request wanted.

    wanted int64[n] counts what each request wanted, one or more. Recall@20 is hits / min(20, wanted), so that a
    perfect slate scores 1; MRR@20 the inverse place of the first hit; NDCG@10 (Järvelin and Kekäläinen, TOIS 2002)
    has a gain of 1 for each hit, discounted by log2(place + 1), over that of a slate which begins with hits alone.
    """
    place = np.arange(1, CUTOFF + 1)
    first = np.argmax(hits, axis=1)
    discount = 1 / np.log2(place[:NDCG_CUTOFF] + 1)
    ideal = np.cumsum(discount)[np.minimum(wanted, NDCG_CUTOFF) - 1]
    return Quality(
        recall_at_20=hits.sum(axis=1) / np.minimum(wanted, CUTOFF),
        mrr_at_20=np.where(hits.any(axis=1), 1 / place[first], 0.0),
        ndcg_at_10=hits[:, :NDCG_CUTOFF] @ discount / ideal,
    )


def hits(slates: Int32, wanted: Int32, offsets: Int64) -> Bool:
    """bool[n, CUTOFF]: places of ``slates`` int32[n, CUTOFF] that hold an item which their request wanted.

    Request r wanted the items [offsets[r], offsets[r + 1]) of ``wanted``; what is negative, no item or one that a
    model does not know, is never a hit.
    """
    request = np.repeat(np.arange(len(slates)), np.diff(offsets))
    stride = int(max(wanted.max(initial=0), slates.max(initial=0))) + 1
    known = wanted >= 0
    pairs = request[known] * stride + wanted[known]
    shown = np.arange(len(slates))[:, None] * stride + slates
    return np.isin(shown, pairs) & (slates >= 0)


def slate_quality(slates: Int32, wanted: Int32, offsets: Int64) -> Quality:
    """Quality of ``slates`` int32[n, CUTOFF], whose requests wanted items as ``hits`` takes them."""
    return quality(hits(slates, wanted, offsets), np.diff(offsets))


def bootstrap(values: Float64, shopper: Int32, seed: int = 0) -> Interval:
    """Mean of ``values`` and its 95% interval when shoppers are drawn with replacement; NaN for no values."""
    if not values.size:
        return _NOTHING_MEASURED
    return _interval(values.mean(), _drawn_means(values[:, None], shopper, seed)[:, 0])


def paired_bootstrap(values: Float64, other: Float64, shopper: Int32, seed: int = 0) -> Difference:
    """How much higher ``values`` are than ``other`` of the same requests; its interval as in ``bootstrap``."""
    if not values.size:
        return Difference(_NOTHING_MEASURED, _NOTHING_MEASURED)
    drawn = _drawn_means(np.column_stack([values, other]), shopper, seed)
    difference, base = drawn[:, 0] - drawn[:, 1], drawn[:, 1]
    mean, mean_base = values.mean() - other.mean(), other.mean()
    if mean_base == 0:
        return Difference(_interval(mean, difference), _NOTHING_MEASURED)
    usable = base > 0
    return Difference(
        _interval(mean, difference), _interval(mean / mean_base, difference[usable] / base[usable])
    )


def _drawn_means(columns: Float64, shopper: Int32, seed: int) -> Float64:
    """float64[RESAMPLES, c]: means of the columns float64[n, c] over the requests of shoppers drawn each time."""
    _, codes = np.unique(shopper, return_inverse=True)
    counts = np.bincount(codes)
    sums = np.column_stack([np.bincount(codes, column) for column in columns.T])
    generator = np.random.default_rng(seed)
    means = np.empty((RESAMPLES, columns.shape[1]))
    for row in means:
        drawn = generator.integers(counts.size, size=counts.size)
        row[:] = sums[drawn].sum(axis=0) / counts[drawn].sum()
    return means


def _interval(mean: float, drawn: Float64) -> Interval:
    lower, upper = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(mean), float(lower), float(upper))


_NOTHING_MEASURED: Final = Interval(float("nan"), float("nan"), float("nan"))


def coverage(slates: Int32, catalogue: int) -> float:
    """Share of ``catalogue`` items that occur in any of the slates int32[n, CUTOFF]."""
    shown = np.unique(slates[slates != NO_ITEM])
    return shown.size / max(catalogue, 1)


def intra_list_diversity(slates: Int32, embeddings: Float32, best: int = NDCG_CUTOFF) -> float:
    """Mean over slates of the mean 1 - cosine between two items of their ``best``; NaN without two items.

    embeddings float32[items, d]: unit vectors, or zero (Ziegler et al., WWW 2005, with the cosine as similarity).
    """
    top = slates[:, :best]
    several = top[np.count_nonzero(top != NO_ITEM, axis=1) > 1]
    if not several.size:
        return float("nan")
    return float(np.mean([_dissimilarity(embeddings[items[items != NO_ITEM]]) for items in several]))


def _dissimilarity(vectors: Float32) -> float:
    """Mean 1 - cosine over the pairs of unit vectors float32[m, d]."""
    together = np.square(vectors.sum(axis=0)).sum() - np.square(vectors).sum()
    return float(1 - together / (len(vectors) * (len(vectors) - 1)))


def novelty(slates: Int32, interactions: Int64) -> float:
    """Mean self-information of the items shown, in bits: -log2 of an item's share of all ``interactions``.

    interactions int64[items], each plus one, so that an item which nobody met is finitely novel (Zhou et al., PNAS
    2010). NaN where nothing is shown.
    """
    shown = slates[slates != NO_ITEM]
    if not shown.size:
        return float("nan")
    share = (interactions + 1) / (interactions + 1).sum()
    return float(np.mean(-np.log2(share[shown])))


def to_text(scores: Mapping[str, Scores]) -> str:
    """A table of methods and their scores, each with its interval."""
    columns = [field.name for field in fields(Scores)]
    rows = [
        ("method", *columns),
        *((name, *(str(getattr(s, c)) for c in columns)) for name, s in scores.items()),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )
