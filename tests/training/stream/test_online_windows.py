"""Feast's online store follows what happens to items, and only what changed is written."""

import pytest
from redis import Redis

from feature_repo.activity_message import PublishedActivity
from feature_repo.feature_store import open_store
from feature_repo.offline_store import ITEM_KEY, ITEM_WINDOWS, View
from feature_repo.schema import SECOND
from feature_repo.settings import Settings
from tests.feature_repo.log_events import NOON
from tests.feature_repo.published import published
from training.stream.online_windows import OnlineWindows

pytestmark = pytest.mark.integration


def activity(second: int, **interactions: int) -> PublishedActivity:
    """Items met so often in every window, as of a second after noon."""
    return published(NOON + second * SECOND, **interactions)


def test_what_changed_is_pushed_and_an_item_no_longer_met_counts_none(
    settings: Settings, clean_redis: Redis, redis_url: str
) -> None:
    windows = OnlineWindows(settings, redis_url)
    assert windows.push(activity(0)) == 0
    assert windows.push(activity(1, mug=3, lamp=1)) == 2
    assert windows.push(activity(2, mug=3, lamp=1)) == 0
    assert windows.push(activity(3, mug=4)) == 2
    assert windows.push(activity(4, mug=4)) == 0
    online = open_store(settings, redis_url).get_online_features(
        [f"{View.ITEM_WINDOWS}:{name}" for name in ITEM_WINDOWS],
        [{ITEM_KEY: "mug"}, {ITEM_KEY: "lamp"}, {ITEM_KEY: "rug"}],
    )
    assert online.to_dict()["item_interactions_1h"] == [4, 0, None]
