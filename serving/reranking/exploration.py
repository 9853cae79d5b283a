"""Exploration: places for new items, which are drawn, so that everybody can be found and every chance is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from feature_repo.arrays import Float32, Float64, Int64


@dataclass(frozen=True)
class Explored:
    """What was drawn: fixed: row of the candidate at each place; chance: that it was drawn, by its row, above 0."""

    fixed: Mapping[int, int]
    chance: Mapping[int, float]

    def propensity(self, rows: Int64) -> Float64:
        """float64[k]: the chance of each item of a slate, given as rows, to stand there.

        That of a drawn item is exact. All others follow from the draw with certainty: 1.
        """
        return np.array([self.chance.get(row, 1.0) for row in rows.tolist()])


def explore(
    scores: Float32, eligible: Int64, places: Sequence[int], temperature: float, random: np.random.Generator
) -> Explored:
    """Draw candidates for the ``places`` of a slate, from 0, among the ``eligible`` rows of scores float32[n].

    A candidate's chance is proportional to exp(score / temperature), but never above 1: whoever would be there is
    drawn for certain, and the others share the places that are left. It is exact for several places, too, since the
    draw is systematic (Madow, Annals of Mathematical Statistics 1949): one random number, in an order of the
    candidates that is random, too. Who is drawn gets any of the places alike. With fewer candidates than places the
    last places stay free. Raises ValueError for a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ValueError(
            f"temperature {temperature} must be above 0: the higher, the more alike are the chances"
        )
    drawn = min(len(places), eligible.size)
    if not drawn:
        return Explored({}, {})
    chances = _chances(scores[eligible].astype(np.float64) / temperature, drawn)
    order = random.permutation(eligible.size)
    reached = np.cumsum(chances[order])
    points = (random.random() + np.arange(drawn)) * (reached[-1] / drawn)
    hit = np.minimum(np.searchsorted(reached, points, side="right"), eligible.size - 1)
    rows = random.permutation(eligible[order[hit]]).tolist()
    chance_of = dict(zip(eligible.tolist(), chances.tolist(), strict=True))
    return Explored(dict(zip(places, rows, strict=False)), {row: chance_of[row] for row in rows})


def _chances(log_odds: Float64, drawn: int) -> Float64:
    """float64[n]: the chance of each to be among the ``drawn``, which is what they add up to."""
    if drawn == log_odds.size:
        return np.ones(drawn)
    chances = np.zeros(log_odds.size)
    left = np.ones(log_odds.size, bool)
    while (~left).sum() < drawn:
        odds = np.exp(log_odds[left] - log_odds[left].max())
        chances[left] = (drawn - (~left).sum()) * odds / odds.sum()
        if (chances <= 1).all():
            break
        left &= chances <= 1
        chances[~left] = 1
    return chances
