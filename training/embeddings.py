"""Collaborative-filtering embeddings: the towers are trained on the next item of every shopper."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from feature_repo.encoded_log import EncodedLog
from feature_repo.errors import InputError
from feature_repo.schema import Event
from feature_repo.user_tower import UserTower
from training.config import EmbeddingConfig
from training.embedding_model import TowerModel
from training.sequence_training import hold_out, learn
from training.sequences import Sequences

NAME = "embeddings"


@dataclass(frozen=True)
class FittedTower:
    """A trained tower, the epochs it took, and Recall@20 on the held-out end (NaN where nothing was held out)."""

    tower: UserTower
    epochs: int
    recall: float


def fit_embeddings(log: EncodedLog, config: EmbeddingConfig, run: Path) -> FittedTower:
    """Train on the interactions of ``log``, early stopping by Recall@20 on the newest part, which is held out.

    ``run`` receives scalars and checkpoints, as ``learn`` says. Raises InputError when nobody met two different
    items.
    """
    sequences = Sequences.of(log.interactions())
    if not len(sequences):
        raise InputError(
            "no shopper in the older part of the log met two different items, so there is nothing to learn from: "
            f"check that {Event.USER} or {Event.VISITOR} names who it was and {Event.TIMESTAMP} has a time of day"
        )
    torch.manual_seed(config.seed)
    return _fit(TowerModel(len(log.item_ids), config), *hold_out(sequences, config.held_out), run)


def refit_embeddings(log: EncodedLog, config: EmbeddingConfig, start: UserTower, run: Path) -> FittedTower:
    """Go on from ``start`` on all of ``log``, for ``refit_epochs`` or fewer; nothing is held out."""
    sequences = Sequences.of(log.interactions())
    torch.manual_seed(config.seed)
    model = TowerModel(len(log.item_ids), replace(config, epochs=min(config.refit_epochs, config.epochs)))
    model.start_from_tower(start)
    return _fit(model, sequences, sequences.take(sequences.targets[:0]), run)


def _fit(model: TowerModel, training: Sequences, validation: Sequences, run: Path) -> FittedTower:
    learned = learn(model, training, validation, run, NAME)
    seen = torch.zeros(len(model.vectors), dtype=torch.bool, device=model.vectors.device)
    seen[torch.from_numpy(training.log.item.astype("int64"))] = True
    return FittedTower(model.tower(seen), learned.epochs, learned.recall)
