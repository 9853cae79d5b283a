"""How a training run learns and evaluates."""

from dataclasses import dataclass, field

from training.embedding_model import EmbeddingConfig
from training.ranker import RankerConfig


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of a whole run. Shares are of the interactions, the newest first."""

    embeddings: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    ranker_share: float = 0.1  # what comes just before the test part
    test_share: float = 0.1
    test_requests: int = 10_000


def with_epochs(epochs: int) -> TrainingConfig:
    """The default configuration with so many epochs of the embeddings at most."""
    return TrainingConfig(embeddings=EmbeddingConfig(epochs=epochs))
