"""Sessions that went like this one: what they held next is what this one may hold next."""

from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Bool, Float32, Int32, Int64, rows_of_spans
from feature_repo.ranking_features import Interest, ShopperState
from feature_repo.schema import DAY
from feature_repo.session_features import Recent
from serving.bundle import Bundle
from serving.indexes import SessionIndex
from serving.sources.source import NOTHING, Reach, Retrieved, summed


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
    postings = [index.sessions_of(int(item))[: weights.sessions] for item in recent.items]
    lengths = [posting.size for posting in postings]
    if not sum(lengths):
        return NOTHING
    item_weight = np.exp(-recent.steps / weights.step_decay) * index.rarity[recent.items] ** weights.rarity
    sessions, slot = np.unique(np.concatenate(postings), return_inverse=True)
    age = np.maximum(as_of - index.session_time[sessions], 0) / DAY
    similarity = np.bincount(slot, np.repeat(item_weight, lengths)) * np.exp(-age / weights.session_age)
    sessions, similarity = sessions[similarity > 0], similarity[similarity > 0]
    if sessions.size > weights.neighbours:
        nearest = np.argpartition(similarity, -weights.neighbours)[-weights.neighbours :]
        sessions, similarity = sessions[nearest], similarity[nearest]
    start = index.session_offsets[sessions]
    length = index.session_offsets[sessions + 1] - start
    slot = np.repeat(np.arange(sessions.size), length)
    row = rows_of_spans(start, length)
    items, steps = index.session_items[row], index.session_steps[row]
    is_shared, shared_step = _shared(items, slot, steps, recent, sessions.size)
    distance = np.maximum(np.abs(steps - shared_step[slot]), 1)
    score = similarity[slot] * np.exp(-distance / weights.distance) * index.rarity[items] ** weights.novelty
    return summed(items[~is_shared], score[~is_shared].astype(np.float32))


def _shared(items: Int32, slot: Int64, steps: Int32, recent: Recent, sessions: int) -> tuple[Bool, Int64]:
    """Of each session the newest of the recent items that it holds: bool[items], where it stands last; its step."""
    order = np.argsort(recent.items)
    place = np.minimum(np.searchsorted(recent.items, items, sorter=order), order.size - 1)
    shared = np.flatnonzero(recent.items[order[place]] == items)
    oldest_first = shared[np.lexsort((steps[shared], -order[place[shared]]))]
    row = np.zeros(sessions, np.int64)
    row[slot[oldest_first]] = oldest_first  # of what is written to one place, the last stays
    is_shared = np.zeros(items.size, dtype=bool)
    is_shared[row] = True
    return is_shared, steps[row].astype(np.int64)
