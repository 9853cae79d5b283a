"""One shopper, played over HTTP: asks for a slate, clicks three things of a kind, and asks again."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

import httpx
from rich.table import Table

from feature_repo.errors import FreshetError
from feature_repo.schema import CATEGORY_SEPARATOR, Event, EventType, Item
from serving.placements import HOME
from training.demo.screen import Screen

SLATE: Final = 10
CLICKS: Final = 3
_LOOKED_OVER: Final = 100
"""Items among which the shopper looks for something to like; the most that the API gives by default."""
_SOURCES_SHOWN: Final = 3
_PATIENCE_SECONDS: Final = 10.0


class ShopperError(FreshetError):
    """The API did not answer the shopper as it should."""


@dataclass(frozen=True)
class Slate:
    """A reply of the API: its id, and for each item its id and the sources that brought it."""

    request_id: str
    items: tuple[str, ...]
    sources: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Liking:
    """What the shopper likes, in words; what to click of it; and all that is of the kind."""

    words: str
    clicks: tuple[str, ...]
    kind: frozenset[str]

    def count(self, slate: Slate) -> int:
        """How many items of a slate are of the kind."""
        return sum(item in self.kind for item in slate.items)


@dataclass(frozen=True)
class Visit:
    """What a shopper did and saw."""

    visitor: str
    liking: Liking
    before: Slate
    after: Slate
    milliseconds: tuple[float, ...]  # of each click: from sending it to having the slate that differs

    @property
    def of_kind_before(self) -> int:
        """How many items of the liked kind the first slate held."""
        return self.liking.count(self.before)

    @property
    def of_kind_after(self) -> int:
        """How many items of the liked kind the last slate held."""
        return self.liking.count(self.after)


class Shopper:
    """A new visitor of the shop whose API ``http`` asks."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._visitor = f"demo-{uuid4().hex[:8]}"

    def visit(self) -> Visit:
        """Ask, click three items of a kind, ask after each. Raises ShopperError when a slate does not change."""
        liking = self._choose()
        before = slate = self._slate()
        milliseconds = []
        for item in liking.clicks:
            started = time.perf_counter()
            self._click(item, slate)
            slate = self._changed(slate)
            milliseconds.append((time.perf_counter() - started) * 1000)
        return Visit(self._visitor, liking, before, slate, tuple(milliseconds))

    def item(self, item_id: str) -> dict[str, Any]:
        """The catalog's row of an item; of one that the catalog lacks, its id alone."""
        reply = self._http.get(f"/v1/items/{item_id}")
        if reply.status_code == HTTPStatus.NOT_FOUND:
            return {Item.ID: item_id}
        return _content(reply)

    def _choose(self) -> Liking:
        """A category of which the first slate shows little; in a shop without categories, what goes together."""
        popular = _slate(self._ask(k=_LOOKED_OVER)).items
        category = {item: self.item(item).get(Item.CATEGORY) for item in popular}
        shown = Counter(category[item] for item in popular[:SLATE])
        offered = Counter(name for name in category.values() if name is not None)
        enough = [name for name, count in offered.items() if count >= CLICKS]
        if enough:
            liked = min(enough, key=lambda name: (shown[name], -offered[name]))
            return self._category(liked, tuple(item for item in popular if category[item] == liked))
        return self._companions(popular[-1])  # the best sold goes with everything

    def _category(self, name: str, items: Sequence[str]) -> Liking:
        of_it = _slate(self._ask(k=_LOOKED_OVER, filters={Item.CATEGORY: name})).items
        return Liking(f"the category {name}", tuple(items[:CLICKS]), frozenset([*items, *of_it]))

    def _companions(self, item: str) -> Liking:
        """The item, two that the shop recommends beside it, and what it recommends beside these."""
        clicks = (item, *self._beside(item)[: CLICKS - 1])
        kind = {*clicks, *(other for clicked in clicks for other in self._beside(clicked))}
        return Liking(f"{_title(self.item(item))} and what goes with it", clicks, frozenset(kind))

    def _beside(self, item: str) -> tuple[str, ...]:
        return _slate(self._ask(k=2 * SLATE, context={"item_ids": [item]})).items

    def _changed(self, slate: Slate) -> Slate:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            newer = self._slate()
            if newer.items != slate.items:
                return newer
        raise ShopperError(f"the slate of {self._visitor} did not change within {_PATIENCE_SECONDS:.0f} s")

    def _slate(self) -> Slate:
        return _slate(self._ask(k=SLATE, visitor_id=self._visitor))

    def _ask(self, **question: Any) -> Any:
        return _content(self._http.post("/v1/recommendations", json={"placement": HOME, **question}))

    def _click(self, item: str, slate: Slate) -> None:
        event: dict[str, Any] = {
            Event.TYPE: EventType.CLICK,
            Event.VISITOR: self._visitor,
            Event.ITEM: item,
            Event.PLACEMENT: HOME,
        }
        if item in slate.items:
            event |= {Event.REQUEST: slate.request_id, Event.POSITION: slate.items.index(item) + 1}
        _content(self._http.post("/v1/events", json={"events": [event]}))


def show(visit: Visit, shopper: Shopper, screen: Screen) -> None:
    """Print the slates before and after, what was clicked, and why each item is there."""
    liking = visit.liking
    screen.console.print(_table("Before: a new visitor", visit.before, liking, shopper))
    clicked = " · ".join(_title(shopper.item(item)) for item in liking.clicks)  # titles hold commas
    screen.say(f"{visit.visitor} likes {liking.words} and clicks: {clicked}")
    screen.console.print(_table(f"After {len(liking.clicks)} clicks", visit.after, liking, shopper))
    times = ", ".join(f"{milliseconds:.0f}" for milliseconds in visit.milliseconds)
    screen.say(
        f"From click to changed slate: {times} ms. Of the kind: {visit.of_kind_before} before, "
        f"{visit.of_kind_after} after."
    )


def _table(title: str, slate: Slate, liking: Liking, shopper: Shopper) -> Table:
    table = Table("", "item", "category", "why it is there", title=title, title_justify="left")
    for place, (item_id, sources) in enumerate(zip(slate.items, slate.sources, strict=True), start=1):
        row = shopper.item(item_id)
        leaf = (row.get(Item.CATEGORY) or "").rpartition(CATEGORY_SEPARATOR)[2]
        style = "bold green" if item_id in liking.kind else ""
        table.add_row(str(place), _title(row), leaf, _why(sources), style=style)
    return table


def _why(sources: Sequence[str]) -> str:
    shown = [*sources[:_SOURCES_SHOWN], "..."] if len(sources) > _SOURCES_SHOWN else sources
    return ", ".join(shown) or "fills the slate"


def _title(row: dict[str, Any]) -> str:
    return row.get(Item.TITLE) or f"item {row[Item.ID]}"


def _slate(reply: Any) -> Slate:
    items = reply["items"]
    return Slate(
        reply["request_id"],
        tuple(item["item_id"] for item in items),
        tuple(tuple(item["sources"]) for item in items),
    )


def _content(reply: httpx.Response) -> Any:
    if reply.is_error:
        raise ShopperError(f"the API refused {reply.request.method} {reply.request.url}: {reply.text[:500]}")
    return reply.json()
