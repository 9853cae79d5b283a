"""Batch features from the archive to the offline store, to Redis and to the server that reads them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr
from redis import Redis

from feature_repo.archive import Archive
from feature_repo.batch_features import USER_STATISTICS
from feature_repo.errors import InputError
from feature_repo.events import to_table
from feature_repo.offline_store import (
    ITEM_KEY,
    ITEM_WINDOWS,
    SHOPPER_KEY,
    USER_EMBEDDING_VERSION,
    View,
    read_snapshot,
    snapshots,
)
from feature_repo.online_user import user_key
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import DAY, EVENT_SCHEMA, Event, EventType
from feature_repo.session_features import encode_window
from feature_repo.settings import Settings
from serving.live_version import read_live_bundle
from tests.feature_repo.log_events import event
from tests.training.conftest import FAST, TrainedShop
from tests.training.tiny_log import Happened, at, table
from training.dataset import read_inputs
from training.feature_history import moments, user_statistics_at, write_user_history
from training.features import (
    _changed_windows,
    bring_online,
    bring_vectors_online,
    build_features,
    met_before,
)
from training.pipeline import begin
from training.training_run import TrainingRun

HOUR = 60
BOUGHT = EventType.PURCHASE
VISITS = [
    Happened("ann", "mug", 0),
    Happened("ann", "mug", 23.5 * HOUR),
    Happened("bob", "mug", 23.9 * HOUR),
    Happened("bob", "lamp", 2 * HOUR, BOUGHT),
    Happened("v:cy", "desk", -5),
    Happened("v:cy", None, 30, EventType.SEARCH),
]


def filled(settings: Settings, happened: list[Happened]) -> Settings:
    Archive(settings.archive_dir).append(table(happened))
    return settings


def files_of(settings: Settings) -> dict[str, bytes]:
    folder = settings.features_dir
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[0-9]*.parquet")}


def test_the_newest_minutes_hour_and_day_of_items_are_counted(settings: Settings) -> None:
    as_of = at(24 * HOUR)
    rows = build_features(filled(settings, VISITS), as_of)
    counts = read_snapshot(settings.features_dir, View.ITEM_WINDOWS, as_of).to_pandas().set_index(ITEM_KEY)
    assert counts[list(ITEM_WINDOWS)].T.to_dict("list") == {
        "lamp": [0, 0, 1, 0, 1, 0, 0],
        "mug": [0, 2, 2, 0, 0, 0, 0],
    }
    assert rows == {
        View.USER_STATISTICS: 3,
        View.USER_PROFILE: 0,
        View.ITEM_STATISTICS: 3,
        View.ITEM_WINDOWS: 2,
    }


def test_an_item_that_nobody_met_any_more_is_told_to_count_none(settings: Settings) -> None:
    later = [*VISITS, Happened("ann", "desk", 30 * HOUR)]
    for as_of in (at(24 * HOUR), at(31 * HOUR)):
        build_features(filled(settings, later), as_of)
    changed = _changed_windows(settings.features_dir, at(31 * HOUR)).set_index(ITEM_KEY)
    assert changed.T.to_dict("list") == {
        "desk": [0, 0, 1, 0, 0, 0, 0],
        "lamp": [0, 0, 0, 0, 0, 0, 0],
        "mug": [0, 0, 2, 0, 0, 0, 0],
    }
    assert set(changed.dtypes.astype(str)) == {"int64"}


def test_a_past_moment_built_later_gives_the_files_of_then(settings: Settings) -> None:
    as_of = at(24 * HOUR)
    build_features(filled(settings, VISITS), as_of)
    then = files_of(settings)
    assert then
    Archive(settings.archive_dir).append(
        table([Happened("ann", "new", 25 * HOUR), Happened("dora", "mug", 26 * HOUR)]).set_column(
            0, EVENT_SCHEMA.field(0), pa.array(["later-1", "later-2"])
        )
    )
    build_features(settings, at(27 * HOUR))
    build_features(settings, as_of)
    assert {name: content for name, content in files_of(settings).items() if name in then} == then
    assert snapshots(settings.features_dir, View.USER_STATISTICS) == [as_of, at(27 * HOUR)]


def test_what_is_older_than_the_settings_keep_is_forgotten_but_the_newest(settings: Settings) -> None:
    settings = settings.model_copy(update={"features_kept_days": 2})
    days = [at(24 * HOUR * day) for day in (1, 2, 3, 6)]
    for as_of in days:
        build_features(filled(settings, VISITS), as_of)
    assert snapshots(settings.features_dir, View.ITEM_STATISTICS) == days[-2:]


MANY = [Happened(f"shopper-{number % 7}", "mug", number * HOUR) for number in range(20 * 24)]
"""Every hour of 20 days."""


def test_a_training_forgets_features_of_before_what_it_joins(settings: Settings) -> None:
    settings = filled(settings.model_copy(update={"features_kept_days": 1}), MANY)
    for as_of in (at(24 * HOUR), at(48 * HOUR)):
        build_features(settings, as_of)
    run = begin(settings, FAST)
    split = run.plan.split
    assert split.ranker < split.end - 2 * DAY
    assert snapshots(settings.features_dir, View.USER_STATISTICS) == moments(split)
    assert snapshots(settings.features_dir, View.ITEM_STATISTICS) == [at(48 * HOUR)]


def test_what_an_unfinished_training_joins_is_kept_until_it_has_ended(settings: Settings) -> None:
    settings = filled(settings.model_copy(update={"features_kept_days": 1}), MANY)
    run = begin(settings, FAST)
    end = run.plan.split.end
    build_features(settings, end + DAY)
    joined = moments(run.plan.split)
    assert snapshots(settings.features_dir, View.USER_STATISTICS) == [*joined, end + DAY]
    run.remove_work()
    build_features(settings, end + DAY)
    assert snapshots(settings.features_dir, View.USER_STATISTICS) == [joined[-1], end + DAY]


def test_a_shopper_was_met_before_a_moment_where_her_window_may_live(settings: Settings) -> None:
    settings = settings.model_copy(update={"window_ttl_days": 1})
    start, as_of = at(0), at(24 * HOUR)
    happened = [
        event(0, user_id="ann", visitor_id="phone", timestamp=start - 400 * DAY),
        event(1, visitor_id="phone", timestamp=as_of - 1),
        event(2, user_id="bob", timestamp=start),
        event(3, user_id="too early", timestamp=start - 1),
        event(4, user_id="too late", timestamp=as_of),
        event(5, visitor_id="searching", item_id=None, event_type="search", timestamp=start + 1),
    ]
    Archive(settings.archive_dir).append(to_table(happened))
    assert met_before(settings, as_of) == {"u:ann", "u:bob", "v:searching"}


@pytest.mark.integration
def test_of_shoppers_only_those_met_in_the_life_of_a_window_are_brought_online(
    settings: Settings, clean_redis: Redis, redis_url: str
) -> None:
    changes = {"redis_url": SecretStr(redis_url), "window_ttl_days": 0.5}
    settings, as_of = filled(settings.model_copy(update=changes), VISITS), at(24 * HOUR)
    rows = build_features(settings, as_of)
    bring_online(settings, as_of)
    found = {who: clean_redis.exists(user_key(who)) for who in ("u:ann", "u:bob", "v:cy")}
    assert found == {"u:ann": 1, "u:bob": 1, "v:cy": 0}
    assert clean_redis.dbsize() == 2 + rows[View.ITEM_STATISTICS]


def test_nothing_is_built_from_nothing(settings: Settings) -> None:
    with pytest.raises(InputError, match=r"holds no event before .*freshet import"):
        build_features(settings, at(0))


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.anyio
async def test_what_is_brought_online_is_what_the_server_reads(
    trained: TrainedShop, tmp_path: Path, clean_redis: Redis, redis_url: str
) -> None:
    settings = trained.copied_to(tmp_path / "home")
    settings = settings.model_copy(update={"redis_url": SecretStr(redis_url), "redis_timeout_seconds": 5})
    bundle = read_live_bundle(settings.models_dir)
    as_of = bundle.manifest.training_end
    build_features(settings, as_of)
    bring_online(settings, as_of)
    rows = (
        read_snapshot(settings.features_dir, View.USER_STATISTICS, as_of).to_pandas().set_index(SHOPPER_KEY)
    )
    log = RedisEventLog.connect(redis_url, settings)
    for key in bundle.shopper_keys[::20]:
        kind, _, name = key.partition(":")
        shopper = await (log.shopper(name, None) if kind == "u" else log.shopper(None, name))
        assert shopper.features is not None
        assert shopper.features.computed_at == as_of
        assert shopper.features.model_version == bundle.manifest.version
        np.testing.assert_array_equal(shopper.features.statistics, rows.loc[key, list(USER_STATISTICS)])
        # The model's own row says the same as of the same moment, so that either may answer.
        window = encode_window([], bundle.item_index)
        stored = bundle.user_row(key, window)
        online = bundle.user_row(key, window, shopper.features)
        np.testing.assert_allclose(online.statistics, stored.statistics, rtol=1e-6)
        np.testing.assert_allclose(online.embedding, stored.embedding, atol=1e-6)
    await log.aclose()


@pytest.mark.slow
@pytest.mark.integration
def test_vectors_online_are_those_of_the_live_model(
    trained: TrainedShop, tmp_path: Path, clean_redis: Redis, redis_url: str
) -> None:
    settings = trained.copied_to(tmp_path / "home").model_copy(update={"redis_url": SecretStr(redis_url)})
    as_of = read_live_bundle(settings.models_dir).manifest.training_end + DAY
    rows = bring_vectors_online(settings, as_of)
    written = read_snapshot(settings.features_dir, View.USER_EMBEDDING, as_of)
    assert rows[View.USER_EMBEDDING] == written.num_rows
    assert set(written[USER_EMBEDDING_VERSION].to_pylist()) == {trained.outcome.version}
    assert clean_redis.dbsize() == sum(rows.values())


@pytest.mark.slow
def test_a_request_of_the_past_meets_its_shopper_as_known_the_midnight_before(
    trained: TrainedShop, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    events, items = read_inputs(trained.settings)
    split = next(
        TrainingRun(trained.settings, path.name).plan.split for path in trained.settings.runs_dir.iterdir()
    )
    write_user_history(settings.features_dir, events, items, split)
    written = moments(split)
    assert snapshots(settings.features_dir, View.USER_STATISTICS) == written
    assert written[0] <= split.ranker < written[1]
    asked = events.slice(events.num_rows // 2).filter(
        pa.compute.is_valid(events.slice(events.num_rows // 2)[Event.USER])
    )
    keys = np.array([f"u:{user}" for user in asked[Event.USER].to_pylist()], dtype=object)
    times = asked[Event.TIMESTAMP].cast(pa.int64()).to_numpy()
    found = user_statistics_at(settings, keys, times)
    tables = {
        moment: pq.read_table(settings.features_dir / View.USER_STATISTICS / f"{moment}.parquet").to_pandas()
        for moment in written
    }
    by_hand = np.full_like(found, np.nan)
    for moment, rows in tables.items():
        later = np.flatnonzero(times >= moment)
        known = rows.set_index(SHOPPER_KEY)[list(USER_STATISTICS)].reindex(keys[later]).to_numpy()
        has = ~np.isnan(known).all(axis=1)
        by_hand[later[has]] = known[has]
    np.testing.assert_array_equal(found, by_hand)
    assert 0.2 < np.isnan(found).all(axis=1).mean() < 0.95
