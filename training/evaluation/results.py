"""From slates to findings: how good each method is, and how much better one is than another."""

from dataclasses import dataclass

from feature_repo.arrays import Float32, Int32, Int64
from training.evaluation.metrics import (
    Difference,
    Quality,
    Scores,
    coverage,
    intra_list_diversity,
    novelty,
    paired_bootstrap,
    slate_quality,
)
from training.replay import Replay


@dataclass(frozen=True)
class Catalogue:
    """What slates are drawn from: number of items that may be shown, and of all items the vectors and popularity.

    embeddings float32[items, d], unit vectors; interactions int64[items], before the test part.
    """

    available: int
    embeddings: Float32
    interactions: Int64


@dataclass(frozen=True)
class Result:
    """What a method reached.

    coverage: share of the catalogue that occurs in any slate; diversity: mean distance of two items of a slate;
    novelty: bits of surprise in an item that is shown.
    """

    scores: Scores
    coverage: float
    diversity: float
    novelty: float


@dataclass(frozen=True)
class Comparison:
    """How much better a method is than another on the same requests, by metric."""

    recall_at_20: Difference
    mrr_at_20: Difference
    ndcg_at_10: Difference


def quality_of(slates: Int32, requests: Replay) -> Quality:
    """Quality of the slates int32[n, CUTOFF], in the codes of the log, that answered requests."""
    return slate_quality(slates, requests.wanted, requests.offsets)


def measure(slates: Int32, requests: Replay, catalogue: Catalogue) -> Result:
    """What the slates int32[n, CUTOFF] that answered requests are worth."""
    return Result(
        scores=Scores.of(quality_of(slates, requests), requests.shopper),
        coverage=coverage(slates, catalogue.available),
        diversity=intra_list_diversity(slates, catalogue.embeddings),
        novelty=novelty(slates, catalogue.interactions),
    )


def compare(quality: Quality, other: Quality, shopper: Int32) -> Comparison:
    """How much higher a quality is than another of the same requests, which ``shopper`` int32[n] made."""
    pairs = zip(quality, other, strict=True)
    return Comparison(*(paired_bootstrap(ours, theirs, shopper) for ours, theirs in pairs))
