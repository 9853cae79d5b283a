"""How a training run learns and evaluates. Nothing heavy is imported, so that forms and commands may show it."""

from dataclasses import dataclass, field
from typing import Final, Literal

from feature_repo.settings import Settings

TRAINING_POOL: Final = "training"
"""Airflow pool of one slot: what uses all cores runs one after another, whichever DAG it belongs to."""


def _default(setting: str) -> int:
    return int(Settings.model_fields[setting].default)


@dataclass(frozen=True)
class SequenceConfig:
    """How a sequence model is trained; early stopping may take fewer than ``epochs``."""

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
class EmbeddingConfig(SequenceConfig):
    """How the collaborative-filtering embeddings are trained."""


EncoderKind = Literal["attention", "gru", "cnn", "mlp"]


@dataclass(frozen=True)
class EncoderConfig(SequenceConfig):
    """How the session encoder is trained."""

    kind: EncoderKind = "attention"
    heads: int = 2
    dimensions: int = 128
    history: int = 30
    patience: int = 100  # its best epochs come at the end, when the learning rate has fallen


@dataclass(frozen=True)
class RankerConfig:
    """How the ranker is trained."""

    requests: int = _default("training_requests")
    negatives: int = 150
    lost_windows: float = 0.1  # share of requests without a window, so that strangers are ranked well, too
    lost_activity: float = 0.1  # share of requests that know nothing of the items' activity
    trees: int = 200
    requests_per_tree: int = 8  # a tree more for so many requests
    leaves: int = 15
    learning_rate: float = 0.05
    feature_share: float = 0.4
    least_rows: int = 100  # of a leaf
    truncation: int = 60
    trials: int = 0  # of a search for better numbers than these
    seed: int = 20
    threads: int = 2


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of a whole run. Shares are of the interactions, the newest first."""

    embeddings: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    ranker_share: float = 0.1  # what comes just before the test part
    test_share: float = 0.1
    test_requests: int = 10_000
    calibration_requests: int = 5_000


def configured(
    settings: Settings, epochs: int | None = None, encoder: EncoderKind = "attention", trials: int = 0
) -> TrainingConfig:
    """The configuration that the settings ask for, with other ``epochs`` where a run says so.

    encoder: kind of the session encoder; trials: of a search for the ranker's hyperparameters, 0 for none.
    """
    epochs = epochs or settings.training_epochs
    examples, requests = settings.training_examples, settings.training_requests
    return TrainingConfig(
        embeddings=EmbeddingConfig(epochs=epochs, examples=examples),
        encoder=EncoderConfig(epochs=epochs, examples=examples, kind=encoder),
        ranker=RankerConfig(requests=requests, trials=trials),
        test_requests=requests // 2,
        calibration_requests=requests // 4,
    )
