"""Training of a sequence model with sampled softmax on the next item.

The loss is the softmax of the next item among all items of the batch and uniform negatives. Negatives are
corrected by the logarithm of their inclusion probability (Bengio & Senecal, 2008), items of the row's own window
are not: correcting those would teach the model that nobody comes back to an item.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.config import SequenceConfig
from training.evaluation.metrics import CUTOFF
from training.sequence_model import SequenceModel, TrainingState
from training.sequences import Sequences

_VALIDATION_BATCH = 512


@dataclass(frozen=True)
class Learned:
    """The epochs that were kept, and Recall@20 on what was held out (NaN where nothing was)."""

    epochs: int
    recall: float


def hold_out(sequences: Sequences, share: float) -> tuple[Sequences, Sequences]:
    """All but the newest ``share`` of the targets, and those."""
    newest = sequences.times > np.quantile(sequences.times, 1 - share)
    return sequences.take(np.flatnonzero(~newest)), sequences.take(np.flatnonzero(newest))


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def learn(model: SequenceModel, training: Sequences, validation: Sequences, run: Path, name: str) -> Learned:
    """Train ``model`` in place, early stopping by Recall@20 on ``validation``; its weights are then the best found.

    ``run`` receives TensorBoard scalars and a checkpoint per epoch; called again with the same arguments after an
    interruption, training goes on from there. Same seed, same log: same weights.
    """
    config = model.config
    torch.set_num_threads(config.threads)
    log = training.log
    frequency = torch.from_numpy(np.bincount(log.item, minlength=len(log.item_ids))).to(device())
    drawn = np.random.default_rng(config.seed).permutation(len(validation))[: config.validation_rows]
    validation = validation.take(drawn)
    state = TrainingState.start(model.to(device()), steps=config.epochs * _steps(training, config))
    checkpoint = run / f"{name}.pt"
    state.resume(checkpoint)
    with SummaryWriter(str(run)) as writer:
        while state.epoch < config.epochs and state.epoch - state.best_epoch < config.patience:
            loss = _train_epoch(state, training, frequency, name)
            recall = _recall(model, validation, frequency > 0)
            writer.add_scalar(f"{name}/loss", loss, state.epoch)
            writer.add_scalar(f"{name}/recall_at_20", recall, state.epoch)
            state.finish_epoch(recall, held_out=bool(len(validation)))
            state.save(checkpoint)
    model.load_state_dict(state.best)
    checkpoint.unlink()
    return Learned(state.best_epoch, state.best_recall)


def _per_epoch(sequences: Sequences, config: SequenceConfig) -> int:
    return min(len(sequences), config.examples)


def _steps(sequences: Sequences, config: SequenceConfig) -> int:
    return math.ceil(_per_epoch(sequences, config) / _batch_size(sequences, config))


def _batch_size(sequences: Sequences, config: SequenceConfig) -> int:
    """About a thousand steps an epoch, within bounds: small shops gain much from small batches."""
    return min(max(_per_epoch(sequences, config) // 1000, 128), 1024)


def _train_epoch(state: TrainingState, training: Sequences, frequency: Tensor, name: str) -> float:
    """One pass in random order, or the part that the configuration allows; the mean loss.

    The order depends on the seed and the epoch alone.
    """
    model, config = state.model.train(), state.model.config
    torch.manual_seed(config.seed + state.epoch)
    order = np.random.default_rng([config.seed, state.epoch]).permutation(len(training))
    order = order[: _per_epoch(training, config)]
    batch_size = _batch_size(training, config)
    log_inclusion = _log_inclusion(training, batch_size, frequency, config)
    items = len(frequency)
    total = 0.0
    starts = range(0, len(order), batch_size)
    for start in tqdm(starts, desc=f"{name}, epoch {state.epoch + 1}", unit="step", leave=False):
        batch = training.batch(order[start : start + batch_size], config.history).to(frequency.device)
        target = batch.target[:, None]
        own = torch.cat([target, torch.where(batch.present, batch.items, batch.items[:, :1])], dim=1)
        uniform = torch.randint(items, (config.uniform_negatives,)).to(frequency.device)
        touched, slots = torch.unique(torch.cat([own.flatten(), uniform]), return_inverse=True)
        own_slots = slots[: own.numel()].view_as(own)
        vectors = model.vectors[touched].requires_grad_()
        # The gradient of an embedding lookup adds up rows much faster than that of an index does.
        values = functional.embedding(own_slots[:, 1:], vectors)
        logits = model.query(values, batch) @ functional.normalize(vectors, dim=1).T / config.temperature
        correction = (-log_inclusion[touched]).expand_as(logits).scatter(1, own_slots, 0.0)
        loss = functional.cross_entropy(logits + correction, own_slots[:, 0])
        state.update(loss, touched, vectors)
        total += loss.item()
    return total / len(starts)


def _log_inclusion(training: Sequences, batch_size: int, frequency: Tensor, config: SequenceConfig) -> Tensor:
    """float32[items]: log-probability of each item to be among those of a batch."""
    share = frequency / frequency.sum()
    length = np.minimum(training.targets - training.first[training.targets], config.history).mean()
    absent = (1 - share).pow(batch_size * (1 + length)) * (1 - 1 / len(share)) ** config.uniform_negatives
    return torch.log1p(-absent)


@torch.no_grad()
def _recall(model: SequenceModel, held_out: Sequences, seen: Tensor) -> float:
    """Recall@20 over the full catalogue, the item just before the target left out."""
    if not len(held_out):
        return float("nan")
    model.eval()
    padded = torch.cat([model.vectors, torch.zeros_like(model.vectors[:1])])
    vectors = functional.normalize(model.vectors, dim=1)
    k = min(CUTOFF, len(seen))
    hits = 0
    for rows in np.array_split(np.arange(len(held_out)), math.ceil(len(held_out) / _VALIDATION_BATCH)):
        batch = held_out.batch(rows, model.config.history).to(seen.device)
        scores = model.query(padded[batch.items], batch) @ vectors.T
        scores[:, ~seen] = -torch.inf
        scores.scatter_(1, batch.items[:, :1], -torch.inf)
        hits += int((scores.topk(k).indices == batch.target[:, None]).sum())
    return hits / len(held_out)
