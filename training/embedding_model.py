"""The two-tower model behind the collaborative-filtering embeddings, and the state of its training (torch).

The item tower is an embedding table; the user tower is the weighted mean of a shopper's items that
``feature_repo.user_tower`` applies in numpy. For a shopper whose newest interactions are i_1 (latest), i_2, ...

    q = normalise(sum_j exp(recency_j + type_j) e_{i_j}),      logit(i) = q . normalise(e_i) / temperature
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from feature_repo.schema import EventType
from feature_repo.user_tower import UserTower
from training.config import EmbeddingConfig


class TowerModel(nn.Module):
    """Item embeddings and the log-weights by which a shopper's events add up."""

    def __init__(self, items: int, config: EmbeddingConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("vectors", torch.randn(items, config.dimensions) * config.dimensions**-0.5)
        self.vectors: Tensor
        self.recency = nn.Parameter(-0.3 * torch.arange(config.history, dtype=torch.float32))
        self.event_type = nn.Parameter(torch.zeros(len(EventType)))

    def start_from(self, tower: UserTower) -> None:
        """Take over what an earlier training learned; items it had not seen keep their random start."""
        learned = torch.from_numpy(tower.embeddings * tower.item_weight[:, None])
        with torch.no_grad():
            self.vectors = torch.where(
                torch.from_numpy(tower.item_weight > 0)[:, None], learned, self.vectors
            )
            self.recency.copy_(torch.tensor(tower.recency))
            self.event_type.copy_(torch.tensor(tower.event_type))

    def query(self, values: Tensor, types: Tensor, present: Tensor) -> Tensor:
        """Unit vectors [n, d] of windows whose raw item vectors are ``values`` [n, history, d]."""
        weight = torch.exp(self.recency + self.event_type[types]) * present
        mean = torch.bmm(weight[:, None], values)[:, 0]
        return functional.normalize(functional.dropout(mean, self.config.dropout, self.training), dim=1)

    def tower(self, seen: Tensor) -> UserTower:
        """The numpy form, with zero vectors where ``seen`` (bool[items]) is False."""
        raw = self.vectors * seen[:, None]
        return UserTower(
            embeddings=functional.normalize(raw, dim=1).numpy(),
            item_weight=raw.norm(dim=1).numpy(),
            recency=self.recency.detach().numpy().copy(),
            event_type=self.event_type.detach().numpy().copy(),
        )


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

    model: TowerModel
    rows: "RowAdam"
    weights: torch.optim.Adam
    steps: int
    best: dict[str, Tensor]
    step: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_recall: float = float("-inf")

    @classmethod
    def start(cls, model: TowerModel, steps: int) -> "TrainingState":
        """A fresh training of ``steps`` optimizer steps: a tenth of warm-up, then cosine."""
        config = model.config
        return cls(
            model,
            RowAdam(
                torch.zeros_like(model.vectors),
                torch.zeros(len(model.vectors)),
                config.embedding_learning_rate,
            ),
            torch.optim.Adam(model.parameters(), lr=config.learning_rate),
            steps,
            best={name: tensor.clone() for name, tensor in model.state_dict().items()},
        )

    def update(self, loss: Tensor, rows: Tensor, vectors: Tensor) -> None:
        """One optimizer step on ``vectors``, the rows of the item embeddings that the loss depends on."""
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
