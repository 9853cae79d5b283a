"""What the sources of candidates search: arrays that a bundle keeps and a server maps."""

from dataclasses import dataclass

import numpy as np

from feature_repo.arrays import Float32, Float64, Int32, Int64
from feature_repo.compiled import FLOAT32S, FLOAT64S, INT32S, INT64S, compiled
from feature_repo.user_history import UserHistory


@dataclass(frozen=True)
class Neighbours:
    """The K best neighbours of each item: items int32[n, K], -1 pads; scores float32[n, K], best first."""

    items: Int32
    scores: Float32


@dataclass(frozen=True)
class PopularityLists:
    """Items by their popularity, and by how much more they are met than they used to be; best first.

    items int32[n] with scores float32[n]; trending int32[m] with trending_scores float32[m].
    """

    items: Int32
    scores: Float32
    trending: Int32
    trending_scores: Float32


@dataclass(frozen=True)
class GroupedLists:
    """A list of items for each of G groups: that of group g lies at [offsets[g], offsets[g + 1]), best first.

    items int32[m]; scores float32[m]; offsets int32[G + 1].
    """

    items: Int32
    scores: Float32
    offsets: Int32

    def of(self, group: int) -> tuple[Int32, Float32]:
        """Items and scores of one group."""
        span = slice(self.offsets[group], self.offsets[group + 1])
        return self.items[span], self.scores[span]

    def weighted(self, groups: Int32, weights: Float64) -> tuple[Int32, Float32]:
        """Items of groups int32[n], one group after the other, and their scores times the group's weight."""
        offsets = self.offsets.astype(np.int64)
        items, weighed = _weighted(offsets, self.items, self.scores, groups, weights)
        return items, weighed.astype(np.float32)


@dataclass(frozen=True)
class SessionIndex:
    """Sessions of the log, the newest first, and the sessions of each item.

    Items of session s, oldest first: session_items int32[m] at [session_offsets[s], session_offsets[s + 1]), each
    with session_steps int32[m], which counts the session's moments; its newest item: session_time int64[S],
    microseconds. Sessions of item i, newest first: item_sessions int32[p] at
    [item_offsets[i], item_offsets[i + 1]). rarity float32[items]: log of the inverse share of sessions with it.
    """

    session_offsets: Int64
    session_items: Int32
    session_steps: Int32
    session_time: Int64
    item_offsets: Int64
    item_sessions: Int32
    rarity: Float32

    def sessions_of(self, item: int) -> Int32:
        """The sessions of an item, the newest first."""
        return self.item_sessions[self.item_offsets[item] : self.item_offsets[item + 1]]


@dataclass(frozen=True)
class Segments:
    """Shoppers by taste: G clusters of the user embeddings, around the centroids float32[G, d]."""

    centroids: Float32

    def nearest(self, embedding: Float32) -> int:
        """The segment of a user embedding."""
        return int(np.argmax(self.centroids @ embedding))


@dataclass(frozen=True)
class UserHistories:
    """The history of every shopper known at training, as UserHistory describes it for one.

    That of shopper u lies at [offsets[u], offsets[u + 1]) of items int32[m], visits and purchases float32[m], first
    and last int64[m]; offsets int64[users + 1]; total_visits int32[users].
    """

    offsets: Int64
    items: Int32
    visits: Float32
    purchases: Float32
    first: Int64
    last: Int64
    total_visits: Int32

    def of(self, user: int) -> UserHistory:
        """The history of one shopper."""
        span = slice(self.offsets[user], self.offsets[user + 1])
        return UserHistory(
            self.items[span],
            self.visits[span],
            self.purchases[span],
            self.first[span],
            self.last[span],
            int(self.total_visits[user]),
        )

    def shares(self, users: Int32, weights: Float32) -> tuple[Int32, Float64]:
        """Items of several shoppers, one after the other, with the share of visits times the shopper's weight."""
        return _weighted(self.offsets, self.items, self.visits, users, weights / self.total_visits[users])


@compiled(INT64S, INT32S, FLOAT32S, INT32S, FLOAT64S)
def _weighted(
    offsets: Int64, items: Int32, values: Float32, groups: Int32, weights: Float64
) -> tuple[Int32, Float64]:
    """Items and values of these groups, one after the other, each value times the weight of its group.

    That of group g lies at [offsets[g], offsets[g + 1]); groups int32[m], weights float64[m].
    """
    size = 0
    for group in groups:
        size += offsets[group + 1] - offsets[group]
    found, weighed = np.empty(size, np.int32), np.empty(size, np.float64)
    place = 0
    for row, group in enumerate(groups):
        for source in range(offsets[group], offsets[group + 1]):
            found[place] = items[source]
            weighed[place] = values[source] * weights[row]
            place += 1
    return found, weighed
