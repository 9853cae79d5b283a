"""The two-tower model behind the collaborative-filtering embeddings (torch).

The item tower is an embedding table; the user tower is the weighted mean of a shopper's items that
``feature_repo.user_tower`` applies in numpy. For a shopper whose newest interactions are i_1 (latest), i_2, ...

    query = sum_j exp(recency_j + type_j) e_{i_j}
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from feature_repo.schema import EventType
from feature_repo.user_tower import UserTower
from training.config import EmbeddingConfig
from training.sequence_model import SequenceModel
from training.sequences import Batch


class TowerModel(SequenceModel):
    """Item embeddings and the log-weights by which a shopper's events add up."""

    def __init__(self, items: int, config: EmbeddingConfig) -> None:
        super().__init__(items, config)
        self.recency = nn.Parameter(-0.3 * torch.arange(config.history, dtype=torch.float32))
        self.event_type = nn.Parameter(torch.zeros(len(EventType)))

    def start_from_tower(self, tower: UserTower) -> None:
        """Take over what an earlier training learned; items it had not seen keep their random start."""
        self.start_from(tower.embeddings, tower.item_weight)
        with torch.no_grad():
            self.recency.copy_(torch.tensor(tower.recency))
            self.event_type.copy_(torch.tensor(tower.event_type))

    def query(self, values: Tensor, batch: Batch) -> Tensor:
        """The weighted mean of each window."""
        recency = self.recency[: values.shape[1]]
        weight = torch.exp(recency + self.event_type[batch.types]) * batch.present
        mean = torch.bmm(weight[:, None], values)[:, 0]
        return functional.normalize(functional.dropout(mean, self.config.dropout, self.training), dim=1)

    @torch.no_grad()
    def tower(self, seen: Tensor) -> UserTower:
        """The numpy form, with zero vectors where ``seen`` (bool[items]) is False."""
        raw = (self.vectors * seen[:, None]).cpu()
        return UserTower(
            embeddings=functional.normalize(raw, dim=1).numpy(),
            item_weight=raw.norm(dim=1).numpy(),
            recency=self.recency.detach().cpu().numpy().copy(),
            event_type=self.event_type.detach().cpu().numpy().copy(),
        )
