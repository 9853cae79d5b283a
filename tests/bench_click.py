"""From a click to a slate that knows it, while other shoppers keep the server busy. Part of ``make bench``."""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter, time_ns
from typing import Any, Final

import orjson

from feature_repo.schema import HOUR, Event
from tests.bench_client import Ask, connected
from tests.bench_load import CONNECTIONS, Arrivals, Driven, Load, Moment, answered, driven, in_own_process
from tests.bench_table import print_header, print_row

CLICKS: Final = 10_000
"""Each by a shopper of its own."""
HISTORY: Final = 9
"""So many items a shopper viewed an hour before the click."""
SHOPPERS: Final = 1000
"""Who come meanwhile."""
CLIENTS: Final = 4
EVENTS_PER_SECOND: Final = 200
SLATES_PER_SECOND: Final = 20
LONGEST: Final = 1800.0
"""Seconds after which no other traffic comes; the clicks take minutes."""
SHOWN: Final = 5
"""So many failures are printed."""


@dataclass(frozen=True)
class Outcome:
    """What the clicking shoppers saw, what the others did meanwhile, and each slate that was wrong."""

    clicks: Driven
    events: Driven
    slates: Driven
    failures: list[str]


def measure(port: int, items: Sequence[str]) -> bool:
    """Print the table; whether every slate after a click was another one and knew the click."""
    print_header("clicks, and other shoppers meanwhile")
    outcome = in_own_process(partial(_click_among_others, port, items))
    print_row("click to changed slate", str(CLIENTS), outcome.clicks)
    print_row("POST /v1/events, 1 a request", f"{EVENTS_PER_SECOND}/s", outcome.events)
    print_row("recommendation, 20 items", f"{SLATES_PER_SECOND}/s", outcome.slates)
    print(
        f"{outcome.clicks.latencies.size:,} shoppers clicked, and asked for a slate once that was acknowledged: "
        f"{len(outcome.failures)} failures",
        *outcome.failures[:SHOWN],
        sep="\n",
    )
    return not outcome.failures


def view(items: Sequence[str], number: int) -> bytes:
    """A single event of one of many shoppers."""
    item = items[number * 7 % len(items)]
    return orjson.dumps(
        {"events": [{Event.TYPE: "view", Event.VISITOR: f"bench-{number % SHOPPERS}", Event.ITEM: item}]}
    )


def question(number: int) -> bytes:
    """One of many shoppers asks for a slate."""
    return orjson.dumps({"visitor_id": f"bench-{number % SHOPPERS}"})


def _click_among_others(port: int, items: Sequence[str]) -> Outcome:
    began, failures = Moment.now(), list[str]()
    events, slates = Arrivals(EVENTS_PER_SECOND, LONGEST), Arrivals(SLATES_PER_SECOND, LONGEST)
    loads = (
        (Load("/v1/events", partial(view, items)), events),
        (Load("/v1/recommendations", question), slates),
    )
    shoppers = iter(range(CLICKS))  # one iterator: each is taken by one client
    with ThreadPoolExecutor(CLIENTS + len(loads) * CONNECTIONS) as pool:
        others = [
            [pool.submit(answered, port, load, arrivals) for _ in range(CONNECTIONS)]
            for load, arrivals in loads
        ]
        try:
            clickers = [pool.submit(_click, port, shoppers, items, failures) for _ in range(CLIENTS)]
            clicks = driven(clickers, began)
        finally:
            events.end()
            slates.end()
        viewed, asked = (driven(clients, began) for clients in others)
        return Outcome(clicks, viewed, asked, failures)


def _click(port: int, shoppers: Iterator[int], items: Sequence[str], failures: list[str]) -> list[float]:
    """Seconds from sending each click to holding the slate after it; adds to ``failures``."""
    latencies = []
    with connected(port) as ask:
        for number in shoppers:
            visitor = f"clicker-{number}"
            clicked, *viewed = random.Random(number).sample(items, 1 + HISTORY)
            _send(ask, visitor, "view", viewed, {Event.TIMESTAMP: time_ns() // 1000 - HOUR})
            before = _slate(ask, visitor)
            sent = perf_counter()
            _send(ask, visitor, "click", [clicked], {})
            after = _slate(ask, visitor)
            latencies.append(perf_counter() - sent)
            failures += failures_of(before, after, latencies[-1], f"{visitor} clicked on {clicked}")
    return latencies


def _send(ask: Ask, visitor: str, event_type: str, items: Sequence[str], more: dict[str, int]) -> None:
    events = [{Event.TYPE: event_type, Event.VISITOR: visitor, Event.ITEM: item, **more} for item in items]
    ask("/v1/events", orjson.dumps({"events": events}))


def _slate(ask: Ask, visitor: str) -> dict[str, Any]:
    return orjson.loads(ask("/v1/recommendations", orjson.dumps({"visitor_id": visitor})))


def failures_of(before: dict[str, Any], after: dict[str, Any], seconds: float, what: str) -> Iterator[str]:
    """What shows that a slate, got ``seconds`` after its click was sent, does not know it."""
    if [item["item_id"] for item in before["items"]] == [item["item_id"] for item in after["items"]]:
        yield f"{what}: the slate shows the same items in the same order"
    # What else the shopper did is older than that by an hour; without any event the age is 0.
    if not 0 < (age := after["feature_age"]["session"]) < seconds:
        yield f"{what} {seconds:.6f} s before, but the newest event that the slate knows is {age} s old"
