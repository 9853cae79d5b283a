"""Sessions that went like this one: what they held next is what this one may hold next."""

from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Bool, Float32, Float64, Int32, Int64
from feature_repo.compiled import BOOLS, FLOAT64S, INT, INT32S, INT64S, compiled
from feature_repo.ranking_features import Interest, ShopperState
from feature_repo.schema import DAY
from feature_repo.session_features import Recent
from serving.bundle import Bundle
from serving.indexes import SessionIndex
from serving.sources.source import Reach, Retrieved, totalled


class NeighbourWeights(NamedTuple):
    """How sessions and their items are weighed; steps count items of a session, ages are in days.

    items: newest distinct items of the window that are looked up; sessions: newest sessions looked up for each;
    neighbours: sessions that are kept; step_decay: e-folding of an item's weight with its steps back in the window;
    session_age: e-folding of a session's weight with its age; distance: e-folding of an item's weight with its
    steps from the item that both sessions share; rarity: power of the shared item's inverse document frequency;
    novelty: the same of the recommended item.
    """

    items: int = 20
    sessions: int = 1000
    neighbours: int = 300
    step_decay: float = 1.0
    session_age: float = 90.0
    distance: float = 4.0
    rarity: float = 1.0
    novelty: float = 0.5


WEIGHTS: Final = NeighbourWeights()
MARKS: Final = 1024
"""Among so many marks the items of a window hardly ever share one with another item."""


def session_neighbours(bundle: Bundle, shopper: ShopperState, interest: Interest, reach: Reach) -> Retrieved:
    """Items of the nearest sessions."""
    recent = interest.recent.newest(WEIGHTS.items)
    return reach.best(*neighbour_scores(bundle.sessions, recent, shopper.as_of, WEIGHTS))


def neighbour_scores(
    index: SessionIndex, recent: Recent, as_of: int, weights: NeighbourWeights
) -> tuple[Int32, Float32]:
    """Items of the sessions nearest to a window whose newest items are ``recent``, and their scores, in no order.

    VMIS-kNN's two indexes (Kersbergen et al., SIGMOD 2022: sessions of an item, the newest first; items of a
    session) with the weights of STAN (Garg et al., SIGIR 2019) and V-STAN: a session counts by the items it
    shares, each by its place in the window and its rarity, and by its age; its items count by their distance from
    the shared one.
    """
    weight = np.exp(-recent.steps / weights.step_decay) * index.rarity[recent.items] ** weights.rarity
    sessions, similarity = totalled(
        *_looked_up(index.item_offsets, index.item_sessions, recent.items, weight, weights.sessions)
    )
    age = np.maximum(as_of - index.session_time[sessions], 0) / DAY
    similarity *= np.exp(-age / weights.session_age)
    nearest = _highest(similarity, weights.neighbours)
    found, row, distance = _around_shared(
        index.session_offsets, index.session_items, index.session_steps, recent.items, sessions[nearest]
    )
    items, totals = totalled(found, similarity[nearest][row] * np.exp(-distance / weights.distance))
    return items, (totals * index.rarity[items] ** weights.novelty).astype(np.float32)


@compiled(INT64S, INT32S, INT32S, FLOAT64S, INT)
def _looked_up(
    offsets: Int64, sessions: Int32, items: Int32, weights: Float64, of_each: int
) -> tuple[Int32, Float64]:
    """The ``of_each`` newest sessions of each item, one item after the other, and the weight of the item."""
    ends = np.minimum(offsets[items] + of_each, offsets[items + 1])
    size = (ends - offsets[items]).sum()
    found = np.empty(size, np.int32)
    weight = np.empty(size, np.float64)
    n = 0
    for row in range(items.size):
        for place in range(offsets[items[row]], ends[row]):
            found[n] = sessions[place]
            weight[n] = weights[row]
            n += 1
    return found, weight


@compiled(FLOAT64S, INT)
def _highest(similarity: Float64, size: int) -> Int64:
    """int64: the rows of the ``size`` highest above 0; of equals those that come first."""
    n = similarity.size
    lowest = np.partition(similarity, n - size)[n - size] if size < n else 0.0
    ties = size - (similarity > lowest).sum()
    rows = np.empty(min(size, n), np.int64)
    found = 0
    for row in range(n):
        if similarity[row] > lowest or (similarity[row] == lowest > 0 and ties > 0):
            ties -= similarity[row] == lowest
            rows[found] = row
            found += 1
    return rows[:found]


@compiled(INT32S, INT, INT, INT32S, BOOLS)
def _newest_shared(items: Int32, start: int, end: int, recent: Int32, marked: Bool) -> int:
    """Where in [start, end) the newest of the recent items that it holds stands last; all of them are marked."""
    newest, shared = recent.size - 1, start
    for place in range(start, end):
        if marked[items[place] % MARKS]:
            for age in range(newest + 1):
                if recent[age] == items[place]:
                    newest, shared = age, place
                    break
    return shared


@compiled(INT64S, INT32S, INT32S, INT32S, INT32S)
def _around_shared(
    offsets: Int64, items: Int32, steps: Int32, recent: Int32, sessions: Int32
) -> tuple[Int32, Int64, Int64]:
    """Items of the sessions without the shared one of each; the row of its session; the steps between the two."""
    marked = np.zeros(MARKS, np.bool_)
    marked[recent % MARKS] = True
    size = (offsets[sessions + 1] - offsets[sessions]).sum()
    found = np.empty(size, np.int32)
    of_session = np.empty(size, np.int64)
    distance = np.empty(size, np.int64)
    n = 0
    for row in range(sessions.size):
        start, end = offsets[sessions[row]], offsets[sessions[row] + 1]
        shared = _newest_shared(items, start, end, recent, marked)
        for place in range(start, end):
            found[n] = items[place]
            of_session[n] = row
            distance[n] = max(abs(steps[place] - steps[shared]), 1)
            n += place != shared  # else the next takes its place
    return found[:n], of_session[:n], distance[:n]
