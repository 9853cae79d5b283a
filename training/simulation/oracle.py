"""The truth about a simulated shop, kept beside its log: how likely each item was before each choice."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from feature_repo.errors import InputError
from training.simulation.preferences import EMPTY, Floats, Preferences, States

ORACLE_TARGETS: Final = 5000
ORACLE_SPAN: Final = 0.1
"""Last share of the time that targets of the oracle score come from."""
_CHUNK: Final = 256


class OracleScore(NamedTuple):
    """What the true preferences score as a recommender; nothing can be expected to score more."""

    recall_at_20: float
    mrr_at_20: float
    ndcg_at_10: float
    targets: int


@dataclass(frozen=True)
class Truth:
    """The preferences and the state before each step of a simulated shop of N items."""

    item_ids: NDArray[np.str_]  # [N]
    preferences: Preferences
    states: States  # [steps]
    item: NDArray[np.int32]  # [steps], what was chosen, EMPTY for nothing
    event_step: NDArray[
        np.int32
    ]  # [events] in order of event_id: the step of an interaction, EMPTY for others

    def scores(self, event_ids: Sequence[str]) -> Floats:
        """True probabilities of all items, just before each interaction chose its own; float32 [n, N].

        Column j belongs to ``item_ids[j]``; rows sum to 1; an item that was not on sale has 0. Cart,
        purchase, favorite and rate get the state in which their item was viewed. For a click on a slate it
        is what the shopper would have picked without the slate. Raises InputError for an event that is
        not an interaction of this log.
        """
        return self.probabilities(np.array([self._step(event_id) for event_id in event_ids], np.int64))

    def probabilities(self, steps: NDArray[np.int64]) -> Floats:
        """True probabilities of all items before each of ``steps``; float32 [n, N]."""
        chances = np.empty((len(steps), len(self.item_ids)), np.float32)
        for low in range(0, len(steps), _CHUNK):
            chances[low : low + _CHUNK] = self.preferences.probabilities(
                self.states.take(steps[low : low + _CHUNK])
            )
        return chances

    def _step(self, event_id: str) -> int:
        number = (
            int(event_id[1:]) if event_id[:1] == "e" and event_id[1:].isdecimal() else len(self.event_step)
        )
        step = int(self.event_step[number]) if number < len(self.event_step) else EMPTY
        if step == EMPTY:
            raise InputError(
                f"event {event_id!r} is no interaction of this simulated log: ask for events of the "
                "events.parquet that was written together with this truth"
            )
        return step

    def save(self, path: Path) -> None:
        """Write everything to one .npz file."""
        parts: dict[str, Any] = {"item_ids": self.item_ids, "item": self.item, "event_step": self.event_step}
        for part in (self.preferences, self.states):
            name = type(part).__name__
            parts |= {f"{name}.{field.name}": getattr(part, field.name) for field in fields(part)}
        np.savez(path, **parts)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote. Raises InputError when there is no such file."""
        if not path.is_file():
            raise InputError(
                f"there is no {path}: run `freshet simulate` to make a shop whose truth is known"
            )
        with np.load(path) as stored:
            preferences = {field.name: stored[f"Preferences.{field.name}"] for field in fields(Preferences)}
            states = {field.name: stored[f"States.{field.name}"] for field in fields(States)}
            return cls(
                item_ids=stored["item_ids"],
                preferences=Preferences(**preferences | {"start": int(preferences["start"])}),
                states=States(**states),
                item=stored["item"],
                event_step=stored["event_step"],
            )


def oracle_score(truth: Truth, *, most_targets: int = ORACLE_TARGETS) -> OracleScore:
    """Score of the true ranking of all items for views and clicks in the last tenth of the time.

    Targets that repeat the shopper's previous item are left out; of the others, at most ``most_targets``
    evenly spread ones count.
    """
    time = truth.states.time
    recent = time >= time.max() - ORACLE_SPAN * (time.max() - time.min())
    steps = np.flatnonzero(recent & (truth.item != EMPTY) & (truth.item != truth.states.memory[:, 0]))
    steps = steps[np.linspace(0, len(steps) - 1, min(most_targets, len(steps))).astype(np.int64)]
    ranks = np.concatenate([_ranks(truth, steps[low : low + _CHUNK]) for low in range(0, len(steps), _CHUNK)])
    return OracleScore(
        recall_at_20=float(np.mean(ranks <= 20)),
        mrr_at_20=float(np.mean(np.where(ranks <= 20, 1 / ranks, 0))),
        ndcg_at_10=float(np.mean(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0))),
        targets=len(steps),
    )


def _ranks(truth: Truth, steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of the chosen item in the true order, 1 for the first; [n]."""
    chances = truth.probabilities(steps)
    own = np.take_along_axis(chances, truth.item[steps, None].astype(np.int64), axis=1)
    return 1 + np.sum(chances > own, axis=1)
