import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore
from feast.feature_view import FeatureViewState
from feast.infra.online_stores.redis import RedisOnlineStore
from redis import Redis

from feature_repo.arrays import Int64
from feature_repo.batch_features import USER_STATISTICS
from feature_repo.errors import InputError
from feature_repo.event_log import window_event
from feature_repo.feature_store import historical_features, materialize, open_store, push_item_windows
from feature_repo.feature_views import SESSION_VIEW, define
from feature_repo.offline_store import (
    EVENT_TIMESTAMP,
    ITEM_KEY,
    ITEM_WINDOWS,
    SHOPPER_KEY,
    View,
    write_snapshot,
)
from feature_repo.online_store import OnlineStoreUnavailableError, connection_string
from feature_repo.online_user import USER_FIELDS, decode_user, user_key
from feature_repo.schema import HOUR, MINUTE, SECOND
from feature_repo.session_features import SESSION_FEATURES, encode_window, session_features
from feature_repo.settings import Settings
from tests.feature_repo.feature_rows import NOON, same_everywhere, user_statistics
from tests.feature_repo.log_events import event

NOWHERE = "redis://127.0.0.1:1"
"""No Redis answers here: what only reads the past needs none."""


@pytest.fixture
def offline(settings: Settings) -> FeatureStore:
    return open_store(settings, NOWHERE)


@pytest.fixture
def online(settings: Settings, redis_url: str, clean_redis: Redis) -> FeatureStore:
    return open_store(settings, redis_url)


def moments(times: Int64) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(times, unit="us", utc=True))


def first_statistic(redis: Redis, shopper: str) -> float | None:
    user = decode_user(redis.hmget(user_key(shopper), USER_FIELDS))  # type: ignore[arg-type]
    return None if user is None or user.statistics is None else float(user.statistics[0])


def counts(store: FeatureStore, item: str) -> list[int | None]:
    said = store.get_online_features(
        features=[f"{View.ITEM_WINDOWS}:{name}" for name in ITEM_WINDOWS], entity_rows=[{ITEM_KEY: item}]
    ).to_dict()
    return [said[name][0] for name in ITEM_WINDOWS]


def test_a_training_set_is_what_a_join_by_hand_finds(offline: FeatureStore, settings: Settings) -> None:
    """10,000 rows, among them 2,000 of one shopper at one instant; every row keeps its place and its index."""
    random = np.random.default_rng(3)
    written = [NOON + day * 7 * HOUR for day in range(6)]
    known: dict[int, dict[str, list[float]]] = {}
    for as_of in written:
        shoppers = [f"u:{n}" for n in range(300) if random.random() < 0.6]
        values = random.normal(size=(len(shoppers), len(USER_STATISTICS))).astype(np.float32)
        values[random.random(values.shape) < 0.1] = np.nan
        known[as_of] = dict(zip(shoppers, values.tolist(), strict=True))
        rows = user_statistics(shoppers, values)
        write_snapshot(settings.features_dir, View.USER_STATISTICS, rows, as_of)
    asked = random.integers(0, 320, 10_000)
    times = random.integers(written[0] - HOUR, written[-1] + HOUR, 10_000)
    times[:500] = random.choice(written, 500)
    times[500:1000] = random.choice(written, 500) - 1
    same = random.permutation(10_000)[:2000]
    asked[same], times[same] = 7, written[3] + MINUTE
    entities = pd.DataFrame(
        {
            "label": random.random(10_000),
            SHOPPER_KEY: [f"u:{n}" for n in asked],
            EVENT_TIMESTAMP: moments(times),
        },
        index=random.permutation(10_000),
    )

    def by_hand(shopper: str, time: int) -> list[float]:
        for as_of in reversed(written):
            if as_of <= time and shopper in known[as_of]:
                return known[as_of][shopper]
        return [np.nan] * len(USER_STATISTICS)

    found = historical_features(offline, entities, [View.USER_STATISTICS])
    expected = [by_hand(f"u:{n}", time) for n, time in zip(asked, times.tolist(), strict=True)]
    np.testing.assert_array_equal(
        found[list(USER_STATISTICS)].to_numpy(np.float32), np.array(expected, np.float32)
    )
    pd.testing.assert_frame_equal(
        found[["label", SHOPPER_KEY]], entities[["label", SHOPPER_KEY]], check_names=False
    )
    assert np.isfinite(expected).any(axis=1).sum() > 5000


