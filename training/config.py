"""How a training run learns and evaluates. Nothing heavy is imported, so that forms and commands may show it."""

from dataclasses import dataclass, field
from typing import Final

from feature_repo.settings import Settings

TRAINING_POOL: Final = "training"
"""Airflow pool of one slot: what uses all cores runs one after another, whichever DAG it belongs to."""


def _default(setting: str) -> int:
    return int(Settings.model_fields[setting].default)


@dataclass(frozen=True)
class EmbeddingConfig:
    """How the embeddings are trained; early stopping may take fewer than ``epochs``."""

    dimensions: int = 64
    history: int = 20
    epochs: int = _default("training_epochs")
    examples: int = _default("training_examples")  # an epoch learns from at most so many
    refit_epochs: int = 2
    patience: int = 1
    uniform_negatives: int = 1024
    temperature: float = 0.07
    dropout: float = 0.3
    embedding_learning_rate: float = 8e-3
    learning_rate: float = 2e-3
    held_out: float = 0.05
    validation_rows: int = 5000
    seed: int = 20
    threads: int = 1


@dataclass(frozen=True)
class RankerConfig:
    """How the ranker is trained."""

    requests: int = _default("training_requests")
    negatives: int = 100
    lost_windows: float = 0.1  # share of requests without a window, so that strangers are ranked well, too
    trees: int = 300
    patience: int = 20
    leaves: int = 15
    learning_rate: float = 0.08
    truncation: int = 30
    held_out: float = 0.15
    seed: int = 20
    threads: int = 2


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of a whole run. Shares are of the interactions, the newest first."""

    embeddings: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    ranker_share: float = 0.1  # what comes just before the test part
    test_share: float = 0.1
    test_requests: int = 10_000


def configured(settings: Settings, epochs: int | None = None) -> TrainingConfig:
    """The configuration that the settings ask for, with other ``epochs`` where a run says so."""
    return TrainingConfig(
        embeddings=EmbeddingConfig(
            epochs=epochs or settings.training_epochs, examples=settings.training_examples
        ),
        ranker=RankerConfig(requests=settings.training_requests),
        test_requests=settings.training_requests // 2,
    )
