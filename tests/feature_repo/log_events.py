"""Events for the tests of the log, told apart by a number."""

from typing import Any

from hypothesis import strategies as st

from feature_repo.events import LoggedEvent
from feature_repo.schema import MAX_ID_LENGTH, SECOND, EventType

NOON = 1_750_000_000 * SECOND

HOSTILE_IDS = [
    "'; DROP TABLE events; --",
    "*3 $3 SET $1 a $1 b",
    "{0}",
    "}{",
    "{}",
    "seen:window:u:ann",
    "u:ann",
    "ann bob",
    "Ünïcödé-買い物客-🛒",
    '"\\',
    "a" * MAX_ID_LENGTH,
]
"""Each allowed by ID_PATTERN."""


def event(number: int, **columns: Any) -> LoggedEvent:
    """View number ``number`` of user ann: as many seconds after noon, of an item of that number."""
    defaults: dict[str, Any] = {
        "event_id": f"e{number:03}",
        "event_type": EventType.VIEW.value,
        "user_id": None if "visitor_id" in columns else "ann",
        "item_id": f"i{number}",
        "timestamp": NOON + number * SECOND,
        "arrival_time": NOON + number * SECOND,
    }
    return LoggedEvent(**defaults | columns)


def impression(number: int, **columns: Any) -> LoggedEvent:
    """Like ``event``, but the item was only shown."""
    return event(number, **{"event_type": EventType.IMPRESSION.value} | columns)


@st.composite
def histories(draw: st.DrawFn) -> list[LoggedEvent]:
    """Distinct events of few shoppers, visitors and moments, so that windows overflow and times tie."""
    some = st.sampled_from
    return [
        event(
            number,
            timestamp=NOON + draw(st.integers(0, 5)) * SECOND,
            event_type=draw(some(EventType)).value,
            item_id=draw(some(["i1", "i2", "i3", "i4"])),
            user_id=(user := draw(some(["ann", "bob", None]))),
            visitor_id=draw(some(["v1", "v2"] if user is None else ["v1", "v2", None])),
            quantity=draw(some([None, 2.0])),
        )
        for number in range(draw(st.integers(1, 14)))
    ]


@st.composite
def deliveries(draw: st.DrawFn, events: list[LoggedEvent]) -> list[list[LoggedEvent]]:
    """The events in any order, some of them more than once, in batches of any size."""
    repeated = draw(st.lists(st.sampled_from(events), max_size=8))
    order = draw(st.permutations(events + repeated))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    return [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
