"""Online equals offline: the features a request was answered with are those that a replay of the log computes."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from redis import Redis

from feature_repo.archive import Archive
from feature_repo.arrays import Float32
from feature_repo.encoded_log import encode_log
from feature_repo.ranking_features import ShopperState
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import Event, shopper_key
from feature_repo.session_features import Window
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.live_version import read_live_bundle
from serving.query import Query
from serving.recommender import Recommender
from serving.served.served_log import Served
from tests.serving.conftest import running_api
from training.config import EmbeddingConfig, EncoderConfig, TrainingConfig
from training.imports.import_log import import_log
from training.ingest import drain
from training.pipeline import train
from training.simulation.simulate import ShopSize, simulate

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.anyio]

REQUESTS = 1000
SHOPPERS = 60
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def shop(settings: Settings) -> Settings:
    """The settings of a trained shop, whose every candidate is logged."""
    folder = settings.home / "simulated"
    simulate(folder, ShopSize(users=600, items=400, events=15_000, days=30), seed=3)
    import_log(
        settings,
        folder / "events.parquet",
        items=folder / "items.parquet",
        users=None,
        field_map=None,
        shift_to_now=True,
    )
    train(
        settings,
        TrainingConfig(
            embeddings=EmbeddingConfig(epochs=1),
            encoder=EncoderConfig(dimensions=32, epochs=1, refit_epochs=1),
        ),
    )
    return settings.model_copy(update={"served_log_full_share": 1.0})


async def test_features_of_1000_logged_requests_equal_those_replayed_from_the_archive(
    shop: Settings, clean_redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    bundle = read_live_bundle(shop.models_dir)
    users = [key.partition(":")[2] for key in bundle.shopper_keys if key.startswith("u:")][:30]
    live = RedisEventLog.connect(redis_url, shop)
    async with running_api(shop, live) as api:
        dice = random.Random(5)
        for n in range(REQUESTS):
            shopper = {"visitor_id": f"parity-{dice.randrange(SHOPPERS)}"}
            if dice.random() < 0.3:
                shopper = {"user_id": dice.choice(users)}
            for _ in range(dice.randrange(4)):
                kind = dice.choice(["view", "click", "add_to_cart", "purchase"])
                item = dice.choice([*bundle.item_ids, f"unknown-{n}"])
                await api.send({Event.TYPE: kind, Event.ITEM: item, **shopper})
            await api.recommend(k=10, **shopper)
        archive = Archive(tmp_path / "drained")
        await drain(live, archive, shop)
    replayed = Replayer(bundle, archive, shop)
    requests = pq.read_table(shop.served_dir / "requests").to_pylist()
    assert len(requests) == REQUESTS
    served = pq.read_table(shop.served_dir / "items").to_pandas()
    for request in requests:
        logged = served[(served[Served.REQUEST] == request[Served.REQUEST]) & served[Served.FEATURES].notna()]
        items, features = replayed.features(request)
        order = np.argsort(logged[Served.ITEM].to_numpy())
        assert logged[Served.ITEM].to_numpy()[order].tolist() == items
        np.testing.assert_allclose(np.stack(logged[Served.FEATURES].to_numpy()[order]), features, rtol=1e-6)


class Replayer:
    """Computes the features of a request from the archive alone, with the functions that training uses."""

    def __init__(self, bundle: Bundle, archive: Archive, settings: Settings) -> None:
        self.recommender = Recommender(bundle, settings.candidates)
        self.log = encode_log(archive.read(), bundle.item_ids)
        self.offsets = self.log.offsets()
        self.window_size = settings.window_size

    def features(self, request: dict[str, Any]) -> tuple[list[str], Float32]:
        """Candidates, sorted by id, and their features as float32[n, len(RANKING_COLUMNS)]."""
        bundle = self.recommender.bundle
        key = shopper_key(request[Served.USER], request[Served.VISITOR])
        as_of = (request[Served.AS_OF] - EPOCH) // timedelta(microseconds=1)
        window = self.window(key, as_of)
        state = ShopperState(window, bundle.user_row(key, window), as_of)
        query = Query(shopper=state, k=1, excluded=window.newest_item())
        interest = self.recommender.encode(query)
        candidates = self.recommender.filter(self.recommender.retrieve(query, interest), query)
        order = np.argsort(bundle.item_ids[candidates.items])
        items = bundle.item_ids[candidates.items][order].tolist()
        return items, self.recommender.features(candidates, query, interest)[order]

    def window(self, key: str, as_of: int) -> Window:
        """The shopper's newest events before ``as_of``."""
        shopper = int(np.searchsorted(self.log.shopper_keys, key))
        if shopper == len(self.log.shopper_keys) or self.log.shopper_keys[shopper] != key:
            return self.log.window(0, 0)
        start, stop = self.offsets[shopper], self.offsets[shopper + 1]
        stop = start + np.searchsorted(self.log.time[start:stop], as_of)
        return self.log.window(max(start, stop - self.window_size), stop)
