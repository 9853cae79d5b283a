"""Events of a busy shop, made so that they collide: repeated, out of order, late, and of shoppers who log in."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from feature_repo.schema import DAY, HOUR, MINUTE, SECOND, Event, EventType

Fields = dict[str, Any]

ITEMS: Final = 500
EVENTS_PER_SHOPPER: Final = 100
"""More than a window keeps."""
REPEATED: Final = 0.08
"""Share of events that are sent a second time."""
REORDERED: Final = 2000
"""Events are shuffled among so many neighbours."""

_AGES: Final = ((MINUTE, 0.4), (HOUR, 0.4), (DAY, 0.15), (30 * DAY, 0.05))
"""Greatest age of an event when the traffic begins, and the share of such events."""
_TYPES: Final = (
    (EventType.IMPRESSION, 0.3),
    (EventType.VIEW, 0.4),
    (EventType.CLICK, 0.15),
    (EventType.ADD_TO_CART, 0.06),
    (EventType.PURCHASE, 0.05),
    (EventType.SEARCH, 0.04),
)


def distinct_events(count: int, now: int, rng: random.Random) -> list[Fields]:
    """``count`` events as the API takes them, each with an event_id of its own, oldest first."""
    shoppers = max(2, count // EVENTS_PER_SHOPPER)
    return sorted(
        (_event(number, shoppers, now, rng) for number in range(count)),
        key=lambda event: event[Event.TIMESTAMP],
    )


def batches(events: Sequence[Fields], size: int, rng: random.Random) -> list[list[Fields]]:
    """The events in the order they are sent, some of them twice."""
    sent = list(_shuffled_nearby([*events], rng))
    for repeated in rng.sample(events, round(REPEATED * len(events))):
        sent.insert(rng.randrange(len(sent)), repeated)
    return [sent[start : start + size] for start in range(0, len(sent), size)]


def _event(number: int, shoppers: int, now: int, rng: random.Random) -> Fields:
    event_type = _drawn(_TYPES, rng)
    event: Fields = {
        Event.ID: f"event-{number:07}",
        Event.TYPE: event_type.value,
        # Whole seconds: many events of a shopper share a moment, and the event_id decides.
        Event.TIMESTAMP: (now - rng.randrange(_drawn(_AGES, rng))) // SECOND * SECOND,
    }
    shopper, known = rng.randrange(shoppers), rng.random()
    if known < 0.6:
        event[Event.VISITOR] = f"visitor-{shopper}"
    if known > 0.5:
        event[Event.USER] = f"user-{shopper // 2}"
    if event_type == EventType.SEARCH:
        event[Event.QUERY] = f"query {rng.randrange(ITEMS)}"
    else:
        event[Event.ITEM] = f"item-{rng.randrange(ITEMS)}"
    if event_type == EventType.PURCHASE:
        event[Event.PRICE], event[Event.QUANTITY] = rng.randrange(1, 10_000) / 100, 1.0
    return event


def _drawn(shares: Sequence[tuple[Any, float]], rng: random.Random) -> Any:
    values, weights = zip(*shares, strict=True)
    return rng.choices(values, weights)[0]


def _shuffled_nearby(events: list[Fields], rng: random.Random) -> Iterator[Fields]:
    for start in range(0, len(events), REORDERED):
        neighbours = events[start : start + REORDERED]
        rng.shuffle(neighbours)
        yield from neighbours
