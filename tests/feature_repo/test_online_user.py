import numpy as np
import pytest
from feast import FeatureStore
from redis import Redis

from feature_repo.batch_features import USER_STATISTICS
from feature_repo.feature_store import materialize, open_store
from feature_repo.offline_store import (
    SHOPPER_KEY,
    USER_EMBEDDING,
    USER_EMBEDDING_VERSION,
    View,
    write_snapshot,
)
from feature_repo.online_user import USER_FIELDS, OnlineUser, decode_user, user_key
from feature_repo.schema import MAX_ID_LENGTH, MINUTE
from feature_repo.settings import Settings
from tests.feature_repo.feature_rows import NOON, user_embeddings, user_statistics

pytestmark = pytest.mark.integration

SHOPPERS = ["u:1", "v:zoë 買い物客", "u:" + "x" * MAX_ID_LENGTH, "u:a:b,c=d freshet", "v:👜"]
FEATURES = [
    *(f"{View.USER_STATISTICS}:{name}" for name in USER_STATISTICS),
    f"{View.USER_EMBEDDING}:{USER_EMBEDDING}",
    f"{View.USER_EMBEDDING}:{USER_EMBEDDING_VERSION}",
]


@pytest.fixture
def store(settings: Settings, redis_url: str, clean_redis: Redis) -> FeatureStore:
    return open_store(settings, redis_url)


def read(redis: Redis, shopper: str) -> OnlineUser | None:
    return decode_user(redis.hmget(user_key(shopper), USER_FIELDS))  # type: ignore[arg-type]


def test_a_user_reads_as_feast_itself_reads_it(
    store: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    random = np.random.default_rng(1)
    statistics = random.normal(size=(len(SHOPPERS), len(USER_STATISTICS))).astype(np.float32)
    statistics[1, 3] = np.nan
    statistics[2] = 0
    statistics[3] = np.nan
    statistics[4] = [1e38, -1e-38, 1e-45, -0.0, 1, 2, 3, 4]
    vectors = {shopper: list(random.normal(size=64)) for shopper in SHOPPERS}
    write_snapshot(settings.features_dir, View.USER_STATISTICS, user_statistics(SHOPPERS, statistics), NOON)
    write_snapshot(settings.features_dir, View.USER_EMBEDDING, user_embeddings(vectors, "v-ü"), NOON)
    materialize(store, NOON, NOON, [View.USER_STATISTICS, View.USER_EMBEDDING])

    said = store.get_online_features(
        features=FEATURES, entity_rows=[{SHOPPER_KEY: shopper} for shopper in SHOPPERS]
    ).to_dict()
    for row, shopper in enumerate(SHOPPERS):
        user = read(clean_redis, shopper)
        assert user is not None
        assert user.statistics is not None
        assert user.embedding is not None
        feast_says = np.array([said[name][row] for name in USER_STATISTICS], dtype=np.float32)
        np.testing.assert_array_equal(user.statistics, feast_says)
        np.testing.assert_array_equal(user.statistics, statistics[row])
        np.testing.assert_array_equal(user.embedding, np.array(said[USER_EMBEDDING][row], np.float32))
        assert user.statistics.dtype == user.embedding.dtype == np.float32
        assert user.model_version == said[USER_EMBEDDING_VERSION][row] == "v-ü"
        assert user.computed_at == NOON


def test_a_shopper_nothing_was_materialized_of_is_nobody(store: FeatureStore, clean_redis: Redis) -> None:
    assert read(clean_redis, "u:nobody") is None
    said = store.get_online_features(features=FEATURES, entity_rows=[{SHOPPER_KEY: "u:nobody"}]).to_dict()
    assert {said[name.partition(":")[2]][0] for name in FEATURES} == {None}


def test_what_was_not_materialized_is_none_and_the_rest_is_there(
    store: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    ones = np.ones((1, len(USER_STATISTICS)), np.float32)
    write_snapshot(settings.features_dir, View.USER_STATISTICS, user_statistics(["u:ann"], ones), NOON)
    vectors = user_embeddings({"u:bob": [0.5, -0.5], "u:eve": None}, "v1")
    write_snapshot(settings.features_dir, View.USER_EMBEDDING, vectors, NOON)
    materialize(store, NOON, NOON, [View.USER_STATISTICS, View.USER_EMBEDDING])
    ann, bob, eve = (read(clean_redis, shopper) for shopper in ("u:ann", "u:bob", "u:eve"))
    assert ann is not None
    assert ann.statistics is not None
    assert (ann.statistics.tolist(), ann.embedding, ann.model_version) == ([1] * 8, None, None)
    assert bob is not None
    assert bob.embedding is not None
    assert (bob.statistics, bob.embedding.tolist(), bob.model_version) == (None, [0.5, -0.5], "v1")
    assert eve == OnlineUser(None, None, "v1", NOON)


def test_a_user_is_as_old_as_its_oldest_part(
    store: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    ones = np.ones((1, len(USER_STATISTICS)), np.float32)
    earlier = NOON - 5 * MINUTE
    write_snapshot(settings.features_dir, View.USER_STATISTICS, user_statistics(["u:ann"], ones), NOON)
    write_snapshot(settings.features_dir, View.USER_EMBEDDING, user_embeddings({"u:ann": [1]}, "v1"), earlier)
    materialize(store, earlier, NOON, [View.USER_STATISTICS, View.USER_EMBEDDING])
    ann = read(clean_redis, "u:ann")
    assert ann is not None
    assert ann.computed_at == earlier


def test_a_moment_on_the_full_second_reads_back(
    store: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    full = NOON // 1_000_000 * 1_000_000
    write_snapshot(settings.features_dir, View.USER_EMBEDDING, user_embeddings({"u:ann": [1]}, "v1"), full)
    materialize(store, full, full, [View.USER_EMBEDDING])
    ann = read(clean_redis, "u:ann")
    assert ann is not None
    assert ann.computed_at == full