def test_views_are_joined_by_the_keys_that_the_rows_have(offline: FeatureStore) -> None:
    at = moments(np.array([NOON]))
    users = historical_features(offline, pd.DataFrame({SHOPPER_KEY: ["u:ann"], EVENT_TIMESTAMP: at}))
    assert set(USER_STATISTICS) < set(users)
    assert "item_rating" not in users
    both = historical_features(
        offline, pd.DataFrame({SHOPPER_KEY: ["u:ann"], ITEM_KEY: ["mug"], EVENT_TIMESTAMP: at})
    )
    assert {*USER_STATISTICS, *ITEM_WINDOWS, "item_rating"} < set(both)
    with pytest.raises(InputError, match=r"need a column event_timestamp and a key.*not \['colour'"):
        historical_features(offline, pd.DataFrame({"colour": ["red"], EVENT_TIMESTAMP: at}))


@pytest.mark.integration
def test_an_interval_materialized_again_brings_what_was_computed_anew(
    online: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    for value in (1, 1, 2):
        rows = same_everywhere(["u:ann"], value)
        write_snapshot(settings.features_dir, View.USER_STATISTICS, rows, NOON)
        materialize(online, NOON, NOON, [View.USER_STATISTICS])
        assert first_statistic(clean_redis, "u:ann") == value


@pytest.mark.integration
def test_an_older_interval_after_a_newer_one_leaves_the_newest_values(
    online: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    earlier = NOON - HOUR
    write_snapshot(settings.features_dir, View.USER_STATISTICS, same_everywhere(["u:ann"], 2), NOON)
    write_snapshot(
        settings.features_dir, View.USER_STATISTICS, same_everywhere(["u:ann", "u:bob"], 1), earlier
    )
    materialize(online, NOON, NOON, [View.USER_STATISTICS])
    materialize(online, earlier, NOON - 1, [View.USER_STATISTICS])
    assert first_statistic(clean_redis, "u:ann") == 2
    assert first_statistic(clean_redis, "u:bob") == 1


@pytest.mark.integration
def test_only_the_interval_is_materialized(
    online: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    for value, as_of in enumerate((NOON - HOUR, NOON, NOON + HOUR)):
        rows = same_everywhere(["u:ann", f"u:{value}"], value)
        write_snapshot(settings.features_dir, View.USER_STATISTICS, rows, as_of)
    materialize(online, NOON, NOON, [View.USER_STATISTICS])
    assert [first_statistic(clean_redis, who) for who in ("u:ann", "u:0", "u:1", "u:2")] == [1, None, 1, None]


@pytest.mark.integration
def test_more_rows_than_one_write_takes_all_arrive(
    online: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    online.config.materialization_config.online_write_batch_size = 100
    shoppers = [f"u:{n}" for n in range(1050)]
    values = np.repeat(np.arange(1050, dtype=np.float32)[:, None], len(USER_STATISTICS), axis=1)
    write_snapshot(settings.features_dir, View.USER_STATISTICS, user_statistics(shoppers, values), NOON)
    materialize(online, NOON, NOON, [View.USER_STATISTICS])
    assert [first_statistic(clean_redis, shopper) for shopper in shoppers] == list(range(1050))


@pytest.mark.integration
def test_a_row_expires_some_time_after_it_was_last_brought_online(
    online: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    life, key = online.config.online_store.key_ttl_seconds, user_key("u:ann")
    write_snapshot(settings.features_dir, View.USER_STATISTICS, same_everywhere(["u:ann"], 1), NOON - HOUR)
    write_snapshot(settings.features_dir, View.USER_STATISTICS, same_everywhere(["u:ann"], 2), NOON)
    materialize(online, NOON, NOON, [View.USER_STATISTICS])
    assert life - 60 < int(clean_redis.ttl(key)) <= life  # type: ignore[arg-type]
    clean_redis.expire(key, 1000)
    materialize(online, NOON - HOUR, NOON - HOUR, [View.USER_STATISTICS])
    assert int(clean_redis.ttl(key)) <= 1000, "nothing of it was written"  # type: ignore[arg-type]
    materialize(online, NOON, NOON, [View.USER_STATISTICS])
    assert life - 60 < int(clean_redis.ttl(key)) <= life  # type: ignore[arg-type]


@pytest.mark.integration
def test_of_users_only_the_chosen_are_brought_online_and_of_items_all(
    online: FeatureStore, settings: Settings, clean_redis: Redis
) -> None:
    write_snapshot(settings.features_dir, View.USER_STATISTICS, same_everywhere(["u:ann", "v:bob"], 1), NOON)
    items = pa.Table.from_pylist([{ITEM_KEY: "u:mug", **dict.fromkeys(ITEM_WINDOWS, 3)}])
    write_snapshot(settings.features_dir, View.ITEM_WINDOWS, items, NOON)
    views = [View.USER_STATISTICS, View.ITEM_WINDOWS]
    materialize(online, NOON, NOON, views, frozenset({"v:bob", "v:nobody"}))
    assert [first_statistic(clean_redis, who) for who in ("u:ann", "v:bob")] == [None, 1]
    assert counts(online, "u:mug") == [3] * len(ITEM_WINDOWS)
    materialize(online, NOON, NOON, views)
    assert first_statistic(clean_redis, "u:ann") == 1


@pytest.mark.integration
def test_a_push_is_online_at_once_and_history_does_not_undo_it(
    online: FeatureStore, settings: Settings
) -> None:
    def rows(*values: int) -> pd.DataFrame:
        return pd.DataFrame([["mug", *values, 0, 0, 0, 0]], columns=[ITEM_KEY, *ITEM_WINDOWS])

    push_item_windows(online, rows(1, 2, 3), NOON)
    assert counts(online, "mug") == [1, 2, 3, 0, 0, 0, 0]
    push_item_windows(online, rows(9, 9, 9), NOON - SECOND)
    assert counts(online, "mug") == [1, 2, 3, 0, 0, 0, 0]
    history = pa.Table.from_pandas(rows(7, 7, 7), preserve_index=False)
    write_snapshot(settings.features_dir, View.ITEM_WINDOWS, history, NOON - HOUR)
    materialize(online, NOON - HOUR, NOON, [View.ITEM_WINDOWS])
    assert counts(online, "mug") == [1, 2, 3, 0, 0, 0, 0]
    push_item_windows(online, pd.concat([rows(4, 5, 6), rows(5, 6, 7)]), NOON + SECOND)
    assert counts(online, "mug") == [5, 6, 7, 0, 0, 0, 0]


WINDOW = [
    event(0, timestamp=NOON - 2 * HOUR, event_type="purchase", item_id="lamp"),
    event(1, timestamp=NOON - 5 * MINUTE, event_type="search", item_id=None, query="mug"),
    event(2, timestamp=NOON - 4 * MINUTE, event_type="view", item_id="mug"),
    event(3, timestamp=NOON - 3 * MINUTE, event_type="add_to_cart", item_id="mug"),
]
WINDOW_ROW = {
    "window_item_ids": [logged.item_id or "" for logged in WINDOW],
    "window_event_types": [logged.event_type for logged in WINDOW],
    "window_times": [logged.timestamp for logged in WINDOW],
    "as_of": NOON,
}
SESSION = session_features(
    encode_window([window_event(logged) for logged in WINDOW], {"lamp": 0, "mug": 1}), NOON
).tolist()


def test_the_session_view_joins_a_training_set_by_the_one_function(offline: FeatureStore) -> None:
    empty = {"window_item_ids": [], "window_event_types": [], "window_times": [], "as_of": NOON}
    entities = pd.DataFrame([WINDOW_ROW, empty]).assign(**{EVENT_TIMESTAMP: moments(np.array([NOON, NOON]))})
    found = historical_features(offline, entities, [SESSION_VIEW])[list(SESSION_FEATURES)].to_numpy()
    np.testing.assert_array_equal(found[0], SESSION)
    np.testing.assert_array_equal(found[1], session_features(encode_window([], {}), NOON))


@pytest.mark.slow
@pytest.mark.integration
def test_two_processes_may_open_a_new_store_at_once(
    settings: Settings, redis_url: str, clean_redis: Redis
) -> None:
    program = (
        "import json, sys; from pathlib import Path; from feature_repo.feature_store import open_store\n"
        "from feature_repo.settings import Settings; home, url, row, views = map(json.loads, sys.argv[1:])\n"
        "store = open_store(Settings(home=Path(home)), url)\n"
        "print(json.dumps(store.get_online_features(features=views, entity_rows=[row]).to_dict()))"
    )
    views = [f"{SESSION_VIEW}:{name}" for name in SESSION_FEATURES]
    arguments = [json.dumps(value) for value in (str(settings.home), redis_url, WINDOW_ROW, views)]

    def ask(_: int) -> dict[str, list[float]]:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    with ThreadPoolExecutor(2) as pool:
        for said in pool.map(ask, range(2)):
            assert [said[name][0] for name in SESSION_FEATURES] == pytest.approx(SESSION, rel=1e-6)


@pytest.mark.integration
def test_opening_a_store_again_changes_nothing_in_its_registry(
    online: FeatureStore, settings: Settings, redis_url: str
) -> None:
    materialize(online, NOON, NOON, [View.USER_STATISTICS])
    before = online.get_feature_view(View.USER_STATISTICS).to_proto()
    after = open_store(settings, redis_url).get_feature_view(View.USER_STATISTICS).to_proto()
    assert after == before
    assert [interval.start_time.ToMicroseconds() for interval in after.meta.materialization_intervals] == [
        NOON
    ]


@pytest.mark.integration
def test_a_view_whose_materialization_was_killed_can_be_materialized_again(
    online: FeatureStore, settings: Settings, redis_url: str, clean_redis: Redis
) -> None:
    interrupted = online.get_feature_view(View.USER_STATISTICS)
    interrupted.state = FeatureViewState.MATERIALIZING
    online.registry.apply_feature_view(interrupted, online.project)
    write_snapshot(settings.features_dir, View.USER_STATISTICS, same_everywhere(["u:ann"], 1), NOON)
    materialize(open_store(settings, redis_url), NOON, NOON, [View.USER_STATISTICS])
    assert first_statistic(clean_redis, "u:ann") == 1


def test_without_a_redis_nothing_is_materialized(offline: FeatureStore, settings: Settings) -> None:
    write_snapshot(settings.features_dir, View.USER_STATISTICS, same_everywhere(["u:ann"], 1), NOON)
    with pytest.raises(
        OnlineStoreUnavailableError, match=r"^no Redis at 127\.0\.0\.1:1: run `freshet redis`"
    ):
        materialize(offline, NOON, NOON, [View.USER_STATISTICS])


def test_a_new_store_tells_nothing_of_its_cache(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        historical_features(
            open_store(settings, NOWHERE),
            pd.DataFrame({SHOPPER_KEY: ["u:ann"], EVENT_TIMESTAMP: moments(np.array([NOON]))}),
        )
    assert caplog.messages == []


def test_a_definition_that_changed_is_registered_anew(settings: Settings) -> None:
    store = open_store(settings, NOWHERE)
    outdated = store.get_feature_view(View.ITEM_STATISTICS)
    outdated.description = "as an older version had it"
    store.registry.apply_feature_view(outdated, store.project)
    again = open_store(settings, NOWHERE).get_feature_view(View.ITEM_STATISTICS)
    assert again.description == define(settings.features_dir).item_statistics.description


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6390",
        "redis://cache.example",
        "redis://:0123@cache.example:7000/3",
        "redis://ann:p%2Cw%3D%22%5C%20true@cache.example:7000?socket_timeout=1.5",
        "rediss://:1e5@cache.example:7000/1?ssl_cert_reqs=none",
    ],
)
def test_feast_connects_as_the_url_says(url: str) -> None:
    nodes, options = RedisOnlineStore._parse_connection_string(connection_string(url))
    with Redis(**nodes[0], **options) as feasts, Redis.from_url(url) as ours:
        assert feasts.connection_pool.connection_class is ours.connection_pool.connection_class
        wanted = {"host": "localhost", "port": 6379, "db": 0} | ours.connection_pool.connection_kwargs
        given = feasts.connection_pool.connection_kwargs
        assert {name: given[name] for name in wanted} == wanted | {"port": str(wanted["port"])}


@pytest.mark.parametrize("url", ["unix:///run/redis.sock", "redis://[::1]:6379"])
def test_a_redis_that_feast_cannot_reach_is_refused(url: str, settings: Settings) -> None:
    with pytest.raises(InputError, match="host name or an IPv4 address"):
        open_store(settings, url)
