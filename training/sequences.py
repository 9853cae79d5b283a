"""What shoppers did one after another, as batches to learn the next item from."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from feature_repo.arrays import Int64
from feature_repo.encoded_log import EncodedLog
from feature_repo.session_features import SESSION_GAP
from serving.session_encoder import log_age


@dataclass(frozen=True)
class Batch:
    """Windows and what came next, the newest event of a window first.

    items, types, steps int64[n, L]; ages float32[n, L]; present bool[n, L]; target int64[n]. Where a window is
    shorter than L, the item is the number of items and ``present`` is False.
    """

    items: Tensor
    types: Tensor
    steps: Tensor
    ages: Tensor
    present: Tensor
    target: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Sequences:
    """The interactions of a log, and which of them are targets.

    first int64[events]: where each event's shopper begins; targets int64[n]: places of the targets in the log.
    """

    log: EncodedLog
    first: Int64
    targets: Int64

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def of(cls, active: EncodedLog) -> Self:
        """Every interaction that has one before it is a target, but for one that repeats the item just before it:
        a reload is no choice.
        """
        position = np.arange(len(active))
        first = np.maximum.accumulate(np.where(np.diff(active.shopper, prepend=-1) != 0, position, 0))
        targets = np.flatnonzero((position > first) & (active.item != np.roll(active.item, 1)))
        return cls(active, first, targets)

    @property
    def times(self) -> Int64:
        """int64[n]: when each target came, in microseconds."""
        return self.log.time[self.targets]

    def take(self, rows: Int64) -> "Sequences":
        """The targets of these rows."""
        return Sequences(self.log, self.first, self.targets[rows])

    def batch(self, rows: Int64, history: int) -> Batch:
        """The targets of these rows with the newest ``history`` interactions before each, as seen when asked."""
        log, targets = self.log, self.targets[rows]
        first = np.maximum(self.first[targets], targets - history)
        length = int((targets - first).max())
        back = targets[:, None] - 1 - np.arange(length)
        missing = back < first[:, None]
        times = log.time[back]
        newest, target = times[:, 0], log.time[targets]
        asked_at = np.where(target - newest <= SESSION_GAP, newest, target)
        moments = np.cumsum(np.diff(times, axis=1, prepend=times[:, :1]) != 0, axis=1)
        return Batch(
            items=torch.from_numpy(np.where(missing, len(log.item_ids), log.item[back]).astype(np.int64)),
            types=torch.from_numpy(np.where(missing, 0, log.type[back]).astype(np.int64)),
            steps=torch.from_numpy(np.where(missing, 0, moments)),
            ages=torch.from_numpy(np.where(missing, np.float32(0), log_age(asked_at[:, None] - times))),
            present=torch.from_numpy(~missing),
            target=torch.from_numpy(log.item[targets].astype(np.int64)),
        )
