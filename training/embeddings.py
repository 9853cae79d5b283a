"""Collaborative-filtering embeddings, trained with sampled softmax on the next item.

The loss is the softmax of the next item among all items of the batch and uniform negatives. Negatives are
corrected by the logarithm of their inclusion probability (Bengio & Senecal, 2008), items of the row's own window
are not: correcting those would teach the model that nobody comes back to an item.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from feature_repo.arrays import Int64
from feature_repo.encoded_log import EncodedLog
from feature_repo.errors import InputError
from feature_repo.schema import Event
from feature_repo.user_tower import UserTower
from training.config import EmbeddingConfig
from training.embedding_model import TowerModel, TrainingState


@dataclass(frozen=True)
class Examples:
    """Next-item examples: items and types int64[n, history], the latest first; target int64[n].

    Where a history is shorter, the item code is the number of items.
    """

    items: Tensor
    types: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: Tensor) -> "Examples":
        """The examples of these rows."""
        return Examples(self.items[rows], self.types[rows], self.target[rows])


@dataclass(frozen=True)
class Fitted:
    """A trained tower, the epochs it took, and Recall@20 on the held-out end (NaN where nothing was held out)."""

    tower: UserTower
    epochs: int
    recall: float


def fit_embeddings(log: EncodedLog, config: EmbeddingConfig, run: Path) -> Fitted:
    """Train on the interactions of ``log``, early stopping by Recall@20 on the newest part, which is held out.

    ``run`` receives TensorBoard scalars and a checkpoint per epoch; called again with the same arguments after an
    interruption, training goes on from there. Same seed, same log: same embeddings.
    Raises InputError when nobody met two different items.
    """
    active = log.interactions()
    examples, times = make_examples(active, config.history)
    if not len(examples):
        raise InputError(
            "no shopper in the older part of the log met two different items, so there is nothing to learn from: "
            f"check that {Event.USER} or {Event.VISITOR} names who it was and {Event.TIMESTAMP} has a time of day"
        )
    held_out = times > np.quantile(times, 1 - config.held_out)
    training = examples.take(torch.from_numpy(np.flatnonzero(~held_out)))
    validation = examples.take(torch.from_numpy(np.flatnonzero(held_out)))
    torch.manual_seed(config.seed)
    model = TowerModel(len(active.item_ids), config)
    return _fit(model, active, training, validation, run)


def refit_embeddings(log: EncodedLog, config: EmbeddingConfig, start: UserTower, run: Path) -> Fitted:
    """Go on from ``start`` on all of ``log``, for ``refit_epochs`` or fewer; nothing is held out."""
    active = log.interactions()
    examples, _ = make_examples(active, config.history)
    torch.manual_seed(config.seed)
    model = TowerModel(len(active.item_ids), replace(config, epochs=min(config.refit_epochs, config.epochs)))
    model.start_from(start)
    return _fit(model, active, examples, examples.take(torch.zeros(0, dtype=torch.int64)), run)


def make_examples(active: EncodedLog, history: int) -> tuple[Examples, Int64]:
    """Every interaction that has one before it, as a target, and the times of the targets.

    A target that repeats the item just before it is left out: a reload is no choice.
    """
    first = np.zeros(len(active), dtype=np.int64)
    new_shopper = np.flatnonzero(np.diff(active.shopper, prepend=-1))
    first[new_shopper] = new_shopper
    first = np.maximum.accumulate(first)
    position = np.arange(len(active))
    targets = np.flatnonzero((position > first) & (active.item != np.roll(active.item, 1)))
    back = targets[:, None] - 1 - np.arange(history)
    missing = back < first[targets, None]
    items = np.where(missing, len(active.item_ids), active.item[back])
    return (
        Examples(
            torch.from_numpy(items.astype(np.int64)),
            torch.from_numpy(np.where(missing, 0, active.type[back]).astype(np.int64)),
            torch.from_numpy(active.item[targets].astype(np.int64)),
        ),
        active.time[targets],
    )


def _fit(
    model: TowerModel, active: EncodedLog, examples: Examples, validation: Examples, run: Path
) -> Fitted:
    config = model.config
    torch.set_num_threads(config.threads)
    frequency = torch.from_numpy(np.bincount(active.item, minlength=len(active.item_ids)))
    validation = validation.take(torch.randperm(len(validation))[: config.validation_rows])
    state = TrainingState.start(model, steps=config.epochs * _steps(examples, config))
    checkpoint = run / "embeddings.pt"
    state.resume(checkpoint)
    with SummaryWriter(str(run)) as writer:
        while state.epoch < config.epochs and state.epoch - state.best_epoch < config.patience:
            loss = _train_epoch(state, examples, frequency)
            recall = _recall(state.model, validation, frequency > 0)
            writer.add_scalar("embeddings/loss", loss, state.epoch)
            writer.add_scalar("embeddings/recall_at_20", recall, state.epoch)
            state.finish_epoch(recall, held_out=bool(len(validation)))
            state.save(checkpoint)
    state.model.load_state_dict(state.best)
    checkpoint.unlink()
    return Fitted(state.model.tower(frequency > 0), state.best_epoch, state.best_recall)


def _per_epoch(examples: Examples, config: EmbeddingConfig) -> int:
    return min(len(examples), config.examples)


def _steps(examples: Examples, config: EmbeddingConfig) -> int:
    return math.ceil(_per_epoch(examples, config) / _batch_size(examples, config))


def _batch_size(examples: Examples, config: EmbeddingConfig) -> int:
    """About a thousand steps an epoch, within bounds: small shops gain much from small batches."""
    return min(max(_per_epoch(examples, config) // 1000, 128), 1024)


def _train_epoch(state: TrainingState, examples: Examples, frequency: Tensor) -> float:
    """One pass in random order, or the part that the configuration allows; the mean loss.

    The order depends on the seed and the epoch alone.
    """
    model, config = state.model.train(), state.model.config
    torch.manual_seed(config.seed + state.epoch)
    batch_size = _batch_size(examples, config)
    share = frequency / frequency.sum()
    absent = (1 - share).pow(batch_size * (1 + config.history)) * (
        1 - 1 / len(share)
    ) ** config.uniform_negatives
    log_inclusion = torch.log1p(-absent)
    total = 0.0
    batches = torch.split(torch.randperm(len(examples))[: _per_epoch(examples, config)], batch_size)
    for rows in tqdm(batches, desc=f"embeddings, epoch {state.epoch + 1}", unit="step", leave=False):
        batch = examples.take(rows)
        present = batch.items < len(share)
        own = torch.cat(
            [batch.target[:, None], torch.where(present, batch.items, batch.target[:, None])], dim=1
        )
        uniform = torch.randint(len(share), (config.uniform_negatives,))
        touched, slots = torch.unique(torch.cat([own.flatten(), uniform]), return_inverse=True)
        own_slots = slots[: own.numel()].view_as(own)
        vectors = model.vectors[touched].requires_grad_()
        query = model.query(vectors[own_slots[:, 1:]], batch.types, present)
        logits = query @ functional.normalize(vectors, dim=1).T / config.temperature
        correction = (-log_inclusion[touched]).expand_as(logits).scatter(1, own_slots, 0.0)
        loss = functional.cross_entropy(logits + correction, own_slots[:, 0])
        state.update(loss, touched, vectors)
        total += loss.item()
    return total / len(batches)


@torch.no_grad()
def _recall(model: TowerModel, examples: Examples, seen: Tensor, k: int = 20) -> float:
    """Recall@k over the full catalogue, the item just before the target left out."""
    if not len(examples):
        return float("nan")
    model.eval()
    padded = torch.cat([model.vectors, torch.zeros(1, model.config.dimensions)])
    vectors = functional.normalize(model.vectors, dim=1)
    k = min(k, len(seen))
    hits = 0
    for rows in torch.split(torch.arange(len(examples)), 512):
        batch = examples.take(rows)
        scores = model.query(padded[batch.items], batch.types, batch.items < len(seen)) @ vectors.T
        scores[:, ~seen] = -torch.inf
        scores.scatter_(1, batch.items[:, :1], -torch.inf)
        hits += int((scores.topk(k).indices == batch.target[:, None]).sum())
    return hits / len(examples)
