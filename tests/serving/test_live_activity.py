"""What all shoppers do reaches the ranker of every server within seconds."""

import asyncio
import time
from contextlib import suppress

import numpy as np
import pytest

from feature_repo.activity_message import MESSAGE_SECONDS, PublishedActivity
from feature_repo.item_activity import ACTIVITY_FEATURES, UNKNOWN_ACTIVITY
from feature_repo.schema import SECOND
from feature_repo.settings import Settings
from serving.live_activity import LiveActivity, table_of
from tests.feature_repo.published import published
from tests.serving.conftest import Api, BreakableLog, running_api
from tests.tiny_bundle import publish, tiny_bundle

pytestmark = pytest.mark.anyio


def message(as_of: float, **interactions: int) -> bytes:
    """Counts of some items, each met as often in the last minutes, hour and day, as of a moment in seconds."""
    return published(int(as_of * SECOND), **interactions).to_bytes()


async def test_published_counts_reach_the_next_request(api: Api, shop_log: BreakableLog) -> None:
    assert (await api.recommend(visitor_id="vera"))["feature_age"]["activity"] is None
    first = api.service.model.recommender.bundle.item_ids[0]
    await shop_log.publish_activity(message(time.time() - 2, **{first: 50}))
    await api.service.slates.activity.look()
    assert 2 <= (await api.recommend(visitor_id="vera"))["feature_age"]["activity"] < 30
    bundle = api.service.model.recommender.bundle
    features = api.service.slates.activity.of(bundle).features(np.arange(2, dtype=np.int32))
    share = features[:, ACTIVITY_FEATURES.index("item_log_share_1h")]
    assert share[0] > 0 > share[1]
    assert await api.metric('freshet_feature_age_seconds{family="activity"}') >= 2


async def test_items_that_the_model_does_not_know_count_in_the_total() -> None:
    bundle = tiny_bundle()
    known = bundle.item_ids[1]
    said = PublishedActivity.from_bytes(message(time.time(), **{known: 3, "unheard-of": 4}))
    table = table_of(said, bundle)
    assert table.counts[:, 0].tolist() == [3 if item == known else 0 for item in bundle.item_ids]
    assert table.totals[0] == 7


async def test_counts_that_nobody_renewed_are_known_no_more(api: Api, shop_log: BreakableLog) -> None:
    await shop_log.publish_activity(message(time.time() - MESSAGE_SECONDS - 1, mug=50))
    await api.service.slates.activity.look()
    assert api.service.slates.activity.of(api.service.model.recommender.bundle) is UNKNOWN_ACTIVITY
    assert (await api.recommend(visitor_id="vera"))["feature_age"]["activity"] is None


async def test_what_cannot_be_read_is_nothing_known_and_the_next_message_is_taken(
    api: Api, shop_log: BreakableLog, caplog: pytest.LogCaptureFixture
) -> None:
    await shop_log.publish_activity(b"no message")
    await api.service.slates.activity.look()
    assert api.service.slates.activity.age() is None
    assert "cannot be read" in caplog.text
    await shop_log.publish_activity(message(time.time(), mug=1))
    await api.service.slates.activity.look()
    assert api.service.slates.activity.age() is not None


async def test_a_new_model_is_told_in_its_own_indexes(api: Api, shop_log: BreakableLog) -> None:
    await shop_log.publish_activity(message(time.time(), mug=1))
    await api.service.slates.activity.look()
    publish(api.service.settings.models_dir, tiny_bundle("second"))
    await api.service.model.look()
    bundle = api.service.model.recommender.bundle
    assert api.service.slates.activity.of(bundle) is UNKNOWN_ACTIVITY
    await api.service.slates.activity.look()
    assert api.service.slates.activity.of(bundle) is not UNKNOWN_ACTIVITY


async def test_an_app_ends_though_a_watcher_missed_that_it_was_cancelled(
    api_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(_: LiveActivity) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    monkeypatch.setattr(LiveActivity, "look", deaf)
    async with asyncio.timeout(10), running_api(api_settings, BreakableLog(api_settings)):
        await asyncio.sleep(0)
