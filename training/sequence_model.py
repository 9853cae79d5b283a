"""What the embeddings and the session encoder have in common: a table of item vectors and a query over a window.

logit(i) = normalise(query(window)) . normalise(e_i) / temperature
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from feature_repo.arrays import Float32
from training.config import SequenceConfig
from training.sequences import Batch


class SequenceModel(nn.Module):
    """Item vectors float32[items, d], a buffer that RowAdam updates, and a network over those of a window."""

    def __init__(self, items: int, config: SequenceConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("vectors", torch.randn(items, config.dimensions) * config.dimensions**-0.5)
        self.vectors: Tensor

    @abstractmethod
    def query(self, values: Tensor, batch: Batch) -> Tensor:
        """Unit vectors [n, d] of windows whose raw item vectors are ``values`` [n, L, d]."""

    @torch.no_grad()
    def start_from(self, embeddings: Float32, item_weight: Float32) -> None:
        """Take over the vectors of an earlier model, unit vectors and lengths; unknown items keep their start.

        Where the earlier ones have fewer dimensions, the others keep their random start, too.
        """
        learned = torch.from_numpy(embeddings * item_weight[:, None])[:, : self.vectors.shape[1]]
        known = torch.from_numpy(item_weight > 0)
        self.vectors[known, : learned.shape[1]] = learned[known]


@dataclass
class RowAdam:
    """Adam on the rows of a table that a step touches, with one second moment per row.

    Updating all rows each step, as dense optimizers do, would cost more than the model itself.
    mean float32[rows, d]; square float32[rows].
    """

    mean: Tensor
    square: Tensor
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    steps: int = 0

    @torch.no_grad()
    def update(self, table: Tensor, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Move ``table[rows]`` against ``gradient`` [len(rows), d]; ``rate`` scales the learning rate."""
        self.steps += 1
        beta_mean, beta_square = self.betas
        mean = self.mean[rows].lerp_(gradient, 1 - beta_mean)
        square = self.square[rows].lerp_(gradient.square().mean(dim=1), 1 - beta_square)
        self.mean[rows], self.square[rows] = mean, square
        scale = (
            self.learning_rate * rate * math.sqrt(1 - beta_square**self.steps) / (1 - beta_mean**self.steps)
        )
        table[rows] -= scale * mean / (square.sqrt()[:, None] + self.epsilon)


@dataclass
class TrainingState:
    """What a training must remember to go on after an interruption."""

    model: SequenceModel
    rows: RowAdam
    weights: torch.optim.AdamW
    steps: int
    best: dict[str, Tensor]
    step: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_recall: float = float("-inf")

    @classmethod
    def start(cls, model: SequenceModel, steps: int) -> "TrainingState":
        """A fresh training of ``steps`` optimizer steps: a tenth of warm-up, then cosine."""
        config = model.config
        return cls(
            model,
            RowAdam(
                torch.zeros_like(model.vectors),
                torch.zeros_like(model.vectors[:, 0]),
                config.embedding_learning_rate,
            ),
            torch.optim.AdamW(model.parameters(), lr=config.learning_rate),
            steps,
            best={name: tensor.clone() for name, tensor in model.state_dict().items()},
        )

    def update(self, loss: Tensor, rows: Tensor, vectors: Tensor) -> None:
        """One optimizer step on ``vectors``, the rows of the item vectors that the loss depends on."""
        warm_up = max(self.steps // 10, 1)
        progress = (self.step - warm_up) / max(self.steps - warm_up, 1)
        self.step += 1
        rate = min(self.step / warm_up, 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))))
        for group in self.weights.param_groups:
            group["lr"] = rate * self.model.config.learning_rate
        self.weights.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.weights.step()
        if vectors.grad is None:
            raise AssertionError("the loss must depend on the item vectors")
        self.rows.update(self.model.vectors, rows, vectors.grad, rate)

    def finish_epoch(self, recall: float, *, held_out: bool) -> None:
        """Count an epoch; with nothing held out, the newest is the best."""
        self.epoch += 1
        if not held_out or recall > self.best_recall:
            self.best_epoch, self.best_recall = self.epoch, recall
            self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write the state so that a crash leaves the old file or the new one."""
        temporary = path.with_suffix(".tmp")
        torch.save(
            {
                "model": self.model.state_dict(),
                "weights": self.weights.state_dict(),
                "rows": (self.rows.mean, self.rows.square, self.rows.steps),
                "best": self.best,
                "progress": (self.step, self.epoch, self.best_epoch, self.best_recall),
            },
            temporary,
        )
        temporary.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from what ``save`` wrote, if it is there."""
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.weights.load_state_dict(saved["weights"])
        self.rows.mean, self.rows.square, self.rows.steps = saved["rows"]
        self.best = saved["best"]
        self.step, self.epoch, self.best_epoch, self.best_recall = saved["progress"]
