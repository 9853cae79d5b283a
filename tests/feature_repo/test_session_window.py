"""A shopper's window and exposures, the same on both logs, whatever order the events come in."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from feature_repo.event_log import EventLog, Shopper
from feature_repo.events import LoggedEvent
from feature_repo.schema import SECOND, EventType
from feature_repo.session_window import WindowEvent
from feature_repo.settings import Settings
from tests.conftest import OpenLog
from tests.feature_repo.log_events import HOSTILE_IDS, NOON, deliveries, event, histories, impression

pytestmark = pytest.mark.anyio

SMALL = Settings(window_size=4, exposures_size=2, log_partitions=3, redis_timeout_seconds=5)


def ids(shopper: Shopper) -> list[str]:
    return [seen.event_id for seen in shopper.window]


async def test_the_window_holds_every_field_that_features_need(log: EventLog) -> None:
    await log.append([event(1, event_type="purchase", quantity=2.0, price=9.5, value=4.5, query="red mug")])
    shopper = await log.shopper("ann", None)
    assert shopper.window == [
        WindowEvent(NOON + SECOND, "e001", "purchase", "i1", "red mug", quantity=2.0, price=9.5, value=4.5)
    ]


async def test_a_stranger_has_an_empty_window(log: EventLog) -> None:
    assert await log.shopper("nobody", "nobody") == Shopper("nobody", [], {})
    assert await log.shopper(None, "nobody") == Shopper(None, [], {})
    assert await log.shopper(None, None) == Shopper(None, [], {})


async def test_events_that_come_out_of_order_end_in_event_time_order(log: EventLog) -> None:
    for number in (3, 1, 2):
        await log.append([event(number)])
    assert ids(await log.shopper("ann", None)) == ["e001", "e002", "e003"]


async def test_the_65th_event_evicts_the_oldest(log: EventLog) -> None:
    numbers = list(range(64))
    random.Random(7).shuffle(numbers)
    await log.append([event(number) for number in numbers])
    assert ids(await log.shopper("ann", None)) == [f"e{number:03}" for number in range(64)]
    await log.append([event(64)])
    assert ids(await log.shopper("ann", None)) == [f"e{number:03}" for number in range(1, 65)]


async def test_a_late_event_older_than_a_full_window_does_not_enter(log: EventLog) -> None:
    await log.append([event(number) for number in range(1, 65)])
    await log.append([event(0)])
    assert ids(await log.shopper("ann", None)) == [f"e{number:03}" for number in range(1, 65)]


async def test_events_of_one_moment_stand_by_event_id(open_log: OpenLog) -> None:
    tied = [event(0, event_id=event_id) for event_id in ("b", "a b", "a", "a!", "é", "ab", "B")]
    async with open_log(SMALL) as log:
        await log.append(tied)
        assert ids(await log.shopper("ann", None)) == ["a!", "ab", "b", "é"]


async def test_impressions_are_exposures_and_never_enter_the_window(log: EventLog) -> None:
    await log.append([impression(1), event(2), impression(3, item_id="i1"), impression(4)])
    assert await log.shopper("ann", None) == Shopper(
        "ann",
        [WindowEvent(NOON + 2 * SECOND, "e002", "view", "i2")],
        {"i1": NOON + 3 * SECOND, "i4": NOON + 4 * SECOND},
    )


async def test_a_late_impression_does_not_set_an_exposure_back(log: EventLog) -> None:
    await log.append([impression(5, item_id="mug")])
    await log.append([impression(2, item_id="mug")])
    assert (await log.shopper("ann", None)).exposures == {"mug": NOON + 5 * SECOND}


async def test_only_the_newest_exposures_stay(open_log: OpenLog) -> None:
    async with open_log(SMALL) as log:
        await log.append([impression(number) for number in (3, 1, 4, 2)])
        assert (await log.shopper("ann", None)).exposures == {
            "i3": NOON + 3 * SECOND,
            "i4": NOON + 4 * SECOND,
        }


async def test_a_visitor_is_followed_to_its_user(log: EventLog) -> None:
    await log.append([event(1, visitor_id="v"), impression(2, visitor_id="v", item_id="mug")])
    assert await log.shopper("ann", None) == Shopper("ann", [], {})
    await log.append([event(3, visitor_id="v", user_id="ann"), impression(4, item_id="mug")])
    by_visitor = await log.shopper(None, "v")
    assert by_visitor.user_id == "ann"
    assert ids(by_visitor) == ["e001", "e003"]
    assert by_visitor.exposures == {"mug": NOON + 4 * SECOND}
    assert await log.shopper("ann", "v") == by_visitor
    assert ids(await log.shopper("ann", None)) == ["e003"]


async def test_a_link_copies_nothing(log: EventLog) -> None:
    await log.append([event(1, visitor_id="v"), event(2, visitor_id="v", user_id="ann")])
    assert ids(await log.shopper("bob", "v")) == ["e001"]


async def test_a_link_leads_to_the_latest_user_in_any_order_of_arrival(log: EventLog) -> None:
    logins = [event(number, visitor_id="v", user_id=f"user-{number}") for number in (1, 3, 2)]
    for login in logins:
        await log.append([login])
    assert (await log.shopper(None, "v")).user_id == "user-3"
    await log.append([event(9, visitor_id="w", user_id="x"), event(8, visitor_id="w", user_id="y")])
    assert (await log.shopper(None, "w")).user_id == "x"


async def test_of_two_logins_in_one_moment_the_greater_event_id_wins(log: EventLog) -> None:
    await log.append([event(0, event_id="b", visitor_id="v", user_id="ann")])
    await log.append([event(0, event_id="a", visitor_id="v", user_id="zoe")])
    assert (await log.shopper(None, "v")).user_id == "ann"


async def test_the_union_of_two_full_windows_is_the_newest_of_both(log: EventLog) -> None:
    await log.append([event(number, visitor_id="v") for number in range(0, 128, 2)])
    await log.append([event(number, visitor_id="v", user_id="ann") for number in range(1, 128, 2)])
    assert ids(await log.shopper(None, "v")) == [f"e{number:03}" for number in range(64, 128)]


async def test_hostile_ids_stay_in_their_own_windows(log: EventLog) -> None:
    await log.append(
        [
            event(number, event_id=f"{an_id[:120]}-{number}", user_id=an_id, item_id=an_id)
            for number, an_id in enumerate(HOSTILE_IDS)
        ]
        + [
            impression(90 + number, visitor_id=an_id, item_id=an_id)
            for number, an_id in enumerate(HOSTILE_IDS)
        ]
    )
    for number, an_id in enumerate(HOSTILE_IDS):
        time = NOON + number * SECOND
        assert await log.shopper(an_id, None) == Shopper(
            an_id, [WindowEvent(time, f"{an_id[:120]}-{number}", "view", an_id)], {}
        )
        assert await log.shopper(None, an_id) == Shopper(None, [], {an_id: time + 90 * SECOND})


def truth(history: list[LoggedEvent], key: str) -> tuple[list[str], dict[str, int]]:
    """Window (ids) and exposures of one key by definition: sort everything, cut."""
    mine = sorted(
        (happened for happened in history if happened.shopper == key),
        key=lambda happened: (happened.timestamp, happened.event_id),
    )
    shown: dict[str, int] = {}
    for happened in mine:
        if happened.event_type == EventType.IMPRESSION:
            shown[happened.item_id or ""] = happened.timestamp
    newest = sorted(shown.items(), key=lambda pair: (pair[1], pair[0]))[-SMALL.exposures_size :]
    acts = [happened.event_id for happened in mine if happened.event_type != EventType.IMPRESSION]
    return acts[-SMALL.window_size :], dict(newest)


@hypothesis_settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_windows_depend_on_the_set_of_events_alone(open_log: OpenLog, data: st.DataObject) -> None:
    history = data.draw(histories())
    batches = data.draw(deliveries(history))

    async def deliver_all() -> None:
        async with open_log(SMALL) as log:
            for batch in batches:
                await log.append(batch)
            for user in ("ann", "bob"):
                shopper = await log.shopper(user, None)
                assert (ids(shopper), shopper.exposures) == truth(history, f"u:{user}")
            for visitor in ("v1", "v2"):
                logins = [
                    (login.timestamp, login.event_id, login.user_id)
                    for login in history
                    if login.user_id and login.visitor_id == visitor
                ]
                shopper = await log.shopper(None, visitor)
                assert shopper.user_id == (max(logins)[2] if logins else None)
                anonymous, _ = truth(history, f"v:{visitor}")
                known, _ = truth(history, f"u:{shopper.user_id}")
                moments = {happened.event_id: (happened.timestamp, happened.event_id) for happened in history}
                assert (
                    ids(shopper) == sorted(anonymous + known, key=moments.__getitem__)[-SMALL.window_size :]
                )

    asyncio.run(deliver_all())
