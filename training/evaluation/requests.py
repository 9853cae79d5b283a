"""Requests of a protocol, and what all protocols ask of a log."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from feature_repo.arrays import Bool
from feature_repo.encoded_log import EncodedLog
from training.past_activity import PastActivity
from training.replay import Replay


@dataclass(frozen=True)
class Requests:
    """Requests of a protocol, which want known items alone.

    drawn_from: number of requests before any were left out by ``sample``; targets: number of what all of them
    wanted, known or not; known_targets: those that were known; from_history: the same requests without what is
    shown of the basket, None where a protocol shows nothing.
    """

    replay: Replay
    drawn_from: int
    targets: int
    known_targets: int
    from_history: Replay | None = None

    def __len__(self) -> int:
        return len(self.replay)

    @classmethod
    def wanting(cls, asked: Replay, worth: Bool) -> Self:
        """The requests for what is ``worth`` it, bool[items]."""
        requests = asked.wanting(worth)
        return cls(requests, len(requests), targets=asked.wanted.size, known_targets=requests.wanted.size)

    @property
    def ceiling(self) -> float:
        """Share of all targets that were known."""
        return self.known_targets / max(self.targets, 1)

    def sample(self, size: int, seed: int) -> "Requests":
        """At most ``size`` requests, drawn evenly, in their order; 0 keeps all."""
        if not size:
            return self
        history = None if self.from_history is None else self.from_history.sample(size, seed)
        return replace(self, replay=self.replay.sample(size, seed), from_history=history)

    def with_activity(self, activity: PastActivity) -> "Requests":
        """The same requests, asked of servers that know what happens to the items."""
        history = None if self.from_history is None else self.from_history.with_activity(activity)
        return replace(self, replay=self.replay.with_activity(activity), from_history=history)


def met_before(log: EncodedLog, moment: int) -> Bool:
    """bool[items]: those that had an interaction before a moment (microseconds)."""
    return np.bincount(log.before(moment).interactions().item, minlength=len(log.item_ids)) > 0
