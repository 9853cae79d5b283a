"""The session encoder (torch): four kinds of network from the items of a window to a vector of what comes next."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from feature_repo.schema import EventType
from training.config import EncoderConfig, EncoderKind
from training.sequence_model import SequenceModel
from training.sequences import Batch

HIDDEN_START: Final = 0.5
"""Weight of each input in the first guess of the last layer: their sum."""


class Attention(nn.Module):
    """Light attention: the newest item asks, all answer with their raw vectors, weighed by place, type and age.

    After NARM (Li et al., CIKM 2017), without its GRU, and without a layer on top: the answers of a few heads and
    the newest item are added up, so that the vector stays in the space of the items, which a small log can teach.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d, heads = config.dimensions, config.heads
        self.heads = heads
        self.ask = nn.Linear(d, heads * d, bias=False)
        nn.init.normal_(self.ask.weight, std=0.02)
        steepness = 0.3 * torch.logspace(0, 1 - heads, heads, base=3)
        self.place = nn.Parameter(-steepness[:, None] * torch.arange(config.history, dtype=torch.float32))
        self.event_type = nn.Parameter(torch.zeros(heads, len(EventType)))
        self.age = nn.Parameter(torch.zeros(heads))
        self.mix = nn.Parameter(torch.full((heads + 1,), 0.5))

    def forward(self, values: Tensor, types: Tensor, steps: Tensor, ages: Tensor, present: Tensor) -> Tensor:
        """Vectors [n, d] of windows."""
        n, length, d = values.shape
        # The gradient of a slice is as large as all of the values, so the question has none.
        asked = self.ask(values[:, 0].detach()).view(n, self.heads, d)
        bias = (self.place[:, steps] + self.event_type[:, types]).transpose(0, 1)
        weight = asked @ values.transpose(1, 2) + bias + self.age[:, None] * ages[:, None]
        weight = weight.masked_fill(~present[:, None], -1e9).softmax(dim=2) * self.mix[:-1, None]
        newest = (torch.arange(length, device=ages.device) == 0) * self.mix[-1]
        return ((weight.sum(dim=1) + newest)[:, None] @ values)[:, 0]


class Recurrent(nn.Module):
    """GRU4Rec (Hidasi et al., ICLR 2016): a GRU over the items, the oldest first, beside the newest item."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        # Without biases the state stays zero until the first event, however long the other windows of a batch are.
        self.gru = nn.GRU(config.dimensions, config.dimensions, bias=False, batch_first=True)
        self.event_type = nn.Embedding(len(EventType), config.dimensions)
        nn.init.zeros_(self.event_type.weight)
        self.out = _summing_layer(config.dimensions, 2)

    def forward(self, values: Tensor, types: Tensor, steps: Tensor, ages: Tensor, present: Tensor) -> Tensor:
        """Vectors [n, d] of windows; what is not present lies before the first event, as zeros."""
        inputs = (values + self.event_type(types)) * present[..., None]
        states, _ = self.gru(inputs.flip(1))
        return self.out(torch.cat([states[:, -1], values[:, 0]], dim=1))


class Convolutional(nn.Module):
    """Caser's idea (Tang & Wang, WSDM 2018) with filters over neighbouring items and a mean weighed by place."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d = config.dimensions
        self.filters = nn.Conv1d(d, d, kernel_size=3, padding=1)
        self.place = nn.Parameter(-0.3 * torch.arange(config.history, dtype=torch.float32))
        self.event_type = nn.Parameter(torch.zeros(len(EventType)))
        self.out = _summing_layer(d, 3)

    def forward(self, values: Tensor, types: Tensor, steps: Tensor, ages: Tensor, present: Tensor) -> Tensor:
        """Vectors [n, d] of windows."""
        values = values * present[..., None]
        found = functional.relu(self.filters(values.transpose(1, 2))).transpose(1, 2)
        weight = torch.exp(self.place[steps] + self.event_type[types]) * present
        weight = (weight / weight.sum(dim=1, keepdim=True))[:, None]
        means = torch.cat([weight @ found, weight @ values], dim=2)[:, 0]
        return self.out(torch.cat([means, values[:, 0]], dim=1))


class Perceptron(nn.Module):
    """A multi-layer perceptron over the weighted mean of the items and the newest one, after STAMP (KDD 2018)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        d = config.dimensions
        self.place = nn.Parameter(-0.3 * torch.arange(config.history, dtype=torch.float32))
        self.event_type = nn.Parameter(torch.zeros(len(EventType)))
        self.hidden = nn.Linear(2 * d, d)
        self.out = _summing_layer(d, 3)

    def forward(self, values: Tensor, types: Tensor, steps: Tensor, ages: Tensor, present: Tensor) -> Tensor:
        """Vectors [n, d] of windows."""
        weight = torch.exp(self.place[steps] + self.event_type[types]) * present
        mean = ((weight / weight.sum(dim=1, keepdim=True))[:, None] @ values)[:, 0]
        both = torch.cat([mean, values[:, 0]], dim=1)
        return self.out(torch.cat([functional.relu(self.hidden(both)), both], dim=1))


NETWORKS: Final[dict[EncoderKind, type[nn.Module]]] = {
    "attention": Attention,
    "gru": Recurrent,
    "cnn": Convolutional,
    "mlp": Perceptron,
}


class EncoderModel(SequenceModel):
    """Item vectors and a network of the kind that the configuration names."""

    config: EncoderConfig

    def __init__(self, items: int, config: EncoderConfig) -> None:
        super().__init__(items, config)
        self.network = NETWORKS[config.kind](config)

    def query(self, values: Tensor, batch: Batch) -> Tensor:
        """The network's answer, of length one."""
        answer = self.network(values, batch.types, batch.steps, batch.ages, batch.present)
        return functional.normalize(functional.dropout(answer, self.config.dropout, self.training), dim=1)


class WholeWindow(nn.Module):
    """A network as the server runs it: on windows without gaps, to unit vectors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, values: Tensor, types: Tensor, steps: Tensor, ages: Tensor) -> Tensor:
        """Unit vectors [n, d] of windows of one length."""
        present = torch.ones_like(types, dtype=torch.bool)
        return functional.normalize(self.network(values, types, steps, ages, present), dim=1)


def _summing_layer(dimensions: int, inputs: int) -> nn.Linear:
    """A layer over ``inputs`` vectors side by side that begins as about their sum, so that learning starts well."""
    layer = nn.Linear(inputs * dimensions, dimensions, bias=False)
    with torch.no_grad():
        layer.weight.mul_(0.1).add_(HIDDEN_START * torch.eye(dimensions).repeat(1, inputs))
    return layer
