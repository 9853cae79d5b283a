"""Calibration: how often was an item of a score what the shopper took next, or bought within a day?

Isotonic regression (Zadrozny & Elkan, KDD 2002) of both outcomes on the ranking score, over the slates of a replay
that the ranker was not trained on. What is bought counts only where the log holds the whole day.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from sklearn.isotonic import IsotonicRegression

from feature_repo.arrays import Bool, Float32, Float64, Int32
from feature_repo.durable_file import replace_file
from feature_repo.schema import DAY, EventType
from feature_repo.session_features import UNKNOWN_ITEM
from serving.bundle import Bundle
from serving.calibration import Calibration
from serving.query import DEFAULT_SLATE_SIZE
from serving.recommender import Recommender
from training.parallel import in_threads
from training.replay import Replay

PURCHASE_WITHIN: Final = DAY
MIN_OUTCOMES: Final = 30
"""With fewer clicks or purchases a curve would be noise."""
BINS: Final = 10


@dataclass(frozen=True)
class ShownItems:
    """Items of replayed slates: scores float32[n]; taken bool[n]: next; bought bool[n]: within a day.

    followed bool[n]: whether the log holds the whole day in which they could have been bought.
    """

    scores: Float32
    taken: Bool
    bought: Bool
    followed: Bool

    def clicks(self) -> tuple[Float32, Bool]:
        """Scores float32[n], and which items were taken next, bool[n]."""
        return self.scores, self.taken

    def purchases(self) -> tuple[Float32, Bool]:
        """Scores float32[m], and which items were bought, bool[m], of those that were followed for a day."""
        return self.scores[self.followed], self.bought[self.followed]


@dataclass(frozen=True)
class Reliability:
    """Mean forecast and observed share in bins of equally many items, and the mean distance of the two (ECE)."""

    forecast: list[float]
    observed: list[float]
    error: float


def shown_items(recommender: Recommender, requests: Replay, end: int) -> ShownItems:
    """What the slates of a replay would have shown, and what became of it.

    end: microseconds, when the log of the replay ends.
    """

    def shown(chunk: Replay) -> ShownItems:
        return _chunk_shown(recommender, chunk, end)

    parts = list(in_threads(shown, requests.chunks(), "calibration"))
    return ShownItems(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.taken for part in parts]),
        np.concatenate([part.bought for part in parts]),
        np.concatenate([part.followed for part in parts]),
    )


def _chunk_shown(recommender: Recommender, chunk: Replay, end: int) -> ShownItems:
    bundle = recommender.bundle
    slates = recommender.recommend(chunk.queries(bundle, DEFAULT_SLATE_SIZE))
    ranked = [slate.items[: slate.items.size - slate.filled] for slate in slates]
    return ShownItems(
        np.concatenate([slate.scores[: items.size] for slate, items in zip(slates, ranked, strict=True)]),
        _are_in(ranked, chunk.wanted_in(bundle)),
        _are_in(ranked, _purchases(chunk, bundle)),
        np.repeat(chunk.as_of + PURCHASE_WITHIN <= end, [items.size for items in ranked]),
    )


def _are_in(slates: list[Int32], wanted: Iterable[Int32]) -> Bool:
    """bool[n]: of all items of the slates, which are among those wanted of theirs."""
    return np.concatenate([np.isin(items, found) for items, found in zip(slates, wanted, strict=True)])


def calibrate(shown: ShownItems) -> Calibration:
    """The curves of both outcomes; empty where an outcome is too rare."""
    return Calibration(*_curve(*shown.clicks()), *_curve(*shown.purchases()))


def reliability(shown: ShownItems) -> dict[str, Reliability]:
    """Of each outcome, how curves fitted on the first half of the items hold on the second."""
    outcomes = {"click": shown.clicks(), "purchase": shown.purchases()}
    found = {}
    for name, (scores, outcome) in outcomes.items():
        half = len(scores) // 2
        known, probabilities = _curve(scores[:half], outcome[:half])
        if known.size:
            found[name] = _binned(np.interp(scores[half:], known, probabilities), outcome[half:])
    return found


def plot_reliability(found: dict[str, Reliability], path: Path) -> None:
    """Write a PNG of forecast against observed, one line per outcome; the diagonal is the ideal."""
    figure = Figure(figsize=(5, 5))
    axes = figure.subplots()
    most = max([max(*r.forecast, *r.observed) for r in found.values()], default=1.0)
    axes.plot([0, most], [0, most], color="grey", linestyle=":")
    for name, r in found.items():
        axes.plot(r.forecast, r.observed, marker="o", label=f"{name}, mean error {r.error:.4f}")
    axes.set(xlabel="forecast probability", ylabel="observed share", title="Calibration on unseen requests")
    if found:
        axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png")
    replace_file(path, content.getvalue())


def _purchases(requests: Replay, bundle: Bundle) -> Iterator[Int32]:
    """What the shopper of each request bought within a day, in the indexes of ``bundle``."""
    log, codes = requests.log, requests.codes(bundle)
    end = np.searchsorted(log.shopper, requests.shopper, side="right")
    for start, stop, as_of in zip(requests.stop, end, requests.as_of, strict=True):
        soon = slice(start, start + np.searchsorted(log.time[start:stop], as_of + PURCHASE_WITHIN))
        bought = log.item[soon][log.type[soon] == EventType.PURCHASE.code]
        yield codes[bought[bought != UNKNOWN_ITEM]]


def _curve(scores: Float32, outcome: Bool) -> tuple[Float32, Float32]:
    if np.count_nonzero(outcome) < MIN_OUTCOMES:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, outcome)
    return model.X_thresholds_.astype(np.float32), model.y_thresholds_.astype(np.float32)


def _binned(forecast: Float64, outcome: Bool) -> Reliability:
    order = np.argsort(forecast, kind="stable")
    bins = np.array_split(order, BINS)
    means = np.array([forecast[rows].mean() for rows in bins])
    shares = np.array([outcome[rows].mean() for rows in bins])
    sizes = np.array([rows.size for rows in bins])
    error = float(np.average(np.abs(means - shares), weights=sizes))
    return Reliability(means.tolist(), shares.tolist(), error)
