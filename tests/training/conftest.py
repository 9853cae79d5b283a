"""A small simulated shop, trained once, that many tests share."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feature_repo.archive import Archive
from feature_repo.catalog import upsert_items
from feature_repo.settings import Settings
from training.config import EmbeddingConfig, EncoderConfig, RankerConfig, TrainingConfig
from training.pipeline import train
from training.simulation.simulate import ShopSize, simulate
from training.training_run import Outcome

FAST = TrainingConfig(
    embeddings=EmbeddingConfig(dimensions=16, epochs=2, refit_epochs=1, uniform_negatives=128),
    encoder=EncoderConfig(dimensions=16, history=10, epochs=1, refit_epochs=1, uniform_negatives=128),
    ranker=RankerConfig(requests=600, negatives=30, trees=40, threads=1),
    test_requests=400,
)
"""Settings with which a training takes seconds."""
SIZE = ShopSize(users=300, items=150, events=12_000, days=30)


@dataclass(frozen=True)
class TrainedShop:
    """A home with one published model."""

    settings: Settings
    outcome: Outcome

    def copied_to(self, home: Path) -> Settings:
        """The same home in another folder, for a test that changes it."""
        shutil.copytree(self.settings.home, home)
        return Settings(home=home, redis_url=None)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the files of a simulated shop."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, SIZE, seed=1)
    return folder


@pytest.fixture(scope="session")
def trained(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedShop:
    """The simulated shop in an archive, with a model. Not to be changed."""
    settings = Settings(home=tmp_path_factory.mktemp("trained") / "home", redis_url=None)
    Archive(settings.archive_dir).append(pq.read_table(simulated / "events.parquet"))
    upsert_items(settings.catalog_dir, pq.read_table(simulated / "items.parquet"))
    return TrainedShop(settings, train(settings, FAST))
